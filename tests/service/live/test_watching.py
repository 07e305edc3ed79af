"""Streams that somebody looks at, on a worker that turns when the test says so."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from models.detection.detector import Detector, Readings
from models.detection.rows import Rows
from models.insight.explanation import explain
from models.net.packing import pack
from service.errors import TelltaleError
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES, Reporter, first_status
from service.live.status import CheckpointStatus, StatusBoard
from service.live.streams import Streams
from service.live.watching import KEPT_READINGS, PART_READINGS, NotNow, TooMuchAsked, UnheldStream, View, Watching
from service.log.memory_log import Assign, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Partition, Record
from service.pipeline import Pipeline, Processed
from service.recovery import RecoveryRules
from service.state.changelog import Layout
from service.state.writer import StateWriter
from service.worker.worker import PROBLEMS, Worker

FEATURES = ("f0", "f1")
DIGEST = "0123456789abcdef" * 4
P0, P1 = Partition("readings", 0), Partition("readings", 1)
PUMP = StreamKey(b"line-03/pump-012")
FAN = StreamKey(b"fan")
READINGS = 1_000
ROUND = 100  # records a poll


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def sent(keys: Sequence[bytes] = (PUMP, FAN), readings: int = READINGS, seed: int = 0) -> list[Record]:
    """Streams in turn, with jumps, each further than the last, late readings, duplicates, a bad record now and then."""
    random = np.random.default_rng(seed)
    records: list[Record] = []
    for n in range(readings):
        place = n // len(keys)
        time_ms = 1_700_000_000_000 + 60_000 * (place - (20 if place % 50 == 49 else 0))
        values = random.normal(size=2) + (40 * (1 + place // 150) ** 2 if place % 150 in range(130, 136) else 0)
        value = b"{" if n % 97 == 5 else encode_reading(FEATURES, time_ms, values.tolist())
        if place % 60 == 55:
            value = records[-len(keys)].value or b""
        records.append(Record(keys[n % len(keys)], value, (), 1_800_000_000_000))
    return records


class Service:
    """A worker that is watched, and what it judged."""

    def __init__(
        self,
        detector: Detector,
        topics: Topics,
        script: Sequence[Fault] = (),
        watching: Watching | None = None,
        idle_s: float | None = None,
    ):
        self.watching, self.streams = watching or Watching(), Streams()
        self.log = MemoryLog(topics, script, max_poll_records=ROUND)
        board, registry = (
            StatusBoard(first_status(CheckpointStatus("plant.safetensors", DIGEST, FEATURES))),
            CollectorRegistry(),
        )
        metrics = Metrics(registry, board, Build("0", "3", "2", ""), STAGES, REASONS, ["minor"], PROBLEMS)
        writer = StateWriter("group", Layout.of(DIGEST, detector.rows_for([])), "numerics", "writer", 10.0)
        self.board = board
        self.worker = Worker(
            self.log,
            Pipeline(detector, DIGEST, max_future_ms=86_400_000),
            writer,
            RecoveryRules(reset=False, prime_readings=0),
            threading.Event(),
            observers=[Reporter(board, metrics, writer, detector), self.watching, self.streams],
            idle_s=idle_s,
        )
        self.judged: list[Processed] = []

    def turn(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.judged += self.worker.turn(0.0)

    def answer(self, ask: Callable[[], View]) -> View:
        """What somebody gets who asks now, in another thread, while the worker goes on."""
        with ThreadPoolExecutor(1) as others:
            asked: Future[View] = others.submit(ask)
            while not self.watching.wanted and not asked.done():
                pass
            while not asked.done():
                self.turn()
            return asked.result()

    def look(self, key: StreamKey = PUMP) -> View:
        return self.answer(lambda: self.watching.look(key, 10.0))

    def of(self, key: StreamKey, partition: Partition = P0) -> tuple[Readings, torch.Tensor]:
        """A stream's readings in all that was judged, and the scores they were given."""
        readings, scores = [], []
        for one in self.judged:
            if one.commit.partition == partition and one.verdicts is not None:
                mine = torch.tensor([n for n, name in enumerate(one.batch.keys) if name == key], dtype=torch.int64)
                readings.append(Readings(*(column[mine] for column in one.batch.readings)))
                scores.append(one.verdicts.score[mine])
        return Readings(*map(torch.cat, zip(*readings, strict=True))), torch.cat(scores)


def one_partition(records: Sequence[Record]) -> Topics:
    topics = Topics({"readings": 1})
    topics.append(P0, records)
    return topics


def same(one: Rows, other: Rows) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def judge(detector: Detector, readings: Readings, row: Rows) -> Rows:
    return detector.observe(readings, pack(torch.zeros_like(readings.offsets)), row)[1]


def test_a_stream_is_seen_as_it_is_at_the_end_of_a_round_also_when_nothing_was_read(detector: Detector) -> None:
    service = Service(detector, one_partition(sent(readings=300)))
    service.turn(6)
    assert service.judged[-1].commit.next_offset == 300
    view = service.look()
    readings, _ = service.of(PUMP)
    assert view.partition == P0
    assert view.parts == ()
    assert len(view.readings.offsets) == 0
    assert view.readings.values.shape == (0, 2)
    assert same(view.row, judge(detector, readings, detector.rows_for([PUMP])))


def test_readings_since_it_is_watched_are_kept_with_the_row_before_them(detector: Detector) -> None:
    service = Service(detector, one_partition(sent()))
    service.turn(3)
    before, _ = service.of(PUMP)
    service.look()
    service.turn(4)
    view = service.watching.look(PUMP)
    readings, _ = service.of(PUMP)
    watched_from = int((readings.offsets < view.readings.offsets[0]).sum())
    assert len(before.offsets) <= watched_from < len(readings.offsets)
    assert torch.equal(view.readings.offsets, readings.offsets[watched_from:])
    assert torch.equal(view.readings.times_ms, readings.times_ms[watched_from:])
    assert torch.equal(view.readings.values.nan_to_num(), readings.values[watched_from:].nan_to_num())
    first = Readings(*(column[:watched_from] for column in readings))
    assert same(view.row_before, judge(detector, first, detector.rows_for([PUMP])))
    assert same(view.row, judge(detector, view.readings, view.row_before))


@pytest.mark.slow
def test_what_is_explained_live_are_the_verdicts_of_the_worker_to_the_bit(detector: Detector) -> None:
    service = Service(detector, one_partition(sent()))
    service.turn(2)
    service.look()
    service.turn(12)
    view = service.watching.look(PUMP)
    live = explain(detector, view.row_before, view.readings, 200)
    readings, scores = service.of(PUMP)
    offline = explain(detector, detector.rows_for([PUMP]), readings, 200)
    assert torch.equal(live.verdicts.score, scores[-200:])
    assert (live.verdicts.score >= 1).any()
    assert [one.transition.score for one in live.accounts] == [one.transition.score for one in offline.accounts]
    assert live.accounts == offline.accounts
    for mine, other in zip(live.layers, offline.layers, strict=True):
        for gate, again in zip(mine.gates, other.gates, strict=True):
            np.testing.assert_allclose(gate.units, again.units, atol=1e-5)


@pytest.mark.slow
def test_no_more_readings_are_kept_than_it_says_and_they_lead_to_the_row(detector: Detector) -> None:
    service = Service(detector, one_partition(sent(keys=(PUMP,), readings=1_500)))
    service.turn(2)
    service.look()
    kept = []
    while service.judged[-1].commit.next_offset < 1_500:
        service.turn()
        view = service.watching.look(PUMP)
        kept.append(len(view.readings.offsets))
    assert same(view.row, judge(detector, view.readings, view.row_before))
    assert max(kept) <= KEPT_READINGS + PART_READINGS + ROUND
    assert min(kept[-4:]) >= KEPT_READINGS
    readings, _ = service.of(PUMP)
    assert torch.equal(view.readings.offsets, readings.offsets[-kept[-1] :])


def test_a_view_never_changes_afterwards(detector: Detector) -> None:
    service = Service(detector, one_partition(sent()))
    service.turn(2)
    service.look()
    service.turn()
    view = service.watching.look(PUMP)
    row, offsets = Rows(*(column.clone() for column in view.row)), view.readings.offsets.clone()
    service.turn(5)
    assert same(view.row, row)
    assert torch.equal(view.readings.offsets, offsets)
    assert service.watching.look(PUMP) is not view


def test_watching_changes_no_byte_of_what_is_told(detector: Detector) -> None:
    outputs = []
    for watched in (False, True):
        topics = one_partition(sent())
        service = Service(detector, topics)
        service.turn(2)
        if watched:
            service.look(PUMP)
            service.look(FAN)
        while topics.committed.get(P0) != READINGS:
            service.turn()
        outputs.append((topics.anomalies[P0], topics.dead_letters[P0]))
    assert outputs[0] == outputs[1]
    assert len(outputs[0][0]) > 4


def test_nothing_is_followed_when_no_one_looks(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(detector, one_partition(sent(readings=300)))
    monkeypatch.setattr(service.watching, "follow", None)  # calling it would raise
    service.turn(4)
    assert not service.watching.wanted


def test_a_stream_that_the_worker_does_not_hold_is_unheld_and_not_watched(detector: Detector) -> None:
    service = Service(detector, one_partition(sent(readings=300)))
    service.turn(4)
    with pytest.raises(UnheldStream, match="this worker holds no stream 'nobody'"):
        service.look(StreamKey(b"nobody"))
    assert not service.watching.wanted


def test_while_memory_is_restored_there_is_no_answer_yet(detector: Detector) -> None:
    topics = one_partition(sent(readings=600))
    Service(detector, topics).turn(4)
    service = Service(detector, topics)
    with pytest.raises(NotNow, match="1 of 1 partitions do not have their memory back yet"):
        service.look(StreamKey(b"nobody"))
    service.turn(8)
    assert service.look().partition == P0


def test_without_a_round_of_the_worker_there_is_no_answer() -> None:
    with pytest.raises(NotNow, match="has not come round within 0 s"):
        Watching().look(PUMP, 0.01)


def test_too_many_streams_are_refused_until_one_is_forgotten() -> None:
    now = [0.0]
    watching = Watching(most_streams=2, monotonic=lambda: now[0])
    for key in (PUMP, FAN):
        with pytest.raises(NotNow):
            watching.look(key, 0.0)
    with pytest.raises(TooMuchAsked, match="2 streams are watched"):
        watching.look(StreamKey(b"third"), 0.0)
    now[0] = 50.0
    with pytest.raises(NotNow):
        watching.look(FAN, 0.0)
    now[0] = 61.0
    with pytest.raises(NotNow):
        watching.look(StreamKey(b"third"), 0.0)
    with pytest.raises(TooMuchAsked):
        watching.look(PUMP, 0.0)


def test_a_stream_that_no_one_has_asked_for_in_a_minute_is_not_followed_any_more(detector: Detector) -> None:
    now = [0.0]
    service = Service(detector, one_partition(sent()), watching=Watching(monotonic=lambda: now[0]))
    service.turn(2)
    service.look()
    now[0] = 59.0
    service.turn()
    assert service.watching.wanted
    now[0] = 60.5
    service.turn()
    assert not service.watching.wanted


@pytest.mark.slow
@pytest.mark.parametrize("fault", [[Revoke(6, (P0,)), Assign(8, (P0,))], [Migrate(4)]])
def test_after_its_partition_was_gone_a_stream_is_watched_again(detector: Detector, fault: list[Fault]) -> None:
    topics = one_partition(sent())
    service = Service(detector, topics, fault)
    service.turn(3)
    service.look()
    errors: list[TelltaleError] = []
    while topics.committed.get(P0) != READINGS:
        service.turn()
        if service.watching.wanted:
            service.watching.look(PUMP)
        else:
            try:
                service.look()
            except (NotNow, UnheldStream) as error:
                errors.append(error)
    view = service.watching.look(PUMP)
    assert errors
    assert 0 < len(view.readings.offsets) < len(service.of(PUMP)[0].offsets) - 20
    assert same(view.row, judge(detector, view.readings, view.row_before))


@pytest.mark.slow
def test_a_stream_that_was_forgotten_and_came_back_in_one_batch_is_watched_again(detector: Detector) -> None:
    """Its row is a fresh one then: the readings kept before do not lead to it."""
    quiet = range(300, 1_800)  # minutes in which only the fan is heard of, now and then
    minutes = [*range(300), *range(300, 1_800, 50), *range(1_800, 1_880)]
    records = [
        Record(key, encode_reading(FEATURES, 1_700_000_000_000 + 60_000 * at, [1.0 + at % 3, 2.0]), (), -1)
        for at in minutes
        for key in ([FAN] if at in quiet else [PUMP, FAN])
    ]
    service = Service(detector, one_partition(records), idle_s=3_600.0)
    service.turn(2)
    service.look()
    ages = []
    while service.judged[-1].commit.next_offset < len(records):
        service.turn()
        ages.append(float(service.watching.look(PUMP).row.scalars[0, 0]))
    assert sum(one.counts["evicted"] for one in service.judged) == 1
    view = service.watching.look(PUMP)
    assert (max(ages), ages[-1]) == (300, 80)
    assert len(view.readings.offsets) < 80
    assert same(view.row, judge(detector, view.readings, view.row_before))


def test_the_first_partition_that_holds_a_stream_is_the_one_that_is_seen(detector: Detector) -> None:
    topics = Topics({"readings": 2})
    topics.append(P0, sent(keys=(FAN,), readings=100))
    topics.append(P1, sent(keys=(PUMP,), readings=100))
    service = Service(detector, topics)
    service.turn(6)
    assert service.look(PUMP).partition == P1
    assert service.look(FAN).partition == P0


def test_many_who_ask_at_once_get_the_same_view(detector: Detector) -> None:
    service = Service(detector, one_partition(sent(readings=300)))
    service.turn(5)
    with ThreadPoolExecutor(8) as others:
        asked = [others.submit(service.watching.look, PUMP, 10.0) for _ in range(8)]
        while not all(one.done() for one in asked):
            service.turn()
    rows = [one.result().row for one in asked]
    assert all(same(rows[0], row) for row in rows)


def test_what_came_since_an_offset_is_in_the_parts_that_are_left_and_they_lead_to_the_row(detector: Detector) -> None:
    service = Service(detector, one_partition(sent()))
    service.turn(2)
    service.look()
    service.turn(5)
    view = service.watching.look(PUMP)
    offsets = view.readings.offsets
    assert len(view.parts) > 1
    for seen in (-1, int(offsets[0]), int(offsets[PART_READINGS]), int(offsets[-2]), int(offsets[-1]), 10**9):
        rest = view.since(seen + 1)
        assert torch.equal(rest.readings.offsets[rest.readings.offsets > seen], offsets[offsets > seen])
        assert same(rest.row, judge(detector, rest.readings, rest.row_before) if rest.parts else view.row)
    assert view.since(int(offsets[-1]) + 1).parts == ()


def test_streams_that_may_be_looked_at_soon_are_watched_in_half_of_the_places(detector: Detector) -> None:
    keys = tuple(f"s{n}".encode() for n in range(8))
    records = sent(keys=keys)
    service = Service(detector, one_partition(records), watching=Watching(most_streams=4))
    service.turn(3)
    for key in keys:
        service.watching.expect(StreamKey(key))
    while service.judged[-1].commit.next_offset < len(records):
        service.turn()
    assert len(service.watching.look(StreamKey(b"s1")).readings.offsets) > 0
    assert len(service.look(StreamKey(b"s2")).readings.offsets) == 0
    assert len(service.look(StreamKey(b"s3")).readings.offsets) == 0
    with pytest.raises(TooMuchAsked):
        service.watching.look(StreamKey(b"s4"))
