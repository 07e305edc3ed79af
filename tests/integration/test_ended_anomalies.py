"""Nothing is left open, on a real broker: of what is lost and of what is forgotten, whatever ends the processes."""

import signal
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from service.input.notices import STATE_LOST
from service.input.wire import encode_reading
from service.log.port import Partition, Record
from service.stages.incidents.changes import read_change
from service.stages.incidents.events import decode_incident, encode_incident
from service.state.changelog_keys import Origin, marker_key
from tests.integration.test_end_to_end import Names, quick, service, wait_until
from tests.integration.test_incidents import prepared, published, running, until_all_is_taken_in
from tests.kafka import Broker
from tests.service.stages.incidents.plant import new_book
from tests.service.test_ended_anomalies import open_on_topic

__all__ = ["quick"]  # a fixture

BROKEN, HEALTHY = ("site/line-1/m/s0", "site/line-2/m/s1"), "site/line-1/m/s2"
LOST_AT, FALLS_SILENT, ENDS = 160, 335, 460  # minutes
ANOMALOUS = (*range(150, 175), *range(320, FALLS_SILENT))
RULES = {"TELLTALE_LIMITS__STREAM_TTL_S": "3600", "TELLTALE_STATE__WHEN_LOST": "reset"}


def sent(first: int, last: int) -> list[tuple[int, Record]]:
    """A reading a minute of each stream, to partition 0; the broken ones send none after a while."""
    found = []
    for n in range(first, last):
        for stream in (*BROKEN, HEALTHY) if n < FALLS_SILENT else (HEALTHY,):
            values = [n % 3 + (1e6 if stream in BROKEN and n in ANOMALOUS else 0.0), 1.0]
            value = encode_reading(["f0", "f1"], 1_700_000_000_000 + 60_000 * n, values)
            found.append((0, Record(stream.encode(), value)))
    return found


def anomalies(broker: Broker, names: Names) -> list[Record]:
    return [one.record for one in broker.read_committed(names.anomalies)]


@pytest.mark.thorough
@pytest.mark.slow
def test_an_anomaly_that_is_lost_or_forgotten_ends_once_on_its_topic_and_in_its_incident(
    kafka: Broker, quick: Path
) -> None:
    names, topic = prepared(kafka)
    before, after = sent(0, LOST_AT), sent(LOST_AT, ENDS)
    kafka.produce(names.topic, before)
    with service(kafka, quick, names, **RULES) as worker:
        worker.until_judged(len(before))
        worker.process.signal(signal.SIGKILL)
        worker.process.ended()
    assert len(open_on_topic(anomalies(kafka, names))) == 2

    kafka.produce(names.changelog, [(0, Record(marker_key(Origin(names.group, Partition(names.topic, 0))), b"{"))])
    with service(kafka, quick, names, **RULES) as worker, running(kafka, names, topic, "one") as stage:
        wait_until(lambda: bool(worker.lines("state_problem")), "that the loss is found")
        worker.process.signal(signal.SIGKILL)
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGKILL)
        worker.process.ended()
        stage.process.ended()
    kafka.produce(names.topic, after)
    with service(kafka, quick, names, **RULES) as worker, running(kafka, names, topic, "one") as stage:
        worker.until_judged(len(after))
        worker.process.signal(signal.SIGTERM)
        assert worker.process.ended() == 0
        until_all_is_taken_in(stage)
        stage.process.signal(signal.SIGTERM)
        assert stage.process.ended() == 0

    records = anomalies(kafka, names)
    events = [msgspec.json.decode(record.value or b"") for record in records]
    assert open_on_topic(records) == set()
    ended = Counter(event["data"].get("closed_as") for event in events if event["type"] == "telltale.anomaly.closed")
    assert ended["forgotten"] == 2
    assert [event["data"]["stream"] for event in events if event["type"] == STATE_LOST] == [None]

    book = new_book()
    changes = [change for record in records if (change := read_change(record.value)) is not None]
    expected = [encode_incident(event) for change in changes for event in book.observe(change)]
    found = published(kafka, topic)
    assert [(record.key, record.value) for record in found] == [(record.key, record.value) for record in expected]
    latest = {record.key: decode_incident(record.value or b"").data for record in found}
    assert {one.status for one in latest.values()} == {"closed"}
    assert {one.closed_as for one in latest.values()} - {"recovered"} == {"lost", "forgotten"}
