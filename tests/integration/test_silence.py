"""Streams that fall silent, or are said to, on a real broker: told once, while they are, whatever ends the workers."""

import signal
from itertools import pairwise
from pathlib import Path

import pytest

from service.input.events import Event, decode_event
from service.input.wire import encode_reading, encode_silent
from service.log.port import Record
from tests.integration.test_end_to_end import (
    NOW_MS,
    Names,
    committed_offsets,
    judged_offline,
    made_topics,
    quick,
    service,
    wait_until,
)
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture

SILENT = range(150, 200)  # minutes


def sent(first: int, last: int) -> list[tuple[int, Record]]:
    """A reading a minute of each stream, to partition 0; two are silent for a while, of one its source says so."""
    return [
        (0, Record(b"s%d" % stream, _value(stream, n, NOW_MS + 60_000 * n + stream)))
        for n in range(first, last)
        for stream in range(4)
        if stream < 2 or n not in SILENT or (stream == 3 and n == SILENT[0])
    ]


def _value(stream: int, minute: int, time_ms: int) -> bytes:
    if stream == 3 and minute == SILENT[0]:
        return encode_silent(time_ms)
    return encode_reading(["f0", "f1"], time_ms, [1.0, 2.0])


def told(broker: Broker, names: Names) -> list[Event]:
    return [decode_event(one.record.value or b"") for one in broker.read_committed(names.anomalies)]


@pytest.mark.thorough
@pytest.mark.slow
def test_a_silence_is_told_once_while_it_lasts_through_kills_and_closed_by_the_next_reading(
    kafka: Broker, quick: Path
) -> None:
    """One worker is killed before it is told, one while it is open, and none has written its pages by then."""
    names, seldom = made_topics(kafka), {"TELLTALE_STATE__FLUSH_INTERVAL_S": "3600"}
    borders = (0, SILENT[2], SILENT[-2], 260)
    open_after = (1, 2, 0)
    for (begin, end), count in zip(pairwise(borders), open_after, strict=True):
        kafka.produce(names.topic, sent(begin, end))
        with service(kafka, quick, names, **seldom, TELLTALE_KAFKA__MAX_POLL_RECORDS="40") as running:
            records = len(sent(0, end))
            wait_until(lambda: committed_offsets(kafka, names)[0] >= records, "all being judged")  # noqa: B023
            events = told(kafka, names)
            assert sum({"opened": 1, "updated": 0, "closed": -1}[event.change] for event in events) == count
            running.process.signal(signal.SIGKILL)
            running.process.ended()

    events = told(kafka, names)
    assert {event.data.kind for event in events} == {"silent"}
    assert [event.data.stream for event in events if event.change == "opened"] == ["s3", "s2"]
    for stream in ("s2", "s3"):
        assert [(event.change, event.data.severity) for event in events if event.data.stream == stream] == [
            ("opened", "minor"),
            ("updated", "major"),
            ("updated", "critical"),
            ("closed", "critical"),
        ]
    readings = [one for one in kafka.read_committed(names.topic) if one.partition == 0]
    expected = judged_offline(quick, names.topic, 0, readings)
    found = [one.record for one in kafka.read_committed(names.anomalies)]
    assert [(record.key, record.value) for record in found] == [(record.key, record.value) for record in expected]
