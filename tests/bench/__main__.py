"""`make bench`: what one worker does on this machine, through a real broker, in one run.

For 1,000 and for 100,000 streams: a bare KafkaConsumer.poll() loop and a whole worker (columns, decode, judge,
transactions) take turns on the same topic, each in a process of its own on one core; medians and their ratio are
printed, and what the worker loses by writing its state. Then how long restoring that state takes, and the time from
producing a reading to its anomaly. Before all that, without the broker, how fast each form of docs/payloads.py is read,
what `observe` takes beside the bare LSTM, how a reading's time grows with the streams, and restoring from memory.
The last is a table of all figures for which something is asked, with what that is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from service.kafka.topics import CHANGELOG
from tests.bench import figures, formats, http, latency, load, observe, restore, stages
from tests.bench.figures import Figure
from tests.bench.machine import machine

if TYPE_CHECKING:
    from tests.kafka import Broker

PARTITIONS = 8
MANY = 1_000_000  # streams, of which it is asked that they are restored
RESTORED_WITHIN_S, RESTORED_WITHIN_GB = 5.0, 1.5
MEASURED_S = 2.0  # at least, of each run of a worker
VERSIONS = 3  # of every page in a changelog that is restored


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--readings", type=int, help="in each topic, at least; without: as many as are wanted")
    parser.add_argument("--streams", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3, help="of bare loop and worker, taking turns")
    parser.add_argument("--formats", nargs="*", default=["msgpack", "arrow"], help="with many readings a record")
    parser.add_argument(
        "--payloads", action=argparse.BooleanOptionalAction, default=True, help="first, how fast each form is read"
    )
    parser.add_argument(
        "--parts", action=argparse.BooleanOptionalAction, default=True, help="first, what is measured without a broker"
    )
    parser.add_argument("--together", type=int, default=100, help="readings a record in these formats")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--restore", type=int, nargs="*", default=[100_000], help="streams to restore")
    parser.add_argument("--take-over", type=int, default=100_000, help="streams of two workers of which one is killed")
    parser.add_argument("--latency-seconds", type=float, default=20.0)
    parser.add_argument("--scores", action="store_true", help="only: what a topic of scores takes of judging")
    parser.add_argument("--http", action="store_true", help="only: what forty HTTP clients take of judging")
    parser.add_argument("--pages", action="store_true", help="only: what twenty open pages take of judging")
    parser.add_argument("--one-processor", action="store_true", help="with these two: on one processor's quota (root)")
    parser.add_argument("--windows", type=int, default=12, help="with these two: quiet ones, and as many with them")
    args = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    visitors = http.LOOKING if args.pages else http.HURRIED if args.http else None
    args.readings = args.readings or (http.backlog(args.windows) if visitors else 1_000_000)
    if args.payloads and not visitors and not args.scores:
        print(f"\n{formats.table()}\n", flush=True)
    found = _parts() if args.parts and not visitors and not args.scores else []
    from tests.kafka import running_broker  # noqa: PLC0415

    with running_broker() as broker:
        print(f"broker: {broker.kind}; {PARTITIONS} partitions; {args.hidden} hidden units; one feature\n", flush=True)
        if visitors:
            topics = _topics(broker, "http")
            sizes = (args.readings, args.windows, args.hidden, args.one_processor)
            print(http.measure(broker.bootstrap_servers, topics, *sizes, visitors))
            return
        for streams in args.streams:
            topics = _topics(broker, "bench")
            if args.scores:
                load.fill(broker.bootstrap_servers, topics[0], streams, args.readings)
                _scores(broker.bootstrap_servers, [*topics, broker.create_topic(PARTITIONS, "scores")], streams, args)
                continue
            bare_rate, throughput = _throughput(broker.bootstrap_servers, topics, streams, args)
            found.append(throughput)
            for written in args.formats:
                where = broker.bootstrap_servers, _topics(broker, written)
                found.append(_many_a_record(*where, streams, written, bare_rate, args))
        if args.scores:
            return
        for streams in args.restore:
            found += _restore(broker.bootstrap_servers, _topics(broker, "restore"), streams, args)
        if args.take_over:
            _take_over(broker.bootstrap_servers, _topics(broker, "takeover"), args)
        for asked in latency.LOADS if args.latency_seconds else ():
            found += _latency(broker.bootstrap_servers, _topics(broker, "latency"), asked, args)
    print(f"\n{figures.table(found)}")


def _parts() -> list[Figure]:
    """What is measured without a broker, in this process."""
    torch.set_num_threads(1)
    found = [
        figures.at_most(
            f"observe, {streams:,} streams, {waves} readings of each a call", ratio, 1.5, "of the bare LSTM"
        )
        for streams, waves, ratio in observe.ratios(observe.STREAMS)
    ]
    print(flush=True)
    grown = figures.at_most(f"a reading's time, 100 to {stages.GROWTH[-1]:,} streams", stages.growth(), 1.3, "times")
    took_s, resident = restore.restored(MANY)
    print(flush=True)
    what = f"restoring {MANY:,} streams, without a broker"
    return [
        *found,
        grown,
        figures.at_most(f"{what}: processor", took_s, RESTORED_WITHIN_S, "s"),
        figures.at_most(f"{what}: memory", resident / 1e9, RESTORED_WITHIN_GB, "GB"),
    ]


def _topics(broker: "Broker", name: str) -> list[str]:
    """An input topic and those of its anomalies, dead letters and state."""
    plain = [broker.create_topic(PARTITIONS, f"{name}{what}") for what in ("", "-anomalies", "-dead-letters")]
    return [*plain, broker.create_topic(PARTITIONS, f"{name}-changelog", CHANGELOG)]


def _throughput(servers: str, topics: list[str], streams: int, args: argparse.Namespace) -> tuple[float, Figure]:
    """Returns the rate of the bare loop, too."""
    bare, worked, forgot = [], [], []

    def fill(first: int, end: int) -> None:
        load.fill(servers, topics[0], streams, end, first)

    readings = _filled(fill, servers, topics, streams, args.readings, args.hidden, 1)
    for number in range(args.rounds):
        group, sizes = f"bench-{streams}-{number}", (str(streams), str(readings), str(args.hidden))
        bare.append(_child("bare", servers, topics[0], str(readings)))
        worked.append(_child("work", servers, *topics, group, *sizes, "keep", "1"))
        forgot.append(_child("work", servers, *topics, f"{group}-forgetful", *sizes, "forget", "1"))
    bare_rate, rate, without = (statistics.median(run["rate"] for run in runs) for runs in (bare, worked, forgot))
    cpu_us = [statistics.median(run["cpu_us"] for run in runs) for runs in (worked, forgot)]
    middle = min(worked, key=lambda run: abs(run["rate"] - rate))
    took = middle["stage_us"]
    lines = (
        f"{streams:,} streams, {readings:,} readings, median of {args.rounds}",
        f"  bare poll() loop  {bare_rate:>9,.0f} records a second   ({_all(bare)})",
        f"  worker            {rate:>9,.0f} readings a second  ({_all(worked)})",
        f"  share             {rate / bare_rate:>9.2f}",
        f"  without state     {without:>9,.0f} readings a second  ({_all(forgot)})",
        f"  state costs       {1 - rate / without:>9.1%} of throughput, {middle['page_mb']:.1f} MB of pages a second",
        f"  processor time    {cpu_us[0]:>9.2f} us a reading, {cpu_us[1]:.2f} without state",
        f"  us a reading      {sum(took.values()):>9.2f} = {', '.join(f'{k} {v:.2f}' for k, v in took.items())}",
        f"  memory            {middle['rss_mb']:>9,.0f} MB resident, {middle['rss_before_mb']:,.0f} before it began",
        f"  state             {middle['row_bytes']:>9,.0f} bytes a row, {middle['bytes_per_stream']:,.0f} resident",
    )
    print("\n".join(lines), flush=True)
    print(flush=True)
    what = f"exactly once, JSON, {streams:,} streams"
    return float(bare_rate), figures.at_least(what, rate / bare_rate, 1.8, "of the bare loop")


def _filled(
    fill: Callable[[int, int], None],
    servers: str,
    topics: list[str],
    streams: int,
    least: int,
    hidden: int,
    together: int,
) -> int:
    """Fill the topic until a worker has enough readings left when its streams are known.

    A first look says whether it has: a poll takes all that fits into it, and the faster a machine is, the more comes
    before. fill: from one reading's number to another's. Returns how many there are, `least` or more.
    """
    there, readings = 0, least
    while True:
        fill(there, readings)
        sizes = str(streams), str(readings), str(hidden), "keep", str(together)
        if _child("work", servers, *topics, f"bench-look-{streams}-{readings}", *sizes)["seconds"] >= MEASURED_S:
            return readings
        there, readings = readings, 2 * readings


def _scores(servers: str, topics: list[str], streams: int, args: argparse.Namespace) -> None:
    """The worker without a topic of scores, with one to which no stream is written, and with all; they take turns."""
    patterns = {"no topic of scores": "", "of no stream": "none", "of all streams": "*"}
    runs: dict[str, list[dict[str, Any]]] = {what: [] for what in patterns}
    for number in range(args.rounds):
        for what, pattern in patterns.items():
            group = f"bench-scores-{streams}-{number}-{what.replace(' ', '-')}"
            sizes = (str(streams), str(args.readings), str(args.hidden))
            runs[what].append(_child("score", servers, *topics, group, *sizes, pattern))
    print(f"{streams:,} streams, {args.readings:,} readings, median of {args.rounds}")
    for what, some in runs.items():
        rate, cpu_us = (statistics.median(run[name] for run in some) for name in ("rate", "cpu_us"))
        print(f"  {what:<20}{rate:>9,.0f} readings a second, {cpu_us:.2f} us of processor each  ({_all(some)})")
    print(flush=True)


def _many_a_record(
    servers: str, topics: list[str], streams: int, written: str, bare_rate: float, args: argparse.Namespace
) -> Figure:
    """The worker on records of many readings, beside the bare loop on single ones. Each stream has two records."""

    def fill(first: int, end: int) -> None:
        load.fill_with_many(servers, topics[0], streams, end, written, args.together, first)

    least = max(args.readings, 2 * streams * args.together)
    readings = _filled(fill, servers, topics, streams, least, args.hidden, args.together)
    sizes = (str(streams), str(readings), str(args.hidden), "keep", str(args.together))
    runs = [
        _child("work", servers, *topics, f"bench-{written}-{streams}-{number}", *sizes) for number in range(args.rounds)
    ]
    rate = statistics.median(run["rate"] for run in runs)
    took = min(runs, key=lambda run: abs(run["rate"] - rate))["stage_us"]
    print(
        f"{streams:,} streams, {written}, {args.together} readings a record, {readings:,} readings,"
        f" median of {args.rounds}\n"
        f"  worker            {rate:>9,.0f} readings a second  ({_all(runs)})\n"
        f"  of the bare loop  {rate / bare_rate:>9.2f}\n"
        f"  us a reading      {sum(took.values()):>9.2f} = {', '.join(f'{k} {v:.2f}' for k, v in took.items())}\n",
        flush=True,
    )
    what = f"exactly once, {written}, {args.together} readings a record, {streams:,} streams"
    return figures.at_least(what, rate / bare_rate, 3.5, "of the bare loop")


def _restore(servers: str, topics: list[str], streams: int, args: argparse.Namespace) -> list[Figure]:
    """From a changelog three times its compacted size, as it is before the cleaner has come round."""
    group = "bench-restore"
    megabytes = load.store(servers, topics, group, streams, args.hidden, VERSIONS)
    runs = [
        _child("restore", servers, *topics, group, str(streams), str(args.hidden)) for _ in range(max(1, args.rounds))
    ]
    seconds = sorted(run["seconds"] for run in runs)
    size = f"{VERSIONS * megabytes:,.0f} MB of changelog, {megabytes:,.0f} MB compacted"
    print(
        f"restore of {streams:,} streams from {size}\n"
        f"  median {statistics.median(seconds):.2f} s  ({', '.join(f'{s:.2f}' for s in seconds)}),"
        f" {statistics.median(run['cpu_s'] for run in runs):.2f} s of processor,"
        f" {max(run['rss_mb'] for run in runs):,.0f} MB resident\n",
        flush=True,
    )
    if streams < MANY:
        return []
    gigabytes = max(run["rss_mb"] for run in runs) * 2**20 / 1e9
    return [
        figures.at_most(f"restoring {streams:,} streams", statistics.median(seconds), RESTORED_WITHIN_S, "s"),
        figures.at_most(f"restoring {streams:,} streams: the process", gigabytes, RESTORED_WITHIN_GB, "GB"),
    ]


def _take_over(servers: str, topics: list[str], args: argparse.Namespace) -> None:
    """From kill -9 of one of two workers, a transaction open, to when the other has the memory of all partitions."""
    group, streams = "bench-takeover", args.take_over
    load.store(servers, topics, group, streams, args.hidden, 1)
    seconds = []
    for _ in range(args.rounds):
        sizes = (str(streams), str(args.hidden))
        stays = _start("share", servers, *topics, group, *sizes, "stays")
        dies = _start("share", servers, *topics, group, *sizes, "dies")
        try:
            _until(stays, lambda status: status["ready"] == PARTITIONS / 2)
            _until(dies, lambda status: status["ready"] == PARTITIONS / 2)
            assert dies.stdin is not None
            dies.stdin.write("\n")
            dies.stdin.flush()
            load.trickle(servers, topics[0], streams, dies)
            began = time.monotonic()
            seconds.append(_until(stays, lambda status: status["ready"] == PARTITIONS)["at"] - began)
        finally:
            for process in (stays, dies):
                process.kill()
                process.wait()
    print(
        f"take-over of half of {streams:,} streams after kill -9, a session of {load.SESSION_S:.0f} s\n"
        f"  median {statistics.median(seconds):.1f} s  ({', '.join(f'{s:.1f}' for s in seconds)})\n",
        flush=True,
    )


def _until(process: "subprocess.Popen[str]", holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first thing it says of which this holds."""
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("{"):
            continue  # a line of the log
        status: dict[str, Any] = json.loads(line)
        if holds(status):
            return status
    raise SystemExit(f"a worker ended with {process.wait()}")


def _all(runs: list[dict[str, Any]]) -> str:
    return ", ".join(f"{run['rate']:,.0f}" for run in runs)


def _latency(servers: str, topics: list[str], asked: latency.Load, args: argparse.Namespace) -> list[Figure]:
    sizes = map(str, (asked.streams, args.hidden, asked.channels))
    worker = _start("serve", servers, *topics, f"bench-latency-{asked.streams}", *sizes)
    try:
        assert worker.stdout is not None
        while "ready" not in worker.stdout.readline():
            if worker.poll() is not None:
                raise SystemExit("the worker ended before it was ready")
        found = latency.measure(servers, topics[0], topics[1], asked, args.latency_seconds)
    finally:
        worker.terminate()
        worker.wait(10)
    print(latency.line(asked, found), flush=True)
    rate = f"latency, {asked.what} ({found.rate:,.0f} a second sent, {len(found.ms):,} anomalies)"
    p50 = [] if asked.p50_ms is None else [figures.at_most(f"{rate}: p50", found.share(0.5), asked.p50_ms, "ms")]
    return [*p50, figures.at_most(f"{rate}: p99", found.share(0.99), asked.p99_ms, "ms")]


def _child(what: str, *arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own; its last line is the result."""
    process = _start(what, *arguments)
    said, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"{what} ended with {process.returncode}")
    result: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return result


def _start(what: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.load", what, *arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"\n{time.monotonic() - began:.0f} s in all")
