"""`telltale demo`: a plant with faults, a model trained on it, and every anomaly beside the fault that caused it.

The pipeline, the worker and the HTTP endpoints are those of the service; only the log may be the one in memory.
"""

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zlib import crc32

import torch
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table

from models.checkpoints.checkpoint import load
from models.data.rfc3339 import milliseconds_of, rfc3339
from models.data.synthetic import FEATURES, Fault, FaultKind, PlantSimulator
from models.data.time_units import DAY_MS
from models.detection.numerics import self_test
from models.net.forecaster import ForecasterConfig
from models.output.wording import counted
from models.training.run import TrainingConfig
from service.cli.feeding import PLANT_STEP_S, PLANT_TRAINING_READINGS, plant, plant_readings, plant_series, records_of
from service.cli.trainer import train
from service.errors import RefusedSetting
from service.http.app import app as http_app
from service.http.server import Server
from service.input.anomaly import Anomaly
from service.input.events import Event
from service.kafka import log as kafka_log
from service.kafka import topics as kafka_topics
from service.kafka.log_config import Cluster, GroupMember, TopicNames
from service.live.insights import Insight
from service.live.reporter import Reporter
from service.live.streams import Streams
from service.live.watching import Watching
from service.log.memory_log import MemoryLog, Topics
from service.log.port import MemberLog, Partition, Record
from service.pipeline import Pipeline
from service.process.models import Models
from service.process.running import observed
from service.process.watchdog import BEAT_LIMIT_S
from service.recovery import RecoveryRules
from service.settings.addresses import names_for
from service.state.changelog import Layout
from service.state.writer import StateWriter
from service.worker.worker import Worker

PARTITIONS = 4
TRAINING_SHARE = 0.3  # of the time there is, at most a minute
STREAMING_SHARE = 0.4  # at least, also where the machine is slow and all of it takes longer then
TRAINED_ON = 60  # machines at most; the others' memories are warmed up with what was learned from these
PLANT_HOURS_A_SECOND = 3.0
SLICE_READINGS = 12  # of each stream between two looks at the anomalies
GRACE_READINGS = 36  # after a fault's end: what an alarm still belongs to it
DROPPED, MISSING = "dropout to zero", "missing values"
ROWS = ("spike", "level shift", "drift", "stuck", "noise burst", DROPPED, MISSING, "silence")


class ReportedAnomaly(NamedTuple):
    """An anomaly that opened, and the fault behind it, if there was one."""

    event: Event
    fault: Fault | None


def run_demo(seconds: float, streams: int, servers: str | None, http_port: int, seed: int, out: Console) -> None:
    """seconds: how long all of it takes, if the machine keeps up. servers: a broker; None: the log in memory."""
    ends_at = time.monotonic() + seconds
    out.print(
        f"[bold]A plant of {counted(streams, 'machine')}[/], {', '.join(FEATURES)} every "
        f"{PLANT_STEP_S / 60:.0f} minutes: daily and weekly rhythm, shifts, noise, coupled channels."
    )
    simulator = plant(streams, seed)
    torch.set_num_threads(2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plant.safetensors"
        _train(simulator, path, min(60.0, seconds * TRAINING_SHARE), seed, out)
        torch.set_num_threads(1)
        checkpoint = load(path)
    numerics = self_test(checkpoint.detector)
    board, metrics, registry = observed(Models(checkpoint, {}), {checkpoint.digest: numerics})
    watching, held = Watching(), Streams()
    insight = Insight(checkpoint.detector, checkpoint.digest, watching)
    api = http_app(
        board,
        registry,
        BEAT_LIMIT_S,
        version("telltale"),
        insight=insight,
        streams=held,
        names=names_for("127.0.0.1", ()),
    )
    server = _serve(api, http_port, out)
    out.print(f"look at http://127.0.0.1:{server.port}/ while it runs\n")
    try:
        with _log(servers) as (log, send):
            pipeline = Pipeline(checkpoint.detector, checkpoint.digest, max_future_ms=86_400_000)
            layout = Layout.of(checkpoint.digest, checkpoint.detector.rows_for([]))
            writer = StateWriter("demo", layout, numerics, "demo", flush_interval_s=10.0)
            rules = RecoveryRules(reset=False, prime_readings=0)
            reporter = Reporter(board, metrics, writer, checkpoint.detector)
            worker = Worker(log, pipeline, writer, rules, threading.Event(), observers=[reporter, watching, held])
            show = _Show(out)
            _stream(simulator, worker, send, show, max(ends_at, time.monotonic() + seconds * STREAMING_SHARE))
    finally:
        server.stop()
    show.summary()


def _serve(api: FastAPI, port: int, out: Console) -> Server:
    """On the port wanted, or on any: a demo need not fail because something else runs."""
    server = Server(api, "127.0.0.1", port)
    try:
        server.start()
    except RefusedSetting:
        out.print(f"port {port} is taken, so another is used")
        server = Server(api, "127.0.0.1", 0)
        server.start()
    return server


def _train(simulator: PlantSimulator, path: Path, budget_s: float, seed: int, out: Console) -> None:
    parts = plant_series(simulator.advance(PLANT_TRAINING_READINGS))
    readings = sum(len(one.times_ms) for one in parts)
    some = parts[:: -(-len(parts) // TRAINED_ON)]
    out.print(
        f"Two weeks without a fault: {counted(readings, 'reading')}. The net learns from {len(some)} of the machines."
    )
    training = TrainingConfig(epochs=40, budget_s=budget_s, lane_readings=512, side_by_side=64, seed=seed)
    train(parts, some, ForecasterConfig(FEATURES), training, torch.device("cpu"), path, out)


@contextmanager
def _log(servers: str | None) -> Iterator[tuple[MemberLog, Callable[[Sequence[Record]], None]]]:
    """A log with fresh topics, and how to send readings to it."""
    run = uuid.uuid4().hex[:8]
    if servers is None:
        topics = Topics({"demo": PARTITIONS})
        with closing(MemoryLog(topics)) as memory:
            yield memory, lambda records: _append(topics, records)
    else:
        names = [f"demo-{run}", *(f"demo-{run}.{what}" for what in ("anomalies", "dead-letters", "changelog"))]
        specs = {name: kafka_topics.TopicSpec(PARTITIONS, 1) for name in names[:3]}
        specs[names[3]] = kafka_topics.TopicSpec(PARTITIONS, 1, kafka_topics.CHANGELOG)
        kafka_topics.create_topics(servers, specs)
        group = f"demo-{run}"
        member = GroupMember(group=group, transactional_id=group)
        with closing(kafka_log.KafkaLog(Cluster(servers), TopicNames((names[0],), *names[1:]), member)) as log:
            yield log, lambda records: _produce(servers, names[0], records)


def _append(topics: Topics, records: Sequence[Record]) -> None:
    for number in range(PARTITIONS):
        mine = [record for record in records if crc32(record.key or b"") % PARTITIONS == number]
        topics.append(Partition("demo", number), mine)


def _produce(servers: str, topic: str, records: Sequence[Record]) -> None:
    kafka_topics.produce(servers, topic, ((record, None) for record in records))


def _stream(
    simulator: PlantSimulator,
    worker: Worker,
    send: Callable[[Sequence[Record]], None],
    show: "_Show",
    ends_at: float,
) -> None:
    """Let the plant run, at most PLANT_HOURS_A_SECOND, and the service after it, until the time is over."""
    while True:
        began = time.monotonic()
        piece = simulator.advance(SLICE_READINGS)
        records = list(records_of(plant_readings(piece), FEATURES))
        show.faults += [fault for fault in piece.faults if fault.start >= piece.first]
        send(records)
        left = len(records)
        while left > 0:
            judging = time.monotonic()
            judged = worker.turn(timeout_s=1.0)
            show.busy_s += time.monotonic() - judging
            left -= sum(len(one.batch.keys) + len(one.rejects) for one in judged)
            for one in judged:
                show.report(one.events)
        show.readings += len(records)
        hours = SLICE_READINGS * PLANT_STEP_S / 3600
        show.began_ms = show.began_ms or int(piece.times_ms.min())
        show.ended_ms = int(piece.times_ms.max())
        if time.monotonic() > ends_at:
            return
        time.sleep(max(0.0, began + hours / PLANT_HOURS_A_SECOND - time.monotonic()))


class _Show:
    """What is printed: every anomaly as it opens, and a table at the end."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self.faults: list[Fault] = []
        self.reported: list[ReportedAnomaly] = []
        self.readings = 0
        self.busy_s = 0.0
        self.began_ms = self.ended_ms = 0

    def report(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.change == "opened":
                self.reported.append(ReportedAnomaly(event, self._fault_behind(event)))
                self._out.print(_line(self.reported[-1]), soft_wrap=True)

    def _fault_behind(self, event: Event) -> Fault | None:
        opened_ms = _milliseconds(event)
        grace_ms = GRACE_READINGS * PLANT_STEP_S * 1000
        behind = [
            fault
            for fault in self.faults
            if fault.key == event.subject and fault.start_ms <= opened_ms <= fault.end_ms + grace_ms
        ]
        return behind[-1] if behind else None

    def summary(self) -> None:
        """Faults found, how soon, and how often it cried wolf."""
        table = Table(title="\nFaults injected and found", title_justify="left")
        for heading in ("fault", "injected", "found", "share", "median delay, readings"):
            table.add_column(heading, justify="left" if heading == "fault" else "right")
        over = [fault for fault in self.faults if fault.end_ms <= self.ended_ms]
        for name in ROWS:
            faults = [fault for fault in over if _name_of(fault) == name]
            _row(table, name, len(faults), self._delays(faults))
        table.add_section()
        _row(table, "all", len(over), self._delays(over))
        self._out.print(table)
        false = sum(one.fault is None for one in self.reported)
        days = max((self.ended_ms - self.began_ms) / DAY_MS, 1e-9)
        stream_days = max(self.readings * PLANT_STEP_S / 86_400, 1e-9)
        self._out.print(
            f"false alarms  {false}: {1e4 * false / max(self.readings, 1):.2f} in 10,000 readings, "
            f"{false / stream_days:.3f} a stream and day\n"
            f"an operator   would have had {len(self.reported) / days:.1f} alarms a day, {false / days:.1f} of them "
            f"false: {days:.1f} days, {counted(len(self.faults), 'fault')}\n"
            f"readings      {self.readings:,} judged, {self.readings / max(self.busy_s, 1e-9):,.0f} a second while busy"
        )

    def _delays(self, faults: Sequence[Fault]) -> list[float]:
        """Of the faults that were found: readings from their start to the first anomaly."""
        first: dict[tuple[str, int], float] = {}
        for one in self.reported:
            if one.fault is not None:
                delay = (_milliseconds(one.event) - one.fault.start_ms) / (PLANT_STEP_S * 1000)
                first.setdefault((one.fault.key, one.fault.start), delay)
        return [first[fault.key, fault.start] for fault in faults if (fault.key, fault.start) in first]


def _name_of(fault: Fault) -> str:
    """What it is called in the table: values that drop to zero and those that are missing are two things."""
    if fault.kind is FaultKind.DROPOUT:
        return DROPPED if fault.magnitude else MISSING
    return fault.kind.value.replace("_", " ")


def _row(table: Table, name: str, injected: int, delays: Sequence[float]) -> None:
    share = f"{100 * len(delays) / injected:.0f} %" if injected else "-"
    delay = f"{statistics.median(delays):.0f}" if delays else "-"
    table.add_row(name, str(injected), str(len(delays)), share, delay)


def _line(one: ReportedAnomaly) -> str:
    anomaly = one.event.data
    colour = {"minor": "yellow", "major": "dark_orange", "critical": "red"}[anomaly.severity]
    fault = one.fault
    behind = (
        "[dim]no fault: a false alarm[/]"
        if fault is None
        else f"[green]{_name_of(fault)}[/] of {', '.join(fault.channels) or 'all'} "
        f"since {rfc3339(fault.start_ms)[5:16]}"
    )
    return (
        f"{one.event.time[5:16].replace('T', ' ')}  [{colour}]{anomaly.severity:<8}[/] {anomaly.stream:<22} "
        f"{_seen(anomaly)}   score {anomaly.score:4.1f}   ← {behind}"
    )


def _seen(anomaly: Anomaly) -> str:
    """What the worst channel was, beside what was expected of it; of a stream that is silent there is none."""
    if not anomaly.channels:
        return f"{'silent':<40}"
    worst = max(anomaly.channels, key=lambda channel: channel.share)
    expected = "-" if worst.expected is None else f"{worst.expected:8.2f}"
    seen = " missing" if worst.observed is None else f"{worst.observed:8.2f}"
    return f"{worst.name:<11} {seen}, expected {expected}"


def _milliseconds(event: Event) -> int:
    return milliseconds_of(event.time)
