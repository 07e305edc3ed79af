"""Values that rules of sensors exclude: all that is judged, published and remembered is as if they had been null.

The oracle is the same input with null in their places, judged without any rule.
"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import structlog

from models.detection.detector import Detector
from models.detection.sensor_rules import SensorRule, SensorRules, Span
from service.input.events import decode_event
from service.input.wire import encode_reading
from service.inspect.question import Question
from service.inspect.replay import replay
from service.log.memory_log import Topics
from service.log.port import Record
from service.pipeline import Pipeline
from service.state.changelog import Layout, Marker, read_marker
from service.state.changelog_keys import Origin
from tests.records import headers_of
from tests.service.onlooker import (
    DIGEST,
    FEATURES,
    GROUP,
    MAX_FUTURE_MS,
    NUMERICS,
    P0,
    TOPIC,
    Onlooker,
    Service,
    key,
    plant,
    search,
)

pytestmark = pytest.mark.slow

RULES = (
    SensorRule("stream-1", ("f0",), bad_values=(65535.0,), valid_range=Span(-100, 100), unit="°C"),
    SensorRule(channels=("f1",), bad_values=(-9999.0,)),
)
SENSORS = SensorRules(RULES, FEATURES)
END = 2_000


def with_values(record: Record, n: int, *, bad: bool) -> Record:
    """Every ninth reading of stream 1 with a bad f0, every seventh of any with a bad f1; or null instead of all such.

    The faults of the plant are in some of stream 1's readings, out of its range.
    """
    if record.value in (None, b"{"):
        return record
    message = json.loads(record.value or b"")
    f0, f1 = message["values"].values()
    if record.key == key(1) and n % 9 == 0:
        f0 = (65535.0, 100.5, -1e30)[n // 9 % 3]
    if n % 7 == 0:
        f1 = -9999.0
    if not bad:
        f1 = None if f1 == -9999.0 else f1
        f0 = None if record.key == key(1) and f0 is not None and not -100 <= f0 <= 100 else f0
    numbers = [np.nan if value is None else value for value in (f0, f1)]
    return record._replace(value=encode_reading(FEATURES, message["timestamp"], numbers))


def topics_with(*, bad: bool) -> Topics:
    made, topics = plant(END), Topics({TOPIC: 2})
    fetched = made.fetch(P0, 0, END + 1_000)
    assert fetched is not None
    records = enumerate(zip(fetched.keys, fetched.values, strict=True))
    topics.append(P0, [with_values(Record(*one), n, bad=bad) for n, one in records])
    return topics


def without_units(value: bytes) -> bytes:
    return value.replace(',"unit":"°C"'.encode(), b"")


def state_bytes(service: Service) -> list[bytes]:
    page = service.task.slab.page(0, 0)
    return [column.numpy().tobytes() for column in page.rows] + list(page.keys)


def marker_in(topics: Topics) -> Marker:
    origin = Origin(GROUP, P0)
    value = next(r.value for r in reversed(topics.changelog[P0]) if r.key and r.value and b"next_offset" in r.value)
    return read_marker(origin, value)


@dataclass
class Judged:
    topics: Topics
    service: Service


@pytest.fixture(scope="module")
def with_nulls(detector: Detector) -> Judged:
    topics = topics_with(bad=False)
    return Judged(topics, Service(topics, P0, detector).run())


@pytest.fixture(scope="module")
def with_rules(detector: Detector) -> Judged:
    topics = topics_with(bad=True)
    return Judged(topics, Service(topics, P0, detector, sensors=SENSORS).run())


def test_what_is_published_and_remembered_is_that_of_nulls_to_the_bit(with_nulls: Judged, with_rules: Judged) -> None:
    expected, found = (one.topics.anomalies[P0] for one in (with_nulls, with_rules))
    assert len(expected) > 10
    assert [without_units(record.value or b"") for record in found] == [record.value for record in expected]
    assert state_bytes(with_rules.service) == state_bytes(with_nulls.service)


def test_without_the_rules_other_things_are_found(with_nulls: Judged, detector: Detector) -> None:
    topics = topics_with(bad=True)
    service = Service(topics, P0, detector).run()
    assert state_bytes(service) != state_bytes(with_nulls.service)
    assert len(topics.anomalies[P0]) != len(with_nulls.topics.anomalies[P0])


def test_an_event_says_the_unit_of_a_channel_that_has_one(with_rules: Judged) -> None:
    events = [decode_event(record.value or b"").data for record in with_rules.topics.anomalies[P0]]
    mine = [event for event in events if event.stream == "stream-1" and event.channels]  # a silence has none
    assert mine
    assert all(event.channels[0].unit == "°C" for event in mine)
    raw = [json.loads(record.value or b"") for record in with_rules.topics.anomalies[P0]]
    others = [channel for one in raw if one["data"]["stream"] != "stream-1" for channel in one["data"]["channels"]]
    assert others
    assert all("unit" not in channel for channel in others)


def test_values_are_counted_by_reason_since_the_first_marker(with_rules: Judged) -> None:
    counts = marker_in(with_rules.topics).counts
    fetched = topics_with(bad=True).fetch(P0, 0, END + 1_000)
    assert fetched is not None
    sent = [json.loads(value)["values"] for value in fetched.values if value not in (None, b"{")]
    mine = [value for k, value in zip(fetched.keys, fetched.values, strict=True) if k == key(1) and value != b"{"]
    first = [json.loads(value or b"")["values"]["f0"] for value in mine]
    bad = sum(one["f1"] == -9999 for one in sent) + first.count(65535.0)
    assert counts["bad_value"] == bad
    assert counts["out_of_range"] == sum(v is not None and not -100 <= v <= 100 and v != 65535.0 for v in first)
    assert counts["out_of_range"] > 10


def test_a_marker_without_rules_is_as_it_always_was(with_nulls: Judged) -> None:
    value = next(r.value for r in reversed(with_nulls.topics.changelog[P0]) if r.value and b"next_offset" in r.value)
    assert b"rules" not in value
    assert b"bad_value" not in value


def test_changed_rules_are_in_force_from_the_offset_of_the_start_and_this_is_noted(detector: Detector) -> None:
    """Half with none, half with rules: each half as if it had always been so."""
    topics, oracle = topics_with(bad=True), topics_with(bad=True)
    first = Service(topics, P0, detector, flush_interval_s=0.001).run(1_000)
    until = first.task.next_offset or 0
    with structlog.testing.capture_logs() as logs:
        Service(topics, P0, detector, flush_interval_s=0.001, sensors=SENSORS).run()
    (line,) = (one for one in logs if one["event"] == "sensor_rules")
    assert (line["rules"], line["before"], line["from_offset"]) == (SENSORS.digest, "", until)
    marker = marker_in(topics)
    assert (marker.rules, marker.rules_from) == (SENSORS.digest, until)
    Service(topics, P0, detector, sensors=SENSORS)  # a start with the same rules changes nothing
    assert marker_in(topics).rules_from == until

    task = Service(oracle, P0, detector).task  # one task, two pipelines: nothing starts again
    published = []
    for begin, end, sensors in ((0, until, None), (until, 10_000, SENSORS)):
        pipeline = Pipeline(detector, DIGEST, MAX_FUTURE_MS, sensors=sensors)
        fetched = oracle.fetch(P0, begin, 10_000)
        assert fetched is not None
        some = fetched.part(0, min(end - begin, len(fetched.keys)))
        published += [record for one in pipeline.process(some, task) for record in one.commit.anomalies]
    assert [(r.value, headers_of(r)) for r in topics.anomalies[P0]] == [(r.value, headers_of(r)) for r in published]


def test_rules_that_are_taken_away_are_noted_too(detector: Detector) -> None:
    topics = topics_with(bad=True)
    Service(topics, P0, detector, sensors=SENSORS).run(500)
    Service(topics, P0, detector).run()
    assert marker_in(topics).rules == ""
    assert marker_in(topics).rules_from == 500


def replayed(topics: Topics, detector: Detector, sensors: SensorRules | None) -> tuple[list[bytes], tuple[str, ...]]:
    records = [record for record in topics.anomalies[P0] if record.key == key(1)]
    event = decode_event(records[-1].value or b"").data
    fetched = topics.fetch(P0, event.offset, 1)
    assert fetched is not None
    around_ms = json.loads(fetched.values[0] or b"")["timestamp"]
    pipeline = Pipeline(detector, DIGEST, MAX_FUTURE_MS, sensors=sensors)
    layout = Layout.of(DIGEST, detector.rows_for([]))
    question = Question(key(1), around_ms, 20, 1e9, 0)
    found = replay(Onlooker(topics), search(partition=0), question, pipeline, layout, NUMERICS)
    return [bytes(one) for one in found.events], found.remarks


def test_a_worker_judges_with_the_limits_of_a_stream_and_a_replay_does_too(detector: Detector) -> None:
    topics, plain = plant(END), plant(END)
    limits = SensorRules([SensorRule("stream-1", minimum_deviation=1e9)], FEATURES)
    expected = Service(plain, P0, detector).run()
    found = Service(topics, P0, detector, sensors=limits).run()
    told, all_told = (
        [(record.key, record.value) for record in one.anomalies[P0] if record.key != key(1)] for one in (topics, plain)
    )
    assert told == all_told, "other streams are judged as ever"
    kinds, others = (
        {decode_event(record.value or b"").data.kind for record in one.anomalies[P0] if record.key == key(1)}
        for one in (topics, plain)
    )
    assert kinds <= {"stuck", "missing", "silent"}
    assert others & {"sudden", "prediction", "level", "range"}
    assert state_bytes(found) != state_bytes(expected)
    fetched = topics.fetch(P0, 0, END + 1_000)
    assert fetched is not None
    again = Pipeline(detector, DIGEST, MAX_FUTURE_MS, sensors=limits)
    task = Service(Topics({TOPIC: 2}), P0, detector).task
    assert [r.value for one in again.process(fetched, task) for r in one.commit.anomalies] == [
        r.value for r in topics.anomalies[P0]
    ]


def test_a_replay_with_the_same_rules_comes_to_the_same_bytes(with_rules: Judged, detector: Detector) -> None:
    events, remarks = replayed(with_rules.topics, detector, SENSORS)
    published = [record.value for record in with_rules.topics.anomalies[P0]]
    assert events
    assert all(event in published for event in events)
    assert not any("detection.rules" in remark for remark in remarks)


def test_a_replay_with_other_rules_says_so(with_rules: Judged, detector: Detector) -> None:
    _, remarks = replayed(with_rules.topics, detector, None)
    assert any(f"other rules of the sensors (detection.rules): {SENSORS.digest}" in remark for remark in remarks)


def test_a_replay_of_what_was_judged_before_the_rules_says_so(detector: Detector) -> None:
    topics = topics_with(bad=True)
    Service(topics, P0, detector, flush_interval_s=1e6).run(1_900)
    Service(topics, P0, detector, flush_interval_s=1e6, sensors=SENSORS).run()
    _, remarks = replayed(topics, detector, SENSORS)
    assert any("in force from offset 1,900 on" in remark for remark in remarks)
