"""Memory that survives: whatever happens to the workers, what is published and remembered is that of a calm run.

The oracle of most tests: everything judged one reading a step by one task that nothing happens to. Topics are in
memory; what ends a worker is a script of its log, or a fail-point.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from models.detection.detector import Detector
from service import failpoints
from service.errors import LostState
from service.input.events import decode_event
from service.input.notices import STATE_LOST, STATE_PRIMED, Notice
from service.input.reading_batch import StreamKey
from service.input.scores import ScoreStream
from service.input.wire import encode_reading
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, StatusBoard
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Partition, Polled, Record
from service.pipeline import Pipeline
from service.recovery import Recovery, RecoveryRules
from service.state.changelog import Layout, page_record
from service.state.changelog_keys import Origin, marker_key, page_key, roster_key
from service.state.pauses import SaidPause
from service.state.slab import PAGE_ROWS, StateSlab
from service.state.task import EventClock, PartitionTask, Stage
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker
from tests.data import QUICK, faulty, some_forecaster, some_kinds
from tests.records import headers_of

pytestmark = pytest.mark.slow

FEATURES = ("f0", "f1")
SCORED = ("stream-[123]",)  # streams whose readings are written to the topic of scores
P0, P1 = Partition("readings", 0), Partition("readings", 1)
GROUP = "group"
DIGEST, OTHER_DIGEST = "01" * 32, "fe" * 32
DAY_MS = 86_400_000
ROUND = 100  # records a poll
TURN_S = 1.0  # that a round takes, by the clock of the state's writer
SOON, SELDOM = 0.001, 1e6  # flush intervals: every dirty page at every commit; none but those that have to be

State = dict[bytes, tuple[int, bytes]]  # by stream: offset of its last reading, all bits of its row


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Output(NamedTuple):
    anomalies: list[Record]
    dead_letters: list[Record]
    scores: list[Record]
    state: State
    counts: Mapping[str, int]


@dataclass
class Plant:
    """A detector and the settings that workers are made with."""

    detector: Detector
    digest: str = DIGEST
    max_streams: int | None = None
    idle_s: float | None = None
    rules: RecoveryRules = field(default_factory=lambda: RecoveryRules(False, 40))
    numerics: str = "numerics"

    def pipeline(self) -> Pipeline:
        scores = ScoreStream(SCORED, FEATURES)
        return Pipeline(self.detector, self.digest, DAY_MS, self.max_streams, scores=scores)

    @property
    def layout(self) -> Layout:
        return Layout.of(self.digest, self.detector.rows_for([]))

    def task(self, partition: Partition) -> PartitionTask:
        return PartitionTask(partition, StateSlab(self.detector.rows_for), EventClock(self.idle_s))

    def calm(self, topics: Topics, partition: Partition = P0) -> Output:
        """What a run tells and remembers to which nothing happens."""
        return calm_after(self, topics, self.task(partition), 0)

    def restored(self, topics: Topics, partition: Partition = P0) -> PartitionTask:
        """The task as a worker would have it that opened now, with everything judged again that has to be."""
        log, task = MemoryLog(topics), self.task(partition)
        log.poll(0.0)
        recovery = Recovery(log, self.pipeline(), GROUP, self.layout, self.numerics, self.rules, task)
        while task.stage is not Stage.RUNNING:
            recovery.step()
            for fetched in log.poll(0.0).fetched:
                rest = recovery.take(fetched)
                assert rest is None or rest.offsets[0] >= (task.next_offset or 0)
        log.close()
        return task


def state_of(task: PartitionTask) -> State:
    state: State = {}
    for number in range(task.slab.pages):
        page = task.slab.page(number, 0)
        for n, key in enumerate(page.keys):
            assert key not in state, "a stream is in two places"
            bits = b"".join(column[n].numpy().tobytes() for column in page.rows)
            state[key] = (int(page.applied[n]), bits)
    return state


class Service:
    """One worker on some topics."""

    def __init__(
        self,
        plant: Plant,
        topics: Topics,
        script: Sequence[Fault] = (),
        flush_interval_s: float = SOON,
        max_poll_records: int = ROUND,
        pauses: Callable[[], Sequence[SaidPause]] = lambda: (),
    ) -> None:
        self.topics = topics
        self.clock = Clock()
        self.log = MemoryLog(topics, script, max_poll_records)
        self.board = StatusBoard(first_status(CheckpointStatus("plant.safetensors", plant.digest, FEATURES)))
        registry = CollectorRegistry()
        metrics = Metrics(registry, self.board, Build("0", "3", "2", ""), STAGES, REASONS, ["minor"], PROBLEMS)
        writer = StateWriter(GROUP, plant.layout, plant.numerics, "writer", flush_interval_s, self.clock)
        pipeline, reporter = plant.pipeline(), Reporter(self.board, metrics, writer, plant.detector)
        self.worker = Worker(
            self.log,
            pipeline,
            writer,
            plant.rules,
            threading.Event(),
            observers=[reporter],
            idle_s=plant.idle_s,
            pauses=pauses,
        )

    def turn(self) -> None:
        self.worker.turn(0.0)
        self.clock.now_s += TURN_S

    def until(self, done: Callable[[], bool], rounds: int = 1_000) -> "Service":
        for _ in range(rounds):
            self.turn()
            if done():
                return self
        pytest.fail(f"the condition did not hold within {rounds} rounds")

    def until_idle(self) -> "Service":
        """Everything is judged and committed."""
        return self.until(
            lambda: all(self.topics.committed.get(p, 0) == self.topics.bounds(p)[1] for p in self.topics.partitions)
        )


@contextmanager
def ending_at(point: str, time: int = 1) -> Iterator[list[str]]:
    """The process ends when a fail-point is passed for the time-th time; yields the names of those passed."""
    passed: list[str] = []

    def reached(name: str) -> None:
        passed.append(name)
        if name == point and passed.count(name) == time:
            raise Crashed(f"{name}, time {time}")

    failpoints.arm(reached)
    try:
        yield passed
    finally:
        failpoints.arm(None)


def ends(service: Service) -> None:
    """Let a worker run until its fault ends it."""
    with pytest.raises(Crashed):
        service.until_idle()


# --- what is sent


def sent(seed: int = 7, readings: int = 1_000, passers_by: int = 200) -> list[Record]:
    """Five streams with everything in them that can go wrong, bad records, and new streams throughout.

    The five share the first page with streams that pass by early, so that it is not rewritten for every new one.
    """
    history = faulty(features=2, seed=seed, streams=5, readings=readings)
    random = np.random.default_rng(seed)
    records = [
        Record(b"stream-%d" % stream, encode_reading(FEATURES, time_ms, values))
        for stream, time_ms, values in zip(
            history.streams.tolist(),
            history.readings.times_ms.tolist(),
            history.readings.values.tolist(),
            strict=True,
        )
    ]
    places = np.concatenate([np.full(PAGE_ROWS, 100), random.choice(readings, passers_by, replace=False)])
    for n, place in sorted(enumerate(places.tolist()), key=lambda one: -one[1]):
        value = encode_reading(FEATURES, 1_700_000_000_000, random.normal(size=2).tolist())
        name = n if n < PAGE_ROWS else random.integers(PAGE_ROWS // 2, PAGE_ROWS + passers_by // 2)
        records.insert(place, Record(b"passer-by-%d" % name, value))
    for place in range(0, len(records), 40):
        records.insert(place, Record(b"stream-1", b"{"))
    return records


def topics_with(*records: Sequence[Record]) -> Topics:
    topics = Topics({"readings": len(records)})
    for number, some in enumerate(records):
        topics.append(Partition("readings", number), some)
    return topics


@pytest.fixture(scope="module")
def plant() -> Plant:
    return Plant(Detector.cold(some_forecaster(2), QUICK))


@pytest.fixture(scope="module")
def history() -> list[Record]:
    return sent()


@pytest.fixture(scope="module")
def calm(plant: Plant, history: list[Record]) -> Output:
    return plant.calm(topics_with(history))


def assert_as_calm(plant: Plant, topics: Topics, calm: Output, partition: Partition = P0) -> None:
    """Nothing lost, nothing twice, in order, and every row the same to the last bit."""
    assert topics.anomalies[partition] == calm.anomalies
    assert topics.dead_letters[partition] == calm.dead_letters
    assert topics.scores[partition] == calm.scores
    task = plant.restored(topics, partition)
    found = state_of(task)
    assert found.keys() == calm.state.keys()
    assert [key for key, row in found.items() if row != calm.state[key]] == []
    assert task.counts == calm.counts


def test_the_history_has_everything_in_it(calm: Output, history: list[Record]) -> None:
    """Or the tests below would say less than they seem to."""
    changes = {
        (msgspec.json.decode(r.value or b"")["type"], msgspec.json.decode(r.value or b"")["data"]["closed_as"])
        for r in calm.anomalies
    }
    assert {closed for _, closed in changes} == {None, "recovered", "level_shift"}
    assert len(calm.state) > PAGE_ROWS
    assert calm.dead_letters
    assert {record.key for record in calm.scores} == {b"stream-1", b"stream-2", b"stream-3"}
    assert calm.counts["late"] > 10
    assert calm.counts["duplicate"] > 3


# --- crashes


def test_a_calm_worker_is_the_oracle(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = topics_with(history)
    Service(plant, topics).until_idle()
    assert_as_calm(plant, topics, calm)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", [1, 2, 4, 5, 7, 10, 11, 13])
def test_a_crash_at_any_commit_changes_nothing(
    plant: Plant, history: list[Record], calm: Output, commit: int, written: bool
) -> None:
    topics = topics_with(history)
    flush_interval_s = SOON if commit % 4 == 0 else SELDOM
    ends(Service(plant, topics, [Crash(commit, written)], flush_interval_s))
    if commit % 2:
        topics.compact()
    Service(plant, topics, (), flush_interval_s, max_poll_records=400).until_idle()
    assert_as_calm(plant, topics, calm)


POINTS = ("decode", "after_commit", "restore_10", "restore_50", "restore_90", "replay", "revoke")


@pytest.mark.parametrize("flush_interval_s", [4.0, SELDOM])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_changes_nothing(
    plant: Plant, history: list[Record], calm: Output, point: str, flush_interval_s: float
) -> None:
    """The second worker is ended there too, the third and fourth a little later."""
    topics = topics_with(history)
    again: list[Fault] = [Revoke(4, (P0,)), Assign(6, (P0,))]
    ends(Service(plant, topics, [Crash(5)], flush_interval_s, max_poll_records=150))
    reached = 0
    for time in (1, 1, 2, 3):
        with ending_at(point, time):
            try:
                Service(plant, topics, again, flush_interval_s, max_poll_records=50).until_idle()
            except Crashed:
                reached += 1
    assert reached > 1
    Service(plant, topics, (), flush_interval_s).until_idle()
    assert_as_calm(plant, topics, calm)


def test_a_memory_without_a_cell_survives_crashes_as_well(history: list[Record]) -> None:
    plant = Plant(Detector.cold(some_forecaster(2, cell="gru"), QUICK))
    calm = plant.calm(topics_with(history))
    assert len(calm.anomalies) > 5
    topics = topics_with(history)
    ends(Service(plant, topics, [Crash(4)], 2.5))
    topics.compact()
    ends(Service(plant, topics, [Crash(3, written=True)], 2.5, max_poll_records=170))
    Service(plant, topics, max_poll_records=400).until_idle()
    assert_as_calm(plant, topics, calm)


@pytest.mark.parametrize("flush_interval_s", [SOON, SELDOM])
def test_symptoms_and_the_kinds_that_are_named_from_them_survive_a_crash_as_well(
    history: list[Record], calm: Output, flush_interval_s: float
) -> None:
    plant = Plant(Detector.cold(some_forecaster(2), QUICK).with_kinds(some_kinds()))
    named = plant.calm(topics_with(history))
    assert len(named.anomalies) == len(calm.anomalies)
    assert len({decode_event(record.value or b"").data.kind for record in named.anomalies}) > 1
    topics = topics_with(history)
    ends(Service(plant, topics, [Crash(4)], flush_interval_s))
    topics.compact()
    ends(Service(plant, topics, [Crash(3, written=True)], flush_interval_s, max_poll_records=170))
    Service(plant, topics, (), flush_interval_s, max_poll_records=400).until_idle()
    assert_as_calm(plant, topics, named)


def test_crashes_during_the_recovery_of_crashes_change_nothing(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    topics = topics_with(history)
    ends(Service(plant, topics, [Crash(9)], SELDOM))
    for point, time in (("restore_90", 1), ("replay", 1), ("replay", 4), ("replay", 2), ("restore_10", 1)):
        with ending_at(point, time):
            ends(Service(plant, topics, (), SELDOM, max_poll_records=70))
    Service(plant, topics).until_idle()
    assert_as_calm(plant, topics, calm)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(8))
def test_random_schedules_of_faults_change_nothing(
    plant: Plant, history: list[Record], calm: Output, seed: int
) -> None:
    """Workers with random polls and flush intervals that end, lose their partition and get it back."""
    random = np.random.default_rng(seed)
    topics = topics_with(history)
    workers = 0
    while topics.committed.get(P0, 0) < topics.bounds(P0)[1]:
        workers += 1
        script: list[Fault] = [Crash(int(random.integers(1, 12)), bool(random.integers(2)))]
        script += [Migrate(int(random.integers(1, 12))) for _ in range(2)]
        for poll in random.integers(2, 30, 3).tolist():
            script += [Revoke(poll, (P0,)), Assign(poll + int(random.integers(3)), (P0,))]
        interval_s = float(random.choice([SOON, 1.5, 5.0, SELDOM]))
        service = Service(plant, topics, script, interval_s, int(random.choice([23, 60, 170])))
        with ending_at(str(random.choice(POINTS)), int(random.integers(1, 12))):
            try:
                service.until_idle()
            except Crashed:
                if random.integers(3) == 0:
                    topics.compact()
    assert workers > 1
    assert_as_calm(plant, topics, calm)


@pytest.mark.thorough
def test_two_partitions_that_move_between_two_workers_change_nothing(plant: Plant) -> None:
    topics = topics_with(sent(1, 300, 30), sent(2, 300, 30))
    expected = {partition: plant.calm(topics, partition) for partition in topics.partitions}
    first = Service(plant, topics, [Assign(poll, (P0, P1)) for poll in range(1, 400)], 3.0, 17)
    second = Service(plant, topics, [Assign(poll, (P0, P1)) for poll in range(1, 400)], 3.0, 23)
    random = np.random.default_rng(3)
    moved = 0
    while topics.committed != {p: topics.bounds(p)[1] for p in topics.partitions}:
        for partition in topics.partitions:
            if random.integers(8) == 0:
                moved += 1
                topics.owners[partition] = first.log if topics.owners[partition] is second.log else second.log
        for service in (first, second):
            service.turn()
    assert moved > 5
    for partition in topics.partitions:
        assert_as_calm(plant, topics, expected[partition], partition)


def test_what_another_worker_took_over_is_not_told_by_the_one_that_slept(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    topics = topics_with(history)
    sleeper = Service(plant, topics).until(lambda: topics.committed.get(P0, 0) >= 500)
    awake = Service(plant, topics).until(lambda: topics.committed.get(P0, 0) >= 800)
    published = len(topics.anomalies[P0])
    sleeper.worker._log = Sleeper(sleeper.log)  # judges and commits what it believes to come next
    sleeper.turn()
    assert sleeper.board.read().counts.aborts == 1
    assert len(topics.anomalies[P0]) == published
    awake.until_idle()
    assert_as_calm(plant, topics, calm)


class Sleeper:
    """A log that has not heard yet that its partitions are another's."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.inspect, self.restore, self.start = log.inspect, log.restore, log.start
        self.position, self.commit, self.close = log.position, log.commit, log.close
        self.backlogs = log.backlogs

    def poll(self, timeout_s: float) -> Polled:
        return Polled((), (), self._log._fetch())


# --- another checkpoint

FAR = 16  # times the readings wanted a stream: so far back a stream's readings are looked for


@pytest.fixture(scope="module")
def other() -> Plant:
    return Plant(Detector.cold(some_forecaster(2, seed=5), QUICK), OTHER_DIGEST)


def primed(plant: Plant, topics: Topics, streams: Iterable[bytes], until: int, first: int = 0) -> PartitionTask:
    """A task in which each stream's last readings before an offset were judged, one by one, from a fresh row."""
    pipeline, task = plant.pipeline(), plant.task(P0)
    slots = task.slab.slots([StreamKey(stream) for stream in streams])
    task.slab.scatter(slots, task.slab.gather(slots), torch.full((len(slots),), until - 1), until)
    whole = topics.fetch(P0, first, until - first)
    assert whole is not None
    batch = pipeline.decode(whole)
    mine: dict[bytes, list[int]] = {}
    for key, offset in zip(batch.keys, batch.readings.offsets.tolist(), strict=True):
        mine.setdefault(key, []).append(offset - first)
    for stream in streams:
        of_it = mine.get(stream, [])
        for n in of_it[max(0, len(of_it) - plant.rules.prime_readings) :]:
            pipeline.process(whole.part(n, n + 1), task)
    task.slab.rows.scalar("alarm")[:] = 0.0  # what opened there was not published
    return task


def calm_after(plant: Plant, topics: Topics, task: PartitionTask, begin: int) -> Output:
    """What is published from there on by a task to which nothing happens."""
    task.counts.clear()
    pipeline, published = plant.pipeline(), Output([], [], [], {}, task.counts)
    while (fetched := topics.fetch(task.partition, begin, 1)) is not None:
        for one in pipeline.process(fetched, task):
            published.anomalies.extend(one.commit.anomalies)
            published.dead_letters.extend(one.commit.dead_letters)
            published.scores.extend(one.commit.scores)
        begin = fetched.next_offset
    published.state.update(state_of(task))
    return published


def differing(found: State, expected: State) -> set[bytes]:
    return {key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)}


def streams_before(topics: Topics, offset: int, plant: Plant) -> list[StreamKey]:
    """All of which a reading could be read."""
    whole = topics.fetch(P0, 0, offset)
    assert whole is not None
    return list(dict.fromkeys(plant.pipeline().decode(whole).keys))


@pytest.mark.parametrize("wanted", [0, 1, 40, 10_000])
def test_a_new_checkpoint_begins_with_the_last_readings_of_every_stream(
    plant: Plant, other: Plant, history: list[Record], wanted: int
) -> None:
    topics = topics_with(history)
    other = replace(other, rules=RecoveryRules(False, wanted))
    Service(plant, topics, (), SELDOM).until(lambda: topics.committed.get(P0, 0) >= 900)
    published, switch = len(topics.anomalies[P0]), topics.committed[P0]
    task = primed(other, topics, streams_before(topics, switch, other), switch)
    assert differing(state_of(other.restored(topics)), state_of(task)) == set()
    Service(other, topics).until_idle()
    expected = calm_after(other, topics, task, switch)
    notice, *after = topics.anomalies[P0][published:]
    assert after == expected.anomalies
    assert expected.anomalies or wanted < 40
    about = msgspec.json.decode(notice.value or b"", type=Notice)
    assert (about.type, about.data.reason, about.data.offset) == (STATE_PRIMED, "checkpoint", switch)
    assert about.data.ends_anomalies
    assert differing(state_of(other.restored(topics)), expected.state) == set()


def passing_by(count: int, place: int = 0) -> list[Record]:
    return [
        Record(b"slow-%d" % n, encode_reading(FEATURES, 1_700_000_000_000 + 1_000 * place, [float(n), 1.0]))
        for n in range(count)
    ]


def fast(count: int, place: int = 0) -> list[Record]:
    random = np.random.default_rng(place)
    return [
        Record(
            b"fast", encode_reading(FEATURES, 1_700_000_000_000 + 1_000 * (place + n), random.normal(size=2).tolist())
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("commits", "flush_interval_s"), [(1, 3.0), (2, 3.0), (1, SOON), (3, SELDOM)])
def test_a_crash_while_the_pages_of_a_new_checkpoint_are_written_changes_nothing(
    plant: Plant, other: Plant, commits: int, flush_interval_s: float
) -> None:
    """Two pages of slow streams whose readings are just within reach as long as it is reckoned for all of them."""
    other = replace(other, rules=RecoveryRules(False, 1))
    streams = 2 * PAGE_ROWS + 1
    reach = FAR * streams
    records = [*fast(30), *passing_by(streams - 1), *fast(reach - 200, 30)]
    switch = len(records)
    records += fast(300, switch)
    topics = Topics({"readings": 1})
    topics.append(P0, records[:switch])
    Service(plant, topics, max_poll_records=2_000).until_idle()
    task = primed(other, topics, streams_before(topics, switch, other), switch, switch - reach)
    topics.append(P0, records[switch:])
    ends(Service(other, topics, [Crash(commits, written=True)], flush_interval_s, max_poll_records=100))
    Service(other, topics, max_poll_records=1_000).until_idle()
    expected = calm_after(other, topics, task, switch)
    assert differing(state_of(other.restored(topics)), expected.state) == set()


@pytest.mark.parametrize("poll", [2, 3, 4, 5])
def test_a_partition_that_is_taken_away_while_streams_are_primed_is_primed_from_the_start(
    plant: Plant, other: Plant, poll: int
) -> None:
    topics = topics_with([*fast(150), *passing_by(3), *fast(150, 150)])
    Service(plant, topics).until_idle()
    task = primed(other, topics, streams_before(topics, 303, other), 303)
    service = Service(other, topics, [Revoke(poll, (P0,)), Assign(poll, (P0,))], max_poll_records=80)
    stages = []
    for _ in range(poll - 1):
        service.turn()
        stages.append(service.board.read().partitions[0].stage)
    assert stages[-1] == "priming"
    service.until(lambda: service.board.read().partitions[0].stage == "running")
    assert topics.committed == {P0: 303}
    assert differing(state_of(other.restored(topics)), state_of(task)) == set()


def test_of_a_stream_slower_than_the_reach_nothing_is_judged_before_the_switch(plant: Plant, other: Plant) -> None:
    other = replace(other, rules=RecoveryRules(False, 2))
    topics = topics_with([*passing_by(1), *fast(10), *passing_by(1, 20), *fast(FAR * 2 * 2, 40)])
    Service(plant, topics).until_idle()
    end = topics.bounds(P0)[1]
    found = state_of(other.restored(topics))
    expected = state_of(primed(other, topics, [b"slow-0", b"fast"], end, end - FAR * 2 * 2))
    assert found == expected
    assert found[b"slow-0"][0] == end - 1
    assert found[b"fast"][0] == end - 1


@pytest.mark.parametrize("flush_interval_s", [20.0, SELDOM])
def test_back_to_the_checkpoint_before_begins_again_too(
    plant: Plant, other: Plant, history: list[Record], flush_interval_s: float
) -> None:
    """Before all pages are the second one's: those that are still the first one's are too old to go on with."""
    topics = topics_with(history)
    Service(plant, topics, (), SELDOM).until(lambda: topics.committed.get(P0, 0) >= 700)
    Service(other, topics, (), flush_interval_s).until(lambda: topics.committed.get(P0, 0) >= 1_000)
    switch = topics.committed[P0]
    task = primed(plant, topics, streams_before(topics, switch, plant), switch)
    assert differing(state_of(plant.restored(topics)), state_of(task)) == set()
    ends(Service(plant, topics, [Crash(2)], SELDOM))
    Service(plant, topics).until_idle()
    assert differing(state_of(plant.restored(topics)), calm_after(plant, topics, task, switch).state) == set()


def test_rows_that_are_laid_out_in_another_way_begin_again_like_those_of_another_checkpoint(
    plant: Plant, history: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is the same; what is remembered a stream has changed with the code."""
    topics = topics_with(history)
    Service(plant, topics, (), SELDOM).until(lambda: topics.committed.get(P0, 0) >= 900)
    switch = topics.committed[P0]
    monkeypatch.setattr(Layout, "names", property(lambda layout: 7))
    task = primed(plant, topics, streams_before(topics, switch, plant), switch)
    assert differing(state_of(plant.restored(topics)), state_of(task)) == set()
    ends(Service(plant, topics, [Crash(2)], 4.0))
    Service(plant, topics).until_idle()
    assert differing(state_of(plant.restored(topics)), calm_after(plant, topics, task, switch).state) == set()


# --- what can go wrong


def notices(topics: Topics, partition: Partition = P0) -> list[Notice]:
    published = [record.value or b"" for record in topics.anomalies[partition]]
    return [msgspec.json.decode(value, type=Notice) for value in published if STATE_LOST.encode() in value]


def lost(topics: Topics) -> list[tuple[str | None, str]]:
    """Streams published to be lost, and why; fails where something is published twice."""
    found = [(notice.data.stream, notice.data.reason) for notice in notices(topics)]
    assert len({notice.id for notice in notices(topics)}) == len(found)
    return sorted(found, key=str)


def halfway(plant: Plant, history: list[Record], flush_interval_s: float = SOON, offset: int = 900) -> Topics:
    topics = topics_with(history)
    Service(plant, topics, (), flush_interval_s).until(lambda: topics.committed.get(P0, 0) >= offset)
    topics.compact()
    return topics


def resetting(plant: Plant) -> Plant:
    return replace(plant, rules=replace(plant.rules, reset=True))


def problems(plant: Plant, topics: Topics) -> dict[str, int]:
    """What a worker counts that opens now and goes on to the end."""
    return dict(Service(plant, topics).until_idle().board.read().counts.problems)


def kept(topics: Topics, key: bytes) -> int:
    (place,) = [n for n, record in enumerate(topics.changelog[P0]) if record.key == key]
    return place


def rewrite(topics: Topics, key: bytes, change: Callable[[bytes], bytes | None]) -> None:
    """Let the changelog hold something else under a key."""
    place = kept(topics, key)
    before = topics.changelog[P0][place]
    topics.changelog[P0][place] = before._replace(value=change(before.value or b""))


HERE = Origin(GROUP, P0)


def refuses(plant: Plant, topics: Topics) -> str:
    """What a worker says that may not go on without the state."""
    before = (dict(topics.committed), len(topics.anomalies[P0]), len(topics.changelog[P0]))
    with pytest.raises(LostState) as refused:
        Service(plant, topics).until_idle()
    assert (topics.committed, len(topics.anomalies[P0]), len(topics.changelog[P0])) == before
    assert "readings-0" in str(refused.value)
    assert "state.when_lost: reset" in str(refused.value)
    return str(refused.value)


def test_input_that_was_deleted_before_it_was_judged_again_is_not_passed_over_silently(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    topics = halfway(plant, history, SELDOM)
    assert plant.restored(topics).next_offset == 900
    topics.delete_before(P0, 880)
    assert "begins at 880" in refuses(plant, topics)
    assert problems(resetting(plant), topics) == {"retention": 1}
    assert lost(topics) == [(None, "retention")]
    assert topics.committed[P0] == topics.bounds(P0)[1]
    assert topics.dead_letters[P0] == calm.dead_letters
    assert problems(plant, topics) == {}


def test_input_that_was_deleted_before_it_was_judged_at_all_is_told(plant: Plant, history: list[Record]) -> None:
    topics = halfway(plant, history)
    topics.delete_before(P0, 1_200)
    assert "begins at 1200" in refuses(plant, topics)
    assert problems(resetting(plant), topics) == {"retention": 1}
    assert lost(topics) == [(None, "retention")]
    assert notices(topics)[0].data.offset == 1_200
    assert min(row[0] for row in state_of(plant.restored(topics)).values()) < 900


def test_input_that_was_deleted_after_all_of_it_was_judged_is_not_missed(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    topics = halfway(plant, history)
    topics.delete_before(P0, 900)
    assert problems(plant, topics) == {}
    assert_as_calm(plant, topics, calm)


@pytest.mark.parametrize("change", [lambda value: value[:-9], lambda value: None, lambda value: b""])
def test_a_lost_marker_loses_the_whole_partition(
    plant: Plant, history: list[Record], cold: State, change: Callable[[bytes], bytes | None]
) -> None:
    topics = halfway(plant, history)
    rewrite(topics, marker_key(HERE), change)
    refuses(plant, topics)
    reason = "empty" if change(b"{") is None else "corrupt"
    assert problems(resetting(plant), topics) == {reason: 1}
    assert lost(topics) == [(None, reason)]
    assert notices(topics)[0].data.offset == 900
    task = plant.restored(topics)
    assert set(state_of(task)) == {r.key for r in history[900:]}
    assert task.checkpoint_from == 900
    assert differing(state_of(task), cold) == set()
    assert problems(plant, topics) == {}


def test_an_empty_changelog_is_nothing_wrong_where_nothing_was_ever_committed(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    topics = topics_with(history)
    assert problems(plant, topics) == {}
    assert_as_calm(plant, topics, calm)


def test_pages_without_a_marker_are_a_lost_state_even_without_committed_offsets(
    plant: Plant, history: list[Record]
) -> None:
    topics = halfway(plant, history)
    topics.committed.clear()
    del topics.changelog[P0][kept(topics, marker_key(HERE))]
    refuses(plant, topics)


def test_a_topic_that_was_made_again_is_begun_again(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = halfway(plant, history)
    again = topics_with(history)
    again.changelog, again.topic_ids = topics.changelog, {"readings": "another id"}
    assert "another id" in refuses(plant, again)
    assert problems(resetting(plant), again) == {"recreated": 1}
    assert lost(again) == [(None, "recreated")]
    again.anomalies[P0] = [record for record in again.anomalies[P0] if STATE_LOST.encode() not in (record.value or b"")]
    assert_as_calm(plant, again, calm)


def test_a_topic_that_ends_before_what_was_judged_was_made_again(plant: Plant, history: list[Record]) -> None:
    topics = halfway(plant, history)
    again = topics_with(history[:500])
    again.changelog = topics.changelog
    assert "ends at 500" in refuses(plant, again)


def test_more_partitions_than_before_are_told_once(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = halfway(plant, history)
    wider = topics_with(history, [])
    wider.changelog[P0], wider.committed, wider.anomalies = topics.changelog[P0], topics.committed, topics.anomalies
    wider.anomalies[P1], wider.dead_letters[P0], wider.scores[P0] = [], topics.dead_letters[P0], topics.scores[P0]
    ends(Service(plant, wider, [Crash(1, written=False)]))
    ends(Service(plant, wider, [Crash(1, written=True)]))
    assert "partitions_added" not in problems(plant, wider)
    assert lost(wider) == [(None, "partitions_added")]
    wider.anomalies[P0] = [record for record in wider.anomalies[P0] if STATE_LOST.encode() not in (record.value or b"")]
    assert_as_calm(plant, wider, calm)


def test_the_marker_is_the_truth_where_the_groups_offsets_are_behind_it_or_gone(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    for committed in ({}, {P0: 300}):
        topics = halfway(plant, history, SELDOM)
        topics.committed = dict(committed)
        assert problems(plant, topics) == {}
        assert_as_calm(plant, topics, calm)


def test_offsets_ahead_of_the_marker_are_not_told_again(plant: Plant, history: list[Record]) -> None:
    topics = halfway(plant, history)
    published = len(topics.anomalies[P0])
    topics.committed[P0] = 1_000
    assert problems(plant, topics) == {"behind": 1}
    offsets = [msgspec.json.decode(r.value or b"")["data"]["offset"] for r in topics.anomalies[P0][published:]]
    assert offsets
    assert min(offsets) >= 1_000
    dead = [int(headers_of(letter)["telltale-offset"]) for letter in topics.dead_letters[P0]]
    assert not [offset for offset in dead if 900 <= offset < 1_000]


def test_another_machines_arithmetic_is_counted(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = halfway(plant, history)
    assert problems(replace(plant, numerics="other"), topics) == {"numerics": 1}
    assert lost(topics) == []


# --- pages that cannot be read


def in_page(plant: Plant, topics: Topics, number: int) -> set[str]:
    return {key.decode() for key in plant.restored(topics).slab.page(number, 0).keys}


def foreign(topics: Topics, number: int, plant: Plant) -> bytes:
    """A page that is whole, but another partition's."""
    page = plant.restored(topics).slab.page(number, 900)
    return page_record(Origin(GROUP, P1), plant.layout, page).value or b""


DAMAGES: dict[str, tuple[str, Callable[[Topics, Plant], None]]] = {
    "a bit": ("corrupt", lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: flipped(v, 5_003))),
    "cut": ("corrupt", lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: v[:-1])),
    "nothing": ("corrupt", lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: b"")),
    "version": ("version", lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: v[:4] + b"\x02" + v[5:])),
    "foreign": (
        "foreign",
        lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: foreign(topics, 0, plant)),
    ),
    "deleted": ("missing", lambda topics, plant: rewrite(topics, page_key(HERE, 0), lambda v: None)),
    "never there": (
        "missing",
        lambda topics, plant: topics.changelog[P0].pop(kept(topics, page_key(HERE, 0))) and None,
    ),
}


def flipped(value: bytes, bit: int) -> bytes:
    place = bit // 8 % len(value)
    return value[:place] + bytes([value[place] ^ 1 << bit % 8]) + value[place + 1 :]


@pytest.fixture(scope="module")
def cold(plant: Plant, history: list[Record]) -> State:
    """What is remembered at the end by a task that began at offset 900 with nothing."""
    return calm_after(plant, topics_with(history), plant.task(P0), 900).state


@pytest.mark.parametrize(("damage", "flush_interval_s"), [*((damage, SELDOM) for damage in DAMAGES), ("a bit", SOON)])
def test_the_streams_of_a_page_that_cannot_be_read_are_told_once_and_no_other_is_harmed(
    plant: Plant, history: list[Record], calm: Output, cold: State, damage: str, flush_interval_s: float
) -> None:
    reason, do = DAMAGES[damage]
    topics = halfway(plant, history, flush_interval_s)
    gone = in_page(plant, topics, 0)
    assert len(gone) == PAGE_ROWS
    do(topics, plant)
    ends(Service(plant, topics, [Crash(1, written=False)], SELDOM))
    assert lost(topics) == []
    ends(Service(plant, topics, [Crash(1, written=True)], SELDOM))
    assert lost(topics) == sorted((stream, reason) for stream in gone)
    assert {notice.data.offset for notice in notices(topics)} == {900}
    assert problems(plant, topics) == {}
    assert len(lost(topics)) == len(gone)

    found = state_of(plant.restored(topics))
    unharmed = {key: row for key, row in calm.state.items() if key.decode() not in gone}
    assert len(unharmed) > 10
    assert {key: found[key] for key in unharmed} == unharmed
    restarted = {key: row for key, row in cold.items() if key.decode() in gone}
    assert restarted
    assert found == unharmed | restarted


def test_a_page_with_a_good_roster_is_missed_wherever_it_is_cut_short(plant: Plant) -> None:
    topics = topics_with(passing_by(3))
    Service(plant, topics).until_idle()
    whole = topics.changelog[P0][kept(topics, page_key(HERE, 0))].value or b""
    for length in range(0, len(whole), 29):
        rewrite(topics, page_key(HERE, 0), lambda _, length=length: whole[:length])  # type: ignore[misc]
        log, task = MemoryLog(topics), plant.task(P0)
        log.poll(0.0)
        recovery = Recovery(log, plant.pipeline(), GROUP, plant.layout, plant.numerics, plant.rules, task)
        while task.stage is not Stage.RUNNING:
            recovery.step()
        published = [msgspec.json.decode(notice.value or b"", type=Notice).data for notice in recovery.notices]
        assert [(one.stream, one.reason) for one in published] == [(f"slow-{n}", "corrupt") for n in range(3)]
        assert len(task.slab) == 0


def test_without_its_roster_it_is_told_that_a_page_is_lost_but_not_whose(plant: Plant, history: list[Record]) -> None:
    topics = halfway(plant, history)
    for number in (0, 1):
        rewrite(topics, page_key(HERE, number), lambda value: value[:-1])
        rewrite(topics, roster_key(HERE, number), lambda value: value[:-1])
    assert problems(plant, topics) == {"corrupt": 2}
    assert lost(topics) == [(None, "corrupt"), (None, "corrupt")]
    assert {notice.data.detail.split(":")[0] for notice in notices(topics)} == {"page 0", "page 1"}
    assert problems(plant, topics) == {}


def test_a_lost_roster_is_written_again(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = halfway(plant, history)
    rewrite(topics, roster_key(HERE, 0), lambda value: value[:-1])
    gone = in_page(plant, topics, 0)
    ends(Service(plant, topics, [Crash(1, written=True)], SELDOM))
    topics.compact()
    rewrite(topics, page_key(HERE, 0), lambda value: value[:-1])
    Service(plant, topics).until(lambda: bool(lost(topics)))
    assert lost(topics) == sorted((stream, "corrupt") for stream in gone)


def test_a_page_is_lost_and_told_even_where_nothing_is_sent_any_more(plant: Plant, history: list[Record]) -> None:
    topics = topics_with(history[:900])
    Service(plant, topics).until_idle()
    rewrite_newest(topics, page_key(HERE, 0))
    Service(plant, topics).until(lambda: bool(lost(topics)))
    assert len(lost(topics)) == PAGE_ROWS
    again = Service(plant, topics)
    again.until(lambda: again.board.read().partitions[0].stage == "running")
    assert len(lost(topics)) == PAGE_ROWS


def rewrite_newest(topics: Topics, key: bytes) -> None:
    topics.compact()
    rewrite(topics, key, lambda value: value[:-1])


def test_pages_that_the_marker_does_not_count_are_left_alone(plant: Plant, history: list[Record], calm: Output) -> None:
    topics = halfway(plant, history)
    page = topics.changelog[P0][kept(topics, page_key(HERE, 0))]
    topics.changelog[P0] += [page._replace(key=page_key(HERE, number)) for number in (2, 9_999_999)]
    topics.changelog[P0].append(Record(b"readings/page/99999999/group", page.value))
    assert plant.restored(topics).slab.room < 1_000
    assert problems(plant, topics) == {}
    assert_as_calm(plant, topics, calm)


# --- room for streams, and an end for idle ones


def churn(seed: int, readings: int = 500) -> list[Record]:
    """Streams that come, stay a while and go; event time jumps now and then."""
    random = np.random.default_rng(seed)
    records, time_ms = [], 1_700_000_000_000
    for n in range(readings):
        time_ms += int(random.integers(0, 2_000)) + (10_000_000 if n % 211 == 210 else 0)
        stream = n // 40 + int(random.integers(12))
        late_ms = int(random.integers(0, 20_000)) if n % 13 == 0 else 0
        value = b"?" if n % 17 == 0 else encode_reading(FEATURES, time_ms - late_ms, random.normal(size=2).tolist())
        records.append(Record(b"s%d" % stream, value))
    return records


@pytest.mark.parametrize(
    ("seed", "max_streams", "idle_s"), [(0, 9, None), (1, None, 40.0), (2, 9, 40.0), (3, 9, 40.0), (4, 9, 40.0)]
)
def test_limits_hold_across_crashes_and_wherever_batches_end(
    plant: Plant, seed: int, max_streams: int | None, idle_s: float | None
) -> None:
    plant = replace(plant, max_streams=max_streams, idle_s=idle_s)
    topics = topics_with(churn(seed))
    expected = plant.calm(topics)
    random = np.random.default_rng(seed)
    workers = 0
    while topics.committed.get(P0, 0) < topics.bounds(P0)[1]:
        workers += 1
        crash = Crash(int(random.integers(2, 9)), bool(random.integers(2)))
        interval_s = float(random.choice([SOON, 2.0, SELDOM]))
        with suppress(Crashed):
            Service(plant, topics, [crash], interval_s, int(random.choice([7, 31, 90]))).until_idle()
    assert workers > 1
    assert_as_calm(plant, topics, expected)
    reasons = {headers_of(letter)["telltale-reason"] for letter in topics.dead_letters[P0]}
    assert (b"stream_limit" in reasons) == (max_streams is not None)
    assert (expected.counts["evicted"] > 10) == (idle_s is not None)


@pytest.mark.parametrize("commit", range(6, 11))
def test_a_stream_that_was_forgotten_does_not_come_back_with_a_crash(plant: Plant, commit: int) -> None:
    """Nothing else happens to its page: no stream comes, and the interval does not end."""
    plant = replace(plant, idle_s=16.0)
    topics = topics_with([*passing_by(3), *fast(60, 1)])
    expected = plant.calm(topics)
    assert expected.counts["evicted"] == 3
    ends(Service(plant, topics, [Crash(commit, written=True)], SELDOM, max_poll_records=5))
    Service(plant, topics, (), SELDOM, max_poll_records=5).until_idle()
    assert_as_calm(plant, topics, expected)


def test_a_stream_that_was_forgotten_is_in_no_page_any_more(plant: Plant) -> None:
    plant = replace(plant, idle_s=40.0)
    topics = topics_with(churn(1))
    Service(plant, topics, (), SELDOM).until_idle()
    topics.compact()
    (roster,) = [r.value or b"" for r in topics.changelog[P0] if r.key == roster_key(HERE, 0)]
    (page,) = [r.value or b"" for r in topics.changelog[P0] if r.key == page_key(HERE, 0)]
    held = plant.calm(topics).state.keys()
    gone = {record.key or b"" for record in churn(1)} - held
    assert len(gone) > 8
    for name in held:
        assert name in roster
        assert name in page
    names = set(msgspec.msgpack.decode(roster[14:])[-1])
    assert names == held
