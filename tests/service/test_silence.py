"""A stream that falls silent is told while it is silent, by the other streams of its partition, exactly once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from models.data.arrays import Int64s
from models.data.rfc3339 import rfc3339
from models.data.time_units import DAY_MS
from models.detection.detector import Detector, DetectorConfig
from models.detection.scoring import ScoreConfig
from models.detection.ticks import Ticks
from service.input.events import Event, decode_event
from service.input.wire import encode_reading, encode_silent
from service.log.memory_log import Assign, Crash, Fault, Revoke
from service.log.port import Record
from service.pipeline import Pipeline, Processed
from service.state.changelog import read_marker, sealed
from service.state.changelog_keys import Origin, marker_key
from service.state.slab import PAGE_ROWS, StateSlab
from service.state.task import EventClock, PartitionTask
from tests.data import some_forecaster
from tests.service.test_pipeline import DIGEST, FEATURES, HERE, At, cut, key
from tests.service.test_recovery import (
    GROUP,
    P0,
    SELDOM,
    SOON,
    Output,
    Plant,
    Service,
    assert_as_calm,
    ends,
    rewrite,
    topics_with,
)

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_700_006_400_000  # midnight UTC
WARM_UP = 20
TASK = Origin(GROUP, P0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.cold(some_forecaster(2), DetectorConfig(ScoreConfig(warm_up=WARM_UP)))


class Sent(NamedTuple):
    """A reading of a stream, as it comes."""

    time_ms: int
    stream: int
    value: float | None = 0.0  # None: no reading, but the word that it is silent from then on


def regular(stream: int, begin_s: float, every_s: float, count: int) -> list[Sent]:
    return [Sent(START_MS + int((begin_s + every_s * n) * 1000), stream) for n in range(count)]


def without(sent: Iterable[Sent], first_s: float, last_s: float) -> list[Sent]:
    """All but those of a time."""
    return [one for one in sent if not START_MS + first_s * 1000 <= one.time_ms < START_MS + last_s * 1000]


def records_of(sent: Iterable[Sent]) -> list[At]:
    """In the order in which they are given."""
    return [At(n, Record(key(one.stream), written(one))) for n, one in enumerate(sent)]


def written(sent: Sent) -> bytes:
    return (
        encode_silent(sent.time_ms) if sent.value is None else encode_reading(FEATURES, sent.time_ms, [sent.value, 1.0])
    )


class Judged(NamedTuple):
    events: list[Event]
    task: PartitionTask
    pieces: int

    @property
    def silences(self) -> list[Event]:
        """Told without a reading: they have no channels."""
        return [event for event in self.events if event.change == "opened" and not event.data.channels]

    def of(self, stream: int) -> list[str]:
        return [event.change for event in self.events if event.data.stream == key(stream).decode()]


def judge(
    detector: Detector, records: Sequence[At], borders: Iterable[int] = (), idle_s: float | None = None
) -> Judged:
    pipeline = Pipeline(detector, DIGEST, max_future_ms=10**15)
    task = PartitionTask(HERE, StateSlab(detector.rows_for), EventClock(idle_s))
    judged: list[Processed] = []
    for batch in cut(records, borders):
        judged += pipeline.process(batch, task)
    events = [event for one in judged for event in one.events]
    assert [decode_event(record.value or b"") for one in judged for record in one.commit.anomalies] == events
    assert len({event.id for event in events}) == len(events)
    return Judged(events, task, len(judged))


def told_at(sent: Sequence[Sent], stream: int, last: int, allowed_ms: float) -> int | None:
    """Where a stream is told that has no reading behind that at `last`: the same in other words, tick by tick."""
    tick_ms = next(one for one in (MINUTE_MS * 4**grid for grid in range(6)) if allowed_ms < 20 * one)
    clock_ms, shown = sent[0].time_ms, list[int]()  # by the ticks since
    for offset, one in enumerate(sent):
        later = max(clock_ms, one.time_ms)
        if later // tick_ms != clock_ms // tick_ms and offset > last:
            shown.append(clock_ms)
            steps = [b - a for a, b in pairwise(shown)]
            if steps and sum(steps) - max(steps) >= allowed_ms:
                return offset
        clock_ms = later
        if one.stream == stream and offset > last:
            return None
    return None


def test_a_stream_that_falls_silent_is_told_while_it_is_silent_and_closed_by_its_next_reading(
    detector: Detector,
) -> None:
    sent = sorted([*regular(0, 0, 60, 400), *regular(1, 5, 60, 400), *without(regular(2, 9, 60, 400), 6_000, 9_000)])
    judged = judge(detector, records_of(sent))
    opened, *longer, closed = (event for event in judged.events if event.data.stream == "stream-2")
    last = max(n for n, one in enumerate(sent) if one.stream == 2 and one.time_ms < START_MS + 6_000_000)
    about = opened.data
    assert (opened.change, about.kind, about.severity, about.status) == ("opened", "silent", "minor", "open")
    assert about.offset == told_at(sent, 2, last, 5 * MINUTE_MS)
    assert sent[about.offset].time_ms - sent[last].time_ms <= 8 * MINUTE_MS
    assert opened.time == about.opened_at == rfc3339(sent[last].time_ms + 5 * MINUTE_MS)
    assert about.began_at == rfc3339(sent[last].time_ms)
    assert about.score == about.peak == 1.0
    judged_s = opened.data.witnesses["silent"]
    assert judged_s == pytest.approx(6_000, rel=0.02)
    assert opened.data.return_period_s == pytest.approx(judged_s / 8)
    assert (closed.change, closed.data.closed_as, closed.data.closed_at) == (
        "closed",
        "recovered",
        rfc3339(START_MS + 9_009_000),
    )
    severest = longer[-1].data
    assert (closed.data.anomaly, closed.data.severity, closed.data.peak, closed.data.opened_at) == (
        opened.data.anomaly,
        severest.severity,
        severest.peak,
        opened.data.opened_at,
    )
    assert judged.of(0) == judged.of(1) == []
    assert judged.task.open_alarms == 0


def test_a_silence_that_goes_on_is_major_when_it_is_twice_as_long_and_critical_from_eight_times_on(
    detector: Detector,
) -> None:
    sent = sorted([*regular(0, 0, 60, 400), *regular(1, 5, 60, 100), Sent(START_MS + 24_000_000, 1)])
    judged = judge(detector, records_of(sent))
    told = [event for event in judged.events if event.data.stream == "stream-1"]
    severities = ["minor", "major", "critical", "critical"]
    assert [event.change for event in told] == ["opened", "updated", "updated", "closed"]
    assert [event.data.severity for event in told] == severities
    assert [event.data.peak for event in told] == [1, 2, 8, 8]
    last = max(n for n, one in enumerate(sent[:-1]) if one.stream == 1)
    for event, times, times_as_rare in zip(told[:3], (1, 2, 8), (1, 10, 1_000), strict=True):
        allowed_ms = 5 * MINUTE_MS * times
        assert event.data.offset == told_at(sent, 1, last, allowed_ms)
        assert event.time == rfc3339(sent[last].time_ms + allowed_ms)
        assert event.data.opened_at == told[0].time
        assert event.data.began_at == rfc3339(sent[last].time_ms)
        assert event.data.witnesses["silent"] == pytest.approx(6_000 * times_as_rare, rel=0.02)
    assert len({event.id for event in told}) == 4
    assert {event.data.anomaly for event in told} == {told[0].data.anomaly}


def test_a_silence_that_is_found_long_at_once_is_told_with_all_that_it_is(detector: Detector) -> None:
    """Ticks are records: where none came for long, one tick may find more than one severity reached."""
    others = [*regular(0, 0, 60, 105), Sent(START_MS + 9_000_000, 0), Sent(START_MS + 11_000_000, 0)]
    sent = sorted([*others, *regular(1, 5, 60, 100), Sent(START_MS + 13_000_000, 0)])
    judged = judge(detector, records_of(sent))
    of_it = [event for event in judged.events if event.data.stream == "stream-1"]
    assert [(event.change, event.data.severity) for event in of_it][:2] == [("opened", "minor"), ("updated", "major")]
    assert of_it[0].data.offset == of_it[1].data.offset
    assert judged.of(1).count("opened") == 1


def test_a_stream_that_never_comes_back_stays_open_and_is_told_once(detector: Detector) -> None:
    sent = sorted([*regular(0, 0, 60, 2_000), *regular(1, 5, 60, 100)])
    judged = judge(detector, records_of(sent))
    assert judged.of(1) == ["opened", "updated", "updated"]
    assert judged.task.open_alarms == detector.count_alarms(judged.task.slab.rows) == 1


@pytest.mark.parametrize("interval_s", [1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0])
def test_silence_is_told_after_three_intervals_or_five_minutes_whatever_the_interval(
    detector: Detector, interval_s: float
) -> None:
    allowed_ms = max(3 * interval_s * 1000, 5 * MINUTE_MS)
    before, after = int(max(60, 120 / interval_s)), int(4 * allowed_ms / 1000 / interval_s)
    sent = sorted([*regular(0, 0, interval_s, before + after), *regular(1, interval_s / 3, interval_s, before)])
    (event,) = judge(detector, records_of(sent)).silences
    last = max(n for n, one in enumerate(sent) if one.stream == 1)
    assert event.data.offset == told_at(sent, 1, last, allowed_ms)
    assert allowed_ms < sent[event.data.offset].time_ms - sent[last].time_ms < 2 * allowed_ms


def test_a_stream_that_is_new_is_not_told(detector: Detector) -> None:
    sent = sorted([*regular(0, 0, 60, 400), *regular(1, 5, 60, WARM_UP)])
    assert judge(detector, records_of(sent)).silences == []
    sent = sorted([*regular(0, 0, 60, 400), *regular(1, 5, 60, WARM_UP + 1)])
    assert len(judge(detector, records_of(sent)).silences) == 1


@pytest.mark.slow
@pytest.mark.parametrize("interval_s", [1.0, 60.0, 300.0])
def test_a_stream_that_pauses_every_night_is_told_a_few_nights_and_then_no_more(
    detector: Detector, interval_s: float
) -> None:
    nights = 8
    days = [
        reading
        for day in range(nights)
        for reading in regular(1, day * 86_400 + interval_s / 2, interval_s, int(min(12 * 3_600 / interval_s, 300)))
    ]
    judged = judge(detector, records_of(sorted([*regular(0, 0, 300, nights * 288), *days])))
    assert 2 <= len(judged.silences) <= 4
    assert judged.silences[-1].data.opened_at < rfc3339(START_MS + 4 * DAY_MS)


def test_where_the_whole_plant_stood_still_no_stream_is_told(detector: Detector) -> None:
    """The first that sends again moves the clock by days, and makes none of the others silent."""
    plant = sorted(reading for stream in range(8) for reading in regular(stream, stream * 7, 60, 300))
    stop_s = 9_000
    after = [one._replace(time_ms=one.time_ms + 3 * DAY_MS) for one in plant if one.time_ms >= START_MS + stop_s * 1000]
    before = [one for one in plant if one.time_ms < START_MS + stop_s * 1000]
    assert judge(detector, records_of([*before, *after])).silences == []
    dead = [one for one in after if one.stream != 3]
    (event,) = judge(detector, records_of([*before, *dead])).silences
    assert event.data.stream == "stream-3"


def test_a_device_whose_clock_is_ahead_makes_no_other_stream_silent(detector: Detector) -> None:
    honest = sorted(reading for stream in range(4) for reading in regular(stream, stream * 7, 60, 300))
    ahead = [
        one._replace(time_ms=one.time_ms + 2 * HOUR_MS) if one.stream == 0 and n > 400 else one
        for n, one in enumerate(honest)
    ]
    assert judge(detector, records_of(ahead)).silences == []


@pytest.mark.slow
def test_a_stream_that_sends_in_bursts_is_told_a_few_times_and_then_no_more(detector: Detector) -> None:
    """It misses no reading: they come later than those of others, each hour all at once."""
    clock = [(one.time_ms, one) for one in regular(0, 0, 60, 3_000)]
    bursts = [(START_MS + (n // 60 + 1) * HOUR_MS, one) for n, one in enumerate(regular(1, 30, 60, 2_940))]
    judged = judge(detector, records_of(one for _, one in sorted([*clock, *bursts])))
    told = [change for change in judged.of(1) if change != "updated"]
    assert told in (["opened", "closed"], ["opened", "closed"] * 2)


def test_a_stream_whose_anomaly_is_open_is_not_told_again(detector: Detector) -> None:
    broken = [*regular(1, 5, 60, 100), *(Sent(START_MS + (6_005 + 60 * n) * 1000, 1, 1e6) for n in range(3))]
    judged = judge(detector, records_of(sorted([*regular(0, 0, 60, 400), *broken])))
    assert judged.silences == []
    assert judged.of(1)[0] == "opened"
    assert "closed" not in judged.of(1)


def test_what_is_told_by_the_clock_alone_is_named_by_no_reading(detector: Detector) -> None:
    """An anomaly that a reading of the same record opens is another one."""
    sent = sorted([*regular(0, 0, 60, 400), *regular(1, 5, 60, 100)])
    judged = judge(detector, records_of(sent))
    (event,) = judged.silences
    row = judged.task.slab.gather(judged.task.slab.find([key(1)]))
    assert row.scalar("opened_offset")[0] == -event.data.offset


# --- told by the source


def ended(stream: int, second: float) -> Sent:
    return Sent(START_MS + int(second * 1000), stream, None)


def test_a_stream_that_is_said_to_be_silent_is_told_at_once_and_once_and_closed_by_its_next_reading(
    detector: Detector,
) -> None:
    steady, gone = regular(0, 0, 60, 400), without(regular(1, 5, 60, 400), 6_000, 9_000)
    sent = sorted([*steady, *gone, *(ended(1, second) for second in (5_970, 5_980, 7_000))], key=lambda one: one[:2])
    judged = judge(detector, records_of(sent))
    opened, *_, closed = (event for event in judged.events if event.data.stream == "stream-1")
    at = next(n for n, one in enumerate(sent) if one.value is None)
    about = opened.data
    assert (opened.change, about.kind, about.severity, about.offset) == ("opened", "silent", "minor", at)
    assert opened.time == about.opened_at == rfc3339(START_MS + 5_970_000)
    assert about.began_at == rfc3339(START_MS + 5_945_000)
    assert (closed.change, closed.data.closed_at) == ("closed", rfc3339(START_MS + 9_005_000))
    assert closed.data.anomaly == about.anomaly
    assert judged.of(0) == []
    assert judged.task.open_alarms == 0


@pytest.mark.parametrize("count", [1, WARM_UP])
def test_what_is_said_of_a_stream_that_is_new_is_told(detector: Detector, count: int) -> None:
    sent = [*regular(0, 0, 60, count), ended(0, 60 * count), Sent(START_MS + 60_000 * (count + 1), 0)]
    assert judge(detector, records_of(sent)).of(0) == ["opened", "closed"]


def test_what_is_said_before_the_last_reading_s_time_is_told_from_that_reading_on(detector: Detector) -> None:
    (event,) = judge(detector, records_of([*regular(0, 0, 60, 50), ended(0, 100)])).silences
    assert event.data.opened_at == event.data.began_at == rfc3339(START_MS + 49 * MINUTE_MS)


def test_of_a_stream_that_is_not_known_or_whose_anomaly_is_open_nothing_is_told(detector: Detector) -> None:
    broken = [*regular(1, 5, 60, 100), *(Sent(START_MS + (6_005 + 60 * n) * 1000, 1, 1e6) for n in range(3))]
    judged = judge(detector, records_of([*broken, ended(1, 6_200), ended(2, 6_200)]))
    assert judged.of(1) == ["opened"]
    assert judged.of(2) == []
    assert len(judged.task.slab) == 1


def test_what_is_said_of_many_streams_at_once_is_judged_in_one_piece(detector: Detector) -> None:
    """A gateway that is lost takes all its streams with it."""
    plant = sorted(reading for stream in range(50) for reading in regular(stream, stream / 2, 60, 30))
    sent = [*plant, *(ended(stream, 1_900) for stream in range(40)), *regular(49, 1_930, 60, 3)]
    judged = judge(detector, records_of(sent))
    assert len(judged.silences) == judged.task.open_alarms == 40
    assert judged.pieces <= 3


mixed = st.lists(
    st.tuples(
        st.sampled_from([1.0, 1.0, 1.0, 1.0, 7.0, 40.0, 300.0]),  # of the interval, until the next
        st.sampled_from(["sent", "sent", "sent", "sent", "lost", "late", "twice", "ended"]),
        st.integers(1, 12),  # of these in a row
    ),
    min_size=2,
    max_size=12,
)


def as_it_goes(streams: Sequence[tuple[float, Sequence[tuple[float, str, int]]]]) -> list[Sent]:
    """Streams that are steady until they know their rhythm, and then do as they were drawn."""
    sent: list[tuple[float, int, Sent]] = []
    for stream, (interval_s, doings) in enumerate(streams):
        readings = regular(stream, stream, interval_s, WARM_UP + 5)
        sent += [(one.time_ms, n, one) for n, one in enumerate(readings)]
        now = readings[-1].time_ms
        for far, what, count in doings:
            for n in range(count):
                now += int(interval_s * 1000 * (far if n == 0 else 1.0))
                one = Sent(now, stream, float(n % 2))
                if what == "ended":
                    sent.append((now, len(sent), Sent(now, stream, None)))
                    continue
                if what == "late":
                    one = one._replace(time_ms=now - int(interval_s * 1500))
                sent += [(now, len(sent), one)] * {"lost": 0, "twice": 2}.get(what, 1)
    return [one for *_, one in sorted(sent)]


@pytest.mark.slow
@pytest.mark.thorough
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([5.0, 20.0, 60.0, 90.0, 700.0]), mixed), min_size=2, max_size=4),
    st.lists(st.integers(1, 400), max_size=12),
    st.sampled_from([None, 3_600.0, 40_000.0]),
)
def test_who_is_told_and_every_bit_of_the_rows_hang_on_no_batch(
    detector: Detector,
    streams: list[tuple[float, list[tuple[float, str, int]]]],
    borders: list[int],
    idle_s: float | None,
) -> None:
    records = records_of(as_it_goes(streams))
    one_by_one = judge(detector, records, range(len(records)), idle_s)
    for some in ([], [border for border in borders if border < len(records)]):
        judged = judge(detector, records, some, idle_s)
        assert judged.events == one_by_one.events
        assert judged.task.clock.state == one_by_one.task.clock.state
        assert judged.task.open_alarms == one_by_one.task.open_alarms
        assert set(judged.task.slab.keys) == set(one_by_one.task.slab.keys)
        keys = [name for name in judged.task.slab.keys if name is not None]
        rows, expected = (one.task.slab.gather(one.task.slab.find(keys)) for one in (judged, one_by_one))
        assert all(torch.equal(a, b) for a, b in zip(rows, expected, strict=True))


def test_a_batch_is_cut_where_a_stream_falls_silent_and_nowhere_else(detector: Detector) -> None:
    """Else history would be judged a minute at a time."""
    others = [*regular(0, 0, 60, 1_000), *regular(1, 5, 60, 1_000)]
    sent = sorted([*others, *without(regular(2, 9, 60, 1_000), 9_000, 9_900)])
    judged = judge(detector, records_of(sent))
    assert len(judged.silences) == 1
    assert judged.pieces <= 8


def test_where_it_is_plain_that_none_is_due_readings_are_not_followed_to_find_who_falls_silent(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [*regular(0, 0, 60, 300), *regular(1, 5, 60, 300)]
    records = records_of(sorted([*others, *without(regular(2, 9, 60, 300), 9_000, 9_900)]))
    followed, find = list[int](), Detector.find_silent

    def follow(detector: Detector, ticks: Ticks, *more: Any) -> Int64s:
        followed.append(len(ticks))
        return find(detector, ticks, *more)

    monkeypatch.setattr(Detector, "find_silent", follow)
    judged = judge(detector, records, range(0, len(records), 6))
    some = len(followed)
    monkeypatch.setattr(Detector, "none_falls_silent", lambda *_: False)
    expected = judge(detector, records, range(0, len(records), 6))
    assert judged.events == expected.events != []
    assert (judged.silences, judged.pieces) == (expected.silences, expected.pieces)
    assert 0 < some < (len(followed) - some) / 4


# --- crashes


@pytest.fixture(scope="module")
def plant(detector: Detector) -> Plant:
    return Plant(detector)


@pytest.fixture(scope="module")
def history() -> list[Record]:
    """Five streams fall silent, three of them come back; in another page than most of those that go on.

    Of two it is said that they are silent.
    """
    others = [reading for stream in range(3) for reading in regular(stream, stream * 7, 60, 300)]
    passing = [Sent(START_MS, 1_000 + n) for n in range(PAGE_ROWS)]
    silent = [
        *without(regular(3, 9, 60, 300), 6_000, 9_000),
        *without(regular(4, 11, 90, 200), 6_300, 12_000),
        *regular(5, 13, 60, 120),
        *without(regular(6, 17, 60, 300), 6_600, 9_300),
        *regular(7, 19, 60, 150),
    ]
    said = [ended(6, 6_600), ended(6, 8_000), ended(7, 9_020)]
    return [at.record for at in records_of(sorted([*others, *passing, *silent, *said], key=lambda one: one[:2]))]


def told(anomalies: Iterable[Record]) -> Counter[tuple[str, str]]:
    events = [decode_event(record.value or b"") for record in anomalies]
    return Counter((event.data.stream, event.change) for event in events)


@pytest.fixture(scope="module")
def calm(plant: Plant, history: list[Record]) -> Output:
    return plant.calm(topics_with(history))


def test_what_a_worker_publishes_is_what_the_pipeline_tells(plant: Plant, history: list[Record], calm: Output) -> None:
    names = {stream: key(stream).decode() for stream in range(3, 8)}
    there_and_back = [(names[stream], change) for stream in (3, 4, 6) for change in ("opened", "closed")]
    longer = [(name, "updated") for stream, name in names.items() for _ in range(1 if stream == 6 else 2)]
    assert told(calm.anomalies) == Counter([*there_and_back, *longer, *((names[one], "opened") for one in (5, 7))])
    topics = topics_with(history)
    Service(plant, topics).until_idle()
    assert_as_calm(plant, topics, calm)


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", [9, 11, 12, 13, 14, 16, 19, 22])
def test_a_crash_at_any_commit_tells_a_silence_once(
    plant: Plant, history: list[Record], calm: Output, commit: int, written: bool
) -> None:
    topics, flush_interval_s = topics_with(history), SOON if commit % 4 == 0 else SELDOM
    ends(Service(plant, topics, [Crash(commit, written)], flush_interval_s, max_poll_records=50))
    topics.compact()
    again: list[Fault] = [Revoke(3, (P0,)), Assign(5, (P0,))]
    Service(plant, topics, again, flush_interval_s, max_poll_records=70).until_idle()
    assert_as_calm(plant, topics, calm)


@pytest.mark.slow
def test_a_state_whose_marker_knows_no_ticks_goes_on_and_tells_what_falls_silent_from_then_on(
    plant: Plant, history: list[Record], calm: Output
) -> None:
    """As one that was written before there were any."""
    topics = topics_with(history[:400])
    Service(plant, topics).until_idle()
    topics.compact()
    rewrite(topics, marker_key(TASK), lambda value: sealed(replace(read_marker(TASK, value), silence_ticks=UNSET)))
    topics.append(P0, history[400:])
    Service(plant, topics).until_idle()
    assert told(topics.anomalies[P0]) == told(calm.anomalies)
