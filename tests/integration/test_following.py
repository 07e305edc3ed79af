"""What the page reads of topics outside any group, on a real broker: anomalies once more when a partition has come."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.http.control_list import ControlList
from service.http.earlier_events import EarlierEvents
from service.http.incident_list import IncidentList
from service.input.events import encode_event
from service.process.following import follow_incidents
from service.settings.settings import Settings
from tests.integration.test_end_to_end import wait_until
from tests.kafka import Broker
from tests.service.http.test_earlier_events import published
from tests.service.notify.test_alert_book import P0, changed


@contextmanager
def following(settings: Settings, earlier: EarlierEvents) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(
        target=follow_incidents, args=(settings, IncidentList(), ControlList(), earlier, ended), name="following"
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_what_another_worker_told_is_read_when_its_partition_has_come(kafka: Broker) -> None:
    topics = {"anomalies_topic": kafka.create_topic(2, "anomalies"), "topics": [P0.topic]}
    section = {"bootstrap_servers": kafka.bootstrap_servers, **topics}
    settings = Settings.model_validate({"kafka": section, "incidents": {"topic": kafka.create_topic(1, "incidents")}})
    earlier, anomalies = EarlierEvents(), settings.kafka.anomalies_topic

    def heard() -> set[str]:
        """Streams of the events that a page is shown whose worker has these partitions."""
        return {one["subject"] for one in earlier.recent(published(held=held), 60)}

    held = [0]
    kafka.produce(anomalies, [(0, encode_event(changed("opened", "pump-1")))])
    with following(settings, earlier):
        wait_until(lambda: heard() == {"pump-1"} and not earlier.wanted, "the start is read")
        kafka.produce(anomalies, [(1, encode_event(changed("opened", "pump-2")))])
        held = [0, 1]
        wait_until(lambda: heard() == {"pump-1", "pump-2"}, "what went out since is read")
