"""Incidents as alerts of Alertmanager's: one for each severity that an incident has reached, as of an anomaly."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from models.data.rfc3339 import milliseconds_of
from service.notify.alert_book import AlertBook, Alerts
from service.notify.links import Links, annotations
from service.stages.incidents.events import IncidentData, decode_incident, decode_lost

ALERT_NAME = "TelltaleIncident"
PARTITION = 0  # of the topic of incidents, which has them all in its first


class AlertOutbox:
    """Of the topic of incidents, what is open and people are notified of."""

    def __init__(self, book: AlertBook, links: Links, severities: Sequence[str]) -> None:
        self._book, self._links, self._severities = book, links, severities

    def put(self, partition: int, offset: int, value: bytes) -> None:  # noqa: ARG002  (there is one)
        try:
            incident = decode_incident(value).data
        except msgspec.MsgspecError:  # it is of something else, such as a control
            if decode_lost(value) is not None:
                self._book.end_all()
            return
        if incident.notified and incident.severity in self._severities:
            make = partial(alerts_of_incident, self._links, offset, incident)
            self._book.change(incident.incident, incident.severity, make, incident.status == "open")

    def clear(self) -> None:
        self._book.clear()

    def needed_offsets(self) -> Mapping[int, int]:
        needed = self._book.needed_offset
        return {} if needed is None else {PARTITION: needed}

    def waiting(self) -> int:
        return 0  # it holds as many as are open, not as many as have come


def alerts_of_incident(
    links: Links,
    offset: int,
    incident: IncidentData,
    reached: Sequence[str],
    known: Alerts | None,
    now_s: float,
) -> Alerts:
    """offset: of the event."""
    first, opened_s = incident.first_cause, milliseconds_of(incident.opened_at) / 1000
    streams = "1 stream" if incident.streams == 1 else f"{incident.streams} streams"
    said = {
        "summary": f"{incident.group}: {streams} anomalous, the first of them {first.stream} ({first.kind})",
        "severity": incident.severity,
        "streams": str(incident.streams),
        "anomalies": str(incident.anomalies),
        "open_anomalies": str(incident.open_anomalies),
        "first_cause": first.stream,
        "peak": f"{incident.peak:.2f}",
        "opened_at": incident.opened_at,
        "acknowledged_by": incident.acknowledged_by or "",
    }
    page, picture = incident_links(links, incident)
    return Alerts(
        None,
        {"alertname": ALERT_NAME, "group": incident.group, "incident": incident.incident},
        reached,
        {**said, **annotations(page, picture)},
        began_s=known.began_s if known else min(opened_s, now_s),
        due_s=now_s,
        ahead=known is None or known.ahead or len(reached) > len(known.severities),
        ended_s=None if incident.status == "open" else now_s,
        link=page,
        offset=offset,
    )


def incident_links(links: Links, incident: IncidentData) -> tuple[str, str]:
    """Its first cause's past around the time when that opened: on the page, with its members, and as a picture."""
    first = incident.first_cause
    page = links.page(first.stream, first.opened_at, anomaly=first.anomaly, incident=incident.incident)
    return page, links.picture(first.stream, first.opened_at)
