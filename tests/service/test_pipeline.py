"""The hot path: what goes in as bytes is judged as the detector judges it, one reading at a time."""

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from models.data.rfc3339 import rfc3339
from models.detection.alarm import Change
from models.detection.detector import Detector, Readings, Verdicts
from models.detection.rows import Rows
from models.net.forecaster import Forecaster
from models.net.packing import pack
from service.input.events import decode_event
from service.input.reading_batch import StreamKey
from service.input.reasons import Reason
from service.input.wire import encode_reading
from service.log.memory_log import MemoryLog, Topics
from service.log.port import Commit, Fetched, Partition, Record
from service.pipeline import Pipeline, Processed
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask
from tests.data import NEVER_SILENT, Batch, faulty, some_forecaster
from tests.records import headers_of

FEATURES = ("f0", "f1")
DIGEST = "0123456789abcdef" * 4
HERE = Partition("readings", 2)
BAD = [
    Record(None, b"no key"),
    Record(b"stream-0", None),
    Record(b"stream-0", b'{"timestamp":'),
    Record(b"stream-1", b'{"timestamp":1,"values":[1]}'),
    Record(b"stream-2", b'{"timestamp":1,"values":[1,1e39]}'),
    Record(b"\xff", encode_reading(FEATURES, 1, [1.0, 2.0])),
    Record(b"stream-0", encode_reading(FEATURES, 1_900_000_000_000, [1.0, 2.0]), (), 1_700_000_000_000),
]


class At(NamedTuple):
    """A record, and the offset it has."""

    offset: int
    record: Record


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.cold(some_forecaster(2), NEVER_SILENT)


@pytest.fixture(scope="module")
def history() -> Batch:
    """With a fault in the longest stream that becomes worse with every reading."""
    batch = faulty(features=2, seed=7, streams=9, readings=1_200)
    growing = (batch.streams == 0).nonzero().squeeze(1)[-20:-12]
    batch.readings.values[growing] += 20.0 * 3.0 ** torch.arange(len(growing))[:, None]
    return batch


def key(stream: int) -> StreamKey:
    return StreamKey(b"stream-%d" % stream)


def sent(history: Batch) -> list[At]:
    """The messages of a history, at its offsets."""
    readings = history.readings
    return [
        At(offset, Record(key(stream), encode_reading(FEATURES, time_ms, values)))
        for stream, offset, time_ms, values in zip(
            history.streams.tolist(),
            readings.offsets.tolist(),
            readings.times_ms.tolist(),
            readings.values.tolist(),
            strict=True,
        )
    ]


def with_bad_ones(records: Sequence[At]) -> list[At]:
    """A bad record in the gap after every 7th offset, each kind in turn."""
    mixed = []
    for n, at in enumerate(records):
        mixed.append(at)
        if n % 7 == 0:
            mixed.append(At(at.offset + 1, BAD[n // 7 % len(BAD)]))
    return mixed


def fetched(records: Sequence[At], end_offset: int = 10_000) -> Fetched:
    return Fetched(
        HERE,
        [at.record.key for at in records],
        [at.record.value for at in records],
        np.array([at.offset for at in records], dtype=np.int64),
        np.array([-1 if at.record.time_ms is None else at.record.time_ms for at in records], dtype=np.int64),
        records[-1].offset + 1,
        end_offset,
    )


def cut(records: Sequence[At], borders: Iterable[int]) -> list[Fetched]:
    return [fetched(records[a:b]) for a, b in pairwise([0, *sorted(set(borders) - {0}), len(records)]) if a < b]


def a_task(detector: Detector) -> PartitionTask:
    return PartitionTask(HERE, StateSlab(detector.rows_for))


def run(detector: Detector, batches: Iterable[Fetched]) -> tuple[list[Processed], PartitionTask]:
    pipeline, task = Pipeline(detector, DIGEST, max_future_ms=86_400_000), a_task(detector)
    return [one for batch in batches for one in pipeline.process(batch, task)], task


def published(judged: Iterable[Processed]) -> list[Record]:
    return [record for one in judged for record in one.commit.anomalies]


def scores(judged: Iterable[Processed]) -> torch.Tensor:
    return torch.cat([one.verdicts.score for one in judged if one.verdicts is not None])


@pytest.fixture(scope="module")
def by_hand(detector: Detector, history: Batch) -> tuple[list[Verdicts], dict[int, Rows]]:
    """One reading a call, each stream with rows of its own: no wire, no slab, no waves."""
    rows: dict[int, Rows] = {}
    verdicts = []
    for n, stream in enumerate(history.streams.tolist()):
        before = rows.get(stream) or detector.rows_for([key(stream)])
        reading = Readings(*(column[n : n + 1] for column in history.readings))
        one, rows[stream] = detector.observe(reading, pack(torch.tensor([0])), before)
        verdicts.append(one)
    return verdicts, rows


@pytest.mark.slow
def test_judging_bytes_is_the_detector_called_by_hand(
    detector: Detector, history: Batch, by_hand: tuple[list[Verdicts], dict[int, Rows]]
) -> None:
    (one,), task = run(detector, [fetched(sent(history))])
    expected, rows = by_hand
    assert one.verdicts is not None
    for name in ("score", "alarm", "expected", "lower", "upper"):
        found, wanted = getattr(one.verdicts, name), torch.cat([getattr(verdict, name) for verdict in expected])
        assert torch.equal(found.nan_to_num(-7.0), wanted.nan_to_num(-7.0)), name
    for name in ("judged", "late", "duplicate"):
        wanted = torch.cat([getattr(verdict.fate, name) for verdict in expected])
        assert torch.equal(getattr(one.verdicts.fate, name), wanted), name
        assert wanted.any(), f"no reading was {name}"
    for stream, row in rows.items():
        found_row = task.slab.gather(task.slab.slots([key(stream)]))
        assert all(torch.equal(a, b) for a, b in zip(found_row, row, strict=True)), f"stream {stream}"


@pytest.mark.slow
def test_every_transition_becomes_an_event_with_its_channels_band_and_offsets(
    detector: Detector, history: Batch, by_hand: tuple[list[Verdicts], dict[int, Rows]]
) -> None:
    (one,), _ = run(detector, [fetched(sent(history))])
    expected, _ = by_hand
    transitions = [(n, verdict, change) for n, verdict in enumerate(expected) for change in verdict.transitions]
    assert {change.change for _, _, change in transitions} == set(Change) - {Change.NONE}
    assert len(one.events) == len(one.commit.anomalies) == len(transitions)
    for (n, verdict, change), event, record in zip(transitions, one.events, one.commit.anomalies, strict=True):
        stream, time_ms = int(history.streams[n]), int(history.readings.times_ms[n])
        assert decode_event(record.value or b"") == event
        assert record.key == key(stream)
        data = event.data
        assert (data.stream, event.subject) == (f"stream-{stream}", f"stream-{stream}")
        assert (data.topic, data.partition, data.offset) == (*HERE, int(history.readings.offsets[n]))
        assert event.time == rfc3339(time_ms)
        assert data.opened_at == rfc3339(change.opened_ms)
        assert data.checkpoint == DIGEST
        assert (data.score, data.peak) == (change.score, change.peak)
        assert [channel.name for channel in data.channels] == list(FEATURES)
        assert tuple(channel.share for channel in data.channels) == change.share
        assert math.isclose(sum(channel.share for channel in data.channels), 1.0) or sum(change.share) == 0.0
        for f, channel in enumerate(data.channels):
            columns = (history.readings.values[n], verdict.expected[0], verdict.lower[0], verdict.upper[0])
            wanted = [None if math.isnan(float(column[f])) else float(column[f]) for column in columns]
            assert [channel.observed, channel.expected, channel.lower, channel.upper] == wanted


def test_an_anomaly_is_opened_then_updated_then_closed(detector: Detector, history: Batch) -> None:
    judged, task = run(detector, cut(sent(history), range(0, 1_200, 100)))
    course: dict[str, list[str]] = {}
    severities: dict[str, list[str]] = {}
    for one in judged:
        for event in one.events:
            course.setdefault(event.data.anomaly, []).append(event.change)
            severities.setdefault(event.data.anomaly, []).append(event.data.severity)
    assert any("updated" in changes for changes in course.values())
    still_open = 0
    for anomaly, changes in course.items():
        assert changes[0] == "opened"
        assert set(changes[1:-1]) <= {"updated"}
        assert [severity for severity in ("minor", "major", "critical") if severity in severities[anomaly]] == list(
            dict.fromkeys(severities[anomaly])
        )
        still_open += changes[-1] != "closed"
    assert task.open_alarms == still_open


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 100])
def test_how_a_partition_is_cut_into_batches_changes_no_byte(detector: Detector, history: Batch, size: int) -> None:
    records = with_bad_ones(sent(history))
    (whole,), whole_task = run(detector, [fetched(records)])
    parts, task = run(detector, cut(records, range(0, len(records), size)))
    assert published(parts) == list(whole.commit.anomalies)
    assert [letter for one in parts for letter in one.commit.dead_letters] == list(whole.commit.dead_letters)
    assert torch.equal(scores(parts), scores([whole]))
    streams = [key(stream) for stream in range(9)]
    found, wanted = (one.slab.gather(one.slab.slots(streams)) for one in (task, whole_task))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert task.open_alarms == whole_task.open_alarms
    assert task.clock.latest_ms == whole_task.clock.latest_ms


@pytest.mark.parametrize("seed", range(3))
def test_random_batches_change_no_byte(detector: Detector, history: Batch, seed: int) -> None:
    records = with_bad_ones(sent(history))
    borders = np.random.default_rng(seed).choice(len(records), 40, replace=False).tolist()
    (whole,), _ = run(detector, [fetched(records)])
    parts, _ = run(detector, cut(records, borders))
    assert published(parts) == list(whole.commit.anomalies)
    assert torch.equal(scores(parts), scores([whole]))


@pytest.mark.slow
@pytest.mark.parametrize("max_poll_records", [1, 7, 5_000])
def test_how_many_records_a_poll_brings_changes_no_byte(
    detector: Detector, history: Batch, max_poll_records: int
) -> None:
    """Through the log in memory, against one call with everything."""
    topics = Topics({"readings": 1})
    partition = Partition("readings", 0)
    records = [at.record for at in sent(history)]
    topics.append(partition, records)
    log = MemoryLog(topics, max_poll_records=max_poll_records)
    assert log.poll(0.0).assigned == (partition,)
    log.start(partition, None)
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000)
    task = PartitionTask(partition, StateSlab(detector.rows_for))
    while fetches := log.poll(0.0).fetched:
        log.commit([one.commit for fetch in fetches for one in pipeline.process(fetch, task)])
    assert topics.committed == {partition: len(records)}

    whole = topics.fetch(partition, 0, len(records))
    assert whole is not None
    (expected,) = pipeline.process(whole, PartitionTask(partition, StateSlab(detector.rows_for)))
    assert topics.anomalies[partition] == list(expected.commit.anomalies) != []


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 40, 700])
def test_partitions_judged_together_are_judged_as_if_each_were_alone(
    detector: Detector, history: Batch, at_once: int
) -> None:
    """Three partitions with the same streams in each, one of them with bad records, and one with nothing else."""
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000)
    good = sent(history)[: 300 if at_once == 1 else 1_200]
    feeds = [good, with_bad_ones(good)[7:], good[100:], [At(n, BAD[n % len(BAD)]) for n in range(40)]]
    partitions = [Partition("readings", number) for number in range(len(feeds))]
    rounds = [
        [
            fetched(feed[n : n + at_once])._replace(partition=p)
            for p, feed in zip(partitions, feeds, strict=True)
            if feed[n:]
        ]
        for n in range(0, max(map(len, feeds)), at_once)
    ]
    together = {p: PartitionTask(p, StateSlab(detector.rows_for)) for p in partitions}
    apart = {p: PartitionTask(p, StateSlab(detector.rows_for)) for p in partitions}
    for fetches in rounds:
        found = pipeline.process_all([(one, together[one.partition]) for one in fetches])
        wanted = [done for one in fetches for done in pipeline.process(one, apart[one.partition])]
        assert [one.commit for one in found] == [one.commit for one in wanted]
        assert [one.events for one in found] == [one.events for one in wanted]
        if any(one.verdicts is not None for one in wanted):
            assert torch.equal(scores(found), scores(wanted))
    for partition in partitions:
        mine, other = together[partition], apart[partition]
        assert len(mine.slab) == len(other.slab)
        assert all(torch.equal(a, b) for a, b in zip(mine.slab.rows, other.slab.rows, strict=True))
        assert (mine.next_offset, mine.clock.latest_ms, mine.open_alarms) == (
            other.next_offset,
            other.clock.latest_ms,
            other.open_alarms,
        )


def test_of_a_batch_that_fails_half_way_no_page_is_handed_out(
    detector: Detector, history: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cut(sent(history), [300])
    pipeline, task = Pipeline(detector, DIGEST, max_future_ms=86_400_000), a_task(detector)
    pipeline.process(first, task)
    assert task.slab.page(0, 300).keys

    def out_of_memory(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Forecaster, "observe", out_of_memory)
    with pytest.raises(MemoryError):
        pipeline.process(second, task)
    with pytest.raises(RuntimeError, match="failed half-way"):
        task.slab.page(0, 600)


def test_bad_records_become_dead_letters_and_harm_no_other(detector: Detector, history: Batch) -> None:
    good = sent(history)
    mixed = with_bad_ones(good)
    (clean,), clean_task = run(detector, [fetched(good)])
    (spoilt,), task = run(detector, [fetched(mixed)])
    assert spoilt.commit.anomalies == clean.commit.anomalies
    assert torch.equal(scores([spoilt]), scores([clean]))
    assert task.clock.latest_ms == clean_task.clock.latest_ms
    streams = [key(stream) for stream in range(9)]
    found, wanted = (one.slab.gather(one.slab.slots(streams)) for one in (task, clean_task))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    bad = [at for at in mixed if at.record in BAD]
    letters = spoilt.commit.dead_letters
    assert [(letter.key, letter.value, letter.time_ms) for letter in letters] == [
        (at.record.key, at.record.value, at.record.time_ms) for at in bad
    ]
    headers = [headers_of(letter) for letter in letters]
    assert [int(header["telltale-offset"]) for header in headers] == [at.offset for at in bad]
    assert {header["telltale-topic"] for header in headers} == {b"readings"}
    assert {header["telltale-partition"] for header in headers} == {b"2"}
    assert [header["telltale-reason"].decode() for header in headers[: len(BAD)]] == [
        Reason.MISSING_KEY,
        Reason.MISSING_VALUE,
        Reason.BAD_JSON,
        Reason.WRONG_FEATURES,
        Reason.OUT_OF_RANGE,
        Reason.BAD_KEY,
        Reason.FUTURE_TIMESTAMP,
    ]


def test_a_batch_of_nothing_but_bad_records_moves_the_offset_alone(detector: Detector) -> None:
    (one,), task = run(detector, [fetched([At(n, record) for n, record in enumerate(BAD)])])
    assert one.verdicts is None
    assert one.events == []
    assert one.commit == Commit(HERE, len(BAD), (), one.commit.dead_letters)
    assert len(one.commit.dead_letters) == len(one.rejects) == len(BAD)
    assert (task.next_offset, task.clock.latest_ms, len(task.slab)) == (len(BAD), None, 0)


def test_the_task_moves_on_to_what_the_log_says_comes_next(detector: Detector, history: Batch) -> None:
    records = sent(history)[:10]
    pipeline, task = Pipeline(detector, DIGEST, max_future_ms=86_400_000), a_task(detector)
    after_a_gap = fetched(records)._replace(next_offset=records[-1].offset + 4)
    (one,) = pipeline.process(after_a_gap, task)
    assert one.commit.partition == HERE
    assert one.commit.next_offset == task.next_offset == records[-1].offset + 4
    assert task.clock.latest_ms == int(history.readings.times_ms[:10].max())


def test_event_time_never_goes_back(detector: Detector) -> None:
    times = [5_000, 9_000, 3_000]
    records = [At(n, Record(b"s", encode_reading(FEATURES, time, [1.0, 2.0]))) for n, time in enumerate(times)]
    judged, task = run(detector, cut(records, [1, 2]))
    assert task.clock.latest_ms == 9_000
    assert [one.commit.next_offset for one in judged] == [1, 2, 3]


def test_each_row_knows_the_last_reading_in_it(detector: Detector, history: Batch) -> None:
    _, task = run(detector, cut(sent(history), [400, 900]))
    last = {
        key(stream): int(offset)
        for stream, offset in zip(history.streams.tolist(), history.readings.offsets.tolist(), strict=True)
    }
    page = task.slab.page(0, 10_000)
    assert dict(zip(page.keys, page.applied.tolist(), strict=True)) == last
    assert task.slab.dirty_pages() == [(0, int(history.readings.offsets[0]))]


def test_every_stage_is_timed(detector: Detector, history: Batch) -> None:
    (one,), _ = run(detector, [fetched(sent(history)[:50])])
    assert list(one.stage_s) == ["decode", "slots", "pack", "gather", "observe", "scatter", "emit"]
    assert all(seconds >= 0 for seconds in one.stage_s.values())


# --- room for streams, and an end for idle ones


def come_and_go(seed: int, readings: int = 600) -> list[At]:
    """Streams that come, stay and go while event time passes, jumps once, and is late at times."""
    random = np.random.default_rng(seed)
    records, time_ms = [], 1_700_000_000_000
    for n in range(readings):
        time_ms += int(random.integers(0, 2_000)) + (10_000_000 if n == 300 else 0)
        stream = n // 60 + int(random.integers(12))
        late_ms = int(random.integers(0, 20_000)) if n % 13 == 0 else 0
        value = b"?" if n % 17 == 0 else encode_reading(FEATURES, time_ms - late_ms, [float(n), float(stream)])
        records.append(At(3 * n, Record(key(stream), value, (), None)))
    return records


class Reckoned(NamedTuple):
    """What becomes of a history by the rules alone, put in other words than the code's."""

    beyond_limit: list[int]  # offsets
    evicted: int
    last: dict[StreamKey, int]  # offset of the last reading of each stream that is remembered at the end


def reckon(records: Sequence[At], max_streams: int, idle_ms: int | None) -> Reckoned:
    last: dict[StreamKey, int] = {}
    beyond: list[int] = []
    ticks: list[int] = []
    evicted, latest = 0, -1
    for offset, record in records:
        found = re.search(rb'"timestamp":(\d+)', record.value or b"")
        if found is None or record.key is None:
            continue
        time_ms, stream = int(found[1]), StreamKey(record.key)
        before, latest = latest, max(latest, time_ms)
        if idle_ms is not None and before >= 0 and latest * 16 // idle_ms != before * 16 // idle_ms:
            if len(ticks) >= 16:
                idle = [name for name, seen in last.items() if seen < ticks[-16]]
                evicted += len(idle)
                last = {name: seen for name, seen in last.items() if name not in idle}
            ticks.append(offset)
        if stream in last or len(last) < max_streams:
            last[stream] = offset
        else:
            beyond.append(offset)
    return Reckoned(beyond, evicted, last)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [(1, 0), (7, 1), (64, 2), (600, 0)])
@pytest.mark.parametrize(("max_streams", "idle_s"), [(9, None), (1_000, 40.0), (9, 40.0), (0, None)])
def test_who_is_remembered_depends_on_the_readings_alone(
    detector: Detector, max_streams: int, idle_s: float | None, seed: int, size: int
) -> None:
    records = come_and_go(seed)
    expected = reckon(records, max_streams, None if idle_s is None else int(idle_s * 1_000))
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000, max_streams=max_streams)
    task = PartitionTask(HERE, StateSlab(detector.rows_for), EventClock(idle_s))
    judged = [one for batch in cut(records, range(0, 600, size)) for one in pipeline.process(batch, task)]
    letters = [headers_of(letter) for one in judged for letter in one.commit.dead_letters]
    beyond = [int(head["telltale-offset"]) for head in letters if head["telltale-reason"] == b"stream_limit"]
    assert beyond == expected.beyond_limit
    assert [int(head["telltale-offset"]) for head in letters] == sorted(int(h["telltale-offset"]) for h in letters)
    pages = [task.slab.page(number, 0) for number in range(task.slab.pages)]
    assert {k: o for page in pages for k, o in zip(page.keys, page.applied.tolist(), strict=True)} == expected.last
    assert len(task.slab) == len(expected.last) <= max_streams
    assert sum(one.counts["evicted"] for one in judged) == task.counts["evicted"] == expected.evicted
    assert bool(expected.evicted) == (idle_s is not None)
    assert bool(beyond) == (max_streams < 1_000)
    counts = task.counts
    assert sum(counts[fate] for fate in ("judged", "late", "duplicate", "rejected")) == len(records)
    assert [one.commit.next_offset for one in judged] == sorted(one.commit.next_offset for one in judged)
    assert judged[-1].commit.next_offset == records[-1].offset + 1


@pytest.mark.slow
def test_streams_that_are_known_are_judged_as_if_no_one_had_been_turned_away(
    detector: Detector, history: Batch, by_hand: tuple[list[Verdicts], dict[int, Rows]]
) -> None:
    _, rows = by_hand
    strangers = [
        At(at.offset + 1, Record(b"stranger-%d" % n, encode_reading(FEATURES, 1_700_000_000_000, [1.0, 2.0])))
        for n, at in enumerate(sent(history))
        if n >= 400
    ]
    records = sorted([*sent(history), *strangers])
    known = {stream for stream, _ in zip(history.streams.tolist(), range(400), strict=False)}
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000, max_streams=len(known))
    task = a_task(detector)
    judged = [one for batch in cut(records, range(0, len(records), 90)) for one in pipeline.process(batch, task)]
    (clean,), _ = run(detector, [fetched([at for at in sent(history) if int((at.record.key or b"")[7:]) in known])])
    assert published(judged) == list(clean.commit.anomalies)
    for stream in known:
        row = task.slab.gather(task.slab.find([key(stream)]))
        assert all(torch.equal(a, b) for a, b in zip(row, rows[stream], strict=True))
    assert len(task.slab) == len(known)
    (letter, *_) = [letter for one in judged for letter in one.commit.dead_letters]
    assert (letter.key, letter.value) == strangers[0].record[:2]
    assert f"{len(known)} are remembered" in headers_of(letter)["telltale-detail"].decode()


def test_after_an_eviction_there_is_room_again_for_a_stream_that_starts_fresh(detector: Detector) -> None:
    def at(n: int, stream: int, time_s: int) -> At:
        return At(n, Record(key(stream), encode_reading(FEATURES, time_s * 1_000, [1.0, float(n)])))

    ticking = [at(n, 0, n) for n in range(20)]
    records = [at(0, 1, 0), *[one._replace(offset=one.offset + 1) for one in ticking], at(30, 2, 20), at(31, 1, 20)]
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000, max_streams=2)
    task = PartitionTask(HERE, StateSlab(detector.rows_for), EventClock(16.0))
    judged = pipeline.process(fetched(records), task)
    assert (key(0) in task.slab, key(1) in task.slab, key(2) in task.slab) == (True, False, True)
    assert [letter.key for one in judged for letter in one.commit.dead_letters] == [key(1)]
    alone = a_task(detector)
    pipeline.process(fetched(records[-2:-1]), alone)
    found, wanted = (one.slab.gather(one.slab.find([key(2)])) for one in (task, alone))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_an_alarm_of_a_stream_that_is_forgotten_is_not_open_any_more(detector: Detector, history: Batch) -> None:
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000)
    task = PartitionTask(HERE, StateSlab(detector.rows_for), EventClock(16.0))
    spikes = [
        At(n, Record(key(0), encode_reading(FEATURES, n, [n % 3 + (1e6 if n > 150 else 0.0), 1.0]))) for n in range(155)
    ]
    pipeline.process(fetched(spikes), task)
    assert task.open_alarms == 1
    clock = [At(200 + n, Record(key(1), encode_reading(FEATURES, 1_000 * n, [1.0, 1.0]))) for n in range(20)]
    pipeline.process(fetched(clock), task)
    assert key(0) not in task.slab
    assert task.open_alarms == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_an_anomaly_of_a_stream_that_is_forgotten_is_closed_at_the_reading_that_ends_its_time(
    detector: Detector, size: int
) -> None:
    """Whatever the batches: at the sixteenth tick after its last reading, with its own id, severity and peak."""
    spikes = [Record(key(0), encode_reading(FEATURES, n, [n % 3 + (1e6 if n > 150 else 0.0), 1.0])) for n in range(155)]
    clock = [Record(key(1), encode_reading(FEATURES, 1_000 * (1 + n), [1.0, 1.0])) for n in range(20)]
    records = [At(2 * n, record) for n, record in enumerate([*spikes, *clock])]
    pipeline = Pipeline(detector, DIGEST, max_future_ms=86_400_000)
    task = PartitionTask(HERE, StateSlab(detector.rows_for), EventClock(16.0))
    judged = [one for batch in cut(records, range(0, len(records), size)) for one in pipeline.process(batch, task)]
    events = [event for one in judged for event in one.events]
    assert [decode_event(record.value or b"") for one in judged for record in one.commit.anomalies] == events
    *before, last = events
    assert {event.data.status for event in before} == {"open"}
    assert [event.change for event in events].count("closed") == 1
    about = last.data
    assert (about.anomaly, about.opened_at, about.kind) == (before[0].data.anomaly, before[0].time, before[0].data.kind)
    assert (about.peak, about.severity) == (max(event.data.peak for event in before), before[-1].data.severity)
    assert (last.change, about.status, about.closed_as, about.channels) == ("closed", "closed", "forgotten", [])
    assert (last.subject, about.stream, about.score, about.checkpoint) == ("stream-0", "stream-0", 0.0, DIGEST)
    offset = 2 * (155 + 16)  # the tick at 1 s is the first behind its last reading, that at 17 s the seventeenth
    assert (about.offset, last.time, about.closed_at) == (offset, rfc3339(17_000), rfc3339(17_000))
    assert len({event.id for event in events}) == len(events)


def test_readings_that_are_in_a_row_already_are_not_judged_twice(detector: Detector, history: Batch) -> None:
    """As after a restore, when the input is read from before them."""
    pipeline, records = Pipeline(detector, DIGEST, max_future_ms=86_400_000), sent(history)
    (whole,), expected = run(detector, [fetched(records)])
    task = a_task(detector)
    pipeline.process(fetched(records[:700]), task)
    task.covered = records[699].offset
    (again,) = pipeline.process(fetched(records[300:]), task)
    assert torch.equal(task.slab.rows.scalars, expected.slab.rows.scalars)
    assert len(again.batch.keys) == len(records) - 700
    assert list(again.commit.anomalies) == [
        record for record in whole.commit.anomalies if decode_event(record.value or b"").data.offset > task.covered
    ]
