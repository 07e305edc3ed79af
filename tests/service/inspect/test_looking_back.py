"""A stream's past for the page: what the service thought of readings when it judged them, from whatever is kept."""

from collections.abc import Callable

import pytest

from models.detection.detector import Detector
from models.detection.sensor_rules import SensorRule, SensorRules
from service.errors import RefusedInput
from service.input.events import decode_event
from service.input.reading_batch import StreamKey
from service.inspect.looking_back import Older, PastSeen, look_back
from service.inspect.progress import ReportingLog
from service.inspect.question import Question
from service.log.memory_log import Topics
from service.pipeline import Pipeline
from service.state.changelog import Layout
from tests.service.inspect.test_replay import NEVER_S, anomalies_of, opened_by_reading, opened_ms, verdicts_of
from tests.service.onlooker import DIGEST, MAX_FUTURE_MS, NUMERICS, P0, STREAMS, Onlooker, Service, key, plant, search

pytestmark = pytest.mark.slow

LATEST_MS = 253_402_300_799_000
READINGS = 400


def past_of(
    topics: Topics,
    detector: Detector,
    stream: StreamKey,
    around_ms: int = LATEST_MS,
    report: Callable[[str, int, int], None] = lambda *_: None,
    poll_records: int = 500,
    sensors: SensorRules | None = None,
) -> PastSeen:
    question = Question(stream, around_ms, READINGS, NEVER_S, 0)
    pipeline = Pipeline(detector, DIGEST, MAX_FUTURE_MS, sensors=sensors)
    layout = Layout.of(DIGEST, detector.rows_for([]))
    log = ReportingLog(Onlooker(topics, poll_records=poll_records), report)
    return look_back(log, search(partition=0), question, pipeline, layout, NUMERICS)


@pytest.mark.parametrize("stream", [key(n) for n in range(1, STREAMS)])
def test_scores_and_alarms_are_those_of_the_service_wherever_looking_back_begins(
    judged: Topics, detector: Detector, stream: StreamKey
) -> None:
    """Of stream 0 the clock was set back, so that it passes some times twice.

    Looking back judges the readings by themselves: after a silence that the partition's clock told it is another story.
    """
    verdicts, anomalies = verdicts_of(judged, detector, stream), anomalies_of(judged, stream)
    silent = [decode_event(events[0]).data.offset for events in anomalies if not opened_by_reading(events)]
    for events in list(filter(opened_by_reading, anomalies))[:3]:
        seen = past_of(judged, detector, stream, opened_ms(events))
        end = min((one for one in silent if one > seen.trace.readings[0].offset), default=LATEST_MS)
        readings = [one for one in seen.trace.readings if one.fate == "judged" and one.offset < end]
        assert [(one.score, one.alarm) for one in readings] == [verdicts[one.offset] for one in readings]
        opened = decode_event(events[0]).data.offset
        assert opened > end or any(one.offset == opened and one.alarm for one in readings)
        assert any(bytes(one) == events[0] for one in seen.events)


def test_half_of_the_readings_lie_before_the_time_and_gates_come_with_each(judged: Topics, detector: Detector) -> None:
    events = anomalies_of(judged, key(3))[-1]
    seen = past_of(judged, detector, key(3), opened_ms(events))
    opened = decode_event(events[0]).data.offset
    assert sum(one.offset < opened for one in seen.trace.readings) >= READINGS // 2 - 10  # some cannot be read
    (gate, *_) = seen.trace.layers[-1].gates
    assert len(gate.mean) == len(seen.trace.readings)
    assert seen.older is Older.KEPT


def test_channels_have_the_units_of_the_rules(judged: Topics, detector: Detector) -> None:
    first, *others = detector.features
    rules = SensorRules([SensorRule(channels=(first,), unit="bar")], detector.features)
    assert past_of(judged, detector, key(3), sensors=rules).trace.units == ["bar", *[None] * len(others)]
    assert past_of(judged, detector, key(3)).trace.units == [None] * len(detector.features)


def test_the_latest_readings_are_those_before_a_time_that_is_far_ahead(judged: Topics, detector: Detector) -> None:
    seen = past_of(judged, detector, key(2))
    last = max(verdicts_of(judged, detector, key(2)))
    assert seen.trace.readings[-1].offset == last
    assert READINGS // 2 <= len(seen.trace.readings) <= READINGS
    assert not seen.newer


@pytest.mark.parametrize("poll_records", [20, 1_400, 20_000])
def test_what_is_shown_does_not_depend_on_how_many_records_come_at_once(
    judged: Topics, detector: Detector, poll_records: int
) -> None:
    """A poll may end just behind the readings wanted, or bring ten times as many behind them."""
    for around_ms in [*(opened_ms(events) for events in anomalies_of(judged, key(3))), 0, LATEST_MS]:
        seen = past_of(judged, detector, key(3), around_ms, poll_records=poll_records)
        expected = past_of(judged, detector, key(3), around_ms)
        assert len(expected.trace.readings) > READINGS // 2
        shown = [(one.offset, one.score, one.alarm) for one in seen.trace.readings]
        assert shown == [(one.offset, one.score, one.alarm) for one in expected.trace.readings]


def test_a_time_before_what_the_topic_keeps_is_said_to_be(detector: Detector) -> None:
    topics = plant(2_000)
    assert past_of_first(topics, detector).older is Older.NONE
    topics.delete_before(P0, 900)
    seen = past_of_first(topics, detector)
    assert seen.older is Older.GONE
    assert seen.trace.readings[0].offset >= 900


def past_of_first(topics: Topics, detector: Detector) -> PastSeen:
    if topics.bounds(P0)[0] == 0:
        Service(topics, P0, detector, flush_interval_s=2.0).run()
    return past_of(topics, detector, key(1), around_ms=0)


def test_how_far_reading_has_come_is_reported(judged: Topics, detector: Detector) -> None:
    reported: list[tuple[str, int, int]] = []
    past_of(judged, detector, key(1), report=lambda *one: reported.append(one))
    assert reported
    assert all(0 <= read <= of for _, read, of in reported)


def test_a_stream_that_no_service_has_judged_is_refused(detector: Detector) -> None:
    with pytest.raises(RefusedInput, match="no state of plant"):
        past_of(plant(100), detector, key(1))
