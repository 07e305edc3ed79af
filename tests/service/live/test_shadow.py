"""A second checkpoint beside the one that judges: what is compared, and that nothing else changes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from models.detection.detector import Detector, Verdicts
from service.input.events import decode_event
from service.input.wire import encode_reading, encode_silent
from service.live.merging import NOTHING_COUNTED, MergedStatus
from service.live.reporter import first_status
from service.live.shadow import Shadow
from service.live.shadow_metrics import shadow_families
from service.live.status import CheckpointStatus, ShadowStatus
from service.log.memory_log import Assign, Revoke, Topics
from service.log.port import Partition, Record
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask
from tests.data import QUICK, some_forecaster
from tests.service.promotions import FEATURES, MODELS, A, B, Service, pipeline_of, sent

PARTS = P0, P1 = Partition("plant", 0), Partition("plant", 1)
READINGS, START_MS = 800, 1_700_000_000_000
C, D = "cc" * 32, "dd" * 32
DEAF = replace(QUICK.score, lowest_threshold=1e9, lowest_sudden=1e9, range_share=1e9)
NERVOUS = replace(QUICK.score, lowest_threshold=0.1, lowest_sudden=0.5, smooth_period=32, sharp_period=32)
SHADOWS = {
    **MODELS,
    C: Detector.cold(some_forecaster(2), replace(QUICK, score=DEAF)),
    D: Detector.cold(some_forecaster(2), replace(QUICK, score=NERVOUS)),
}


def plant() -> Topics:
    topics = Topics({"plant": 2})
    for partition in PARTS:
        topics.append(partition, sent(partition.number, READINGS))
    return topics


def shadow_of(digest: str, *topics: str) -> Shadow:
    return Shadow(pipeline_of(digest, SHADOWS), CheckpointStatus("shadow", digest, FEATURES), topics or ("plant",))


def judged_alone(digest: str, partition: Partition) -> Verdicts:
    """All readings of a partition in one go."""
    task = PartitionTask(partition, StateSlab(SHADOWS[digest].rows_for), EventClock(None))
    fetched = plant().fetch(partition, 0, READINGS)
    assert fetched is not None
    (one,) = pipeline_of(digest, SHADOWS).process(fetched, task)
    assert one.verdicts is not None
    return one.verdicts


@pytest.mark.slow
def test_it_counts_the_readings_at_which_one_of_both_has_an_alarm_open() -> None:
    shadow = shadow_of(B)
    Service(plant(), observers=[shadow]).run(READINGS)
    status, compared = shadow.status(), 0
    for partition, found in zip(PARTS, status.partitions, strict=True):
        mine, theirs = judged_alone(B, partition), judged_alone(A, partition)
        assert (found.topic, found.number) == partition
        assert found.only_shadow == int((mine.alarm & ~theirs.alarm).sum())
        assert found.only_current == int((theirs.alarm & ~mine.alarm).sum())
        assert found.both == int((theirs.alarm & mine.alarm).sum())
        assert found.opened > 0
        assert found.opened_current > 0
        compared += found.readings
    differ = sum(one.only_shadow + one.only_current for one in status.partitions)
    assert 0 < differ < compared < 2 * READINGS, "streams that warm up are not compared"
    assert sum(status.streams.values()) == differ


@pytest.mark.slow
def test_as_many_readings_are_compared_however_many_come_at_once() -> None:
    compared = []
    for at_once in (50, 10 * READINGS):
        shadow = shadow_of(B)
        Service(plant(), observers=[shadow], at_once=at_once).run(READINGS)
        compared.append([(one.readings, one.only_shadow, one.both) for one in shadow.status().partitions])
    assert compared[0] == compared[1]


class Stretch(NamedTuple):
    """An alarm by the flags of its readings: offsets from its first to its last, and its first reading's time."""

    stream: bytes
    first: int
    last: int
    closed: bool


def alarms_by_flags(verdicts: Verdicts, partition: Partition) -> list[Stretch]:
    """Stream by stream, whatever the transitions say."""
    keys = [record.key or b"" for record in sent(partition.number, READINGS) if record.value != b"{"]
    found = []
    for stream in sorted(set(keys)):
        rows = [n for n, key in enumerate(keys) if key == stream]
        begin: int | None = None
        for place, n in enumerate(rows):
            if verdicts.alarm[n] and begin is None:
                begin = n
            if begin is not None and not verdicts.alarm[n]:
                found.append(Stretch(stream, begin, rows[place - 1], True))
                begin = None
        if begin is not None:
            found.append(Stretch(stream, begin, rows[-1], False))
    return found


def alone_in(mine: list[Stretch], others: list[Stretch]) -> list[Stretch]:
    return [
        one
        for one in mine
        if not any(
            one.stream == other.stream and other.first <= one.last and one.first <= other.last for other in others
        )
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("digest", "alone"), [(B, set[str]()), (C, {"current"}), (D, {"shadow"})])
def test_it_names_the_alarms_of_one_alone_with_what_the_other_thought(digest: str, alone: set[str]) -> None:
    shadow = shadow_of(digest)
    Service(plant(), observers=[shadow]).run(READINGS)
    status, all_named = shadow.status(), 0
    for partition, found in zip(PARTS, status.partitions, strict=True):
        verdicts = {"shadow": judged_alone(digest, partition), "current": judged_alone(A, partition)}
        alarms = {of: alarms_by_flags(one, partition) for of, one in verdicts.items()}
        times = [record.time_ms for record in sent(partition.number, READINGS) if record.value != b"{"]
        for of, other, counted in (("shadow", "current", found.alone), ("current", "shadow", found.alone_current)):
            expected = alone_in(alarms[of], alarms[other])
            named = [one for one in status.alarms if (one.topic, one.number, one.of) == (*partition, of)]
            assert counted == sum(one.closed for one in expected)
            assert [(one.stream.encode(), one.opened_ms) for one in named] == sorted(
                ((one.stream, times[one.first]) for one in expected), key=lambda one: (one[1], one[0])
            )
            first = {(one.stream, times[one.first]): one.first for one in expected}
            for one in named:
                n = first[one.stream.encode(), one.opened_ms]
                assert one.score == float(verdicts[of].score[n])
                assert one.other_score == float(verdicts[other].score[n])
                assert one.peak >= one.score
            all_named += len(named)
    assert len(status.alarms) == all_named
    assert {one.of for one in status.alarms} >= alone
    assert any(one.closed_ms is not None for one in status.alarms) == bool(alone)


@pytest.mark.slow
def test_beside_itself_nothing_differs() -> None:
    shadow = shadow_of(A)
    Service(plant(), observers=[shadow]).run(READINGS)
    for one in shadow.status().partitions:
        assert (one.only_shadow, one.only_current) == (0, 0)
        assert one.both > 0
        assert one.opened == one.opened_current > 0
    assert shadow.status().streams == {}
    assert shadow.status().alarms == ()


@pytest.mark.slow
def test_nothing_of_it_is_published_or_kept() -> None:
    calm, shadowed = plant(), plant()
    Service(calm).run(READINGS)
    Service(shadowed, observers=[shadow_of(B)]).run(READINGS)
    assert shadowed.anomalies == calm.anomalies
    assert {record.key for record in shadowed.changelog[P0]} == {record.key for record in calm.changelog[P0]}
    assert not any(B.encode() in (record.value or b"") for record in shadowed.changelog[P0])


@pytest.mark.slow
def test_of_a_partition_that_leaves_and_comes_back_it_begins_again() -> None:
    shadow = shadow_of(B)
    Service(plant(), Revoke(9, (P0,)), Assign(12, (P0,)), observers=[shadow]).run(READINGS)
    first, second = shadow.status().partitions
    assert 0 < first.readings < second.readings


def test_topics_with_other_channels_are_left_alone() -> None:
    shadow = shadow_of(B, "another")
    Service(plant(), observers=[shadow]).run(READINGS)
    assert shadow.status().partitions == ()


@pytest.mark.slow
def test_streams_that_are_forgotten_are_forgotten_here_too() -> None:
    shadow = Shadow(pipeline_of(B), CheckpointStatus("shadow", B, FEATURES), ("plant",), monotonic=_Seconds())
    service = Service(plant(), observers=[shadow]).run(READINGS)
    assert [one.streams for one in shadow.status().partitions] == [4, 4]
    task = service.worker._tasks[P0]
    task.slab.evict(next(key for key in task.slab.keys if key), READINGS)
    service.worker.turn(0.0)
    assert [one.streams for one in shadow.status().partitions] == [3, 4]


class _Seconds:
    """A clock that moves on by two seconds each time it is asked."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 2.0
        return self.now_s


@pytest.fixture(scope="module")
def found() -> ShadowStatus:
    shadow = shadow_of(B)
    Service(plant(), observers=[shadow]).run(READINGS)
    return shadow.status()


def test_metrics_have_what_was_found_by_partition(found: ShadowStatus) -> None:
    registry = CollectorRegistry()

    class Collector:
        def collect(self) -> Iterator[Metric]:
            return shadow_families(found)

    registry.register(Collector())
    for one in found.partitions:
        where = {"topic": one.topic, "partition": str(one.number)}
        assert registry.get_sample_value("telltale_shadow_readings_total", where) == one.readings
        name = "telltale_shadow_alarm_readings_total"
        assert registry.get_sample_value(name, {**where, "of": "shadow"}) == one.only_shadow
        assert registry.get_sample_value(name, {**where, "of": "current"}) == one.only_current
    assert registry.get_sample_value("telltale_shadow_info", {"digest": B}) == 1
    assert list(shadow_families(None)) == []


def test_of_several_workers_it_is_one_status(found: ShadowStatus) -> None:
    checkpoint = CheckpointStatus("plant", A, FEATURES)
    merged, one = MergedStatus(first_status(checkpoint)), first_status(checkpoint)

    for worker, part in enumerate(found.partitions):
        mine = ShadowStatus(found.checkpoint, (part,), {"stream-0": 2 + worker})
        merged.take(worker, replace(one, shadow=mine), NOTHING_COUNTED)
    shadow = merged.status.shadow
    assert shadow is not None
    assert shadow.partitions == found.partitions
    assert shadow.streams == {"stream-0": 5}


@pytest.mark.slow
@pytest.mark.parametrize("is_said", [False, True])
def test_a_silence_that_is_told_while_it_lasts_is_no_difference(is_said: bool) -> None:
    """Both close it with the next reading. is_said: by its source, at once."""
    topics = Topics({"plant": 1})
    for n in range(600):
        value = encode_reading(FEATURES, START_MS + 60_000 * n, [1.0, 2.0])
        here = [Record(b"stream-%d" % stream, value) for stream in range(3) if stream != 2 or n not in range(300, 330)]
        topics.append(P0, here)
        if is_said and n == 300:
            topics.append(P0, [Record(b"stream-2", encode_silent(START_MS + 60_000 * n))])
    shadow = shadow_of(A)
    Service(topics, observers=[shadow]).run(topics.bounds(P0)[1])
    (found,) = shadow.status().partitions
    changes = [decode_event(record.value or b"").change for record in topics.anomalies[P0]]
    assert changes == ["opened", "updated", "closed"]
    assert (found.only_shadow, found.only_current, found.both) == (0, 0, 0)
