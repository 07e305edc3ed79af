"""Labels that a mapping gives streams are in their events, also in those that no reading makes, whatever happens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from msgspec import UNSET

from models.detection.detector import Detector, DetectorConfig
from models.detection.scoring import ScoreConfig
from service.input.events import Event, decode_event
from service.input.formats import RecordRules, TopicMapping
from service.input.scores import ScoreStream
from service.log.memory_log import Assign, Crash, Fault, Revoke
from service.log.port import Record
from service.pipeline import Pipeline
from service.stages.incidents.changes import AnomalyChange, read_change
from tests.data import some_forecaster
from tests.service.test_recovery import (
    DAY_MS,
    FEATURES,
    P0,
    SCORED,
    SELDOM,
    SOON,
    Output,
    Plant,
    Service,
    assert_as_calm,
    ends,
    topics_with,
)

START_MS = 1_700_006_400_000
LABELS = {"site": "at.site", "line": "at.line", "on": "$topic"}
STREAMS, MINUTES = 4, 400
SILENT, FAULTY = 2, 1
SILENT_FROM, FAULTY_FROM, MOVED_AT = 200, 250, 150


@dataclass
class LabelledPlant(Plant):
    """One whose topic has a mapping."""

    labels: bool = True

    def pipeline(self) -> Pipeline:
        mapping = TopicMapping("input.topics.readings", labels=LABELS if self.labels else {})
        rules = RecordRules(mappings={"readings": mapping})
        return Pipeline(self.detector, self.digest, DAY_MS, rules=rules, scores=ScoreStream(SCORED, FEATURES))


def sent() -> list[Record]:
    """A reading a minute of each stream. One falls silent, one has a fault, and all move to another line before."""
    records = []
    for minute in range(MINUTES):
        for stream in range(STREAMS):
            if stream == SILENT and minute >= SILENT_FROM:
                continue
            far = stream == FAULTY and FAULTY_FROM <= minute < FAULTY_FROM + 20
            values = [1e6 if far else 0.0, 1.0]
            at = {"site": f"hall-{stream % 2}", "line": 3 if minute < MOVED_AT else 4}
            value = {"timestamp": START_MS + 60_000 * minute, "values": dict(zip(FEATURES, values, strict=True))}
            records.append(Record(b"stream-%d" % stream, json.dumps({**value, "at": at}).encode()))
    return records


RECORDS = sent()


@pytest.fixture(scope="module")
def plant() -> LabelledPlant:
    return LabelledPlant(Detector.cold(some_forecaster(2), DetectorConfig(ScoreConfig(warm_up=20))))


@pytest.fixture(scope="module")
def calm(plant: LabelledPlant) -> Output:
    return plant.calm(topics_with(RECORDS))


def events_of(records: Sequence[Record], stream: int) -> list[Event]:
    found = [decode_event(record.value or b"") for record in records]
    return [event for event in found if event.data.stream == f"stream-{stream}"]


def test_the_events_of_a_fault_and_of_a_silence_have_the_labels_of_the_last_reading(calm: Output) -> None:
    faulty, silent = (events_of(calm.anomalies, stream) for stream in (FAULTY, SILENT))
    assert {"opened", "closed"} <= {event.change for event in faulty}
    assert faulty[0].data.channels, "a reading opened it"
    assert [event.change for event in silent] == ["opened", "updated", "updated"], "it goes on, which is told again"
    assert {(event.data.kind, len(event.data.channels)) for event in silent} == {("silent", 0)}
    assert all(event.data.labels == {"site": "hall-1", "line": "4", "on": "readings"} for event in faulty)
    assert all(event.data.labels == {"site": "hall-0", "line": "4", "on": "readings"} for event in silent)
    change = read_change(calm.anomalies[-1].value)
    assert isinstance(change, AnomalyChange)
    assert change.labels == {"site": "hall-1", "line": "4", "on": "readings"}


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", [9, 13, 15, 18, 22])
def test_a_crash_at_any_commit_changes_no_byte(plant: LabelledPlant, calm: Output, commit: int, written: bool) -> None:
    topics, flush_interval_s = topics_with(RECORDS), SOON if commit % 2 else SELDOM
    ends(Service(plant, topics, [Crash(commit, written)], flush_interval_s, max_poll_records=50))
    topics.compact()
    again: list[Fault] = [Revoke(3, (P0,)), Assign(5, (P0,))]
    Service(plant, topics, again, flush_interval_s, max_poll_records=70).until_idle()
    assert_as_calm(plant, topics, calm)


def test_labels_that_are_taken_out_of_the_settings_are_in_no_event_from_then_on(plant: LabelledPlant) -> None:
    before = STREAMS * (SILENT_FROM - 20)
    topics = topics_with(RECORDS[:before])
    Service(plant, topics).until_idle()
    topics.append(P0, RECORDS[before:])
    Service(LabelledPlant(plant.detector, labels=False), topics).until_idle()
    silent = events_of(topics.anomalies[P0], SILENT)
    assert {(event.data.kind, event.data.labels) for event in silent} == {("silent", UNSET)}
