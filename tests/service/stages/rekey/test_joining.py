"""Readings of one metric each, joined: by windows of their own time, whatever is between two of them."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import pytest

from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.joining import Join, JoinedStream, JoinRules
from service.stages.rekey.readings import RekeyedReading
from service.state.changelog import UnreadableRecord
from service.state.changelog_keys import collect

RULES = JoinRules(window_ms=10_000, late_ms=0, expire_ms=30_000)
FEATURES = ("temp", "press")
A, B = b"a", b"b"
BEGAN_S = 1_000_000


def value(
    second: float, temp: float | None = None, press: float | None = None, key: bytes = A, source: str = ""
) -> RekeyedReading:
    time_ms = round((BEGAN_S + second) * 1000)
    return RekeyedReading(key, time_ms, [temp, press], time_ms + 100, source or f"t/0/{second:g}/0")


def fed(join: Join, readings: Sequence[RekeyedReading]) -> list[RekeyedReading]:
    return [done for one in readings for done in (*join.add(one), *join.idle(1_000))]


def shown(readings: Sequence[RekeyedReading]) -> list[tuple[float, float | None, float | None]]:
    return [(one.time_ms / 1000 - BEGAN_S, *one.values) for one in readings]  # type: ignore[misc]


def test_the_metrics_of_one_scan_are_one_reading_as_soon_as_the_last_has_come() -> None:
    join = Join(2, RULES)
    assert join.add(value(3, temp=61.0)) == []
    (done,) = join.add(value(3, press=4.0))
    assert shown([done]) == [(3, 61.0, 4.0)]
    assert (done.key, done.record_time_ms, done.source) == (A, value(3).record_time_ms, "t/0/3/0")


def test_a_window_in_which_a_feature_has_no_value_has_its_last_known_one_and_is_written_when_the_next_begins() -> None:
    join = Join(2, RULES)
    done = fed(join, [value(1, 1.0), value(2, press=7.0), value(11, 2.0), value(15, 3.0), value(19, 4.0)])
    assert shown(done) == [(2, 1.0, 7.0)]
    assert shown(fed(join, [value(20, 5.0)])) == [(19, 4.0, 7.0)]


def test_a_known_value_stands_in_until_it_expires_and_is_missing_then() -> None:
    join = Join(2, RULES)
    done = fed(join, [value(1, 1.0), value(5, press=7.0), *(value(second, 2.0) for second in (15, 25, 35, 45, 55))])
    assert shown(done) == [(5, 1.0, 7.0), (15, 2.0, 7.0), (25, 2.0, 7.0), (35, 2.0, 7.0), (45, 2.0, None)]


def test_a_missing_value_says_that_the_stream_is_there_and_nothing_of_its_feature() -> None:
    join = Join(2, RULES)
    assert shown(fed(join, [value(1, 1.0), value(15), value(25), value(45), value(55)])) == [
        (1, 1.0, None),
        (15, 1.0, None),
        (25, 1.0, None),
        (45, None, None),
    ]


def test_a_window_has_no_reading_if_nothing_came_in_it() -> None:
    assert shown(fed(Join(2, RULES), [value(1, 1.0), value(95, 2.0), value(105, 2.0)])) == [
        (1, 1.0, None),
        (95, 2.0, None),
    ]


def test_late_ones_are_waited_for_and_windows_are_written_in_order() -> None:
    join = Join(2, RULES._replace(late_ms=10_000))
    later = [value(1, 1.0), value(12, 2.0), value(13, press=8.0), value(14, 3.0), value(3, press=7.0)]
    assert shown(fed(join, later)) == [(3, 1.0, 7.0), (14, 3.0, 8.0)]


def test_what_comes_when_its_window_is_written_is_known_from_then_on_unless_newer_ones_are() -> None:
    join = Join(2, RULES)
    fed(join, [value(1, 1.0), value(2, press=7.0), value(11, 2.0)])
    assert fed(join, [value(5, press=8.0), value(1.5, press=9.0)]) == []
    assert join.late == 1
    assert shown(fed(join, [value(21, 3.0)])) == [(11, 2.0, 8.0)]


def test_a_stream_that_is_not_heard_of_is_written_on_the_clock_of_the_others() -> None:
    join = Join(2, RULES)
    assert fed(join, [value(1, 1.0), value(10.9, 5.0, 6.0, key=B)]) == [value(10.9, 5.0, 6.0, key=B)]
    done = fed(join, [value(11, 5.0, 6.0, key=B)])
    assert [one.key for one in done] == [A]
    assert shown(done) == [(1, 1.0, None)]


def test_a_stream_whose_values_have_expired_is_forgotten() -> None:
    join = Join(2, RULES)
    fed(join, [value(1, 1.0), value(40.9, 5.0, key=B)])
    assert len(join) == 2
    fed(join, [value(41, 5.0, key=B)])
    assert (len(join), join.get(A)) == (1, None)
    assert A in join.dirty


def test_no_more_are_written_at_once_than_asked_for() -> None:
    join = Join(2, RULES)
    for n in range(5):
        join.add(value(n, 1.0, key=b"%d" % n))
    join.add(value(60, 1.0, key=B))
    assert [[one.key for one in join.idle(2)] for _ in range(4)] == [[b"0", b"1"], [b"2", b"3"], [b"4"], []]


def test_a_reading_names_the_sources_of_the_values_that_came_in_its_window() -> None:
    join = Join(2, RULES)
    (done,) = fed(
        join, [value(1, 1.0, source="t/0/1/0"), value(2, 2.0, source="t/0/2/0"), value(3, press=1.0, source="t/1/7/3")]
    )
    assert done.source == "t/0/2/0,t/1/7/3"
    done, *_ = fed(join, [value(11, source="t/0/9/0"), value(21, 1.0)])
    assert done.source == "t/0/9/0"


def some_values(seed: int) -> list[RekeyedReading]:
    """In order of time, as partitions are merged; with values that are missing and streams that pause."""
    chance = random.Random(seed)
    found = []
    for n in range(600):
        key = chance.choice((A, A, A, B))
        second = n * 0.8 + (40 if n > 300 else 0)
        place = chance.randrange(3)
        temp, press = (round(chance.random(), 3) if place == k else None for k in range(2))
        found.append(value(second, temp, press, key, f"t/0/{n}/0"))
    return found


def _by_window(readings: Sequence[RekeyedReading], key: bytes) -> Iterator[list[RekeyedReading]]:
    windows: dict[int, list[RekeyedReading]] = {}
    for one in readings:
        if one.key == key:
            windows.setdefault(one.time_ms // RULES.window_ms, []).append(one)
    yield from windows.values()


Known = list[tuple[int, float] | None]


def _has(readings: Sequence[RekeyedReading], feature: int) -> bool:
    return any(one.values[feature] is not None for one in readings)


def _with(known: Known, one: RekeyedReading) -> Known:
    return [was if got is None else (one.time_ms, got) for was, got in zip(known, one.values, strict=True)]


def expected(readings: Sequence[RekeyedReading], key: bytes) -> list[tuple[int, list[float | None]]]:
    """Looking at all at once: of each window what came until it was complete, and what was known before."""
    found: list[tuple[int, list[float | None]]] = []
    known: Known = [None, None]
    for window in _by_window(readings, key):
        complete = (n for n in range(1, len(window)) if all(_has(window[:n], k) for k in (0, 1)))
        length = next(complete, len(window))
        for one in window[:length]:
            known = _with(known, one)
        time_ms = window[length - 1].time_ms
        row = [None if at is None or at[0] < time_ms - RULES.expire_ms else at[1] for at in known]
        found.append((time_ms, row))
        for one in window[length:]:
            known = _with(known, one)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_what_is_written_is_what_one_finds_who_sees_all_at_once(seed: int) -> None:
    readings = some_values(seed)
    done = fed(Join(2, RULES), [*readings, value(10_000, 1.0, 1.0, key=b"c")])
    for key in (A, B):
        assert [(one.time_ms, one.values) for one in done if one.key == key] == expected(readings, key)


CHANGELOG = JoinChangelog("group", "readings", FEATURES)


def again(join: Join, held: dict[str, bytes], changelog: JoinChangelog = CHANGELOG) -> Join:
    """What is known after the process has ended, if this was committed; held: the records, compacted."""
    written = [*changelog.changed(join), changelog.marker(join)]
    collect(held, changelog.origin, changelog.kinds, [one.key for one in written], [one.value for one in written])
    found = Join(2, RULES)
    assert changelog.fill(found, held)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_process_that_begins_again_after_any_reading_writes_the_same(seed: int) -> None:
    readings, chance = some_values(seed), random.Random(seed)
    calm = fed(Join(2, RULES), readings)
    cuts = sorted({0, *(chance.randrange(len(readings)) for _ in range(40)), len(readings)})
    join, held, found = Join(2, RULES), dict[str, bytes](), []
    for begin, end in pairwise(cuts):
        found += fed(join, readings[begin:end])
        join = again(join, held)
    assert found == calm


def test_records_of_others_and_of_streams_that_are_forgotten_are_not_read() -> None:
    join, held = Join(2, RULES), dict[str, bytes]()
    fed(join, [value(1, 1.0), value(2, 5.0, key=B)])
    others = JoinChangelog("other", "readings", FEATURES)
    written = [*others.changed(join), others.marker(join)]
    collect(held, CHANGELOG.origin, CHANGELOG.kinds, [one.key for one in written], [one.value for one in written])
    assert held == {}
    join = again(join, held)
    fed(join, [value(200, 5.0, key=B)])
    assert len(again(join, held)) == 1


def test_features_are_known_by_their_names() -> None:
    join, held = Join(2, RULES), dict[str, bytes]()
    fed(join, [value(1, 1.0), value(2, press=7.0), value(11, 2.0)])
    again(join, held)
    other, found = JoinChangelog("group", "readings", ("press", "flow")), Join(2, RULES)
    assert other.fill(found, held)
    stream = found.get(A)
    assert stream is not None
    assert (stream.values, stream.windows[0].values) == ([7.0, None], [None, None])


@pytest.mark.parametrize("damaged", [b"{", b'{"crc":"00000000","version":1}', None])
def test_state_that_is_damaged_or_missing_is_refused(damaged: bytes | None) -> None:
    join, held = Join(2, RULES), dict[str, bytes]()
    fed(join, [value(1, 1.0)])
    again(join, held)
    if damaged is None:
        del held["a"]
    else:
        held["a"] = damaged
    with pytest.raises(UnreadableRecord):
        CHANGELOG.fill(Join(2, RULES), held)


def test_a_stream_of_any_name_is_found_again() -> None:
    join, held = Join(2, RULES), dict[str, bytes]()
    key = "Halle 3/ä%2F".encode()
    fed(join, [value(1, 1.0, key=key)])
    stream = again(join, held).get(key)
    assert isinstance(stream, JoinedStream)
    assert msgspec.json.encode(stream) == msgspec.json.encode(join.get(key))
