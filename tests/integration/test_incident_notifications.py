"""Incidents to a webhook and to a real Alertmanager, by `telltale incidents` on a real broker."""

import json
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from service.kafka.topics import COMPACTED, TopicSpec, create_topics
from tests.integration.test_end_to_end import Names, made_topics, wait_until
from tests.integration.test_incidents import controls_of, published, running, until_all_is_taken_in
from tests.kafka import Broker
from tests.prometheus import running_alertmanager
from tests.service.receiver import listening
from tests.service.stages.incidents.plant import anomaly_record, plant_anomalies, time_at

OF_INCIDENTS = {"TELLTALE_NOTIFICATIONS__OF": "incidents", "TELLTALE_KAFKA__SESSION_TIMEOUT_MS": "6000"}
OF_INCIDENTS |= {"TELLTALE_KAFKA__TRANSACTION_TIMEOUT_MS": "6000"}
STREAMS = 500


def prepared(broker: Broker) -> tuple[Names, str]:
    names, topic = made_topics(broker), broker.create_topic(1, "incidents")
    create_topics(broker.bootstrap_servers, {controls_of(topic): TopicSpec(1, 1, COMPACTED)})
    return names, topic


@pytest.mark.thorough
def test_a_webhook_gets_every_notified_event_however_often_the_process_is_killed(kafka: Broker) -> None:
    names, topic = prepared(kafka)
    anomalies = dict(enumerate(plant_anomalies(200, 2)))
    with listening(*(503, 200, 200, 200) * 500) as receiver:
        environment = {**OF_INCIDENTS, "TELLTALE_NOTIFICATIONS__WEBHOOK_URLS": receiver.url}
        for life in range(4):
            with running(kafka, names, topic, "one", **environment) as stage:
                stage.until("event_feed_began")
                kafka.produce_part(names.anomalies, anomalies, life, 5)
                taken = len(receiver.taken)
                receiver.until_taken(taken + 5)
                stage.process.signal(signal.SIGKILL)
                stage.process.ended()
        kafka.produce_part(names.anomalies, anomalies, 4, 5)
        with running(kafka, names, topic, "one", **environment) as stage:
            until_all_is_taken_in(stage)
            expected = [
                one.value for one in published(kafka, topic) if json.loads(one.value or b"")["data"]["notified"]
            ]
            wait_until(lambda: set(expected) <= set(receiver.taken), "all events")
            metrics = stage.metrics()
            assert metrics['telltale_incident_notifications_sent_total{receiver="webhook"}'] > 0
            stage.process.signal(signal.SIGTERM)
            assert stage.process.ended() == 0
        assert len(set(expected)) > 60
        assert set(receiver.taken) == set(expected)
        before = len(receiver.taken)
        with running(kafka, names, topic, "one", **environment) as stage:
            last = kafka.read_committed(topic)[-1].offset
            assert stage.until("event_feed_began")["offsets"]["0"] > last
        assert len(receiver.taken) == before, "what was taken is not sent again after it was stopped in order"


@pytest.mark.thorough
@pytest.mark.programs  # Alertmanager
def test_alertmanager_shows_one_alert_for_a_storm_also_after_a_kill_with_a_link_to_the_page(
    kafka: Broker, tmp_path: Path
) -> None:
    names, topic = prepared(kafka)

    def storm(change: str, at_s: float) -> None:
        streams = [f"site/line-9/m{n // 5}/s{n % 5}" for n in range(STREAMS)]
        records = [anomaly_record(one, change, at_s + n / 20, n / 20, "minor", n) for n, one in enumerate(streams)]
        kafka.produce(names.anomalies, [(n % 2, record) for n, record in enumerate(records)])

    with running_alertmanager(tmp_path) as alertmanager:
        environment = {**OF_INCIDENTS, "TELLTALE_NOTIFICATIONS__ALERTMANAGER_URLS": alertmanager.url}
        environment |= {"TELLTALE_NOTIFICATIONS__PAGE_URL": "http://plant-7:8080"}

        def states() -> dict[str, str]:
            found = alertmanager.alerts()
            assert {one["labels"]["alertname"] for one in found} <= {"TelltaleIncident"}
            return {one["labels"]["severity"]: one["status"]["state"] for one in found}

        one_alert = {"critical": "active", "major": "suppressed", "minor": "suppressed"}
        with running(kafka, names, topic, "one", **environment) as stage:
            storm("opened", 0)
            wait_until(lambda: states() == one_alert, "one alert")
            place = f"site%2Fline-9%2Fm0%2Fs0&at={time_at(0)}&anomaly=site%2Fline-9%2Fm0%2Fs0%230"
            links = {one["generatorURL"] for one in alertmanager.alerts()}
            (incident,) = {one["labels"]["incident"] for one in alertmanager.alerts()}
            assert links == {f"http://plant-7:8080/#{place}&incident={quote(incident, safe='')}"}
            until_all_is_taken_in(stage)
            stage.process.signal(signal.SIGKILL)
            stage.process.ended()
        with running(kafka, names, topic, "one", **environment) as stage:
            stage.until("event_feed_began")
            storm("closed", 100)
            wait_until(lambda: states() == {}, "no alert")
            last = json.loads(published(kafka, topic)[-1].value or b"")
            assert (last["type"], last["data"]["streams"]) == ("telltale.incident.closed", STREAMS)
