"""Incidents of anomalies: what belongs together, what is published of it when, and that time alone decides."""

import random
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from models.data.rfc3339 import milliseconds_of
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.budget import Budget
from service.stages.incidents.changes import AnomalyChange
from service.stages.incidents.events import IncidentEvent
from service.stages.incidents.groups import Groups
from service.stages.incidents.rules import IncidentRules

NOW_MS = 1_700_000_000_000
MINOR, MAJOR, CRITICAL = range(3)


def change(
    stream: str, at_s: float, *, is_open: bool = True, since_s: float | None = None, severity: int = MINOR, n: int = 0
) -> AnomalyChange:
    """n: which of the stream's anomalies it is."""
    opened_ms = NOW_MS + round(1000 * (at_s if since_s is None else since_s))
    time_ms = NOW_MS + round(1000 * at_s)
    return AnomalyChange(f"{stream}#{n}", stream, is_open, severity, "prediction", 1.5, opened_ms, time_ms)


def ending(stream: str, at_s: float, n: int = 0) -> AnomalyChange:
    return change(stream, at_s, is_open=False, since_s=0, n=n)


def book_of(rules: IncidentRules | None = None, per_day: int | None = None) -> IncidentBook:
    return IncidentBook(rules or IncidentRules(), Budget(per_day))


def observed(book: IncidentBook, changes: Iterable[AnomalyChange]) -> list[IncidentEvent]:
    return [event for one in changes for event in book.observe(one)]


def kinds(events: Iterable[IncidentEvent]) -> list[str]:
    return [event.type.rpartition(".")[2] for event in events]


def storm(streams: int, *, within_s: float = 60.0, line: str = "site/line-1") -> list[AnomalyChange]:
    return [change(f"{line}/machine-{n // 10}/sensor-{n % 10}", n * within_s / streams) for n in range(streams)]


def test_five_hundred_streams_that_fail_together_are_one_incident_which_is_updated_and_not_multiplied() -> None:
    book = book_of()
    failing = storm(500)
    events = observed(book, failing)
    assert len({event.data.incident for event in events}) == 1
    assert kinds(events) == ["opened"] + 10 * ["updated"]
    assert [event.data.streams for event in events] == [1, 2, 4, 8, 10, 20, 40, 80, 100, 200, 400]  # 10, 100: severer
    last = events[-1].data
    assert last.severity == "critical"
    events = observed(book, [ending(one.stream, 600 + n / 100) for n, one in enumerate(failing)])
    assert kinds(events) == ["updated", "closed"]  # what had waited; then all of it
    assert events[-1].data.streams == events[-1].data.anomalies == 500
    assert events[-1].data.open_anomalies == 0
    assert events[-1].data.members_left_out == 400


def test_streams_that_fall_silent_together_are_one_incident_as_severe_as_it_is_broad() -> None:
    """Each silence is minor; all are told at one tick of the partition's clock, minutes after they began."""
    silences = [
        change(one.stream, 400, since_s=n * 60 / 500)._replace(kind="silent") for n, one in enumerate(storm(500))
    ]
    events = observed(book_of(), silences)
    assert len({event.data.incident for event in events}) == 1
    assert (events[0].data.severity, events[-1].data.severity) == ("minor", "critical")
    assert events[-1].data.first_cause.kind == "silent"
    assert events[-1].data.first_cause.stream == silences[0].stream
    few = observed(book_of(), silences[:9])
    assert {event.data.severity for event in few} == {"minor"}


def test_streams_with_another_beginning_of_their_name_are_another_incident() -> None:
    events = observed(book_of(), [change("a/1/x/y", 0), change("a/2/x/y", 1), change("a/1/z/y", 2)])
    assert [event.data.group for event in events] == ["a/1", "a/2", "a/1"]
    assert kinds(events) == ["opened", "opened", "updated"]


def test_a_declared_group_wins_over_the_name_and_a_name_without_parts_is_a_group_of_its_own() -> None:
    groups = Groups("/", 2, {"cooling": ["*/pump-*", "chiller"]})
    assert [groups.of(name) for name in ("a/1/pump-3", "b/pump-1", "chiller", "a/1/m/s", "a/1", "alone")] == [
        "cooling",
        "cooling",
        "cooling",
        "a/1",
        "a",
        "alone",
    ]


def test_labels_win_over_the_name_where_a_stream_has_them_all() -> None:
    groups = Groups("/", 2, {"cooling": ["chiller"]}, ("site", "line"))
    here = {"site": "hall-2", "line": "3", "asset": "pump"}
    assert groups.of("p-4711", here) == groups.of("hall-2/3/m/s") == "hall-2/3"
    assert groups.of("a/1/m/s", {"site": "hall-2"}) == "a/1"
    assert groups.of("chiller", here) == "cooling"


def test_streams_with_the_same_labels_are_one_incident_whatever_their_names() -> None:
    rules = IncidentRules(groups=Groups(labels=("line",)))
    failing = [change(f"p-{n}", n)._replace(labels={"line": str(n % 2)}) for n in range(20)]
    book = book_of(rules)
    events = observed(book, failing)
    assert {event.data.group for event in events} == {"0", "1"}
    assert len(book.incidents) == 2
    moved = change("p-0", 30, since_s=0, severity=CRITICAL)._replace(labels={"line": "1"})
    assert observed(book, [moved])[-1].data.group == "0", "an anomaly stays in its incident"


def test_what_begins_long_after_the_others_is_an_incident_of_its_own_even_if_they_go_on() -> None:
    book = book_of(IncidentRules(gap_ms=300_000, longest_ms=600_000))
    opened = observed(book, [change("a/1/x", 0), change("a/1/y", 301)])
    assert kinds(opened) == ["opened", "opened"]
    # Each within the gap, but an incident takes in nothing after its longest time.
    chained = observed(book, [change("b/1/x", 200 * n, n=n) for n in range(2, 8)])
    assert len({event.data.incident for event in chained}) == 2


def test_an_anomaly_that_began_earlier_but_is_heard_of_later_belongs_to_it_and_is_its_first_cause() -> None:
    book = book_of()
    events = observed(book, [change("a/1/late", 100), change("a/1/early", 100, since_s=40), change("a/1/x", 101)])
    assert len({event.data.incident for event in events}) == 1
    assert events[0].data.first_cause.stream == "a/1/late"
    assert events[1].data.first_cause.stream == "a/1/early"
    assert milliseconds_of(events[1].data.opened_at) == NOW_MS + 40_000


def test_it_is_closed_when_its_last_member_closes_and_one_that_comes_back_reopens_it() -> None:
    book = book_of()
    events = observed(book, [change("a/1/x", 0), ending("a/1/x", 120), change("a/1/x", 200, n=1)])
    assert kinds(events) == ["opened", "closed", "updated"]
    assert [event.data.status for event in events] == ["open", "closed", "open"]
    assert events[1].data.closed_as == "recovered"
    assert len({event.data.incident for event in events}) == 1
    assert len({event.id for event in events}) == 3


def test_a_stream_that_flaps_every_second_is_published_twice_a_minute_at_most() -> None:
    book = book_of(IncidentRules(longest_ms=3_600_000))
    flapping = []
    for n in range(900):
        flapping += [change("a/1/x", 2 * n, n=n), change("a/1/x", 2 * n + 1, is_open=False, since_s=2 * n, n=n)]
    events = observed(book, flapping)
    assert len({event.data.incident for event in events}) == 1
    by_minute = Counter(milliseconds_of(event.time) // 60_000 for event in events)
    assert max(by_minute.values()) <= 3
    assert len(events) <= 2 * 30 + 3


def test_nothing_is_kept_of_it_once_no_one_can_join_it_any_more() -> None:
    book = book_of()
    observed(book, [change("a/1/x", 0), ending("a/1/x", 1), change("b/1/x", 302)])
    assert list(book.incidents) == [one.summary.incident for one in book.incidents.values()]
    assert [one.summary.group for one in book.incidents.values()] == ["b/1"]
    assert book.open_incidents == 1


def test_an_incident_of_which_nothing_is_heard_for_long_is_closed_with_the_reason() -> None:
    book = book_of(IncidentRules(expire_ms=3_600_000))
    events = observed(book, [change("a/1/x", 0), change("b/1/x", 3_601)])
    assert kinds(events) == ["opened", "closed", "opened"]
    assert events[1].data.closed_as == "expired"
    assert events[1].data.open_anomalies == 0


def test_a_closing_whose_opening_was_never_seen_is_nothing() -> None:
    assert book_of().observe(ending("a/1/x", 5)) == []


def test_severity_is_the_members_and_rises_with_breadth_and_never_falls() -> None:
    book = book_of(IncidentRules(broad_streams=2))
    events = observed(book, [change("a/1/x", 0), change("a/1/y", 1), change("a/1/z", 2, severity=CRITICAL)])
    assert [event.data.severity for event in events] == ["minor", "major", "critical"]
    (closed,) = observed(book, [ending(f"a/1/{name}", 3) for name in "xyz"])
    assert closed.data.severity == "critical"


def busy(seed: int, days: float = 0.3) -> list[AnomalyChange]:
    """Anomalies of a plant, about in the order of their readings, as several partitions have them."""
    chance, changes = random.Random(seed), []
    for n in range(600):
        stream = f"site/line-{chance.randrange(5)}/m{chance.randrange(20)}/s{chance.randrange(4)}"
        began_s, lasts_s = chance.random() * days * 86_400, chance.expovariate(1 / 400)
        severity = chance.choice((MINOR, MINOR, MINOR, MAJOR, CRITICAL))
        changes.append(change(stream, began_s, n=n))
        changes.append(change(stream, began_s + lasts_s / 2, since_s=began_s, severity=severity, n=n))
        if n % 50:
            changes.append(change(stream, began_s + lasts_s, is_open=False, since_s=began_s, severity=severity, n=n))
    order = {id(one): one.time_ms + chance.randrange(900_000) for one in changes}
    arrived = sorted(changes, key=lambda one: (order[id(one)], one.anomaly))
    firsts = {one.anomaly: n for n, one in reversed(list(enumerate(arrived)))}
    in_turn = iter(sorted(changes, key=lambda one: (firsts[one.anomaly], one.time_ms)))
    turns: dict[str, list[AnomalyChange]] = {}
    for one in in_turn:
        turns.setdefault(one.anomaly, []).append(one)
    return [turns[one.anomaly].pop(0) for one in arrived]  # those of one anomaly as they were


@pytest.mark.parametrize("seed", range(3))
def test_each_anomaly_is_in_one_incident_and_each_incident_opens_first_and_ends_as_its_members_do(seed: int) -> None:
    changes = busy(seed)
    events = observed(book_of(IncidentRules(expire_ms=86_400_000)), changes)
    of_anomaly: dict[str, set[str]] = {}
    last: dict[str, IncidentEvent] = {}
    for event in events:
        assert (event.type == "telltale.incident.opened") == (event.data.incident not in last)
        last[event.data.incident] = event
        for member in event.data.members:
            of_anomaly.setdefault(member.anomaly, set()).add(event.data.incident)
    assert {len(incidents) for incidents in of_anomaly.values()} == {1}
    assert set(of_anomaly) == {one.anomaly for one in changes}
    for event in last.values():
        assert event.data.open_anomalies == sum(member.status == "open" for member in event.data.members)
    assert len({event.id for event in events}) == len(events)


@pytest.mark.parametrize("seed", range(3))
def test_a_book_that_was_written_and_read_again_at_any_place_says_the_same_to_the_byte(seed: int) -> None:
    changes, rules = busy(seed), IncidentRules(expire_ms=86_400_000)
    whole = [msgspec.json.encode(event) for event in observed(book_of(rules, 10), changes)]
    chance, book, parts = random.Random(seed), book_of(rules, 10), []
    for one in changes:
        parts += [msgspec.json.encode(event) for event in book.observe(one)]
        if chance.random() < 0.05:
            again = IncidentBook(rules, Budget(10, book.budget.tokens, book.budget.at_ms))
            again.clock_ms = book.clock_ms
            kept = list(book.incidents.values())
            chance.shuffle(kept)
            for incident in kept:
                again.restore(msgspec.json.decode(msgspec.json.encode(incident.summary), type=type(incident.summary)))
                for member in incident.members.values():
                    again.restore_member(member)
            again.restored()
            book = again
    assert parts == whole


def test_an_anomaly_that_goes_on_when_its_incident_has_expired_opens_another_with_other_ids() -> None:
    book = book_of(IncidentRules(expire_ms=3_600_000))
    changes = [change("site/a/s", 0), change("site/b/s", 4_000), change("site/c/s", 9_000, since_s=9_000)]
    events = [*observed(book, changes), *observed(book, [change("site/a/s", 9_001, since_s=0)])]
    of_a = [event for event in events if event.data.first_cause.stream == "site/a/s"]
    assert [event.type.rpartition(".")[2] for event in of_a] == ["opened", "closed", "opened"]
    assert of_a[1].data.closed_as == "expired"
    assert len({event.id for event in events}) == len(events)
    assert len({event.data.incident for event in of_a}) == 2
