"""Anomalies in a real Alertmanager with the routes of deploy/: who is notified of which severity, and how often."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from service.input.events import Event
from service.notify.alert_book import AlertBook
from service.notify.delivery import ALERTMANAGER, Receiver, Sender, alerts_url, join_all
from tests.integration.test_end_to_end import wait_until
from tests.prometheus import Served, running_alertmanager
from tests.service.notify.test_alert_book import P0, changed, held
from tests.service.receiver import Listening, listening

pytestmark = pytest.mark.programs  # Alertmanager

PLAIN, CRITICAL = "plant", "plant-critical"


class Notice(NamedTuple):
    """One alert of one notification."""

    receiver: str
    stream: str
    severity: str
    status: str  # firing or resolved


class Desk:
    """A service's alerts, an Alertmanager that gets them, and what its receivers got."""

    def __init__(self, alertmanager: Served, hook: Listening) -> None:
        self.alertmanager, self._hook = alertmanager, hook
        self._url = alerts_url(alertmanager.url)
        self.start()

    def start(self) -> None:
        self.book = AlertBook()
        self._sender = Sender(Receiver(ALERTMANAGER, self._url), self.book)
        self._sender.start()

    def report(self, *events: Event) -> None:
        self.book.apply(events)
        self._sender.wake()

    def restart(self, severity: str) -> None:
        """As after a crash: the next worker knows of the alarm of `pump` from its row alone."""
        self.close()
        self.start()
        self.book.look(P0, [held(severity=severity)])
        self._sender.wake()

    def close(self) -> None:
        join_all([self._sender], 10.0)

    def notices(self, stream: str = "pump") -> list[Notice]:
        """The notices of a stream so far, in order: each alert of each notification."""
        found: list[Notice] = []
        for posted in list(self._hook.posted):
            for alert in json.loads(posted.body)["alerts"]:
                labels = alert["labels"]
                notice = Notice(posted.path.strip("/"), labels["stream"], labels["severity"], alert["status"])
                if notice.stream == stream:
                    found.append(notice)
        return found

    def states(self, stream: str = "pump") -> dict[str, str]:
        """What Alertmanager makes of a stream's alerts, by severity: active, or suppressed by another."""
        alerts = [one for one in self.alertmanager.alerts() if one["labels"]["stream"] == stream]
        return {one["labels"]["severity"]: one["status"]["state"] for one in alerts}

    def until_notified(self, expected: Sequence[Notice]) -> None:
        wait_until(lambda: set(self.notices()) >= set(expected), f"{expected} notified")

    def until_others_are_told(self, stream: str) -> None:
        """Another stream's anomaly opens and is notified: whatever was due before it has been sent by then."""
        self.report(changed("opened", stream))
        wait_until(lambda: bool(self.notices(stream)), f"{stream} is notified")


@contextmanager
def a_desk(folder: Path) -> Iterator[Desk]:
    with (
        listening() as hook,
        running_alertmanager(folder, hook.url) as alertmanager,
        closing(Desk(alertmanager, hook)) as desk,
    ):
        yield desk


@pytest.mark.thorough
def test_a_receiver_for_critical_is_told_at_the_rise_and_at_the_end_and_of_nothing_else(tmp_path: Path) -> None:
    minor, major = (Notice(PLAIN, "pump", severity, "firing") for severity in ("minor", "major"))
    critical = Notice(CRITICAL, "pump", "critical", "firing")
    with a_desk(tmp_path) as desk:
        desk.report(changed("opened"))
        desk.until_notified([minor])
        desk.report(changed("updated", severity="major"))
        desk.until_notified([minor, major])
        desk.report(changed("updated", severity="critical"))
        desk.until_notified([minor, major, critical])
        desk.restart("critical")
        desk.until_others_are_told("other")
        assert desk.notices() == [minor, major, critical], "each rise once; nothing is resolved while it lasts"
        desk.report(changed("closed", severity="critical"))
        over = [one._replace(status="resolved") for one in (minor, major, critical)]
        desk.until_notified(over)
        desk.until_others_are_told("another")
        assert sorted(desk.notices()[3:]) == sorted(over)


def test_an_anomaly_that_opens_as_critical_is_told_of_as_critical_alone(tmp_path: Path) -> None:
    critical = Notice(CRITICAL, "pump", "critical", "firing")
    with a_desk(tmp_path) as desk:
        desk.report(changed("opened", severity="critical"))
        desk.until_notified([critical])
        states = {"minor": "suppressed", "major": "suppressed", "critical": "active"}
        wait_until(lambda: desk.states() == states, "the lower alerts are there and suppressed")
        desk.until_others_are_told("other")
        assert desk.notices() == [critical]
        desk.report(changed("closed", severity="critical"))
        desk.until_notified([critical._replace(status="resolved")])


@pytest.mark.parametrize("severity", ["minor", "major"])
def test_what_is_never_critical_reaches_the_plain_receiver_alone(tmp_path: Path, severity: str) -> None:
    with a_desk(tmp_path) as desk:
        desk.report(changed("opened", severity=severity))
        notice = Notice(PLAIN, "pump", severity, "firing")
        desk.until_notified([notice])
        desk.report(changed("closed", severity=severity))
        desk.until_notified([notice._replace(status="resolved")])
        assert {one.receiver for one in desk.notices()} == {PLAIN}
