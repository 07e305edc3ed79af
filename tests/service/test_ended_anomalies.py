"""Nothing is left open: what is open on the topic of anomalies is what is open in the rows, whatever was lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pytest

from service.input.anomaly import anomaly_id
from service.input.notices import STATE_LOST, STATE_PRIMED
from service.input.wire import encode_reading
from service.log.memory_log import Crash, Crashed, Topics
from service.log.port import Record
from service.stages.incidents.changes import AnomaliesEnded, read_change
from service.state.changelog_keys import marker_key, page_key, roster_key
from service.state.open_alarms import open_alarms
from tests.service.stages.incidents.plant import new_book
from tests.service.test_recovery import (
    FEATURES,
    HERE,
    P0,
    SELDOM,
    Plant,
    Service,
    other,
    passing_by,
    plant,
    resetting,
    rewrite,
    topics_with,
)

__all__ = ["other", "plant"]  # fixtures

pytestmark = pytest.mark.slow

BROKEN = ("site/line-1/m/s0", "site/line-2/m/s1")  # with an anomaly that is open when the worker ends
HEALTHY = "site/line-1/m/s2"
FIRST, LAST = 150, 175  # readings of the anomaly
CUT = 610  # offset at which the worker ends: ten readings into the anomaly


def sent() -> list[Record]:
    """The broken streams are in different pages: between them come as many that pass by as a page has rows."""

    def reading(stream: str, n: int) -> Record:
        far = stream in BROKEN and FIRST <= n < LAST
        values = [n % 3 + (1e6 if far else 0.0), 1.0]
        return Record(stream.encode(), encode_reading(FEATURES, 1_700_000_000_000 + 60_000 * n, values))

    first, *rest = (reading(stream, n) for n in range(300) for stream in (*BROKEN, HEALTHY))
    return [first, *passing_by(130), *rest]


RECORDS = sent()


def open_on_topic(records: Sequence[Record]) -> set[str]:
    """Ids of the anomalies that are open; fails where something is said of one that is not, or twice."""
    found: dict[str, tuple[str, str]] = {}  # source and stream
    for record in records:
        change = read_change(record.value)
        if isinstance(change, AnomaliesEnded):
            found = {
                name: about
                for name, about in found.items()
                if about[0] != change.source or change.stream not in (None, about[1])
            }
        elif change is not None:
            opens = msgspec.json.decode(record.value or b"")["type"].endswith("opened")
            assert (change.anomaly in found) != opens, record.value
            found[change.anomaly] = (change.source, change.stream)
            if not change.is_open:
                del found[change.anomaly]
    ids = [msgspec.json.decode(record.value or b"")["id"] for record in records]
    assert len(set(ids)) == len(ids)
    return set(found)


def open_in_rows(plant: Plant, topics: Topics) -> set[str]:
    alarms = open_alarms(plant.restored(topics).slab)
    return {anomaly_id(P0, alarm.opened_offset, alarm.key.decode()) for alarm in alarms}


def open_in_incidents(records: Sequence[Record]) -> tuple[set[str], set[str]]:
    """Open members of incidents, and each way in which one was closed."""
    book, closed = new_book(), set[str]()
    for record in records:
        change = read_change(record.value)
        for event in [] if change is None else book.observe(change):
            closed |= set(filter(None, [event.data.closed_as]))
    members = (member for one in book.incidents.values() for member in one.members.values())
    return {member.anomaly for member in members if member.is_open}, closed


def kinds(records: Sequence[Record]) -> Iterator[tuple[str, str | None]]:
    for record in records:
        event = msgspec.json.decode(record.value or b"")
        if event["type"] in (STATE_LOST, STATE_PRIMED):
            yield event["type"], event["data"]["stream"]


def lose_page(topics: Topics, *, with_roster: bool) -> None:
    rewrite(topics, page_key(HERE, 0), lambda value: value[:-1])
    if with_roster:
        rewrite(topics, roster_key(HERE, 0), lambda value: value[:-1])


def crashes(service: Service) -> None:
    with pytest.raises(Crashed):
        service.until(lambda: False)


class Loss(NamedTuple):
    """What happens between two workers, and what is left open of the two anomalies before new ones open."""

    happens: Callable[[Topics], object]
    closed_as: str | None
    event: tuple[str, str | None]
    is_new_checkpoint: bool = False


LOSSES = {
    "a page": Loss(lambda topics: lose_page(topics, with_roster=False), "lost", (STATE_LOST, BROKEN[0])),
    "a page and whose it was": Loss(lambda topics: lose_page(topics, with_roster=True), "lost", (STATE_LOST, None)),
    "the marker": Loss(lambda topics: rewrite(topics, marker_key(HERE), lambda _: b""), "lost", (STATE_LOST, None)),
    "input": Loss(lambda topics: topics.delete_before(P0, CUT - 10), "lost", (STATE_LOST, None)),
    "the old checkpoint": Loss(lambda _: None, "primed", (STATE_PRIMED, None), is_new_checkpoint=True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_lost_or_primed_leaves_no_anomaly_open(plant: Plant, other: Plant, name: str) -> None:
    loss = LOSSES[name]
    topics = topics_with(RECORDS[:CUT])
    Service(plant, topics, (), SELDOM).until_idle()
    before = open_on_topic(topics.anomalies[P0])
    assert len(before) == 2
    assert open_in_rows(plant, topics) == before
    topics.compact()
    loss.happens(topics)
    after = other if loss.is_new_checkpoint else resetting(plant)

    crashes(Service(after, topics, [Crash(1, written=False)], SELDOM))
    assert open_on_topic(topics.anomalies[P0]) == before, "nothing was written"
    crashes(Service(after, topics, [Crash(1, written=True)], SELDOM))
    left = {BROKEN[1]} if loss.event[1] is not None else set()
    streams = {alarm.key.decode() for alarm in open_alarms(after.restored(topics).slab)}
    assert streams == left
    assert open_on_topic(topics.anomalies[P0]) == open_in_rows(after, topics)

    topics.append(P0, RECORDS[CUT:])
    Service(after, topics, (), SELDOM).until_idle()
    records = topics.anomalies[P0]
    found, closed = open_in_incidents(records)
    assert open_on_topic(records) == open_in_rows(after, topics) == found
    assert list(kinds(records)).count(loss.event) == 1
    assert loss.closed_as in closed


def test_a_forgotten_streams_anomaly_is_closed_once_however_often_its_worker_ends(plant: Plant) -> None:
    plant = replace(plant, idle_s=3_600.0)
    going_on = [record for record in RECORDS[CUT:] if record.key == HEALTHY.encode()]
    topics = topics_with([*RECORDS[:CUT], *going_on])
    expected = plant.calm(topics)
    Service(plant, topics, (), SELDOM, max_poll_records=CUT).until(lambda: topics.committed == {P0: CUT})
    for n in range(8):  # eighty records further on
        crashes(Service(plant, topics, [Crash(1 + n % 2, written=not n % 2)], SELDOM, max_poll_records=10))
    assert "forgotten" in open_in_incidents(topics.anomalies[P0])[1]
    Service(plant, topics).until_idle()
    assert topics.anomalies[P0] == expected.anomalies
    assert open_on_topic(topics.anomalies[P0]) == open_in_rows(plant, topics) == set()
    found, closed = open_in_incidents(topics.anomalies[P0])
    assert found == set()
    assert closed == {"forgotten"}
