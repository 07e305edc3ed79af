"""Who is notified over HTTP, as the settings say, and how anomalies and incidents come to them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from service.kafka.topic_reader import TopicReader
from service.live.status import Notified
from service.notify.alert_book import AlertBook
from service.notify.delivery import ALERTMANAGER, RECEIVERS, WEBHOOK, EventQueue, Receiver, Sender, alerts_url
from service.notify.event_feed import Delivery, EventFeed, check_feeds, stop_feeds
from service.notify.incident_alerts import AlertOutbox
from service.notify.links import Links
from service.notify.notifier import Notifier
from service.notify.webhooks import CLOUD_EVENT, HeadersOf, WebhookOutbox, of_anomalies, of_incidents
from service.settings.settings import Settings, authorization, client_options
from service.state.open_alarms import SEVERITIES


class Notifications(NamedTuple):
    """A worker's receivers of anomalies: Alertmanagers, by what it judges; webhooks, by what is on the topic."""

    notifier: Notifier
    feeds: Sequence[EventFeed]

    def start(self) -> None:
        for feed in self.feeds:
            feed.start()
        self.notifier.start()

    def check(self) -> None:
        """Raises what ended the thread of a feed."""
        check_feeds(self.feeds)

    def stop(self) -> None:
        """Send what waits, as far as receivers take it soon, and end."""
        stop_feeds(self.feeds, self.notifier.senders)

    def notified(self) -> Mapping[str, Notified]:
        """By kind of receiver, also of those that there is none of."""
        totals = {kind: Counter[str]() for kind in RECEIVERS}
        counted = [(one.kind, one.notified) for one in self.notifier.senders]
        counted += [(one.kind, one.notified) for one in self.feeds]
        for kind, notified in counted:
            totals[kind].update(notified._asdict())
        return {kind: Notified(**total) for kind, total in totals.items()}


def anomaly_notifications(settings: Settings) -> Notifications:
    """The receivers that settings name, where they get anomalies; without one it costs nothing."""
    notifications, kafka, links = settings.notifications, settings.kafka, links_of(settings)
    receivers = receivers_of(settings) if notifications.of == "anomalies" else []
    headers_of = of_anomalies(links, _severities(settings))
    alertmanagers = [one for one in receivers if one.kind == ALERTMANAGER]
    webhooks = [_to_webhook(one, headers_of) for one in receivers if one.kind == WEBHOOK]
    return Notifications(
        Notifier(alertmanagers, notifications.min_severity, links=links),
        [_feed(settings, kafka.anomalies_topic, kafka.group, to) for to in webhooks],
    )


def incident_feeds(settings: Settings) -> list[EventFeed]:
    """One for each receiver, where they get incidents."""
    incidents, links, severities = settings.incidents, links_of(settings), _severities(settings)
    headers_of = of_incidents(links, severities)
    receivers = receivers_of(settings) if settings.notifications.of == "incidents" else []
    deliveries = [
        _to_webhook(one, headers_of) if one.kind == WEBHOOK else _to_alertmanager(one, links, severities)
        for one in receivers
    ]
    return [_feed(settings, incidents.topic, incidents.group, to) for to in deliveries]


def receivers_of(settings: Settings) -> list[Receiver]:
    urls = {
        ALERTMANAGER: map(alerts_url, settings.notifications.alertmanager_urls),
        WEBHOOK: settings.notifications.webhook_urls,
    }
    return [Receiver(kind, url, authorization(settings, kind)) for kind in RECEIVERS for url in urls[kind]]


def links_of(settings: Settings) -> Links:
    """Of what people are notified of, as the settings say."""
    notifications, token = settings.notifications, settings.http.token
    secret = None if token is None else token.get_secret_value()
    return Links(notifications.page_url or "", notifications.pictures, secret)


def feed_group(group: str, receiver: Receiver) -> str:
    """The consumer group in whose name a receiver's offset is kept: another address is another receiver."""
    return f"{group}-{receiver.kind}-{sha256(receiver.url.encode()).hexdigest()[:12]}"


def _to_webhook(receiver: Receiver, headers_of: HeadersOf) -> Delivery:
    queue = EventQueue(CLOUD_EVENT)
    return Delivery(receiver, WebhookOutbox(queue, headers_of), Sender(receiver, queue))


def _to_alertmanager(receiver: Receiver, links: Links, severities: Sequence[str]) -> Delivery:
    book = AlertBook(severities)
    return Delivery(receiver, AlertOutbox(book, links, severities), Sender(receiver, book))


def _severities(settings: Settings) -> Sequence[str]:
    """That people are notified of."""
    return SEVERITIES[SEVERITIES.index(settings.notifications.min_severity) :]


def _feed(settings: Settings, topic: str, group: str, to: Delivery) -> EventFeed:
    kafka = settings.kafka

    def open_reader() -> TopicReader:
        return TopicReader(
            kafka.bootstrap_servers,
            topic,
            feed_group(group, to.receiver),
            client_options(settings),
            session_timeout_ms=kafka.session_timeout_ms,
            from_end=to.receiver.kind == WEBHOOK,  # a new webhook gets what is new, not the history
        )

    return EventFeed(topic, open_reader, to)
