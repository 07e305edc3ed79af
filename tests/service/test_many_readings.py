"""Records of many readings in the service: judged as one by one, each with its own place, and whole or not at all."""

import random
import uuid
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.detection.detector import Detector
from models.detection.rows import SCALARS
from service import pipeline as hot_path
from service.input.anomaly import ANOMALY_NAMESPACE, Place, anomaly_id, packed_places, place_of
from service.input.events import Event
from service.input.formats import InputFormat
from service.input.reasons import Reason
from service.input.writing import encode_readings
from service.log.port import Fetched, Partition, Record
from service.pipeline import Pipeline, Processed
from service.state.open_alarms import open_alarms
from service.state.slab import StateSlab
from service.state.task import IDLE_TICKS, EventClock, PartitionTask
from tests.data import NEVER_SILENT, Batch, faulty, some_forecaster
from tests.faults import schedules
from tests.faults.oracle import Differences
from tests.faults.scene import write_checkpoint
from tests.records import headers_of

FEATURES = ("f0", "f1")
DIGEST = "0123456789abcdef" * 4
HERE = Partition("readings", 2)
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
FORMATS = (InputFormat.JSON, InputFormat.MSGPACK, InputFormat.ARROW)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.cold(some_forecaster(2), NEVER_SILENT)


@pytest.fixture(scope="module")
def history() -> Batch:
    return faulty(features=2, seed=7, streams=4, readings=4_000)


def name_of(stream: int) -> str:
    return f"stream-{stream}"


def record(history: Batch, places: Sequence[int], written: InputFormat) -> Record:
    """Some readings of a history in one record: of one stream by its key, of several by their names."""
    readings, streams = history.readings, [name_of(int(history.streams[n])) for n in places]
    times_ms, values = readings.times_ms[list(places)].tolist(), readings.values[list(places)].numpy()
    if len(set(streams)) == 1:
        return Record(streams[0].encode(), encode_readings(written, FEATURES, times_ms, values))
    return Record(None, encode_readings(written, FEATURES, times_ms, values, streams))


def fetched(records: Sequence[Record], first: int = 0) -> Fetched:
    count = len(records)
    return Fetched(
        HERE,
        [one.key for one in records],
        [one.value for one in records],
        np.arange(first, first + count, dtype=np.int64),
        np.array([-1 if one.time_ms is None else one.time_ms for one in records], dtype=np.int64),
        first + count,
        first + count,
    )


def run(detector: Detector, batches: Sequence[Fetched], **more: object) -> tuple[list[Processed], PartitionTask]:
    pipeline = Pipeline(detector, DIGEST, DAY_MS, **more)  # type: ignore[arg-type]
    task = PartitionTask(HERE, StateSlab(detector.rows_for))
    return [one for batch in batches for one in pipeline.process(batch, task)], task


def one_by_one(history: Batch) -> list[Record]:
    return [record(history, [n], InputFormat.JSON) for n in range(len(history.streams))]


def many(history: Batch, seed: int, largest: int = 120) -> tuple[list[Record], list[tuple[int, ...]]]:
    """The same readings in records of random sizes in all formats; and which each holds."""
    chance, held = random.Random(seed), []
    at = 0
    while at < len(history.streams):
        end = min(len(history.streams), at + chance.randrange(1, largest))
        held.append(tuple(range(at, end)))
        at = end
    return [record(history, places, chance.choice(FORMATS)) for places in held], held


def verdicts_of(judged: Sequence[Processed]) -> list[torch.Tensor]:
    verdicts = [one.verdicts for one in judged if one.verdicts is not None]
    columns = [(v.score, v.alarm, v.expected, v.lower, v.upper, *v.fate) for v in verdicts]
    return [torch.cat(column).double().nan_to_num(-7.0) for column in zip(*columns, strict=True)]


def without_place(event: Event) -> Event:
    """An event as it would be wherever its readings stand."""
    return msgspec.structs.replace(
        event, id="", data=msgspec.structs.replace(event.data, anomaly="", offset=0, index=msgspec.UNSET)
    )


def rows_of(task: PartitionTask, streams: int) -> list[bytes]:
    """All bits but where the last alarm opened, by stream."""
    slots = task.slab.find([name_of(n).encode() for n in range(streams)])  # type: ignore[misc]
    rows = task.slab.gather(slots)
    scalars = rows.scalars.clone()
    scalars[:, SCALARS.places["opened_offset"]] = 0
    columns = (rows.hidden, rows.cell, rows.channels, scalars)
    return [b"".join(column[n].numpy().tobytes() for column in columns) for n in range(streams)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_readings_a_record_are_judged_to_the_byte_as_one_by_one(
    detector: Detector, history: Batch, seed: int
) -> None:
    alone, alone_task = run(detector, [fetched(one_by_one(history))])
    records, _ = many(history, seed)
    borders = sorted(random.Random(seed).sample(range(1, len(records)), 3))
    whole = fetched(records)
    parts = [whole.part(a, b) for a, b in zip([0, *borders], [*borders, len(records)], strict=True)]
    together, task = run(detector, parts)
    for found, wanted in zip(verdicts_of(together), verdicts_of(alone), strict=True):
        assert torch.equal(found, wanted)
    events = [[without_place(event) for one in judged for event in one.events] for judged in (together, alone)]
    assert events[0] == events[1]
    assert len(events[0]) > 20
    assert rows_of(task, 4) == rows_of(alone_task, 4)
    assert {name: task.counts[name] for name in ("judged", "late", "duplicate")} == {
        name: alone_task.counts[name] for name in ("judged", "late", "duplicate")
    }
    assert (task.counts["records"], alone_task.counts["records"]) == (len(records), 4_000)


def test_a_transition_says_which_reading_of_its_record_it_is(detector: Detector, history: Batch) -> None:
    records, held = many(history, seed=5, largest=1_500)
    judged, task = run(detector, [fetched(records)])
    events = [event for one in judged for event in one.events]
    assert len({event.id for event in events}) == len(events)
    for event in events:
        place = held[event.data.offset][event.data.index or 0]
        assert event.subject == name_of(int(history.streams[place]))
        assert event.time[:19] == np.datetime64(int(history.readings.times_ms[place]), "ms").astype(str)[:19]
        assert event.data.index != 0
    opened = {event.data.anomaly: event.data for event in events if event.change == "opened"}
    for event in events:
        first = opened[event.data.anomaly]
        assert event.data.anomaly == anomaly_id(
            HERE, int(packed_places(np.array([first.offset]), np.array([first.index or 0]))[0]), event.subject
        )
    still_open = {event.data.anomaly for event in events if event.change != "closed"}
    still_open -= {event.data.anomaly for event in events if event.change == "closed"}
    in_rows = {anomaly_id(HERE, alarm.opened_offset, alarm.key.decode()) for alarm in open_alarms(task.slab)}
    assert in_rows == still_open
    in_one = [list(group) for _, group in groupby(events, key=lambda one: (one.subject, one.data.offset))]
    assert any(len({event.data.anomaly for event in group}) > 1 for group in in_one), "two anomalies in one record"


def test_the_ids_of_single_readings_are_what_they_were(detector: Detector, history: Batch) -> None:
    judged, _ = run(detector, [fetched(one_by_one(history))])
    events = [event for one in judged for event in one.events if event.change == "opened"]
    assert events
    for event in events:
        opening = f"readings/2/{event.data.offset}/{event.subject}"
        assert event.data.anomaly == str(uuid.uuid5(ANOMALY_NAMESPACE, opening))
        assert event.id == str(uuid.uuid5(ANOMALY_NAMESPACE, f"{opening}/opened/{event.data.severity.upper()}"))
        assert b'"index"' not in msgspec.json.encode(event)


def test_a_packed_place_is_exact_as_a_double() -> None:
    offsets, indices = np.array([0, 7, 2**42 - 1, 2**42 - 1]), np.array([0, 2_047, 0, 2_047])
    packed = packed_places(offsets, indices)
    assert packed[0] == 0
    assert [place_of(float(one)) for one in packed] == [Place(*one) for one in zip(offsets, indices, strict=True)]
    assert str(place_of(5)) == "5"


def test_where_calls_are_cut_changes_nothing(
    detector: Detector, history: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = many(history, seed=3, largest=40)
    spoilt = [*records[:5], Record(b"x", b"?"), *records[5:]]
    (whole,), whole_task = run(detector, [fetched(spoilt)])
    monkeypatch.setattr(hot_path, "AT_ONCE", 100)
    cut, cut_task = run(detector, [fetched(spoilt)])
    assert len(cut) > 8
    assert [r for one in cut for r in one.commit.anomalies] == list(whole.commit.anomalies)
    assert [r for one in cut for r in one.commit.dead_letters] == list(whole.commit.dead_letters)
    assert [one.commit.next_offset for one in cut] == sorted({one.commit.next_offset for one in cut})
    assert rows_of(cut_task, 4) == rows_of(whole_task, 4)
    assert cut_task.counts == whole_task.counts


def test_streams_beyond_the_limit_are_one_dead_letter_a_record(detector: Detector) -> None:
    def three(names: Sequence[str]) -> Record:
        value = encode_readings(InputFormat.ARROW, FEATURES, [NOW_MS, NOW_MS + 1, NOW_MS + 2], np.ones((3, 2)), names)
        return Record(b"hall", value)

    bad = encode_readings(
        InputFormat.MSGPACK, FEATURES, [NOW_MS, NOW_MS + 5], np.array([[1e39, 1], [1, 1]]), ["a", "z"]
    )
    records = [three(["a", "b", "a"]), three(["c", "a", "d"]), Record(b"hall", bad), Record(b"e", b"?")]
    (one,), task = run(detector, [fetched(records)], max_streams=2)
    counts = task.counts
    assert (len(task.slab), counts["judged"], counts["late"], counts["rejected"]) == (2, 3, 1, 3)
    found = [headers_of(letter) for letter in one.commit.dead_letters]
    assert [headers["telltale-offset"] for headers in found] == [b"1", b"2", b"3"]
    reasons = [headers["telltale-reason"].decode() for headers in found]
    assert reasons == [Reason.STREAM_LIMIT, Reason.OUT_OF_RANGE, Reason.BAD_JSON]
    limit = "a new stream, but 2 are remembered of this partition, which is its limit"
    assert found[0]["telltale-detail"].decode() == (
        f"2 of 3 readings refused, the others are judged. Reading 0: {limit}; reading 2: {limit}"
    )
    assert found[1]["telltale-detail"].decode().endswith(f"1 of 1 readings refused. Reading 1: {limit}")


def test_ticks_within_one_record_are_one_tick() -> None:
    """A record of a hundred days would otherwise forget every stream of the partition, its own too."""
    clock = EventClock(idle_s=16 * 86_400.0)
    times_ms = np.arange(100) * DAY_MS
    times_ms = np.concatenate([times_ms, times_ms + 100 * DAY_MS])
    stretches = clock.cut(np.array([5, 6]), np.repeat([5, 6], 100), times_ms, lambda ticks, _: ticks.offsets[:0])
    assert clock.ticks == [5, 6]
    assert [one.idle_before for one in stretches] == [None, None]
    assert len(clock.ticks) < IDLE_TICKS


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_schedules_of_crashes_and_rebalances_change_no_byte(seed: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    path = write_checkpoint(tmp_path / "quick.safetensors")
    orders = {"checkpoint": str(path), "seed": seed, "numbers": list(range(8)), "into": str(tmp_path / "found")}
    schedules.run({**orders, "readings": 300, "many": True})

    class Found(msgspec.Struct):
        differences: Differences
        happened: dict[str, int]

    found = msgspec.json.decode((tmp_path / "found").read_bytes(), type=Found)
    assert found.differences.none, str(found.differences)
    assert found.happened["workers"] > 8
