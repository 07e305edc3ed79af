"""What a fault happens in: topics of their own, readings that keep coming, workers, a second reader, the oracle.

`Scene.finish` lets the workers come to the end of the input undisturbed, stops them, and compares what was published,
remembered and committed with the oracle.
"""

import json
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from models.checkpoints import checkpoint, checkpoint_header
from models.detection.detector import Detector
from service.kafka.topics import CHANGELOG
from service.log.port import Partition, Record
from service.state.changelog import Collected, Layout, Lost, Marker, Stale, read_marker, read_page
from service.state.changelog_keys import Origin, pauses_key
from service.state.pauses import TaskPauses, restored_pauses
from service.state.slab import StateSlab
from tests.data import QUICK, some_forecaster
from tests.faults import oracle, plant
from tests.faults.oracle import Differences, Published, compare, compare_state, made_whole
from tests.faults.worker import verdict_offset
from tests.kafka import Broker
from tests.nursery import Child, Nursery

PARTITIONS = 4
SESSION_MS = 1_500  # the broker allows 1,000; a heartbeat comes every 500
FLUSH_S = 1.0
TTL_S = 1_200.0  # of event time, which passes a second a record of a partition
MAX_FUTURE_S = 86_400.0
MAX_PAST_S = 946_080_000.0
AT_ONCE = 20_000  # readings handed to the client between two looks at the clock
TICK_S = 0.1  # between two handfuls of readings at least
HANDFUL = 30  # readings: fewer, larger transactions leave the machine to the faults
MOVES_WITHIN_S = 180.0  # a machine that does much else besides judges on, but not fast
JUDGED_WITHIN_S = 1_800.0
STOPPED_WITHIN_S = 60.0
STARTED_WITHIN_S = 180.0
SEEN_WITHIN_S = 120.0
JUDGED_AGAIN = "judged again at the next start"  # as a worker says that could not write the last of what it judged
LAST_WORDS = 400  # characters of a log

Changelog = dict[bytes | None, bytes | None]  # the newest of each key: what compaction leaves


class Fault(NamedTuple):
    """Where a worker is to fail: at a fail-point when it is reached for the hit-th time."""

    point: str
    hit: int = 1
    number: int = signal.SIGKILL
    within_ms: float = 0.0  # after the point; 0: at once


class Outcome(NamedTuple):
    """What `Scene.finish` found."""

    readings: int
    differences: Differences
    lines: Counter[str]  # events in the workers' logs
    paused: int = 0  # readings of which nothing was learned, as the oracle judged


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Look again and again; returns how long it took."""
    began, pause = time.monotonic(), threading.Event()
    while not condition():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        pause.wait(0.02)
    return time.monotonic() - began


def write_checkpoint(path: Path, hidden: int = 32, seed: int = 0) -> Path:
    """A detector with a real LSTM that no one trained: alarms open within dozens of readings."""
    return write_detector(path, Detector.cold(some_forecaster(len(plant.FEATURES), hidden=hidden, seed=seed), QUICK))


def write_detector(path: Path, detector: Detector) -> Path:
    """As the checkpoint of a model that no one trained."""
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoint.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


class Scene:
    """A group of workers under load. Readings come `rate` a second, or as fast as they are judged, `ahead` of that."""

    def __init__(
        self,
        broker: Broker,
        nursery: Nursery,
        seed: int,
        *,
        rate: float = 160.0,
        ahead: int | None = None,
        partitions: int = PARTITIONS,
        step: int = 1,
        verdicts_of: str | None = None,
        max_streams: int = 100_000,
        ttl_s: float = TTL_S,
        keep_dead_letters: bool = True,
        held_back: bool = False,
        settings: Mapping[str, object] | None = None,
        control: bool = False,
        pauses: bool = False,
        source: Callable[[int, int], Iterator[Record]] = plant.records,
    ) -> None:
        """step: readings the oracle judges at a time. verdicts_of: verdicts only of streams whose names begin so.

        control: offsets go in the group's name alone, which is wrong. held_back: no readings before `feed.go`.
        keep_dead_letters=False: they are counted, not compared. pauses: people say in which times nothing is learned;
        the oracle is told from which offset on by the changelog, and judges at the end.
        """
        self.servers = broker.bootstrap_servers
        self.folder = Path(tempfile.mkdtemp(prefix="telltale-faults-"))
        self._as_wanted = False
        self.partitions = partitions
        self._broker, self._nursery = broker, nursery
        self._checkpoint = write_checkpoint(self.folder / "quick.safetensors")
        self._step, self._verdicts_of, self._max_streams, self._control = step, verdicts_of, max_streams, control
        self._pauses = pauses
        self._ttl_s = ttl_s
        self._outputs = ("anomalies", "changelog", *(("dead_letters",) if keep_dead_letters else ()))
        self._settings = dict(settings or {})
        self.group = f"faults-{uuid.uuid4().hex[:8]}"
        self.topics = {
            "readings": broker.create_topic(partitions, "readings"),
            "anomalies": broker.create_topic(partitions, "anomalies"),
            "dead_letters": broker.create_topic(partitions, "dead-letters"),
            "changelog": broker.create_topic(partitions, "changelog", {**CHANGELOG, "segment.bytes": "1048576"}),
        }
        self.workers: dict[str, Child] = {}
        self._begins: dict[str, int] = {}  # how long a worker's log was when it was started last
        self.witness = Witness(self.servers, {self.topics[name]: name for name in self._outputs}, partitions)
        self._oracles = [
            self._nursery.start("oracle", self._oracle_orders(n), self._log(f"oracle-{n}")) for n in range(partitions)
        ]
        records = [source(seed, number) for number in range(partitions)]
        pace = None if ahead is None else (self.committed, ahead)
        self.feed = Feed(self.servers, self.topics["readings"], records, rate, pace, held_back=held_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever has happened: nothing of it goes on."""
        for child in [*self.workers.values(), *self._oracles]:
            child.signal(signal.SIGKILL)
        self.feed.stop()
        self.witness.stop()
        if self._as_wanted:  # otherwise the logs say why
            shutil.rmtree(self.folder)

    # --- workers

    def start(self, slot: str, fault: Fault | None = None, *, member: bool = True, proxy: str | None = None) -> Child:
        """Start the worker of a slot, which is its name in the group and the same after a restart.

        member=False: it has no name there, and is a new member each time.
        """
        settings = {
            "checkpoint": str(self._checkpoint),
            "http.enabled": False,
            "kafka.bootstrap_servers": self.servers,
            "kafka.topics": self.topics["readings"],
            "kafka.anomalies_topic": self.topics["anomalies"],
            "kafka.dead_letters_topic": self.topics["dead_letters"],
            "kafka.changelog_topic": self.topics["changelog"],
            "kafka.group": self.group,
            "kafka.instance": slot if member else None,
            "kafka.session_timeout_ms": SESSION_MS,
            "kafka.transaction_timeout_ms": SESSION_MS,
            "limits.max_future_s": MAX_FUTURE_S,
            "limits.max_past_s": MAX_PAST_S,
            "limits.max_streams": self._max_streams,
            "limits.stream_ttl_s": self._ttl_s,
            "state.flush_interval_s": FLUSH_S,
            **self._settings,
        }
        fail = None if fault is None else fault._asdict()
        orders = {
            "settings": settings,
            "proxy": proxy,
            "fail": fail,
            "verdicts_of": self._verdicts_of,
            "control": self._control,
        }
        said = self._log(slot).stat().st_size if self._log(slot).exists() else 0
        child = self.workers[slot] = self._nursery.start("worker", orders, self._log(slot))
        self._begins[slot] = said
        return child

    def stop(self, slot: str, within_s: float = STOPPED_WITHIN_S) -> int:
        """End a worker with SIGTERM; returns its exit code."""
        child = self.workers[slot]
        child.signal(signal.SIGTERM)
        return child.wait(within_s)

    def lines(self, slot: str | None = None) -> list[dict[str, Any]]:
        """What a worker, or all of them, have said so far."""
        paths = [self._log(slot)] if slot else [p for p in self.folder.glob("*.log") if not p.name.startswith("oracle")]
        texts = [path.read_text(errors="replace") for path in paths if path.exists()]
        return [json.loads(line) for text in texts for line in text.split("\n")[:-1] if line.startswith("{")]

    def said(self, event: str, slot: str | None = None) -> int:
        """How often."""
        return sum(line["event"] == event for line in self.lines(slot))

    # --- progress

    def committed(self) -> dict[int, int]:
        """How far each partition has come, as its markers say, which move with the group's offsets."""
        return dict(self.witness.marked)

    def wait_for_progress(self, within_s: float) -> float:
        """Until a reading that is written from now on has a verdict in every partition; returns the seconds."""
        began = time.monotonic()
        ends = self.feed.ends()
        partitions = range(self.partitions)
        wait_until(
            lambda: all(self.witness.published.get(n, -1) >= ends.get(n, 0) for n in partitions), within_s, "progress"
        )
        return time.monotonic() - began

    def wait_for_start(self, restored: int, within_s: float = STARTED_WITHIN_S) -> None:
        """Until the only worker has every partition; restored: how many it had restored before it was started."""
        wait_until(lambda: self.said("state_restored") >= restored + self.partitions, within_s, "a start")

    # --- the end

    def finish(self, slots: tuple[str, ...] = ("w0",)) -> Outcome:
        """Undisturbed to the end of the input; slots: workers that are started for it where they do not run."""
        self.feed.stop()
        ends = self._ends()
        (self.folder / "until").write_text(json.dumps(ends))
        differences = Differences()
        for slot in slots:
            if slot not in self.workers or self.workers[slot].ended.is_set():
                self.start(slot)
        try:
            while not self._drained(ends, slots):
                self._wait_for_more(ends, slots)
        except TimeoutError as error:
            self._explain()
            raise TimeoutError(
                f"{error}: at {self.committed()} of {ends}; the workers' logs in {self.folder} say why"
            ) from error
        self._end_all(differences)
        if not all(self.witness.flushed.get(number) == ends[number] for number in ends):
            # One that was told to stop while it restored has not written what it would have judged again: the next
            # one does so. It has all partitions once the sessions of those that are gone are over.
            before = self.said("state_restored")
            self.start(slots[0])
            self.wait_for_start(before)
            self._end_all(differences)
        if self.feed.failures:
            differences.other.append(f"{len(self.feed.failures)} readings not written: {self.feed.failures[0]!r}")
        if (at := self._group_offsets()) != ends:
            differences.other.append(f"committed {at}, the input ends at {ends}")
        self._judge(ends, differences)
        self._as_wanted = self._control or differences.none
        paused = sum(self._expected(number).paused for number in range(self.partitions))
        return Outcome(sum(ends.values()), differences, Counter(line["event"] for line in self.lines()), paused)

    def _end_all(self, differences: Differences) -> None:
        running = [slot for slot, child in self.workers.items() if not child.ended.is_set()]
        wait_until(lambda: all(self._is_up(slot) for slot in running), STARTED_WITHIN_S, "all workers started")
        for slot in running:
            self.workers[slot].signal(signal.SIGTERM)
        for slot in running:
            code = self.workers[slot].wait(STOPPED_WITHIN_S)
            said = self._said_since_start(slot)
            # Whom the group has just thrown out, or whom the broker does not answer in time, may write no more: that
            # ends it with 1, it says so, and nothing is lost.
            if code and JUDGED_AGAIN not in said:
                differences.other.append(f"{slot} ended with {code} after SIGTERM: {said[-LAST_WORDS:]}")
        self.witness.catch_up()

    def _drained(self, ends: Mapping[int, int], slots: tuple[str, ...]) -> bool:
        for slot in slots:
            if self.workers[slot].ended.is_set():  # a restart is the recovery
                self.start(slot)
        return self.committed() == ends

    def _wait_for_more(self, ends: Mapping[int, int], slots: tuple[str, ...]) -> None:
        at = self.committed()
        wait_until(lambda: self._drained(ends, slots) or self.committed() != at, MOVES_WITHIN_S, "more readings judged")

    def _is_up(self, slot: str) -> bool:
        """Whether it would end in good order: before that, a first SIGTERM ends a worker at once."""
        return '"judging"' in self._said_since_start(slot) or self.workers[slot].ended.is_set()

    def _said_since_start(self, slot: str) -> str:
        with self._log(slot).open("rb") as log:
            log.seek(self._begins[slot])
            return log.read().decode(errors="replace")

    def _explain(self) -> None:
        """Let the workers say what they are waiting for."""
        for child in self.workers.values():
            child.signal(signal.SIGUSR2)
        threading.Event().wait(2.0)

    def _judge(self, ends: Mapping[int, int], differences: Differences) -> None:
        read = {name: self._read_again(name) for name in self._outputs}
        changelog = [{key: value for key, value, _ in records} for records in read.pop("changelog")]
        for number in range(self.partitions) if self._pauses else ():
            made_whole(self._pauses_path(number), changelog[number].get(pauses_key(self._origin(number))) or b"")
        wait_until(
            lambda: self._seen(read) and self.witness.newest == changelog, SEEN_WITHIN_S, "the second reader at the end"
        )
        for number in range(self.partitions):
            wanted = self._expected(number)
            for name, about in (("anomalies", oracle.name_of_anomaly), ("dead_letters", oracle.name_of_dead_letter)):
                if name not in read:
                    continue
                if self.witness.records[name, number] != read[name][number]:
                    differences.other.append(f"{name}-{number}: another list was seen while it was being written")
                differences.add(compare(number, getattr(wanted, name), read[name][number], about))
            self._judge_state(number, wanted, changelog[number], differences)
        for child in self._oracles:
            if child.wait(SEEN_WITHIN_S):
                differences.other.append(f"the oracle failed, see {self.folder}")

    def _seen(self, read: Mapping[str, list[list[Published]]]) -> bool:
        """Whether the second reader has seen as much."""
        records = self.witness.records
        return all(len(records[name, n]) >= len(found) for name in read for n, found in enumerate(read[name]))

    def _expected(self, number: int) -> oracle.Expected:
        path = self.folder / f"expected-{number}"
        wait_until(lambda: path.exists() or self._oracles[number].ended.is_set(), JUDGED_WITHIN_S, "the oracle")
        return msgspec.msgpack.decode(path.read_bytes(), type=oracle.Expected)

    def _judge_state(self, number: int, wanted: oracle.Expected, changelog: Changelog, into: Differences) -> None:
        origin = self._origin(number)
        if (steps := self.witness.steps[number]) != sorted(steps):
            into.other.append(f"partition {number}: the markers' offsets go back")
        marker, found, lost = restored(self._checkpoint, origin, changelog)
        if (marker.next_offset, marker.replay_from) != (wanted.end, wanted.end):
            into.other.append(f"partition {number}: marker {marker.next_offset}, {marker.replay_from} at {wanted.end}")
        if sum(marker.counts.get(name, 0) for name in ("judged", "late", "duplicate", "rejected")) != wanted.end:
            into.other.append(f"partition {number}: {marker.counts} do not add up to {wanted.end}")
        if marker.counts != wanted.counts:
            into.other.append(f"partition {number}: counted {marker.counts}, expected {wanted.counts}")
        into.other += [f"partition {number}: {one}" for one in lost]
        into.add(compare_state(number, wanted.state, found))

    def _read_again(self, name: str) -> list[list[Published]]:
        found: list[list[Published]] = [[] for _ in range(self.partitions)]
        for written in self._broker.read_committed(self.topics[name]):
            found[written.partition].append(oracle.published(written.record))
        return found

    def _ends(self) -> dict[int, int]:
        tps = [TopicPartition(self.topics["readings"], number) for number in range(self.partitions)]
        with KafkaConsumer(bootstrap_servers=self.servers) as consumer:
            return {tp.partition: offset for tp, offset in consumer.end_offsets(tps).items()}

    def _group_offsets(self) -> dict[int, int | None]:
        with KafkaConsumer(
            bootstrap_servers=self.servers, group_id=self.group, isolation_level="read_committed"
        ) as group:
            tps = [TopicPartition(self.topics["readings"], number) for number in range(self.partitions)]
            return {tp.partition: group.committed(tp, timeout_ms=10_000) for tp in tps}

    def pauses(self, number: int) -> TaskPauses:
        """Of a partition, as the changelog has them at the end."""
        return restored_pauses(self._pauses_path(number).read_bytes() or None)

    def _pauses_path(self, number: int) -> Path:
        return self.folder / f"pauses-{number}"

    def _origin(self, number: int) -> Origin:
        return Origin(self.group, Partition(self.topics["readings"], number))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _oracle_orders(self, number: int) -> dict[str, object]:
        return {
            "servers": self.servers,
            "topic": self.topics["readings"],
            "partition": number,
            "checkpoint": str(self._checkpoint),
            "ttl_s": self._ttl_s,
            "keep_dead_letters": "dead_letters" in self._outputs,
            "max_future_s": MAX_FUTURE_S,
            "max_past_s": MAX_PAST_S,
            "max_streams": self._max_streams,
            "step": self._step,
            "verdicts_of": self._verdicts_of,
            "until": str(self.folder / "until"),
            "into": str(self.folder / f"expected-{number}"),
            "pauses": str(self._pauses_path(number)) if self._pauses else None,
        }


def restored(path: Path, origin: Origin, changelog: Changelog) -> tuple[Marker, oracle.State, list[str]]:
    """The last marker, what the pages say, and what is wrong with them."""
    loaded = checkpoint.load(path)
    slab = StateSlab(loaded.detector.rows_for)
    collected = Collected(origin)
    collected.add(changelog.keys(), changelog.values())
    marker = read_marker(origin, collected.marker or b"")
    layout, lost = Layout.of(loaded.digest, slab.rows), []
    for number in range(marker.pages):
        page = read_page(collected, layout, number)
        if isinstance(page, Lost | Stale):
            lost.append(f"page {number} is {page}")
        else:
            slab.load(page)
    return marker, oracle.state_of(slab), lost


class Witness:
    """The second reader: sees what a reader of committed records sees, while it happens."""

    def __init__(self, servers: str, outputs: Mapping[str, str], partitions: int) -> None:
        """outputs: what it is, by topic."""
        self.records: dict[tuple[str, int], list[Published]] = {
            (name, number): [] for name in outputs.values() if name != "changelog" for number in range(partitions)
        }
        self.flushed: dict[int, int] = {}  # by partition, what is in the pages for certain
        self.newest: list[Changelog] = [{} for _ in range(partitions)]
        self.steps: list[list[int]] = [[] for _ in range(partitions)]  # the offsets that markers gave, in order
        self.published: dict[int, int] = {}  # by partition, the last reading with a published verdict
        self.marked: dict[int, int] = {}  # by partition, where the next reading is
        self._outputs = outputs
        self._idle_rounds = 0  # in which nothing came
        self._stop = threading.Event()
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            request_timeout_ms=10_000,
            reconnect_backoff_max_ms=1_000,
            fetch_max_wait_ms=100,
        )
        self._consumer.assign([TopicPartition(topic, n) for topic in outputs for n in range(partitions)])
        self._consumer.seek_to_beginning()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def catch_up(self) -> None:
        """Until all that is committed by now has been seen."""
        rounds = self._idle_rounds
        wait_until(lambda: self._idle_rounds >= rounds + 3, SEEN_WITHIN_S, "the second reader at the end")

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                polled = self._consumer.poll(timeout_ms=200)
            except KafkaError:
                continue  # a broker that is not there now is what the faults are about
            self._idle_rounds += not polled
            for tp, records in polled.items():
                self._take(self._outputs[tp.topic], tp.partition, records)
        self._consumer.close(autocommit=False)

    def _take(self, name: str, partition: int, records: list[Any]) -> None:
        seen = [(record.key, record.value, tuple(record.headers)) for record in records]
        if name == "changelog":
            self.newest[partition].update((key, value) for key, value, _ in seen)
            markers = [value for key, value, _ in seen if b"/marker/" in (key or b"") and value]
            for value in markers:
                marker = msgspec.json.decode(value, type=_Marked)
                self.steps[partition].append(marker.next_offset)
                self.marked[partition], self.flushed[partition] = marker.next_offset, marker.replay_from
            return
        self.records[name, partition] += seen
        offsets = [
            verdict_offset(one[1]) if name == "anomalies" else int(dict(one[2])["telltale-offset"]) for one in seen
        ]
        latest = max((offset for offset in offsets if offset is not None), default=-1)
        self.published[partition] = max(self.published.get(partition, -1), latest)


class _Marked(msgspec.Struct):
    next_offset: int
    replay_from: int


class Feed:
    """Readings that keep coming, whatever happens to those who read them."""

    def __init__(
        self,
        servers: str,
        topic: str,
        records: list[Iterator[Record]],
        rate: float,
        ahead: tuple[Callable[[], Mapping[int, int]], int] | None,
        *,
        held_back: bool = False,
    ) -> None:
        """ahead: what has been judged by now, and how many readings there may be beyond it. held_back: until `go`."""
        self.failures: list[Exception] = []
        self.written = 0
        self.exhausted = False  # there are no more readings
        self._limit: float = 0 if held_back else float("inf")
        self._records, self._topic, self._rate, self._ahead = records, topic, rate, ahead
        self._tick_s = TICK_S if ahead else max(TICK_S, HANDFUL / rate)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ends: Counter[int] = Counter()
        self._producer: Any = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            linger_ms=5,
            compression_type="lz4",
            delivery_timeout_ms=600_000,
            request_timeout_ms=10_000,
            max_block_ms=600_000,
            reconnect_backoff_max_ms=1_000,
            metrics_enabled=False,
        )
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def ends(self) -> dict[int, int]:
        """By partition, how many readings were handed to the client by now."""
        with self._lock:
            return dict(self._ends)

    def stop(self) -> None:
        """All that was handed to the client has been written when this returns."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._producer.flush(timeout=120)
            self._producer.close(timeout=10)

    def go(self, limit: float = float("inf")) -> None:
        """Write readings up to this number in all, and no more for now."""
        self._limit = limit

    def _write(self) -> None:
        began = time.monotonic()
        try:
            while not self._stop.wait(self._tick_s):
                due = int((time.monotonic() - began) * self._rate) if self._ahead is None else self._due(*self._ahead)
                for _ in range(int(min(due - self.written, self._limit - self.written, AT_ONCE))):
                    self._send(self.written % len(self._records))
        except StopIteration:
            self._producer.flush(timeout=120)
            self.exhausted = True

    def _send(self, number: int) -> None:
        record = next(self._records[number])
        self._producer.send(
            self._topic, record.value, record.key, partition=number, timestamp_ms=record.time_ms
        ).add_errback(self.failures.append)
        self.written += 1
        with self._lock:
            self._ends[number] += 1

    def _due(self, judged: Callable[[], Mapping[int, int]], ahead: int) -> int:
        return sum(judged().values()) + ahead
