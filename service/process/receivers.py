"""Who is notified over HTTP, as the settings say, and how incidents come to them."""

from hashlib import sha256

from service.kafka.event_reader import EventReader
from service.notify.alert_book import AlertBook
from service.notify.delivery import EventQueue, Receiver, Sender
from service.notify.incident_feed import AlertOutbox, Delivery, IncidentFeed, WebhookOutbox
from service.notify.links import Links
from service.notify.notifier import ALERTMANAGER, CLOUD_EVENT, RECEIVERS, WEBHOOK, alerts_url
from service.settings.settings import Settings, authorization, client_options
from service.state.open_alarms import SEVERITIES

UNBOUNDED = 1 << 62  # the feed reads no more than it has room for, so nothing may be pushed out


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


def incident_feeds(settings: Settings) -> list[IncidentFeed]:
    """One for each receiver, where they get incidents."""
    if settings.notifications.of != "incidents":
        return []
    return [_feed(settings, receiver) for receiver in receivers_of(settings)]


def feed_group(group: str, receiver: Receiver) -> str:
    """The consumer group in whose name a receiver's offset is kept: another address is another receiver."""
    return f"{group}-{receiver.kind}-{sha256(receiver.url.encode()).hexdigest()[:12]}"


def _feed(settings: Settings, receiver: Receiver) -> IncidentFeed:
    notifications, kafka = settings.notifications, settings.kafka
    severities = SEVERITIES[SEVERITIES.index(notifications.min_severity) :]
    if receiver.kind == ALERTMANAGER:
        book = AlertBook(severities)
        to = Delivery(receiver, AlertOutbox(book, links_of(settings)), Sender(receiver, book))
    else:
        queue = EventQueue(CLOUD_EVENT, UNBOUNDED)
        to = Delivery(receiver, WebhookOutbox(queue, links_of(settings)), Sender(receiver, queue))

    def open_reader() -> EventReader:
        return EventReader(
            kafka.bootstrap_servers,
            settings.incidents.topic,
            feed_group(settings.incidents.group, receiver),
            client_options(settings),
            session_timeout_ms=kafka.session_timeout_ms,
            from_end=receiver.kind == WEBHOOK,  # a new webhook gets what is new, not the history
        )

    return IncidentFeed(open_reader, to, notifications.min_severity)
