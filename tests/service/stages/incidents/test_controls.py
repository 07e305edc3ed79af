"""Controls: what they say takes effect at their offset, exactly once, and can be taken back."""

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from service.errors import RefusedInput, RejectedReading
from service.log.memory_log import Crash, Crashed, Migrate, Revoke, Topics
from service.log.port import Record
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.changes import read_change
from service.stages.incidents.controls import (
    Acknowledgement,
    Control,
    Dependency,
    GivenControl,
    Label,
    Quiet,
    control_record,
    read_control,
)
from service.stages.incidents.events import ControlEvent, IncidentEvent, incident_id
from service.stages.incidents.label_rules import Example
from tests.records import headers_of
from tests.service.stages.incidents.plant import acknowledgements, anomaly_record, calm, new_book, time_at, who
from tests.service.stages.incidents.test_stage import (
    CONTROL,
    CONTROL_TOPIC,
    COUNTS,
    FIRST,
    PARTITIONS,
    SAID,
    TOPIC,
    bytes_of,
    published,
    run_to_the_end,
    stage_of,
    topics_with,
)

WHO = who("anna")
OVERHAUL = Quiet(streams=["site/line-1/*"], reason="overhaul", until=time_at(3_600), **WHO)


def apply(book: IncidentBook, name: str, control: Control | None, offset: int = 0) -> list[IncidentEvent]:
    """The events of incidents that come of it; the first event is the control's own."""
    first, *others = book.apply(GivenControl(name, control, offset, 0))
    assert isinstance(first, ControlEvent)
    return [one for one in others if isinstance(one, IncidentEvent)]


def effect(book: IncidentBook, name: str, control: Control | None) -> str:
    first = book.apply(GivenControl(name, control, 0, 0))[0]
    assert isinstance(first, ControlEvent)
    return first.data.effect


def observe(
    book: IncidentBook, stream: str, change: str, at_s: float, since_s: float | None = None
) -> list[IncidentEvent]:
    found = read_change(anomaly_record(stream, change, at_s, at_s if since_s is None else since_s, "minor").value)
    assert found is not None
    return book.observe(found)


# --- what they say


def test_a_stream_that_is_quiet_by_a_control_notifies_no_one_until_it_is_taken_back() -> None:
    book = new_book()
    apply(book, "o", OVERHAUL)
    (opened,) = observe(book, "site/line-1/m/s", "opened", 0)
    assert (opened.data.notified, opened.data.held_back) == (False, "overhaul")
    (again,) = apply(book, "o", None)
    assert (again.type, again.data.notified, again.data.held_back) == ("telltale.incident.updated", True, None)


def test_a_control_takes_effect_on_what_is_open_and_says_nothing_of_what_was_notified() -> None:
    book = new_book()
    observe(book, "site/line-1/m/s", "opened", 0)
    (quiet,) = apply(book, "o", OVERHAUL)
    assert quiet.data.notified, "people know of it already"


def test_machines_are_quiet_while_what_they_depend_on_is_anomalous() -> None:
    book = new_book()
    apply(book, "line", Dependency(streams=["site/line-1/*"], on=["site/line-1/drive"], reason="line 1 stands", **WHO))
    (drive,) = observe(book, "site/line-1/drive", "opened", 0)
    assert drive.data.notified, "what the others depend on does not depend on itself"
    observe(book, "site/line-1/drive", "closed", 10, 0)
    observe(book, "site/line-1/drive", "opened", 4_000)
    (machine,) = observe(book, "site/line-1/m/s", "opened", 5_000)
    assert machine.data.held_back == "line 1 stands"
    observe(book, "site/line-1/drive", "closed", 6_000, 4_000)
    (free,) = observe(book, "site/line-1/m/s", "closed", 9_000, 5_000)[-1:]
    assert not free.data.notified
    (notified,) = observe(book, "site/line-1/m/s", "opened", 20_000)
    assert notified.data.notified


def test_a_label_of_an_anomaly_that_has_not_come_yet_waits_for_it() -> None:
    book = new_book()
    apply(book, "l", Label(label="known", anomaly="site/line-1/m/s#0", **WHO))
    (opened,) = observe(book, "site/line-1/m/s", "opened", 0)
    assert opened.data.held_back == "labelled known"
    assert opened.data.members[0].label == "known"


def like(stream: str, severity: str = "minor", **rule: Any) -> Label:
    """A label of an anomaly of this stream that opened at time_at(0), and the rule that it makes."""
    example = Example(stream, "prediction", "vibration", severity, time_at(0))
    return Label(**{"label": "normal", "anomaly": "earlier", "examples": [example], "rule": "day", **rule, **WHO})


def test_a_label_of_an_anomaly_keeps_later_ones_like_it_from_people_until_it_is_taken_back() -> None:
    book = new_book()
    apply(book, "l", like("site/line-1/m/s"))
    (alike,) = observe(book, "site/line-1/m/s", "opened", 86_400)
    assert (alike.data.notified, alike.data.held_back) == (False, "rule of l")
    (member,) = alike.data.members
    assert (member.label, member.rule, member.channel) == (None, "l", "vibration")
    assert book.decisions == {"rule": 1, "ruled": 1}
    (again,) = apply(book, "l", None)
    assert (again.data.notified, again.data.held_back, again.data.members[0].rule) == (True, None, None)


@pytest.mark.parametrize(
    ("stream", "at_s", "severity"),
    [("site/line-1/m/other", 86_400, "minor"), ("site/line-1/m/s", 86_400 + 2 * 3_600, "minor")],
)
def test_a_rule_is_not_about_another_stream_or_another_hour(stream: str, at_s: float, severity: str) -> None:
    book = new_book()
    apply(book, "l", like("site/line-1/m/s"))
    (opened,) = observe(book, stream, "opened", at_s)
    assert opened.data.notified


def test_an_anomaly_that_becomes_more_severe_than_the_one_that_was_labelled_is_for_people() -> None:
    book = new_book()
    apply(book, "l", like("site/line-1/m/s"))
    (opened,) = observe(book, "site/line-1/m/s", "opened", 86_400)
    rises = read_change(anomaly_record("site/line-1/m/s", "updated", 86_460, 86_400, "major").value)
    assert rises is not None
    (risen,) = book.observe(rises)
    assert (opened.data.notified, risen.data.notified, risen.data.members[0].rule) == (False, True, None)


def test_what_people_say_of_the_anomaly_itself_counts_before_a_rule() -> None:
    book = new_book()
    apply(book, "l", like("site/line-1/m/s"))
    observe(book, "site/line-1/m/s", "opened", 86_400)
    (fault,) = apply(book, "f", Label(label="fault", anomaly="site/line-1/m/s#0", **WHO))
    assert (fault.data.notified, fault.data.members[0].label, fault.data.members[0].rule) == (True, "fault", None)


def test_labels_of_a_stream_ask_for_rarer_anomalies_until_one_is_taken_back() -> None:
    book, day_s = new_book(), 86_400.0
    for name, period_s in (("a", day_s), ("b", 2 * day_s)):
        example = Example("site/line-1/m/s", "level", "flow", "minor", time_at(0), period_s)
        apply(book, name, like("", rule=None, examples=[example]))

    def opens(at_s: float, n: int, period_s: float, severity: str = "minor") -> IncidentEvent:
        change = read_change(anomaly_record("site/line-1/m/s", "opened", at_s, at_s, severity, n, period_s).value)
        assert change is not None
        return book.observe(change)[-1]

    usual = opens(0, 0, 3.9 * day_s).data
    assert (usual.notified, usual.held_back) == (False, "less rare than once in 4.00 days, as 2 labels ask")
    assert (usual.members[0].rule, usual.members[0].return_period_s) == ("a", 3.9 * day_s)
    assert opens(10_000, 1, 4.1 * day_s).data.notified, "it is rarer"
    assert opens(20_000, 2, 1.0, "major").data.notified, "it is more severe than any that was called normal"
    assert opens(30_000, 3, 0.0).data.notified, "how rare it is is not known"
    assert book.controls.rarer_streams == 1
    (again,) = apply(book, "b", None)
    assert (again.data.notified, again.data.held_back, book.controls.rarer_streams) == (True, None, 0)


def test_a_label_that_makes_a_rule_is_never_over() -> None:
    book = new_book()
    observe(book, "site/line-2/m/s", "opened", 300 * 86_400)
    assert effect(book, "none", Label(label="normal", anomaly="earlier", **WHO)) == "over"
    assert effect(book, "l", like("site/line-1/m/s")) == "set"
    assert (set(book.controls.held), book.controls.label_rules) == ({"l"}, 1)


def test_a_fault_is_labelled_and_notified_all_the_same() -> None:
    book = new_book()
    (first,) = observe(book, "site/line-1/m/s", "opened", 0)
    (labelled,) = apply(book, "l", Label(label="fault", streams=["site/*"], begins=time_at(0), until=time_at(1), **WHO))
    assert (labelled.data.notified, labelled.data.members[0].label) == (True, "fault")
    assert labelled.data.incident == first.data.incident


def test_an_acknowledgement_is_of_one_incident_and_can_be_taken_back() -> None:
    book = new_book()
    observe(book, "site/line-1/m/s", "opened", 0)
    name = incident_id("site/line-1/m/s#0")
    (looked_after,) = apply(book, "a", Acknowledgement(incident=name, **WHO))
    assert (looked_after.data.acknowledged_by, looked_after.data.acknowledged_at) == ("anna", time_at(0))
    (again,) = apply(book, "a", None)
    assert again.data.acknowledged_by is None
    assert effect(book, "b", Acknowledgement(incident="no-such", **WHO)) == "unknown"


def test_each_control_says_what_came_of_it() -> None:
    book = new_book()
    assert effect(book, "o", OVERHAUL) == "set"
    assert effect(book, "o", OVERHAUL) == "replaced"
    assert effect(book, "o", None) == "taken_back"
    assert effect(book, "o", None) == "unknown"
    observe(book, "site/line-1/m/s", "opened", 30 * 86_400)
    assert effect(book, "o", OVERHAUL) == "over"
    assert book.controls.held == {}


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (Quiet(streams=["*"], reason="r", **WHO), "found no end"),
        (Quiet(streams=["*"], reason="r", cron="0 6 * * *", **WHO), "one of cron and lasts_s"),
        (Quiet(streams=["*"], reason="r", cron="6", lasts_s=60, **WHO), "expected 5"),
        (Quiet(streams=["*"], reason="r", cron="0 6 * * *", lasts_s=1e9, **WHO), "at most"),
        (Quiet(streams=[], reason="r", until=time_at(1), **WHO), "streams: expected 1 to"),
        (Quiet(streams=["*"], reason="", until=time_at(1), **WHO), "reason is empty"),
        (Quiet(streams=["*"], reason="r", until="tomorrow", **WHO), "Invalid isoformat"),
        (Quiet(streams=["*"], reason="r", begins=time_at(2), until=time_at(1), **WHO), "after from"),
        (Quiet(streams=["*"], reason="r", cron="0 6 * * *", lasts_s=60, time_zone="Mars/Pole", **WHO), "time_zone is"),
        (Label(label="odd", anomaly="a", **WHO), "expected one of fault, normal, known"),
        (Label(label="known", **WHO), "expected anomaly, or else streams"),
        (Label(label="known", anomaly="a", until=time_at(1), **WHO), "expected anomaly, or else streams"),
        (like("s", rule="month"), "rule is 'month', expected one of day, week, always"),
        (
            like("s", rule=None, examples=[Example("s", "level", "flow", "minor", time_at(0), -1.0)]),
            "return_period_s is -1",
        ),
        (like("s", time_zone="Mars/Pole"), "time_zone is"),
        (like("", examples=[Example("s", "level", "x", "minor", "9999-12-31T23:00:00Z")]), "the years 6 to 9986"),
        (like("s", "odd"), "severity is 'odd', expected one of minor, major, critical"),
        (Label(label="fault", anomaly="a", rule="day", **WHO), "rule of the label fault, expected one of normal"),
        (Label(label="known", anomaly="a", rule="day", **WHO), "found 0 examples, expected 1 to 60"),
        (Acknowledgement(incident="i", by="", at=time_at(0)), "by is empty"),
    ],
)
def test_a_control_that_cannot_take_effect_says_why(control: Control, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        control_record("c", control)
    with pytest.raises(RejectedReading, match=expected):
        read_control(b"c", msgspec.json.encode(control))


# --- the stage


def topics_with_controls() -> Topics:
    topics = topics_with()
    topics.append(CONTROL, SAID[:15])
    return topics


def run(topics: Topics, *script: Crash | Migrate | Revoke) -> None:
    """To the end; most controls come when a good part of the anomalies is taken in."""
    stage = stage_of(topics, *script)
    while topics.committed.get(FIRST, 0) < topics.bounds(FIRST)[1] // 3:
        stage.turn(0.0)
    said = topics.bounds(CONTROL)[1]
    if said <= len(SAID):
        topics.append(CONTROL, [*SAID[said:], *acknowledgements(published(topics))])
    run_to_the_end(topics, stage)


def assert_as_calm(topics: Topics) -> list[Record]:
    found, given = published(topics), topics.fetch(CONTROL, 0, 10_000)
    assert given is not None
    controls = [Record(key, value, (), int(time)) for key, value, time in zip(*given[1:3], given.times_ms, strict=True)]
    assert bytes_of(found) == calm(found, COUNTS, controls)
    return found


@pytest.mark.slow
def test_controls_and_anomalies_make_what_their_order_says() -> None:
    topics = topics_with_controls()
    run(topics)
    told = [msgspec.json.decode(one.value or b"")["data"] for one in assert_as_calm(topics)]
    effects = Counter(one["effect"] for one in told if "effect" in one)
    acknowledged = {one["incident"] for one in told if one.get("acknowledged_by") == "ben"}
    assert len(acknowledged) > 3
    assert effects == {"set": 27 + len(acknowledged), "replaced": 11, "taken_back": 4, "unknown": 2}
    reasons = {one.get("held_back") for one in told}
    asked = "less rare than once in 1.16 days, as 2 labels ask"
    assert {"overhaul", "nightly", "labelled known", "rule of rules", asked, "budget"} <= reasons


def test_controls_that_are_there_are_taken_in_before_the_anomalies() -> None:
    topics = topics_with_controls()
    run_to_the_end(topics, stage_of(topics, at_once=3))
    first = published(topics)[:15]
    assert [headers_of(one)["telltale-consumed"].decode() for one in first] == [f"control:{n}-{n}" for n in range(15)]


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 4, 17, 18, 20, 30])
def test_a_crash_at_any_commit_neither_loses_nor_repeats_a_control(at: int, written: bool) -> None:
    topics = topics_with_controls()
    with pytest.raises(Crashed):
        run(topics, Crash(at, written))
    topics.compact()
    run(topics, Migrate(2))
    assert_as_calm(topics)


def test_what_is_no_control_becomes_a_dead_letter_and_is_counted() -> None:
    topics = Topics({TOPIC: PARTITIONS, CONTROL_TOPIC: 1})
    topics.append(CONTROL, [Record(b"a", b"{"), Record(b"a/b", b"{}"), Record(None, b"{}"), SAID[0]])
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    reasons = [headers_of(letter)["telltale-reason"] for letter in topics.dead_letters[FIRST]]
    assert reasons == [b"bad_json", b"bad_key", b"bad_key"]
    assert (stage.status.counts["controls_rejected"], stage.status.counts["control_quiet"]) == (3, 1)
    assert stage.status.controls == {"quiet": 1}


def test_a_topic_of_controls_that_was_made_again_is_read_from_its_beginning_beside_what_is_in_force() -> None:
    topics = topics_with_controls()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(10)))
    topics.topic_ids[CONTROL_TOPIC] = "another"
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    assert stage.status.counts["control_quiet"] == 3, "the first 15 have three, two of them under one id"
    assert stage.status.controls["quiet"] == 2


def test_state_that_is_lost_brings_the_controls_back_from_their_topic() -> None:
    topics = topics_with_controls()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(10)))
    topics.changelog[FIRST].clear()
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    assert stage.status.controls["quiet"] == 2
    ids = [json.loads(record.value or b"")["id"] for record in topics.anomalies[FIRST]]
    assert len(set(ids)) == len(ids)


def test_a_topic_of_controls_with_several_partitions_is_refused() -> None:
    topics = Topics({TOPIC: PARTITIONS, CONTROL_TOPIC: 2})
    with pytest.raises(RefusedInput, match="found 2 partitions, expected 1"):
        stage_of(topics).turn(0.0)
