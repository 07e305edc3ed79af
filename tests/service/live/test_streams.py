"""All streams of a worker, sorted and searched, against a plain loop over what was judged."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.data.rfc3339 import rfc3339
from models.detection.alarm import OpenedBy, Severity
from models.detection.detector import Detector
from service.input.anomaly import anomaly_id
from service.input.reading_batch import StreamKey
from service.live.streams import ASKED_FOR_S, EVERY_S, Names, Order, Streams, StreamTable
from service.live.watching import NotNow
from service.log.port import Partition
from service.state.slab import StateSlab
from service.state.task import PartitionTask
from tests.service.live.test_watching import P0, P1, Service, one_partition, sent

NOW_MS = 1_800_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def task_of(detector: Detector, partition: Partition, keys: Sequence[bytes]) -> PartitionTask:
    slab = StateSlab(detector.rows_for)
    slab.slots([StreamKey(key) for key in keys])
    return PartitionTask(partition, slab)


def made(*tasks: PartitionTask) -> StreamTable:
    streams = Streams()
    streams.publish(tasks, NOW_MS)
    return streams.look()


def names_of(table: StreamTable, **asked: object) -> list[str]:
    return [one.stream for one in table.find(most=1_000, **asked).streams]  # type: ignore[arg-type]


def set_row(task: PartitionTask, key: bytes, score: float | None = None, **scalars: float) -> None:
    slot = task.slab.find([StreamKey(key)])
    for name, value in scalars.items():
        task.slab.rows.scalar(name)[slot] = value
    if score is not None:
        task.slab.scores[slot.numpy()] = score


# --- what is in it


def test_a_stream_is_shown_with_the_score_of_its_last_judged_reading_and_what_its_row_says(detector: Detector) -> None:
    streams = Streams()
    service = Service(detector, one_partition(sent(readings=700)), idle_s=None)
    service.turn(8)
    (task,) = service.worker._tasks.values()
    streams.publish([task], NOW_MS)
    found = streams.look().find()
    assert found.total == 2
    for seen in found.streams:
        key = StreamKey(seen.stream.encode())
        readings, scores = service.of(key)
        fates = [
            bool(one.verdicts.fate.judged[n])
            for one in service.judged
            if one.verdicts is not None
            for n, name in enumerate(one.batch.keys)
            if name == key
        ]
        last = max(n for n, judged in enumerate(fates) if judged)
        assert seen.score == pytest.approx(float(scores[last]), rel=1e-6)
        assert seen.readings == sum(fates)
        assert (seen.topic, seen.partition) == P0
        assert seen.time == rfc3339(int(readings.times_ms[last]))


def test_an_open_alarm_is_shown_under_the_id_of_its_events(detector: Detector) -> None:
    task = task_of(detector, P1, [b"pump", b"fan"])
    set_row(task, b"pump", 3.5, age=500, time_ms=7_000, alarm=1 + Severity.CRITICAL)
    set_row(task, b"pump", opened_offset=81, opened_ms=5_000, peak=4.5)
    set_row(task, b"pump", length=9, opened_by=OpenedBy.RANGE)
    (seen,) = made(task).find(alarm=True).streams
    assert (seen.stream, seen.score, seen.time) == ("pump", 3.5, rfc3339(7_000))
    assert seen.alarm is not None
    assert seen.alarm.anomaly == anomaly_id(P1, 81, "pump")
    assert (seen.alarm.severity, seen.alarm.opened_by, seen.alarm.peak) == ("critical", "range", 4.5)
    assert (seen.alarm.opened_at, seen.alarm.readings) == (rfc3339(5_000), 9)


def test_a_table_does_not_change_any_more(detector: Detector) -> None:
    task = task_of(detector, P0, [b"pump"])
    set_row(task, b"pump", 1.0, age=3)
    table = made(task)
    set_row(task, b"pump", 9.0, age=4)
    task.slab.evict(StreamKey(b"pump"), 5)
    (seen,) = table.find().streams
    assert (seen.stream, seen.score, seen.readings) == ("pump", 1.0, 3)


def test_a_stream_that_was_forgotten_takes_its_score_along(detector: Detector) -> None:
    task = task_of(detector, P0, [b"pump", b"fan"])
    set_row(task, b"pump", 7.0, age=3)
    task.slab.evict(StreamKey(b"pump"), 5)
    assert names_of(made(task)) == ["fan"]
    task.slab.slots([StreamKey(b"press")])  # in the slot of the one before
    assert {one.stream: one.score for one in made(task).find().streams} == {"fan": None, "press": None}


def test_there_may_be_no_partition_and_no_stream(detector: Detector) -> None:
    for table in (made(), made(task_of(detector, P0, []))):
        for order in Order:
            assert table.find("x", order, alarm=True) == (0, [])
        assert table.total == 0


# --- order


def test_the_strangest_come_first_and_those_without_a_score_last_over_all_partitions(detector: Detector) -> None:
    random = np.random.default_rng(0)
    tasks = [task_of(detector, Partition("plant", n), [f"{n}-{m}".encode() for m in range(300)]) for n in range(3)]
    scores: dict[str, float] = {}
    for task in tasks:
        for key in task.slab.keys:
            assert key is not None
            if random.random() < 0.8:
                scores[key.decode()] = score = float(np.float32(random.random()))
                set_row(task, key, score, age=1)
    expected = sorted(scores, key=lambda name: -scores[name])
    table = made(*tasks)
    assert names_of(table)[: len(scores)] == expected
    assert table.total == len(names_of(table)) == 900
    pages = [one.stream for skip in range(0, 900, 70) for one in table.find(skip=skip, most=70).streams]
    assert pages == names_of(table)
    assert table.find(skip=900).streams == []


def test_other_orders(detector: Detector) -> None:
    task = task_of(detector, P0, [b"new", b"old", b"never", b"loud", b"louder", b"was-loud"])
    for name, time_ms, peak, alarm in (
        (b"new", 9_000, 0, 0),
        (b"old", 1_000, 0, 0),
        (b"loud", 5_000, 3, 1),
        (b"louder", 6_000, 4, 1),
        (b"was-loud", 7_000, 9, 0),
    ):
        set_row(task, name, age=10, time_ms=time_ms, peak=peak, alarm=alarm)
    table = made(task)
    assert names_of(table, order=Order.SILENCE) == ["old", "loud", "louder", "was-loud", "new", "never"]
    assert names_of(table, order=Order.PEAK)[:2] == ["louder", "loud"]
    assert names_of(table, order=Order.PEAK, alarm=True) == ["louder", "loud"]


# --- search


@pytest.mark.parametrize("text", ["pump", "PUMP", "line-03/", "3/pump-0", "ü", "日本", "p", "no such", "\n", "99"])
def test_a_search_finds_what_a_plain_look_at_every_name_finds(text: str) -> None:
    random = np.random.default_rng(1)
    kinds = ("pump", "Fan", "prüfstand", "日本", "p", "a\nb")
    keys = [
        None if random.random() < 0.1 else StreamKey(f"line-{random.integers(9):02d}/{kind}-{n:03d}".encode())
        for n, kind in enumerate(random.choice(kinds, 2_000))
    ]
    found = Names(tuple(keys)).containing(text)
    expected = [key is not None and text.encode().lower() in key.lower() for key in keys]
    assert found.tolist() == expected


def test_no_name_is_found_by_its_end_and_the_next_ones_beginning() -> None:
    names = Names((StreamKey(b"pump"), None, StreamKey(b"fan"), StreamKey(b"")))
    assert not names.containing("pf").any()
    assert not names.containing("pumpfan").any()
    assert names.containing("fan").tolist() == [False, False, True, False]


def test_what_is_searched_keeps_until_the_streams_change(detector: Detector) -> None:
    task, streams = task_of(detector, P0, [b"pump"]), Streams()
    streams.publish([task], NOW_MS)
    first = streams.look().parts[0].names
    streams.publish([task], NOW_MS)
    assert streams.look().parts[0].names is first
    task.slab.slots([StreamKey(b"fan")])
    streams.publish([task], NOW_MS)
    assert streams.look().find("fan").total == 1


# --- between threads


def asked(streams: Streams, ask: Callable[[], StreamTable], turn: Callable[[], None]) -> StreamTable:
    """What somebody gets who asks in another thread while the worker turns."""
    with ThreadPoolExecutor(1) as others:
        answer = others.submit(ask)
        while not answer.done():
            turn()
        return answer.result()


def test_nothing_is_made_until_somebody_asks_and_no_more_once_no_one_does(detector: Detector) -> None:
    clock = Clock()
    streams, task = Streams(clock), task_of(detector, P0, [b"pump"])
    assert not streams.wanted

    def turn() -> None:
        if streams.wanted:
            streams.publish([task], NOW_MS)

    first = asked(streams, lambda: streams.look(10.0), turn)
    turn()  # a second has not passed
    assert streams.look() is first
    clock.now_s += EVERY_S
    turn()
    assert streams.look() is not first
    clock.now_s += ASKED_FOR_S + 1
    assert not streams.wanted
    assert asked(streams, lambda: streams.look(10.0), turn).made_ms == NOW_MS


def test_an_old_table_is_better_than_none_and_none_is_said(detector: Detector) -> None:
    clock = Clock()
    streams = Streams(clock)
    with pytest.raises(NotNow, match="has not come round"):
        streams.look(0.0)
    streams.publish([task_of(detector, P0, [b"pump"])], NOW_MS)
    clock.now_s += 3_600
    assert streams.look(0.0).total == 1


def test_a_worker_publishes_while_somebody_asks(detector: Detector) -> None:
    service = Service(detector, one_partition(sent(readings=400)))
    streams = service.streams
    table = asked(streams, lambda: streams.look(10.0), service.turn)
    assert table.total <= 2
    assert threading.active_count() >= 1
