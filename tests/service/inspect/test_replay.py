"""Judging again: the verdicts and events of the service, from whatever the changelog still has."""

from collections.abc import Sequence

import numpy as np
import pytest

from models.data.rfc3339 import rfc3339
from models.detection.detector import Detector
from service.cli.moments import time_ms
from service.errors import RefusedInput
from service.input.events import decode_event
from service.input.formats import InputFormat
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading, encode_silent
from service.input.writing import encode_readings
from service.inspect.question import Question, Replayed
from service.inspect.replay import replay
from service.inspect.replay_lines import lines_of
from service.log.memory_log import Topics
from service.log.port import Partition, Record
from service.pipeline import Pipeline
from service.state.changelog import Layout
from service.state.slab import StateSlab
from service.state.task import EventClock, PartitionTask
from tests.data import QUICK, faulty, some_forecaster, some_kinds
from tests.service.onlooker import (
    DIGEST,
    FEATURES,
    MAX_FUTURE_MS,
    NUMERICS,
    P0,
    STEP,
    STREAMS,
    TOPIC,
    Onlooker,
    Service,
    key,
    other_model,
    plant,
    replace_newest,
    search,
)

pytestmark = pytest.mark.slow

OTHER_DIGEST = "f" * 64
NEVER_S = 1e9


def replayed(
    topics: Topics,
    detector: Detector,
    around_ms: int,
    stream: StreamKey,
    readings: int = 20,
    digest: str = DIGEST,
    idle_s: float = NEVER_S,
    prime_readings: int = 0,
    numerics: str = NUMERICS,
) -> Replayed:
    question = Question(stream, around_ms, readings, idle_s, prime_readings)
    pipeline, layout = Pipeline(detector, digest, MAX_FUTURE_MS), Layout.of(digest, detector.rows_for([]))
    return replay(Onlooker(topics), search(partition=0), question, pipeline, layout, numerics)


def anomalies_of(topics: Topics, stream: StreamKey, partition: Partition = P0) -> list[list[bytes]]:
    """The events of each anomaly of a stream, as they went out."""
    by_anomaly: dict[str, list[bytes]] = {}
    for record in topics.anomalies[partition]:
        if record.key == stream and record.value:
            by_anomaly.setdefault(decode_event(record.value).data.anomaly, []).append(record.value)
    return list(by_anomaly.values())


def opened_ms(events: Sequence[bytes]) -> int:
    return time_ms(decode_event(events[0]).data.opened_at)


def opened_at_offset(events: Sequence[bytes]) -> int:
    return decode_event(events[0]).data.offset


def opened_by_reading(events: Sequence[bytes]) -> bool:
    """Not by the partition's clock, because the stream was silent."""
    return bool(decode_event(events[0]).data.channels)


def time_at(topics: Topics, stream: StreamKey, offset: int) -> int:
    """Time of a stream's first reading from an offset on, late ones not counted."""
    fetched = topics.fetch(P0, 0, 10_000)
    assert fetched is not None
    batch = Pipeline(Detector.cold(some_forecaster(2), QUICK), DIGEST, MAX_FUTURE_MS).decode(fetched)
    times = [
        (int(at), int(time))
        for at, time, name in zip(batch.readings.offsets, batch.readings.times_ms, batch.keys, strict=True)
        if name == stream
    ]
    latest = max(time for at, time in times if at < offset)
    return next(time for at, time in times if at >= offset and time > latest)


def events_in(found: Replayed) -> list[bytes]:
    return [bytes(event) for event in found.events]


def verdicts_of(
    topics: Topics, detector: Detector, stream: StreamKey, idle_s: float | None = None
) -> dict[int, tuple[float, bool]]:
    """Score and alarm of every reading of a stream, by offset, judged from the beginning in other steps."""
    pipeline = Pipeline(detector, DIGEST, MAX_FUTURE_MS)
    verdicts: dict[int, tuple[float, bool]] = {}
    task = PartitionTask(P0, StateSlab(detector.rows_for), EventClock(idle_s))
    fetched = topics.fetch(P0, 0, 10_000)
    assert fetched is not None
    for begin in range(0, len(fetched.keys), STEP):
        for one in pipeline.process(fetched.part(begin, min(begin + STEP, len(fetched.keys))), task):
            for n, name in enumerate(one.batch.keys if one.verdicts else ()):
                if name == stream and one.verdicts is not None:
                    offset = int(one.batch.readings.offsets[n])
                    verdicts[offset] = (float(one.verdicts.score[n]), bool(one.verdicts.alarm[n]))
    return verdicts


# --- to the bit


def test_every_anomaly_of_every_stream_is_told_again_byte_for_byte(judged: Topics, detector: Detector) -> None:
    """Of stream 0 the clock was set back by a day, so that it passes some times twice: see below."""
    published_in_all, from_a_page = 0, 0
    for stream in map(key, range(1, STREAMS)):
        for events in anomalies_of(judged, stream):
            found = replayed(judged, detector, opened_ms(events), stream)
            again = [one for one in events_in(found) if one in events]
            assert again == events
            published_in_all += len(events)
            from_a_page += found.begins > 0
    assert published_in_all >= 14
    assert from_a_page >= 5


def test_a_time_that_a_clock_passes_twice_is_that_of_the_first(judged: Topics, detector: Detector) -> None:
    anomalies = {opened_at_offset(events): events for events in anomalies_of(judged, key(0))}
    found = {offset: replayed(judged, detector, opened_ms(events), key(0)) for offset, events in anomalies.items()}
    assert all(one.readings[0].offset <= offset for offset, one in found.items())
    met = [offset for offset, one in found.items() if one.readings[-1].offset >= offset]
    assert 2 <= len(met) < len(anomalies)
    for offset in met:
        assert [one for one in events_in(found[offset]) if one in anomalies[offset]] == anomalies[offset]


def test_exactly_the_anomalies_that_touch_the_readings_are_told(judged: Topics, detector: Detector) -> None:
    stream = key(1)
    anomalies = anomalies_of(judged, stream)
    assert len(anomalies) >= 2
    for events in anomalies:
        found = replayed(judged, detector, opened_ms(events), stream, readings=8)
        first, last = found.readings[0].offset, found.readings[-1].offset
        expected = []
        for other in anomalies:
            end = decode_event(other[-1]).data
            if opened_at_offset(other) <= last and (end.status == "open" or end.offset >= first):
                expected += other
        assert events_in(found) == expected


def test_the_verdicts_are_those_of_the_service_and_half_of_them_come_before(judged: Topics, detector: Detector) -> None:
    stream = key(1)
    verdicts = verdicts_of(judged, detector, stream)
    around_ms = opened_ms([one for one in anomalies_of(judged, stream) if opened_by_reading(one)][1])
    found = replayed(judged, detector, around_ms, stream, readings=200)
    readings = found.readings
    assert {one.fate.split(":")[0] for one in readings} == {"judged", "late", "duplicate", "rejected, bad_json"}
    assert len(readings) == 200
    assert [one.time for one in readings].index(rfc3339(around_ms)) == 100
    compared = [one for one in readings if one.score is not None]
    assert [(one.score, one.alarm) for one in compared] == [verdicts[one.offset] for one in compared]


def test_what_is_said_to_be_silent_is_told_again_byte_for_byte(detector: Detector) -> None:
    topics = Topics({TOPIC: 1})
    for n in range(900):
        time_ms, there = 1_700_006_400_000 + 60_000 * n, [0, 1][: 1 if 500 <= n < 700 else 2]
        topics.append(P0, [Record(key(one), encode_reading(FEATURES, time_ms, [1.0, 2.0])) for one in there])
        if n in (500, 600):
            topics.append(P0, [Record(key(1), encode_silent(time_ms))])
    Service(topics, P0, detector).run()
    topics.compact()
    (events,) = anomalies_of(topics, key(1))
    found = replayed(topics, detector, opened_ms(events), key(1))
    assert [one for one in events_in(found) if one in events] == events
    assert [decode_event(one).change for one in events] == ["opened", "updated", "updated", "closed"]
    assert not any(check.differs for check in found.checks)


def test_it_begins_with_the_nearest_state_and_says_that_later_ones_are_equal(
    judged: Topics, detector: Detector
) -> None:
    stream = key(1)
    last = anomalies_of(judged, stream)[-1]
    found = replayed(judged, detector, opened_ms(last), stream)
    assert found.begins > 1_000, "not from the beginning"
    assert found.begins_with.startswith("the state in page 0")
    assert found.checks
    assert not any(check.differs for check in found.checks)
    assert "equals the changelog's to the bit" in "\n".join(lines_of(found))


def test_one_state_that_is_left_is_enough(detector: Detector) -> None:
    """Far before the readings wanted is good enough; right before them is not, as half of them come before."""
    topics = plant(4_000)
    Service(topics, P0, detector, flush_interval_s=2.0).run(1_200)
    topics.compact()
    Service(topics, P0, detector, flush_interval_s=1e6).run()
    events = next(events for events in anomalies_of(topics, key(1)) if opened_at_offset(events) > 2_000)
    found = replayed(topics, detector, opened_ms(events), key(1))
    assert 1_000 < found.begins <= 1_200
    assert [one for one in events_in(found) if one in events] == events
    close = replayed(topics, detector, time_at(topics, key(1), found.begins), key(1))
    assert close.begins == 0
    assert close.readings[9].offset < found.begins <= close.readings[10].offset


def test_it_begins_at_the_beginning_where_compaction_has_left_no_earlier_state(detector: Detector) -> None:
    topics = plant()
    Service(topics, P0, detector).run()
    topics.compact()
    first = {key(n): mine[0] for n in range(1, STREAMS) if (mine := anomalies_of(topics, key(n)))}
    stream = min(first, key=lambda one: opened_at_offset(first[one]))
    events = first[stream]
    found = replayed(topics, detector, opened_ms(events), stream)
    assert (found.begins, found.begins_with, found.remarks) == (0, "the input's beginning", ())
    assert [one for one in events_in(found) if one in events] == events
    assert len(found.checks) == 1, "the last state is there"
    assert found.checks[0].differs == ()


def test_it_says_that_first_readings_may_be_gone(detector: Detector) -> None:
    topics = plant()
    Service(topics, P0, detector).run()
    topics.compact()
    topics.delete_before(P0, 100)
    found = replayed(topics, detector, opened_ms(anomalies_of(topics, key(1))[0]), key(1))
    assert found.begins == 100
    assert found.remarks == ("the input begins at offset 100: the stream's first readings may be gone",)


def test_a_state_that_is_not_what_comes_out_is_said_to_differ(detector: Detector) -> None:
    """The control: a last state of other readings."""
    topics = plant()
    Service(topics, P0, detector).run()
    strange = plant()
    Service(strange, P0, other_model()[0]).run()
    topics.compact()
    strange.compact()
    (page,) = [one for one in strange.changelog[P0] if b"/page/" in (one.key or b"")]
    replace_newest(topics, P0, "page", lambda _: page)
    found = replayed(topics, detector, opened_ms(anomalies_of(topics, key(1))[0]), key(1))
    assert found.checks[0].differs[:2] == ("h", "c")
    assert "DIFFERS from the changelog's: h, c, " in "\n".join(lines_of(found))


def test_an_anomaly_whose_kind_is_named_is_told_again_byte_for_byte(detector: Detector) -> None:
    named, topics = detector.with_kinds(some_kinds()), plant()
    Service(topics, P0, named, flush_interval_s=1.0).run()
    from_a_page = 0
    for events in anomalies_of(topics, key(1)):
        found = replayed(topics, named, opened_ms(events), key(1))
        assert [one for one in events_in(found) if one in events] == events
        assert found.checks
        assert not any(check.differs for check in found.checks)
        from_a_page += found.begins > 0
    assert from_a_page > 1


def test_a_state_that_remembers_other_guesses_is_said_to_differ_in_its_votes(detector: Detector) -> None:
    topics, strange = plant(), plant()
    Service(topics, P0, detector.with_kinds(some_kinds())).run()
    Service(strange, P0, detector.with_kinds(some_kinds(seed=1))).run()
    topics.compact()
    strange.compact()
    (page,) = [one for one in strange.changelog[P0] if b"/page/" in (one.key or b"")]
    replace_newest(topics, P0, "page", lambda _: page)
    events = anomalies_of(topics, key(1))[0]
    found = replayed(topics, detector.with_kinds(some_kinds()), opened_ms(events), key(1))
    assert found.checks[0].differs == ("votes",)


def test_a_stream_that_was_forgotten_is_forgotten_again(detector: Detector) -> None:
    """It is silent for 20 ticks of the clock; then its second life begins, with a warm-up."""
    topics, idle_s, stream = Topics({TOPIC: 2}), 16 * 60.0, StreamKey(b"pause")
    random = np.random.default_rng(1)
    for n in range(300):
        silent = 100 <= n < 120
        for name in (stream, b"steady")[silent:]:
            value = encode_reading(FEATURES, 1_700_000_000_000 + 60_000 * n, random.normal(size=2).tolist())
            topics.append(P0, [Record(name, value)])
    Service(topics, P0, detector, idle_s=idle_s, flush_interval_s=1.0).run()
    verdicts = verdicts_of(topics, detector, stream, idle_s)
    assert verdicts != verdicts_of(topics, detector, stream), "forgetting makes a difference"
    around_ms = 1_700_000_000_000 + 60_000 * 201
    for compacted in (False, True):
        if compacted:
            topics.compact()
        found = replayed(topics, detector, around_ms, stream, readings=60, idle_s=idle_s)
        assert (found.begins == 0) is compacted
        assert [(one.score, one.alarm) for one in found.readings] == [verdicts[one.offset] for one in found.readings]
        assert any(one.score for one in found.readings), "some are scored"
        assert found.checks
        assert not any(check.differs for check in found.checks)


# --- other models


def test_another_model_is_said_to_be_another(judged: Topics, detector: Detector) -> None:
    other, digest = other_model()
    around_ms = opened_ms(anomalies_of(judged, key(1))[1])
    service, another = (
        replayed(judged, one, around_ms, key(1), digest=its) for one, its in ((detector, DIGEST), (other, digest))
    )
    assert not service.another_model
    assert another.another_model
    assert [one.offset for one in another.readings] == [one.offset for one in service.readings]
    assert [one.score for one in another.readings] != [one.score for one in service.readings]
    assert another.begins_with == "the input's beginning"
    assert another.checks == ()
    assert "WHAT ANOTHER MODEL WOULD HAVE SAID" in "\n".join(lines_of(another))
    assert "ANOTHER MODEL" not in "\n".join(lines_of(service))


@pytest.fixture(scope="module")
def taken_over(detector: Detector) -> Topics:
    """From offset 1,000 on the other model judges, which was warmed up with each stream's last 40 readings."""
    topics = plant()
    Service(topics, P0, detector).run(1_000)
    other, digest = other_model()
    Service(topics, P0, other, digest, prime_readings=40).run()
    topics.compact()
    return topics


def test_where_a_checkpoint_took_over_it_is_warmed_up_again(taken_over: Topics) -> None:
    other, digest = other_model()
    events = next(events for events in anomalies_of(taken_over, key(0)) if opened_at_offset(events) > 1_100)
    found = replayed(taken_over, other, opened_ms(events), key(0), digest=digest, prime_readings=40)
    assert not found.another_model
    assert found.begins_with == (
        "offset 1,000, from which on this checkpoint judges, warmed up by the 40 readings before it"
    )
    assert [one for one in events_in(found) if one in events] == events
    assert [check.differs for check in found.checks] == [()]


def test_before_a_checkpoint_took_over_it_is_another_model(taken_over: Topics) -> None:
    other, digest = other_model()
    found = replayed(taken_over, other, time_at(taken_over, key(1), 800), key(1), digest=digest, prime_readings=40)
    assert 700 < found.readings[0].offset < 900
    assert found.another_model
    assert found.remarks == ("this checkpoint judges from offset 1,000 on, which is after the readings wanted",)


def test_a_service_that_began_late_warmed_nothing_up(detector: Detector) -> None:
    """As with auto_offset_reset=latest: there are readings before, but it has not seen them."""
    topics = plant()
    service = Service(topics, P0, detector)
    service.log.start(P0, 1_000)
    service.task.checkpoint_from = 1_000
    service.run()
    topics.compact()
    events = anomalies_of(topics, key(0))[0]
    found = replayed(topics, detector, opened_ms(events), key(0), prime_readings=40)
    assert found.begins_with == "offset 1,000, from which on this checkpoint judges"
    assert [one for one in events_in(found) if one in events] == events
    assert [check.differs for check in found.checks] == [()]


# --- what cannot be had


def test_another_arithmetic_is_said(judged: Topics, detector: Detector) -> None:
    found = replayed(judged, detector, opened_ms(anomalies_of(judged, key(0))[1]), key(0), numerics="another")
    assert found.remarks == ("the service's arithmetic was arithmetic, this machine's is another",)


def test_a_time_beyond_the_readings_is_said(judged: Topics, detector: Detector) -> None:
    late = replayed(judged, detector, 4_000_000_000_000, key(1), readings=6)
    assert any("these are the last ones" in remark for remark in late.remarks)
    assert len(late.readings) == 6
    early = replayed(judged, detector, 0, key(1), readings=6)
    assert any("these are the first ones" in remark for remark in early.remarks)
    assert len(early.readings) == 6
    assert early.readings[0].offset < 30


def test_a_stream_without_readings_is_refused(judged: Topics, detector: Detector) -> None:
    with pytest.raises(RefusedInput, match="plant-0: no reading of nobody from offset 0 to 5000;"):
        replayed(judged, detector, 0, StreamKey(b"nobody"))


def test_a_partition_that_no_one_judged_is_refused(detector: Detector) -> None:
    with pytest.raises(RefusedInput, match="no state of plant, partition 0, group service"):
        replayed(plant(100), detector, 0, key(0))


@pytest.mark.parametrize(
    "text",
    ["1767571200000", "2026-01-05T00:00:00Z", "2026-01-05T02:00+02:00"],
)
def test_a_time_is_milliseconds_or_rfc_3339(text: str) -> None:
    assert time_ms(text) == 1_767_571_200_000


@pytest.mark.parametrize("text", ["yesterday", "2026-01-05T00:00:00", "", "1e9", "-5"])
def test_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        time_ms(text)


# --- many readings a record


def test_anomalies_in_records_of_many_readings_and_streams_are_told_again_byte_for_byte(detector: Detector) -> None:
    topics, history = Topics({TOPIC: 1}), faulty(2, seed=3, streams=STREAMS, readings=5_000)
    for begin in range(0, 5_000, 37):
        part = range(begin, min(begin + 37, 5_000))
        names = [key(int(stream)).decode() for stream in history.streams[list(part)]]
        times_ms, values = history.readings.times_ms[list(part)].tolist(), history.readings.values[list(part)].numpy()
        written = (InputFormat.MSGPACK, InputFormat.ARROW)[begin // 37 % 2]
        topics.append(P0, [Record(None, encode_readings(written, FEATURES, times_ms, values, names))])
    Service(topics, P0, detector, flush_interval_s=1.0).run()
    published_in_all = 0
    for stream in map(key, range(1, STREAMS)):
        for events in anomalies_of(topics, stream):
            found = replayed(topics, detector, opened_ms(events), stream)
            assert [one for one in events_in(found) if one in events] == events
            assert len({one.place for one in found.readings}) == len(found.readings)
            assert all(not check.differs for check in found.checks)
            published_in_all += len(events)
    assert published_in_all >= 14
