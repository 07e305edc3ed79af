"""The log on files: all streams side by side, in the bytes that `telltale produce` sends.

The contract suite is not run here: files are read once from beginning to end by one reader, are never appended to,
have no committed offsets, and what is judged of them is told, never taken back. What of the contract does apply is
below.
"""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from models.data.series import Series, read_series
from service.cli.feeding import file_readings, records_of, select
from service.errors import RefusedInput
from service.input.file_log import FILES, FileLog
from service.log.port import Commit, Partition, Polled, Record, Source, Stored
from tests.service.log_contract import Reader

START_MS = 1_700_000_000_000


def series(key: str, readings: int, first: float = 0.0, path: str = "plant.csv") -> Series:
    """A stream of two features whose values tell its readings apart."""
    place = np.arange(readings)
    values = np.stack([first + place, -(first + place)], axis=1)
    return Series(
        key, Path(path), ("flow", "pressure"), place, START_MS + place * 1_000, values, np.zeros(readings, bool)
    )


class Started(FileLog):
    """Files are read from their beginning, and nothing is kept about them."""

    def inspect(self, partition: Partition) -> Source:
        return Source("", 1, 0, len(self), None)

    def restore(self, partition: Partition) -> Stored:
        return Stored([], [], 0, 0)

    def start(self, partition: Partition, offset: int | None) -> int:
        return offset or 0

    def position(self, partition: Partition) -> int:
        return self._position


def lines(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def polls(log: FileLog) -> list[Polled]:
    """Everything, to the end."""
    found = [log.poll(0.0)]
    while found[-1].fetched:
        found.append(log.poll(0.0))
    return found


def test_streams_are_read_by_event_time() -> None:
    log = Started([series("a", 3), series("b", 1, 10.0), series("c", 2, 20.0)])
    reader = Reader(log).until(6)
    assert [key for fetched in reader.fetched for key in fetched.keys] == [b"a", b"b", b"c", b"a", b"c", b"a"]
    firsts = [json.loads(value or b"")["values"]["flow"] for value in reader.values()]
    assert firsts == [0.0, 10.0, 20.0, 1.0, 21.0, 2.0]


def test_places_tell_where_each_offset_comes_from() -> None:
    log = FileLog([series("a", 3), series("b", 1), series("c", 2)])
    streams, places = log.places
    assert streams.tolist() == [0, 1, 2, 0, 2, 0]
    assert places.tolist() == [0, 0, 0, 1, 1, 2]
    assert len(log) == 6


def test_the_files_are_one_partition_that_is_assigned_once() -> None:
    reader = Reader(Started([series("a", 5)], max_poll_records=2)).until(5)
    for _ in range(3):
        assert reader.poll() == ()
    assert reader.assigned == [FILES]
    assert reader.revoked == []
    assert {fetched.partition for fetched in reader.fetched} == {FILES} == {Partition("files", 0)}


@pytest.mark.parametrize("max_poll_records", [1, 3, 7, 100])
def test_however_many_records_a_poll_brings_they_are_the_same(max_poll_records: int) -> None:
    some = [series("a", 10), series("b", 4, 50.0)]
    whole = Reader(Started(some)).until(14)
    parts = Reader(Started(some, max_poll_records=max_poll_records)).until(14)
    assert max(len(fetched.keys) for fetched in parts.fetched) <= max_poll_records
    assert parts.values() == whole.values()
    assert parts.offsets(0) == whole.offsets(0) == list(range(14))
    nexts = [fetched.next_offset for fetched in parts.fetched]
    assert nexts == [*range(max_poll_records, 14, max_poll_records), 14]
    assert {fetched.end_offset for fetched in parts.fetched} == {14}
    assert all(fetched.offsets.dtype == fetched.times_ms.dtype == np.int64 for fetched in parts.fetched)


def test_records_carry_no_time_of_their_own() -> None:
    (polled, _) = polls(FileLog([series("a", 3)]))
    assert polled.fetched[0].times_ms.tolist() == [-1, -1, -1]


def test_the_bytes_are_those_that_produce_sends(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "plant.csv",
        "timestamp,stream,flow,pressure,part",
        "2026-01-31T23:59:00Z,a,1.5,,train",
        "2026-01-31T23:59:00Z,b,0.1,-3e10,train",
        "2026-01-31T23:59:01Z,a,inf,7,test",
        "2026-01-31T23:59:02Z,b,2,3,test",
    )
    some = read_series([path])
    for part, count in (("all", 4), ("train", 2), ("test", 2)):
        log = Started(select(some, part))
        reader = Reader(log).until(count)
        records = list(records_of(file_readings(select(some, part)), some[0].features))
        assert [(key, value) for f in reader.fetched for key, value in zip(f.keys, f.values, strict=True)] == [
            (record.key, record.value) for record in records
        ]
        assert all(record.headers == () and record.time_ms is None for record in records)
    first, third = (list(records_of(file_readings(some), some[0].features))[n].value or b"" for n in (0, 2))
    assert json.loads(first) == {"timestamp": 1_769_903_940_000, "values": {"flow": 1.5, "pressure": None}}
    assert json.loads(third)["values"] == {"flow": None, "pressure": 7.0}


def test_a_part_without_rows_is_refused() -> None:
    with pytest.raises(RefusedInput, match="part = test"):
        select([series("a", 3)], "test")


def test_commit_writes_each_anomaly_as_a_line_of_json() -> None:
    out = io.StringIO()
    log = FileLog([series("a", 3)], out)
    log.poll(0.0)
    values = ['{"id":"1","subject":"a"}', '{"id":"2","subject":"µ"}', '{"id":"3","subject":"b\\n"}']
    first, second, third = (Record(b"a", value.encode()) for value in values)
    log.commit([Commit(FILES, 1, (first, second), (Record(b"a", b"not json"),))])
    log.commit([Commit(FILES, 2, (), ())])
    log.commit([Commit(FILES, 3, (third,), ())])
    assert out.getvalue().splitlines() == values
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == ["1", "2", "3"]


def test_without_a_file_for_them_anomalies_go_nowhere() -> None:
    log = FileLog([series("a", 3)])
    log.commit([Commit(FILES, 3, (Record(b"a", b"{}"),), ())])


def test_after_closing_there_is_nothing_to_read_and_closing_twice_is_safe() -> None:
    log = FileLog([series("a", 3)])
    log.close()
    log.close()
    assert log.poll(0.0).fetched == ()


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("", "key of 0 bytes, expected 1 to 256"),
        ("k" * 257, "key of 257 bytes, expected 1 to 256"),
        ("°" * 129, "key of 258 bytes, expected 1 to 256"),
        ('"pump-1"', 'the key "pump-1" is in JSON quotes'),
        ("pump\n", "has the control character U\\+000A"),
    ],
)
def test_a_stream_whose_name_cannot_be_a_key_is_refused(name: str, flaw: str) -> None:
    with pytest.raises(RefusedInput, match=rf"^plant\.csv: stream .*: .*{flaw}"):
        FileLog([series(name, 3)])


def test_readings_come_by_event_time_each_stream_in_its_own_order() -> None:
    slow, quick = series("slow", 3), series("quick", 4)
    slow = slow._replace(times_ms=START_MS + np.array([0, 2_500, 1_000]))  # the last is late
    quick = quick._replace(times_ms=START_MS + np.array([100, 1_100, 2_100, 3_100]))
    streams, places = FileLog([slow, quick]).places
    assert list(zip(streams.tolist(), places.tolist(), strict=True)) == [
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
    ]


@pytest.mark.parametrize("max_poll_records", [1, 4, 100])
def test_streams_can_be_in_several_partitions_as_they_are_in_a_topic(max_poll_records: int) -> None:
    some = [series(name, 5, 10.0 * n) for n, name in enumerate("abc")]
    log = FileLog(some, max_poll_records=max_poll_records, partition_of=lambda key: int(key == b"b"))
    found = polls(log)
    assert found[0].assigned == log.partitions == (Partition("files", 0), Partition("files", 1))
    keys: dict[int, list[bytes | None]] = {0: [], 1: []}
    for fetched in (one for polled in found for one in polled.fetched):
        number = fetched.partition.number
        assert fetched.offsets.tolist() == list(range(len(keys[number]), len(keys[number]) + len(fetched.keys)))
        assert fetched.end_offset == [10, 5][number]
        keys[number] += fetched.keys
        streams, _ = log.places_in(fetched.partition)
        assert [b"abc"[n : n + 1] for n in streams[fetched.offsets].tolist()] == fetched.keys
    assert keys == {0: [b"a", b"c"] * 5, 1: [b"b"] * 5}
