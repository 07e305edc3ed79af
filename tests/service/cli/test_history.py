import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection.detector import Detector, Readings
from models.detection.sensor_rules import SensorRule, SensorRules, Span
from models.net.packing import pack
from service.cli.history import Admission, OffsetRange, features_in, read, stretches
from service.cli.moments import moment_ms
from service.errors import RefusedInput
from service.input.wire import Decoder, encode_reading
from service.log.port import Commit, Fetched, Partition, Polled, Source, Stored
from tests.data import some_forecaster

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW_MS - 7 * 24 * HOUR_MS),
        ("12h", NOW_MS - 12 * HOUR_MS),
        ("90m", NOW_MS - 90 * 60_000),
        ("1.5h", NOW_MS - 90 * 60_000),
        ("30s", NOW_MS - 30_000),
        ("2w", NOW_MS - 14 * 24 * HOUR_MS),
        ("9000000w", 0),
        ("2026-01-31T23:59:00Z", 1_769_903_940_000),
        ("2026-02-01T01:59:00+02:00", 1_769_903_940_000),
        ("1769903940000", 1_769_903_940_000),
    ],
)
def test_a_moment_is_so_long_ago_or_a_time(text: str, expected: int) -> None:
    assert moment_ms(text, NOW_MS) == expected


@pytest.mark.parametrize("text", ["", "7", "-3d", "d", "7 d", "7y", "2026-01-31T23:59:00", "yesterday"])
def test_what_is_neither_is_no_moment(text: str) -> None:
    if text == "7":
        assert moment_ms(text, NOW_MS) == 7, "milliseconds"
        return
    with pytest.raises(ValueError, match=r"."):
        moment_ms(text, NOW_MS)


class ScriptedLog:
    """A topic in memory, that hands out a few records a poll. Records: key, value, timestamp."""

    def __init__(self, *partitions: Sequence[tuple[bytes | None, bytes | None, int]], a_poll: int = 3) -> None:
        self._partitions = partitions
        self._a_poll = a_poll
        self._at = OffsetRange(Partition("t", 0), 0, 0)

    def partitions(self, topic: str) -> int:
        return len(self._partitions)

    def inspect(self, partition: Partition) -> Source:
        return Source("", len(self._partitions), 0, len(self._partitions[partition.number]), None)

    def offset_at(self, partition: Partition, time_ms: int) -> int | None:
        records = self._partitions[partition.number]
        return next((n for n, (_, _, time) in enumerate(records) if time >= time_ms), None)

    def start(self, partition: Partition, offset: int | None) -> int:
        self._at = OffsetRange(partition, offset or 0, len(self._partitions[partition.number]))
        return offset or 0

    def poll(self, timeout_s: float) -> Polled:
        partition, begin, end = self._at
        assert begin < end, "asked for more than there is"
        to = min(end, begin + self._a_poll)
        keys, values, times = zip(*self._partitions[partition.number][begin:to], strict=True)
        self._at = OffsetRange(partition, to, end)
        fetched = Fetched(partition, list(keys), list(values), np.arange(begin, to), np.array(times), to, end)
        return Polled((), (), (fetched,))

    def position(self, partition: Partition) -> int:
        return self._at.begin

    def restore(self, partition: Partition) -> Stored:
        raise AssertionError("a history has no state")

    def commit(self, commits: Sequence[Commit]) -> None:
        raise AssertionError("a history is only read")

    def close(self) -> None:
        pass


def message(time_ms: int, *values: float, key: bytes = b"a") -> tuple[bytes, bytes, int]:
    return key, encode_reading(["x", "y"][: len(values)], time_ms, values), time_ms


def all_of(log: ScriptedLog) -> list[OffsetRange]:
    return stretches(log, "t", None, None)


def decoder(*features: str) -> Decoder:
    return Decoder(features, max_future_ms=HOUR_MS)


def test_what_is_read_lies_between_two_record_times_in_every_partition() -> None:
    log = ScriptedLog([message(t, 1.0) for t in (10, 20, 30, 40)], [message(t, 1.0) for t in (31, 41)], [])
    partition = [Partition("t", number) for number in range(3)]
    assert all_of(log) == [OffsetRange(partition[0], 0, 4), OffsetRange(partition[1], 0, 2)]
    found = stretches(log, "t", 20, 40)
    assert found == [OffsetRange(partition[0], 1, 3), OffsetRange(partition[1], 0, 1)]
    assert stretches(log, "t", 35, 1_000) == [
        OffsetRange(partition[0], 3, 4),
        OffsetRange(partition[1], 1, 2),
    ]
    with pytest.raises(RefusedInput, match="t: no records of that time in it"):
        stretches(log, "t", 50, None)


def test_features_are_those_of_most_of_the_first_readable_messages() -> None:
    other = json.dumps({"timestamp": 1, "values": {"z": 3, "state": "on", "on": True}}).encode()
    good = json.dumps({"timestamp": 1, "values": {"y": 3, "x": None, "state": "on"}}).encode()
    log = ScriptedLog([(b"a", value, 1) for value in (None, b"{", b"[1]", other, good, b'{"values": [1]}', good)])
    assert features_in(log, all_of(log)) == ("y", "x")


def test_a_single_value_is_a_feature_of_that_name() -> None:
    log = ScriptedLog([(b"a", b'{"timestamp": 1, "value": 3.5}', 1)])
    assert features_in(log, all_of(log)) == ("value",)


def test_messages_without_names_need_to_be_told_them() -> None:
    log = ScriptedLog([(b"a", b'{"timestamp": 1, "values": [1, 2]}', 1)])
    with pytest.raises(RefusedInput, match="t: the first records have no named values; --features names them"):
        features_in(log, all_of(log))
    found = read(log, all_of(log), decoder("x", "y"))
    assert found.series[0].values.tolist() == [[1, 2]]


def test_readings_come_by_stream_and_what_cannot_be_read_is_counted() -> None:
    records = [
        message(10, 1.0, 2.0, key=b"a"),
        (b"a", b"{", 10),
        message(10, 3.0, math.nan, key=b"b"),
        (None, b"", 10),
        message(20, 5.0, 6.0, key=b"a"),
        (*message(10 + 2 * HOUR_MS, 5.0, 6.0, key=b"c")[:2], 10),
        (b"b", b'{"timestamp": 11, "values": {"x": 1}}', 20),
    ]
    done: list[int] = []
    log = ScriptedLog(records, [message(5, 7.0, 8.0, key=b"d")])
    found = read(log, all_of(log), decoder("x", "y"), done.append)
    assert [one.key for one in found.series] == ["a", "b", "d"]
    assert [one.times_ms.tolist() for one in found.series] == [[10, 20], [10], [5]]
    np.testing.assert_array_equal(
        np.concatenate([one.values for one in found.series])[:3], [[1, 2], [5, 6], [3, math.nan]]
    )
    assert found.rejected == {"bad_json": 1, "missing_key": 1, "future_timestamp": 1, "wrong_features": 1}
    assert done == [3, 6, 7, 8]


def test_what_rules_of_sensors_exclude_is_missing_and_counted_before_duplicates_are_found() -> None:
    """With its bad value a reading is no other than the one before at the same time: a duplicate, as in service."""
    sensors = SensorRules([SensorRule("a", ("x",), (65535.0,), Span(0, 10))], ("x", "y"))
    records = [message(10, 1.0, 2.0), message(10, 65535.0, 2.0), message(20, 11.0, 3.0), message(30, 4.0, 11.0)]
    log = ScriptedLog(records)
    found = read(log, all_of(log), Decoder(("x", "y"), HOUR_MS, sensors=sensors))
    np.testing.assert_array_equal(found.series[0].values, [[1, 2], [math.nan, 3], [4, 11]])
    assert found.duplicate == 1
    assert found.excluded == {"bad_value": 1, "out_of_range": 1}


def test_a_stream_is_taken_from_the_partition_where_it_is_found_first() -> None:
    log = ScriptedLog(
        [message(10, 1.0), message(20, 2.0)], [message(15, 9.0), message(30, 9.0), message(1, 4.0, key=b"b")]
    )
    found = read(log, all_of(log), decoder("x"))
    assert [(one.key, one.values[:, 0].tolist()) for one in found.series] == [("a", [1, 2]), ("b", [4])]
    assert found.elsewhere == 2


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(-2, 3),
            st.sampled_from([0.0, 1.0, math.nan]),
            st.sampled_from([0.0, math.nan]),
        ),
        min_size=1,
        max_size=60,
    ),
    jump=st.integers(0, 80),
    borders=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_readings_are_admitted_exactly_as_the_detector_admits_them(
    steps: list[tuple[int, int, float, float]], jump: int, borders: list[int]
) -> None:
    """Readings by turns, late, early, repeated, with missing values; for one stream the clock is once set far back."""
    streams = np.array([step[0] for step in steps] + [0] * jump, np.int32)
    times = 1_000 + np.cumsum([step[1] for step in steps] + [0] * jump)
    times[len(steps) :] -= 500
    values = np.array([step[2:] for step in steps] + [(0.0, 0.0)] * jump)
    values[len(steps) :, 0] = np.arange(jump)

    detector = Detector.cold(some_forecaster(2))
    rows = detector.rows_for([b"a", b"b", b"c"])
    admission = Admission(2)
    begin = late = duplicate = 0
    while begin < len(streams):
        part = slice(begin, begin + borders[begin % len(borders)])
        waves = pack(torch.from_numpy(streams[part]).long())
        readings = Readings(
            torch.arange(len(streams))[part], torch.from_numpy(times[part]), torch.from_numpy(values[part])
        )
        verdicts, after = detector.observe(readings, waves, rows.take(waves.slots))
        rows.put(waves.slots, after)
        kept = admission.admit(streams[part], times[part], values[part])
        assert kept.tolist() == verdicts.fate.judged.tolist()
        late, duplicate = late + int(verdicts.fate.late.sum()), duplicate + int(verdicts.fate.duplicate.sum())
        begin = part.stop
    assert (admission.late, admission.duplicate) == (late, duplicate)
