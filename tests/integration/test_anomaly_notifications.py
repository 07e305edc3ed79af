"""Anomalies to a webhook, by `telltale run` on a real broker: each arrives, whatever ends the process."""

import json
import signal
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.integration.test_end_to_end import (
    Names,
    committed_offsets,
    made_topics,
    plant_records,
    quick,
    service,
    wait_until,
)
from tests.kafka import Broker
from tests.service.receiver import Listening, listening

__all__ = ["quick"]  # a fixture

RECORDS = plant_records(streams=8, readings=6_000)
PARTS = 5
SOON = {"TELLTALE_KAFKA__SESSION_TIMEOUT_MS": "6000", "TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS": "6000"}


def in_order(values: Iterable[bytes]) -> dict[str, list[str]]:
    """By stream the ids of its events, each where it came first."""
    found: dict[str, dict[str, None]] = {}
    for value in values:
        event = json.loads(value)
        found.setdefault(event["subject"], {})[event["id"]] = None
    return {stream: list(events) for stream, events in found.items()}


def _has_judged(broker: Broker, names: Names, records: int) -> bool:
    return sum(committed_offsets(broker, names).values()) == records


def _has_taken(receiver: Listening, expected: Sequence[bytes]) -> bool:
    return set(receiver.taken) >= set(expected)


@pytest.mark.thorough
def test_each_anomaly_reaches_a_webhook_that_was_down_while_the_process_was_killed(kafka: Broker, quick: Path) -> None:
    """The first fifth is judged before there is a webhook, the others while it is down; all but the last are killed."""
    names = made_topics(kafka)

    def on_topic() -> list[bytes]:
        return [one.record.value or b"" for one in kafka.read_committed(names.anomalies)]

    before: list[bytes] = []
    with listening(*[503] * 6) as receiver:
        for part in range(PARTS):
            begin, end = (len(RECORDS) * n // PARTS for n in (part, part + 1))
            environment = {**SOON, "TELLTALE_NOTIFICATIONS__WEBHOOK_URLS": receiver.url} if part else SOON
            with service(kafka, quick, names, **environment) as running:
                kafka.produce(names.topic, RECORDS[begin:end])
                wait_until(partial(_has_judged, kafka, names, end), "all judged")
                if part == 0:
                    before = on_topic()
                elif part == 1:
                    receiver.until_posted(1)
                    assert receiver.taken == [], "it is down"
                if part < PARTS - 1:
                    running.process.signal(signal.SIGKILL)
                    running.process.ended()
                    continue
                expected = [value for value in on_topic() if value not in set(before)]
                wait_until(partial(_has_taken, receiver, expected), "all of them")
                assert running.metric("telltale_notifications_dropped_total") == 0
                running.process.signal(signal.SIGTERM)
                assert running.process.ended() == 0
        assert before
        assert len(expected) > 50
        assert set(receiver.taken) == set(expected), "and none of those that were there before it"
        assert in_order(receiver.taken) == in_order(expected)
        count = len(receiver.taken)
        with service(kafka, quick, names, **environment) as running:
            wait_until(lambda: bool(running.lines("event_feed_began")), "reading")
            offsets = running.lines("event_feed_began")[0]["offsets"]
        last = {str(one.partition): one.offset for one in kafka.read_committed(names.anomalies)}
        assert all(offsets[number] > offset for number, offset in last.items())
        assert len(receiver.taken) == count, "what was taken is not sent again after it was stopped in order"
