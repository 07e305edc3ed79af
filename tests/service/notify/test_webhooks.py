"""What a webhook gets of the topic of anomalies: which records, in which order, and that none is lost."""

import random
from collections.abc import Sequence

import pytest

from models.data.rfc3339 import milliseconds_of
from models.detection.detector import Detector
from service.input.events import decode_event, encode_event
from service.input.notices import STATE_LOST, StateLost, state_lost
from service.log.port import Record
from service.notify.delivery import EventQueue
from service.notify.links import Links
from service.notify.webhooks import CLOUD_EVENT, WebhookOutbox, of_anomalies
from service.state.open_alarms import SEVERITIES
from tests.service.notify.test_alert_book import changed
from tests.service.notify.test_event_feed import webhook
from tests.service.notify.topic import Topic
from tests.service.worker.test_worker import PARTITIONS, Service, two_partitions


def anomalies(stream: str, count: int, severity: str = "minor") -> list[Record]:
    return [encode_event(changed("opened", stream, severity, n)) for n in range(count)]


def anomaly_ids(values: Sequence[bytes]) -> list[str]:
    return [decode_event(value).data.anomaly for value in values]


@pytest.mark.slow
def test_it_is_what_is_on_the_topic_byte_for_byte_with_links_beside_it(detector: Detector) -> None:
    service = Service(detector, two_partitions())
    service.run_until(service.idle)
    records = [record for partition in PARTITIONS for record in service.topics.anomalies[partition]]
    headers_of = of_anomalies(Links("http://plant-7:8080", pictures=True), SEVERITIES)
    assert len(records) > 10
    queue = EventQueue(CLOUD_EVENT)
    outbox = WebhookOutbox(queue, headers_of)
    for offset, record in enumerate(records):
        outbox.put(0, offset, record.value or b"")
        letter = queue.next()
        assert letter is not None
        data = decode_event(letter.body).data
        link = letter.headers["Link"]
        assert (letter.body, letter.content_type) == (record.value, CLOUD_EVENT)
        assert f"<http://plant-7:8080/#{data.stream}&at={data.opened_at}&anomaly=" in link
        assert link.count("; rel=") == 2
        assert f"around_ms={milliseconds_of(data.opened_at)}&topic={data.topic}" in link
        queue.settle(letter)


def test_only_what_is_as_severe_as_wanted_is_sent_and_what_befalls_the_memory_always() -> None:
    lost = state_lost(StateLost("s", "corrupt", "page 1", "readings", 0, 7, True), STATE_LOST)
    of_each = {severity: anomalies("s", 1, severity)[0] for severity in SEVERITIES}
    topic = Topic()
    topic.publish([*of_each.values(), lost, Record(b"s", b'{"type": "other"}'), Record(b"s", b"{"), Record(b"s", None)])
    feed, queue, reader = webhook(topic, severities=SEVERITIES[1:], of=of_anomalies)
    feed.turn(reader)
    taken = []
    while (letter := queue.next()) is not None:
        taken.append(letter.body)
        queue.settle(letter)
    assert taken == [of_each["major"].value, of_each["critical"].value, lost.value]
    feed.turn(reader)
    assert topic.done() == 7


@pytest.mark.parametrize("seed", range(5))
def test_each_arrives_in_the_order_of_its_partition_through_kills_and_rebalances(seed: int) -> None:
    """Two members share four partitions, and are killed and dealt others again and again; a receiver takes little."""
    chance, topic = random.Random(seed), Topic()
    for number in range(4):
        topic.publish(anomalies(f"stream-{number}", 60), number)
    taken: list[bytes] = []
    for _ in range(2_000):
        if all(topic.done(number) == 60 for number in range(4)):
            break
        mine = chance.sample(range(4), 4)
        members = [webhook(topic, most=7, of=of_anomalies) for _ in range(2)]
        for (_, _, reader), part in zip(members, (mine[:2], mine[2:]), strict=True):
            reader.hand_out(part)
        for _ in range(chance.randrange(1, 6)):  # else both are killed
            feed, queue, reader = chance.choice(members)
            feed.turn(reader)
            for _ in range(chance.randrange(9)):
                letter = queue.next()
                if letter is not None:
                    taken.append(letter.body)
                    queue.settle(letter)
    expected = {number: anomaly_ids(topic.values(number)) for number in range(4)}
    first = list(dict.fromkeys(anomaly_ids(taken)))
    for number, wanted in expected.items():
        assert [one for one in first if one in set(wanted)] == wanted, number
    assert len(taken) > len(first), "some come twice"


def test_what_was_read_of_partitions_that_went_to_another_is_left_to_it() -> None:
    topic = Topic()
    for number in range(2):
        topic.publish(anomalies(f"stream-{number}", 3), number)
    feed, queue, reader = webhook(topic, of=of_anomalies)
    feed.turn(reader)
    assert queue.waiting == 6
    reader.hand_out([1])
    feed.turn(reader)
    first = queue.next()
    assert first is not None
    assert (queue.waiting, decode_event(first.body).data.stream) == (3, "stream-1")
    reader.hand_out([])
    feed.turn(reader)
    assert queue.waiting == 0
    assert (topic.done(0), topic.done(1)) == (0, 0)
