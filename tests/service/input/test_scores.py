"""The topic of scores: a record for each judged reading of the chosen streams, with what the detector said of it."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from models.detection.detector import Detector
from service.input import scores
from service.input.formats import InputFormat
from service.input.scores import SCORE_HEADERS, ScoredReading, ScoreStream
from service.input.wire import encode_reading
from service.input.writing import encode_readings
from service.log.memory_log import MemoryLog, Topics
from service.log.port import Fetched, Partition, Record
from service.pipeline import Pipeline, Processed
from service.state.slab import StateSlab
from service.state.task import PartitionTask
from tests.data import QUICK, faulty, some_forecaster

FEATURES = ("f0", "f1")
HERE = Partition("readings", 0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.cold(some_forecaster(2), QUICK)


def sent(streams: int = 3, readings: int = 400) -> list[Record]:
    """With late and duplicate readings among them, and values that are missing."""
    whose, columns = faulty(features=2, seed=3, streams=streams, readings=readings)
    rows = zip(whose.tolist(), columns.times_ms.tolist(), columns.values.tolist(), strict=True)
    return [Record(b"line-%d/pump" % s, encode_reading(FEATURES, time_ms, values)) for s, time_ms, values in rows]


def fetched(records: list[Record]) -> Fetched:
    topics = Topics({HERE.topic: 1})
    topics.append(HERE, records)
    found = topics.fetch(HERE, 0, len(records))
    assert found is not None
    return found


def judged(detector: Detector, records: list[Record], *patterns: str) -> Processed:
    stream = ScoreStream(patterns, FEATURES) if patterns else None
    pipeline = Pipeline(detector, "ab" * 32, 86_400_000, scores=stream)
    (one,) = pipeline.process(fetched(records), PartitionTask(HERE, StateSlab(detector.rows_for)))
    return one


def told(one: Processed) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in one.commit.scores]


def test_each_judged_reading_is_told_with_its_score_and_band_to_the_bit(detector: Detector) -> None:
    one = judged(detector, sent(), "*")
    assert one.verdicts is not None
    fate, verdicts, readings = one.verdicts.fate, one.verdicts, one.batch.readings
    assert fate.late.any()
    assert fate.duplicate.any()
    places = fate.judged.nonzero().squeeze(1).tolist()
    found = told(one)
    assert [row["offset"] for row in found] == readings.offsets[places].tolist()
    for row, record, n in zip(found, one.commit.scores, places, strict=True):
        assert (record.key, record.headers) == (one.batch.keys[n], SCORE_HEADERS)
        assert msgspec.json.decode(record.value or b"", type=ScoredReading) == ScoredReading(
            one.batch.keys[n].decode(),
            int(readings.times_ms[n]),
            float(verdicts.score[n]),
            bool(verdicts.alarm[n]),
            *HERE,
            int(readings.offsets[n]),
            0,
        )
        for f, name in enumerate(FEATURES):
            columns = (readings.values, verdicts.expected, verdicts.lower, verdicts.upper)
            wanted = [None if math.isnan(value) else value for value in (float(column[n, f]) for column in columns)]
            assert [row[f"{column}_{name}"] for column in ("observed", "expected", "lower", "upper")] == wanted
    assert any(row["alarm"] for row in found)
    assert any(row["observed_f0"] is None for row in found)
    assert found[0]["expected_f0"] is None
    assert len({tuple(row) for row in found}) == 1, "every row has the same columns"


def test_only_streams_that_match_a_pattern_are_told(detector: Detector) -> None:
    whole = judged(detector, sent(), "*").commit.scores
    for patterns, streams in (
        (("line-[12]/*",), {b"line-1/pump", b"line-2/pump"}),
        (("line-0/pump", "*-2/*"), {b"line-0/pump", b"line-2/pump"}),
        (("other",), set[bytes]()),
    ):
        found = judged(detector, sent(), *patterns).commit.scores
        assert found == tuple(record for record in whole if record.key in streams)
        assert {record.key for record in found} == streams


def test_a_pattern_that_is_a_streams_very_name_matches_it(detector: Detector) -> None:
    records = [record._replace(key=b"pump[1]") for record in sent(1, 20)]
    assert judged(detector, records, "pump[1]").commit.scores == judged(detector, records, "*").commit.scores != ()


def test_without_a_topic_of_scores_there_are_none_and_nothing_else_differs(detector: Detector) -> None:
    off, on = judged(detector, sent()), judged(detector, sent(), "*")
    assert off.commit.scores == () != on.commit.scores
    assert off.commit == on.commit._replace(scores=())


def test_the_readings_of_one_record_are_told_apart_by_their_index(detector: Detector) -> None:
    times_ms, values = [1_700_000_000_000 + 1_000 * n for n in range(5)], np.ones((5, 2))
    value = encode_readings(InputFormat.MSGPACK, FEATURES, times_ms, values, ["a", "b", "a", "b", "a"])
    found = told(judged(detector, [Record(b"hall", value)], "a"))
    assert [(row["stream"], row["offset"], row["index"]) for row in found] == [("a", 0, 0), ("a", 0, 2), ("a", 0, 4)]
    assert [row["timestamp"] for row in found] == times_ms[::2]


def test_what_is_known_of_streams_is_bounded(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "KNOWN_AT_MOST", 2)
    found = judged(detector, sent(streams=6), "line-[0-3]/*").commit.scores
    assert {record.key for record in found} == {b"line-%d/pump" % n for n in range(4)}


def test_a_log_in_memory_writes_them_with_the_offsets(detector: Detector) -> None:
    topics = Topics({HERE.topic: 1})
    topics.append(HERE, sent())
    log, task = MemoryLog(topics, max_poll_records=64), PartitionTask(HERE, StateSlab(detector.rows_for))
    log.poll(0.0)
    log.start(HERE, None)
    pipeline = Pipeline(detector, "ab" * 32, 86_400_000, scores=ScoreStream(["*"], FEATURES))
    while fetches := log.poll(0.0).fetched:
        log.commit([one.commit for fetch in fetches for one in pipeline.process(fetch, task)])
    assert topics.scores[HERE] == list(judged(detector, sent(), "*").commit.scores)
