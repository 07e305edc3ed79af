"""`make bench-peers`: Telltale beside other ways to keep a state a stream over Kafka, in one run.

Each contender works through a topic of JSON readings on the same broker, in a process of its own, on one core. A peer's
figure counts only if it judged every reading and wrote just the anomalies that it had to. The bare KafkaConsumer.poll()
loop and Telltale are always among them. What a peer needs is installed under build/peers.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.bench import load
from tests.bench.machine import machine
from tests.bench.peers import expected
from tests.bench.peers.contenders import BARE, PEERS, TELLTALE, Contender, Peer, Rule
from tests.bench.peers.environments import NotInstalled
from tests.bench.peers.expected import Expected
from tests.bench.peers.results import Result, table
from tests.bench.peers.running import Failed, Task, rate_of
from tests.kafka import Broker, running_broker

PARTITIONS = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--streams", type=int, nargs="+", default=[1_000], help="such as 1000 100000")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="that a run takes, roughly: slow ones get fewer readings"
    )
    parser.add_argument("--readings", type=int, default=1_000_000, help="at most, in a topic")
    parser.add_argument("--rounds", type=int, default=3, help="in which all take turns")
    args = parser.parse_args()
    torch.set_num_threads(1)  # what is expected of the LSTMs is computed in small steps
    print(f"machine: {machine()}", flush=True)
    peers, left_out = _installed([peer for peer in PEERS if peer.name in args.only])
    failed = False
    with running_broker() as broker, tempfile.TemporaryDirectory(prefix="telltale-peers-") as folder:
        print(f"broker: {broker.kind}; {PARTITIONS} partitions; one core a contender, the last\n", flush=True)
        for streams in args.streams:
            fitting, too_many = _fitting(peers, streams)
            results = _measure(broker, [BARE, TELLTALE, *fitting], streams, args, Path(folder))
            failed = failed or any(result.failure for result in results)
            print(f"{streams:,} streams, medians of {args.rounds}\n{table(results, left_out + too_many)}\n", flush=True)
    return int(failed)


def _installed(peers: Sequence[Peer]) -> tuple[list[Peer], list[tuple[str, str]]]:
    """Those that can take part, and the others with the reason."""
    there, left_out = [], []
    for peer in peers:
        try:
            peer.environment.install()
            there.append(peer)
        except NotInstalled as reason:
            left_out.append((peer.name, str(reason)))
    return there, left_out


def _fitting(peers: Sequence[Peer], streams: int) -> tuple[list[Peer], list[tuple[str, str]]]:
    fitting = [peer for peer in peers if peer.max_streams is None or streams <= peer.max_streams]
    return fitting, [
        (peer.name, f"{streams:,} streams do not fit in memory, {peer.max_streams:,} do")
        for peer in peers
        if peer not in fitting
    ]


def _measure(
    broker: Broker, contenders: Sequence[Contender], streams: int, args: argparse.Namespace, folder: Path
) -> list[Result]:
    results = [Result(one, one.readings(streams, args.seconds, args.readings)) for one in contenders]
    weights = folder / "weights"
    expected.weights().save(weights)
    tasks = {
        readings: Task(_filled_topic(broker, streams, readings), streams, readings, weights)
        for readings in {result.readings for result in results}
    }
    anomalies = {result.contender.name: _expected_of(result.contender, streams, result.readings) for result in results}
    for number in range(args.rounds):
        for result in results:
            name = result.contender.name
            if result.failure is None:
                _add_run(result, broker, tasks[result.readings], anomalies[name])
            print(f"round {number + 1}: {name} {result.failure or f'{result.rates[-1]:,.0f}'}", flush=True)
    return results


def _add_run(result: Result, broker: Broker, task: Task, anomalies: Expected | None) -> None:
    try:
        result.rates.append(rate_of(result.contender, broker, task, anomalies))
    except Failed as reason:
        result.failure = str(reason)


def _filled_topic(broker: Broker, streams: int, readings: int) -> str:
    topic = broker.create_topic(PARTITIONS, "bench-peers")
    load.fill(broker.bootstrap_servers, topic, streams, readings)
    return topic


def _expected_of(contender: Contender, streams: int, readings: int) -> Expected | None:
    if not isinstance(contender, Peer) or contender.rule is Rule.OWN:
        return None
    values = expected.filled(streams, readings)
    if contender.rule is Rule.LSTM:
        return expected.by_lstm(values, expected.weights())
    return expected.by_statistics(values)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s in all")
    sys.exit(code)
