"""Incidents as the page lists them, from the events that the book makes of a plant's anomalies."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
import msgspec
import pytest

from service.http.app import app
from service.http.control_list import ControlList
from service.http.earlier_events import EarlierEvents
from service.http.incident_list import LATEST_CLOSED, FollowedIncidents, IncidentList
from service.http.server import Server
from service.stages.incidents.events import (
    FirstCause,
    IncidentData,
    IncidentEvent,
    LostIncidentsData,
    NamedMember,
    encode_incident,
    lost_record,
)
from tests.service.http.test_access import BEARER, BOARD, TOKEN
from tests.service.http.test_earlier_events import event as earlier_event
from tests.service.http.test_earlier_events import published
from tests.service.stages.incidents.plant import time_at

INCIDENTS = "/api/v1/incidents"
DATA = IncidentData(
    incident="i-1",
    group="site/line-3",
    status="open",
    severity="minor",
    streams=2,
    anomalies=3,
    open_anomalies=2,
    opened_at=time_at(0),
    closed_at=None,
    closed_as=None,
    notified=True,
    held_back=None,
    acknowledged_by=None,
    acknowledged_at=None,
    peak=2.5,
    first_cause=FirstCause("a-1", "site/line-3/pump-7/flow", "level", time_at(0)),
    members=[],
    members_left_out=0,
)


def event(change: str = "opened", **differs: object) -> bytes:
    data = msgspec.structs.replace(DATA, **differs)
    kind = f"telltale.incident.{change}"
    whole = IncidentEvent("1.0", "e", "/telltale/incidents", kind, data.group, time_at(0), "application/json", data)
    return encode_incident(whole).value or b""


def closing_event(n: int) -> bytes:
    return event("closed", incident=f"i-{n}", status="closed", open_anomalies=0, closed_at=time_at(n))


def hear(incidents: IncidentList, values: Iterable[bytes | None]) -> None:
    incidents.hear((), values)


@contextmanager
def serving(incidents: IncidentList) -> Iterator[httpx.Client]:
    server = Server(app(BOARD, None, 5.0, "0.1.0", lambda: 100.0, token=TOKEN, incidents=incidents), "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client
    server.stop()


@pytest.mark.slow
def test_an_incident_is_listed_as_its_last_event_says_and_only_to_who_has_the_token() -> None:
    incidents = IncidentList()
    incidents.follow(True)
    hear(incidents, [event(), event("updated", acknowledged_by="anna", severity="major")])
    with serving(incidents) as client:
        assert client.get(INCIDENTS).status_code == 401
        found = client.get(INCIDENTS, headers=BEARER).json()
    assert (found["followed"], found["found"], found["closed"]) == (True, 1, [])
    (seen,) = found["open"]
    assert (seen["severity"], seen["acknowledged_by"]) == ("major", "anna")
    assert seen["first_cause"]["stream"] == "site/line-3/pump-7/flow"
    assert "members" not in seen


@pytest.mark.slow
def test_members_are_given_for_one_incident_and_an_anomaly_leads_to_its_incident() -> None:
    known = msgspec.structs.replace(member("a-2", 86_400.0), label="known")
    incidents = IncidentList()
    hear(incidents, [event(members=[known], members_left_out=2), event(incident="i-2")])
    with serving(incidents) as client:
        found = client.get(f"{INCIDENTS}/i-1", headers=BEARER).json()
        assert (found["members"], found["members_left_out"]) == ([msgspec.to_builtins(known)], 2)
        assert found["incident"]["group"] == "site/line-3"
        mine = client.get(INCIDENTS, headers=BEARER, params={"anomaly": "a-2"}).json()
        assert [one["incident"] for one in mine["open"]] == ["i-1"]
        unknown = client.get(f"{INCIDENTS}/i-3", headers=BEARER)
    assert (unknown.status_code, unknown.json()) == (404, {"reason": "nothing is known of incident i-3"})


def member(anomaly: str, return_period_s: float) -> NamedMember:
    about = ("site/line-3/pump-8/flow", "open", "minor", "level", time_at(1), None, None, "flow")
    return NamedMember(anomaly, *about, return_period_s, None)


def test_the_rarest_come_first_those_of_which_no_one_is_told_last_and_the_limit_leaves_the_count() -> None:
    incidents = IncidentList()
    yearly, weekly, hourly = (member(f"a-{days}", 86_400.0 * days) for days in (365, 7, 1 / 24))
    said = [
        event(incident="minor and old", members=[hourly, yearly]),
        event(incident="weekly", members=[weekly, hourly]),
        event(incident="weekly and major", members=[weekly], severity="major"),
        event(incident="weekly and later", members=[weekly], opened_at=time_at(9)),
        event(incident="quiet", members=[yearly], severity="critical", held_back="budget"),
        event(incident="not known", severity="critical"),
    ]
    hear(incidents, said)
    listed = incidents.found(10).open
    assert [one.incident for one in listed] == [
        *("minor and old", "weekly and major", "weekly and later", "weekly", "not known", "quiet")
    ]
    assert (listed[0].return_period_s, listed[1].return_period_s) == (365 * 86_400.0, 7 * 86_400.0)
    assert (incidents.found(1).found, len(incidents.found(1).open)) == (6, 1)


def test_an_incident_that_closes_moves_to_the_closed_ones_and_back_when_it_opens_again() -> None:
    incidents = IncidentList()
    hear(incidents, [event(), closing_event(1)])
    assert [one.closed_at for one in incidents.found(10).closed] == [time_at(1)]
    assert incidents.found(10).open == []
    hear(incidents, [event("updated")])
    assert (incidents.found(10).found, incidents.found(10).closed) == (1, [])


def test_only_the_latest_closed_ones_are_kept_the_latest_first() -> None:
    incidents = IncidentList()
    hear(incidents, map(closing_event, range(LATEST_CLOSED + 5)))
    kept = [one.incident for one in incidents.found(10).closed]
    assert kept == [f"i-{n}" for n in reversed(range(5, LATEST_CLOSED + 5))]


def test_events_of_controls_and_what_is_no_event_are_passed_over() -> None:
    incidents = IncidentList()
    control = b'{"type": "telltale.control.applied", "data": {"control": "quiet-1", "effect": "set", "offset": 1}}'
    hear(incidents, [control, None, b"{", b"[]", event()])
    assert incidents.found(10).found == 1


def test_what_follows_the_topic_begins_with_start_and_ends_with_stop() -> None:
    begun = threading.Event()

    def follow(incidents: IncidentList, controls: ControlList, earlier: EarlierEvents, ended: threading.Event) -> None:
        incidents.follow(True)
        controls.follow(True)
        earlier.hear([earlier_event(1)])
        begun.set()
        ended.wait()
        incidents.follow(False)

    followed = FollowedIncidents(follow)
    assert not followed.list.found(1).followed
    followed.start()
    assert begun.wait(10)
    assert followed.list.found(1).followed
    assert followed.controls.found(1, 0, may_write=False).followed
    assert followed.earlier.recent(published(), 1) == [earlier_event(1)]
    followed.stop()
    assert not followed.list.found(1).followed


def test_incidents_that_are_lost_are_listed_as_closed() -> None:
    incidents = IncidentList()
    about = LostIncidentsData("anomalies", "incidents", "no marker")
    lost = lost_record("life-2", 1_700_000_000_000, about).value
    hear(incidents, [event(), event(incident="i-2"), closing_event(3), lost, event(incident="i-4")])
    found = incidents.found(10)
    assert [one.incident for one in found.open] == ["i-4"]
    assert {one.incident: (one.status, one.open_anomalies, one.closed_at) for one in found.closed} == {
        "i-1": ("closed", 0, "2023-11-14T22:13:20.000Z"),
        "i-2": ("closed", 0, "2023-11-14T22:13:20.000Z"),
        "i-3": ("closed", 0, time_at(3)),
    }
