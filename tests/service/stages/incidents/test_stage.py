"""The stage: whatever crashes and whoever has the partitions, incidents are those of a calm run, to the byte."""

import json
import threading
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from service.errors import LostState
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Fetched, Partition, Record
from service.stages.incidents.controls import Dependency, Holds, Quiet, control_record, holds_id
from service.stages.incidents.events import decode_incident, decode_lost
from service.stages.incidents.stage import AT_ONCE, IncidentStage
from service.stages.incidents.standing import StandingControls
from tests.records import headers_of
from tests.service.stages.incidents.plant import anomaly_record, calm, new_book, plant_anomalies, plant_controls, who

TOPIC, PARTITIONS, CONTROL_TOPIC = "anomalies", 3, "control"
PARTS = tuple(Partition(TOPIC, number) for number in range(PARTITIONS))
FIRST, CONTROL = PARTS[0], Partition(CONTROL_TOPIC, 0)
ALL = plant_anomalies(400, PARTITIONS)
SAID = plant_controls()
COUNTS: Mapping[int, Sequence[Record]] = dict(enumerate(ALL))


def topics_with(records: Sequence[Sequence[Record]] = ALL) -> Topics:
    topics = Topics({TOPIC: PARTITIONS, CONTROL_TOPIC: 1})
    for partition, mine in zip(PARTS, records, strict=True):
        topics.append(partition, mine)
    return topics


def stage_of(topics: Topics, *script: Fault, at_once: int = 20, reset: bool = False) -> IncidentStage:
    log = MemoryLog(topics, script, max_poll_records=at_once)
    return IncidentStage(log, new_book, CONTROL_TOPIC, "incidents", "incidents/1", threading.Event(), reset=reset)


def run_to_the_end(topics: Topics, stage: IncidentStage) -> None:
    ends = {partition: topics.bounds(partition)[1] for partition in (*PARTS, CONTROL)}
    while any(topics.committed.get(partition, 0) < end for partition, end in ends.items()):
        stage.turn(0.0)


def published(topics: Topics) -> list[Record]:
    assert topics.anomalies[PARTS[1]] == topics.anomalies[PARTS[2]] == []
    return topics.anomalies[FIRST]


def bytes_of(records: Sequence[Record]) -> list[tuple[bytes, bytes]]:
    return [(record.key or b"", record.value or b"") for record in records]


def test_incidents_are_those_of_the_anomalies_in_the_order_that_they_say() -> None:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    found = published(topics)
    assert len(found) > 300
    assert bytes_of(found) == calm(found, COUNTS)


def test_anomalies_of_all_partitions_are_taken_in_by_their_time_also_after_a_long_absence() -> None:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    events = [decode_incident(record.value or b"") for record in published(topics)]
    storms: dict[str, int] = {}
    for event in events:
        if event.data.group == "site/line-9":
            storms[event.data.incident] = event.data.streams
    assert list(storms.values()) == [20, 20, 20], "one incident for each day's storm, which is in all partitions"


@pytest.mark.slow
def test_a_round_takes_in_all_that_its_poll_brought_in_transactions_of_bounded_size() -> None:
    many = plant_anomalies(1_500, 1)
    topics = Topics({TOPIC: 1, CONTROL_TOPIC: 1})
    topics.append(FIRST, many[0])
    stage = stage_of(topics, at_once=len(many[0]))
    for _ in range(2):  # the first restores
        stage.turn(0.0)
    assert len(many[0]) > 3 * AT_ONCE
    assert topics.committed[FIRST] == len(many[0])
    assert stage.status.lag_records == 0
    markers = [record for record in topics.changelog[FIRST] if record.key and b"/marker/" in record.key]
    assert len(markers) == -(-len(many[0]) // AT_ONCE)


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5, 13])
def test_a_crash_at_any_commit_changes_nothing(at: int, written: bool) -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(at, written)))
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(at, not written)))
    run_to_the_end(topics, stage_of(topics))
    found = published(topics)
    assert bytes_of(found) == calm(found, COUNTS)
    assert len(found) > 300


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 4, 9])
def test_a_failed_commit_and_partitions_that_go_and_come_back_change_nothing(at: int) -> None:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics, Migrate(at), Revoke(at + 12, PARTS), Assign(at + 13, PARTS)))
    found = published(topics)
    assert bytes_of(found) == calm(found, COUNTS)
    assert len(found) > 300


def said(topics: Topics) -> Fetched:
    """All that is on the topic of controls."""
    fetched = topics.fetch(CONTROL, 0, topics.bounds(CONTROL)[1])
    assert fetched is not None
    return fetched


def holding(topics: Topics) -> list[bool]:
    """What was written of the dependency, in order: that it holds, or no longer."""
    fetched = said(topics)
    mine = holds_id("drive").encode()
    return [value is not None for key, value in zip(fetched.keys, fetched.values, strict=True) if key == mine]


def depends(learn: bool) -> Record:
    dependency = Dependency(streams=["line/*"], on=["line/drive"], reason="stands", learn=learn, **who("anna"))
    return control_record("drive", dependency)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("written", [False, True])
def test_of_a_dependency_it_is_said_when_it_holds_for_those_who_learn_whatever_crashes(at: int, written: bool) -> None:
    topics = Topics({TOPIC: PARTITIONS, CONTROL_TOPIC: 1})
    topics.append(CONTROL, [depends(learn=False)])
    topics.append(FIRST, [anomaly_record("line/drive", "opened", 0, 0, "minor")])
    script = [Crash(at, written)] if at else []
    stage = stage_of(topics, *script)

    def until(expected: bool) -> None:
        nonlocal stage
        for _ in range(50):
            try:
                stage.turn(0.0)
            except Crashed:
                stage = stage_of(topics)
            standing = StandingControls()
            standing.hear(said(topics).keys, said(topics).values)
            taken_in = topics.committed.get(CONTROL, 0) == topics.bounds(CONTROL)[1]
            if taken_in and any(isinstance(one, Holds) for one in standing.held.values()) == expected:
                return
        raise AssertionError(f"expected that it {'holds' if expected else 'does not hold'}: {standing.held}")

    until(True)
    topics.append(PARTS[1], [anomaly_record("line/m/s", "opened", 5, 5, "minor")])
    topics.append(FIRST, [anomaly_record("line/drive", "closed", 10, 0, "minor")])
    until(False)
    topics.append(FIRST, [anomaly_record("line/drive", "opened", 20, 20, "minor", 1)])
    until(True)
    topics.append(CONTROL, [depends(learn=True)])
    until(False)
    assert list(dict.fromkeys(holding(topics))) == [True, False]
    if not at:
        assert holding(topics) == [True, False, True, False], "each is said once"


@pytest.mark.slow
def test_a_compacted_changelog_is_enough_and_closed_incidents_leave_nothing_in_it() -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(9)))
    topics.compact()
    run_to_the_end(topics, stage_of(topics))
    found = published(topics)
    assert bytes_of(found) == calm(found, COUNTS)
    topics.compact()
    left = [record for record in topics.changelog[FIRST] if record.value is not None]
    assert len(left) < 200, "of some 1,000 incidents and members"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Honolulu"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_anomaly_from_beyond_all_calendars_becomes_a_dead_letter(zone: str, time: str) -> None:
    """Quiet times that come again, and rules of labels, ask what the clock on the wall said."""
    topics = Topics({TOPIC: PARTITIONS, CONTROL_TOPIC: 1})
    quiet = Quiet(streams=["*"], reason="r", cron="0 6 * * *", lasts_s=60, time_zone=zone, **who("anna"))
    topics.append(CONTROL, [control_record("q", quiet)])
    record = anomaly_record("a/b", "opened", 0, 0, "minor")
    for field in ("time", "opened_at"):
        event = msgspec.json.decode(record.value or b"")
        (event if field == "time" else event["data"])[field] = time
        topics.append(FIRST, [record._replace(value=msgspec.json.encode(event))])
    run_to_the_end(topics, stage_of(topics))
    assert [headers_of(letter)["telltale-reason"] for letter in topics.dead_letters[FIRST]] == [
        b"bad_json",
        b"bad_json",
    ]


def test_what_is_no_event_becomes_a_dead_letter_and_what_is_none_of_an_anomaly_is_passed_over() -> None:
    topics = topics_with(
        [[Record(b"x", b"{"), Record(b"x", None)], [Record(b"y", b'{"type":"telltale.state.other"}')], []]
    )
    run_to_the_end(topics, stage_of(topics))
    letters = topics.dead_letters[FIRST]
    assert [headers_of(letter)["telltale-reason"] for letter in letters] == [b"bad_json", b"missing_value"]
    assert published(topics) == []
    assert topics.committed == {PARTS[0]: 2, PARTS[1]: 1}


@pytest.mark.parametrize(
    "record",
    [
        anomaly_record("a", "opened", 0, 0, "harmless"),
        anomaly_record("a", "opened", 0, 0, "minor")._replace(value=b'{"type":"telltale.anomaly.opened","data":{}}'),
        Record(b"a", b"[" * 5_000),
    ],
)
def test_an_event_that_is_not_as_it_should_be_harms_no_other(record: Record) -> None:
    good = anomaly_record("site/line/m/s", "opened", 1, 1, "minor")
    topics = topics_with([[record, good], [], []])
    run_to_the_end(topics, stage_of(topics))
    assert len(topics.dead_letters[FIRST]) == 1
    assert len(published(topics)) == 1


def test_state_that_is_not_there_ends_it_or_is_gone_on_without_as_the_settings_say() -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(5)))
    topics.changelog[FIRST].clear()
    with pytest.raises(LostState, match="no marker of incidents, but offsets are committed"):
        run_to_the_end(topics, stage_of(topics))
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    assert stage.status.counts["lost"] == 1
    found = published(topics)
    assert bytes_of(found) == calm(found, COUNTS)


@pytest.mark.parametrize("lost", ["all", "the marker", "an incident"])
@pytest.mark.parametrize("written", [False, True])
def test_one_event_ends_what_was_open_where_incidents_are_lost_and_no_id_comes_twice(lost: str, written: bool) -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(13)))
    topics.compact()
    records = topics.changelog[FIRST]
    kind = {"all": b"/", "the marker": b"/marker/", "an incident": b"/incident/"}[lost]
    gone = [one for one in records if kind in (one.key or b"") and one.value is not None]
    for one in gone if lost == "all" else gone[:1]:
        records.remove(one)
    before = open_incidents(published(topics))
    assert len(before) > 3
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(1, written=written), reset=True))
    assert open_incidents(published(topics)) == (set() if written else before)
    topics.compact()
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    found = published(topics)
    assert bytes_of(found) == calm(found, COUNTS)
    assert sum(decode_lost(record.value or b"") is not None for record in found) == 1
    ids = [json.loads(record.value or b"")["id"] for record in found]
    assert len(set(ids)) == len(ids)
    assert stage.status.open_incidents == len(open_incidents(found))


def open_incidents(records: Sequence[Record]) -> set[str]:
    """As one knows them who reads the topic."""
    found = set[str]()
    for record in records:
        if decode_lost(record.value or b"") is not None:
            found.clear()
            continue
        data = decode_incident(record.value or b"").data
        (found.add if data.status == "open" else found.discard)(data.incident)
    return found


def test_a_topic_that_was_made_again_and_anomalies_that_were_deleted_end_it() -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(5)))
    begins = topics.committed[PARTS[1]]
    topics.delete_before(PARTS[1], begins + 3)
    with pytest.raises(LostState, match=f"from offset {begins} on are missing"):
        run_to_the_end(topics, stage_of(topics))
    topics.topic_ids[TOPIC] = "another"
    with pytest.raises(LostState, match="found topic another"):
        run_to_the_end(topics, stage_of(topics))


def test_what_waits_for_a_partition_that_is_behind_is_taken_in_when_that_has_come() -> None:
    early, late = (anomaly_record(f"site/line/m/{s}", "opened", s, s, "minor") for s in (5, 100))
    topics = topics_with([[late], [early], []])
    stage = stage_of(topics, at_once=1)
    run_to_the_end(topics, stage)
    (first, second) = (decode_incident(record.value or b"") for record in published(topics))
    assert first.data.first_cause.stream == "site/line/m/5"
    assert second.data.streams == 2


def test_the_stage_counts_what_it_did() -> None:
    topics = topics_with()
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    counts, events = stage.status.counts, [decode_incident(record.value or b"") for record in published(topics)]
    assert counts["anomalies"] == sum(map(len, ALL))
    opened = [event for event in events if event.type.endswith("opened")]
    assert counts["opened"] == len(opened)
    assert counts["notified"] == len({event.data.incident for event in events if event.data.notified})
    assert counts["budget"] > 0
    assert stage.status.lag_records == 0
