"""Incidents as alerts of Alertmanager's: one for each severity that an incident has reached, as of an anomaly."""

from collections.abc import Sequence
from urllib.parse import quote

from models.data.rfc3339 import milliseconds_of
from service.notify.alert_book import Alerts
from service.stages.incidents.events import IncidentData

ALERT_NAME = "TelltaleIncident"


def alerts_of_incident(
    page_url: str | None,
    offset: int,
    incident: IncidentData,
    reached: Sequence[str],
    known: Alerts | None,
    now_s: float,
) -> Alerts:
    """page_url: where the page is, for a link to the incident. offset: of the event."""
    first, opened_s = incident.first_cause, milliseconds_of(incident.opened_at) / 1000
    streams = "1 stream" if incident.streams == 1 else f"{incident.streams} streams"
    annotations = {
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
    link = "" if page_url is None else page_link(page_url, incident)
    return Alerts(
        None,
        {"alertname": ALERT_NAME, "group": incident.group, "incident": incident.incident},
        reached,
        {**annotations, "page": link} if link else annotations,
        began_s=known.began_s if known else min(opened_s, now_s),
        due_s=now_s,
        ahead=known is None or known.ahead or len(reached) > len(known.severities),
        ended_s=None if incident.status == "open" else now_s,
        link=link,
        offset=offset,
    )


def page_link(page_url: str, incident: IncidentData) -> str:
    """The incident on the page: its first cause's past around the time when that opened, and its members."""
    first = incident.first_cause
    named = {"at": first.opened_at, "anomaly": first.anomaly, "incident": incident.incident}
    place = "".join(f"&{name}={quote(value, safe=':')}" for name, value in named.items())
    return f"{page_url.rstrip('/')}/#{quote(first.stream, safe='')}{place}"
