"""A checkpoint that takes over while a worker runs: where, how warm, and what of it is published, whatever happens."""

import json

import pytest

from service.input.events import decode_event
from service.input.notices import MODEL_PROMOTED
from service.log.memory_log import Assign, Crash, Crashed, Migrate, Revoke, Topics
from service.log.port import Partition
from service.state.changelog import Collected, Marker, read_marker
from service.state.changelog_keys import Origin
from tests.service.promotions import A, B, Said, Service, expected, promoted, sent

PARTS = P0, P1 = Partition("plant", 0), Partition("plant", 1)
FIRST, READINGS = 600, 1_200


def plant(readings: int = FIRST) -> Topics:
    topics = Topics({"plant": 2})
    for partition in PARTS:
        topics.append(partition, sent(partition.number, readings))
    return topics


def go_on(topics: Topics) -> None:
    for partition in PARTS:
        topics.append(partition, sent(partition.number, READINGS)[FIRST:])


def marker_of(topics: Topics, partition: Partition) -> Marker:
    origin = Origin("group", partition)
    collected = Collected(origin)
    records = topics.changelog[partition]
    collected.add([record.key for record in records], [record.value for record in records])
    return read_marker(origin, collected.marker or b"")


def checkpoints(topics: Topics, partition: Partition) -> set[str]:
    """Of the anomalies that readings changed."""
    values = [record.value or b"" for record in topics.anomalies[partition]]
    events = [decode_event(value) for value in values if MODEL_PROMOTED.encode() not in value]
    return {event.data.checkpoint for event in events}


@pytest.mark.slow
def test_a_promoted_checkpoint_takes_over_warm_and_to_the_byte_as_computed_from_its_notice() -> None:
    topics = plant()
    service = Service(topics).run(FIRST // 2)
    service.said.digest = B
    service.run(FIRST).settle()
    go_on(topics)
    service.run(READINGS)
    for partition in PARTS:
        (one,) = promoted(topics, partition)
        assert 0 < one.warm_until <= one.offset <= FIRST
        assert (one.before, one.checkpoint) == (A, B)
        assert topics.anomalies[partition] == expected(topics, partition)
        assert checkpoints(topics, partition) == {A, B}
        assert (marker_of(topics, partition).checkpoint, marker_of(topics, partition).checkpoint_from) == (
            B,
            one.offset,
        )


@pytest.mark.slow
def test_readings_go_on_being_judged_while_a_checkpoint_is_warmed_up() -> None:
    topics = plant(READINGS)
    service = Service(topics).run(FIRST)
    service.said.digest = B
    service.run(READINGS)
    service.settle()
    firsts = [promoted(topics, partition)[0] for partition in PARTS]
    assert any(one.offset > one.warm_until for one in firsts), "nothing was judged meanwhile: too few readings"
    for partition in PARTS:
        assert topics.anomalies[partition] == expected(topics, partition)


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
def test_a_crash_around_a_promotion_changes_nothing(after: int, written: bool) -> None:
    topics = plant()
    service = Service(topics, Crash(8 + after, written))  # at 8 commits both are at a third
    with pytest.raises(Crashed):
        service.run_and_promote(B, FIRST // 3, FIRST).settle()
    again = Service(topics, said=Said(topics, B)).run(FIRST).settle()
    go_on(topics)
    again.run(READINGS)
    for partition in PARTS:
        assert [one.checkpoint for one in promoted(topics, partition)] == [B]
        assert topics.anomalies[partition] == expected(topics, partition)


@pytest.mark.slow
def test_after_it_a_worker_restores_the_rows_of_the_promoted_checkpoint_and_primes_nothing() -> None:
    topics = plant()
    service = Service(topics).run(FIRST)
    service.said.digest = B
    service.settle()
    again = Service(topics, Migrate(1), Revoke(9, (P1,)), Assign(12, (P1,)), said=Said(topics, B))
    go_on(topics)
    again.run(READINGS)
    for partition in PARTS:
        assert len(promoted(topics, partition)) == 1
        assert topics.anomalies[partition] == expected(topics, partition)


@pytest.mark.slow
def test_a_rollback_is_the_same_with_the_former_checkpoint() -> None:
    topics = plant()
    service = Service(topics).run(FIRST // 2)
    service.said.digest = B
    service.settle()
    service.run(FIRST)
    service.said.digest = A
    service.settle()
    go_on(topics)
    service.run(READINGS)
    for partition in PARTS:
        assert [one.checkpoint for one in promoted(topics, partition)] == [B, A]
        assert topics.anomalies[partition] == expected(topics, partition)


@pytest.mark.slow
def test_open_anomalies_of_the_former_checkpoint_are_closed_as_promoted_or_carried_over() -> None:
    topics = plant()
    service = Service(topics).run(FIRST)
    service.said.digest = B
    service.settle()
    go_on(topics)
    service.run(READINGS)
    for partition in PARTS:
        events = [json.loads(record.value or b"") for record in topics.anomalies[partition]]
        changes = [event for event in events if event["type"].startswith("telltale.anomaly.")]
        opened = {event["data"]["anomaly"] for event in changes if event["type"].endswith("opened")}
        assert opened == {event["data"]["anomaly"] for event in changes}, "each that is closed was opened"
    assert any("promoted" in str(record.value) for partition in PARTS for record in topics.anomalies[partition])


def test_a_checkpoint_that_is_said_no_more_takes_nothing_over() -> None:
    topics = plant()
    service = Service(topics).run(FIRST)
    service.said.digest = B
    service.worker.turn(0.0)  # it has begun
    service.said.digest = A
    service.settle()
    assert [promoted(topics, partition) for partition in PARTS] == [[], []]


@pytest.mark.slow
def test_where_the_input_that_it_needs_is_gone_the_former_checkpoint_goes_on_and_says_so() -> None:
    topics = plant()
    service = Service(topics).run(FIRST)
    topics.delete_before(P0, FIRST - 10)
    service.said.digest = B
    service.settle()
    go_on(topics)
    service.run(READINGS)
    assert promoted(topics, P0) == []
    assert [refusal[:10] for refusal in service.said.refusals] == ["plant-0 bb"]
    assert checkpoints(topics, P0) == {A}
    assert [one.checkpoint for one in promoted(topics, P1)] == [B]


@pytest.mark.slow
def test_a_partition_that_has_had_no_record_is_taken_over_where_it_begins() -> None:
    topics = Topics({"plant": 2})
    service = Service(topics).settle()
    service.said.digest = B
    service.settle()
    for partition in PARTS:
        topics.append(partition, sent(partition.number, FIRST))
    service.run(FIRST)
    for partition in PARTS:
        (one,) = promoted(topics, partition)
        assert (one.offset, one.warm_until) == (0, 0)
        assert topics.anomalies[partition] == expected(topics, partition)
