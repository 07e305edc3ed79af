"""The service's state on a real broker: what is done when something about it is not as it should be."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from models.checkpoints.checkpoint import load
from service.errors import LogUnavailable, RefusedInput
from service.input.notices import STATE_LOST
from service.kafka.topics import check_topics
from service.log.port import Partition, Record
from service.state.changelog import Collected, Layout, read_page
from service.state.changelog_keys import Origin, page_key
from service.state.slab import Page
from tests.faults.broker import OwnBroker
from tests.integration.test_end_to_end import PARTITIONS, Names, made_topics, plant_records, quick, service, wait_until
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture

STREAMS = 40
# Pages are written when their streams come, and then hardly ever: there is much to be judged again.
LAZY = {"TELLTALE_STATE__FLUSH_INTERVAL_S": "3600", "TELLTALE_KAFKA__MAX_POLL_RECORDS": "200"}
PART = plant_records(streams=STREAMS, readings=6_000)
VERSION_AT = 4  # in a page's bytes
FIRST, SECOND = PART[: len(PART) // 2], PART[len(PART) // 2 :]


def run_to_the_end(
    broker: Broker, checkpoint: Path, names: Names, records: int, ends_with: int = 0, **environment: str
) -> list[dict[str, Any]]:
    """Run the service until this many records are out, end it with SIGTERM, return what it logged of its state."""
    with service(broker, checkpoint, names, **environment) as running:
        wait_until(lambda: len(running.lines("state_restored")) >= PARTITIONS, "the state of all partitions")
        running.until_judged(records)
        running.process.signal(signal.SIGTERM)
        assert running.process.ended() == ends_with
        return running.lines("state_problem")


def notices(broker: Broker, names: Names) -> list[dict[str, Any]]:
    events = [json.loads(written.record.value or b"") for written in broker.read_committed(names.anomalies)]
    return [event for event in events if event["type"] == STATE_LOST]


def flipped(page: bytearray) -> bytes:
    page[len(page) // 2] ^= 4
    return bytes(page)


def of_another_version(page: bytearray) -> bytes:
    page[VERSION_AT] += 1
    return bytes(page)


def cut_short(page: bytearray) -> bytes:
    return bytes(page[: len(page) // 3])


DAMAGE = (flipped, cut_short, of_another_version)


@pytest.mark.thorough
def test_damaged_pages_cost_their_own_streams_their_memory_and_say_so_for_each(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, FIRST)
    assert run_to_the_end(kafka, quick, names, len(FIRST)) == []
    checkpoint = load(quick)
    layout = Layout.of(checkpoint.digest, checkpoint.detector.rows_for([]))
    written = kafka.read_committed(names.changelog)
    lost, damaged = set(), []
    occupied = sorted({number for number, _ in FIRST})
    for number, damage in zip(occupied, DAMAGE, strict=False):
        origin = Origin(names.group, Partition(names.topic, number))
        mine = [one.record for one in written if one.partition == number]
        collected = Collected(origin)
        collected.add([record.key for record in mine], [record.value for record in mine])
        page = read_page(collected, layout, 0)
        assert isinstance(page, Page)
        assert page.keys
        lost |= {(key.decode(), number) for key in page.keys}
        damaged.append((number, Record(page_key(origin, 0), damage(bytearray(collected.pages[0])))))

    kafka.produce(names.changelog, damaged)
    kafka.produce(names.topic, SECOND)
    problems = run_to_the_end(kafka, quick, names, len(SECOND))
    assert sorted((problem["problem"], problem["partition"]) for problem in problems) == [
        ("corrupt", number) for number in occupied
    ]
    found = notices(kafka, names)
    assert {event["data"]["reason"] for event in found} == {"corrupt"}
    reported = [(event["data"]["stream"], event["data"]["partition"]) for event in found]
    assert len(reported) == len(lost)
    assert set(reported) == lost

    assert run_to_the_end(kafka, quick, names, 0) == []
    assert notices(kafka, names) == found


@pytest.mark.thorough
def test_an_input_that_was_deleted_too_early_ends_the_service_or_is_told(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, FIRST)
    with service(kafka, quick, names, **LAZY) as running:
        running.until_judged(len(FIRST))
        running.process.signal(signal.SIGKILL)
        running.process.ended()
    ends = {number: sum(p == number for p, _ in FIRST) for number in (0, 1, 2)}
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(names.topic, number): end - 1 for number, end in ends.items() if end})
    with service(kafka, quick, names) as running:
        wait_until(lambda: not running.process.running, "the end of a service without its input")
        assert running.process.ended() == 1
        said = "".join(running.process.err)
    assert "its topic begins at" in said
    assert "state.when_lost: reset" in said

    kafka.produce(names.topic, SECOND)
    problems = run_to_the_end(kafka, quick, names, len(SECOND), TELLTALE_STATE__WHEN_LOST="reset")
    assert {problem["problem"] for problem in problems} == {"retention"}
    assert {event["data"]["reason"] for event in notices(kafka, names)} == {"retention"}


@pytest.mark.thorough
def test_a_topic_that_got_more_partitions_is_told_of_and_goes_on(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, FIRST)
    assert run_to_the_end(kafka, quick, names, len(FIRST)) == []
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        for topic in (names.topic, names.anomalies, names.dead_letters, names.changelog):
            admin.create_partitions({topic: 8})
    kafka.produce(names.topic, [*SECOND, (7, SECOND[0][1])])
    problems = run_to_the_end(kafka, quick, names, len(SECOND) + 1)
    assert {problem["problem"] for problem in problems} == {"partitions_added"}
    assert {event["data"]["stream"] for event in notices(kafka, names)} == {None}


@pytest.mark.thorough
def test_a_topic_that_is_deleted_and_made_again_while_it_is_read_ends_the_service(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    kafka.produce(names.topic, FIRST)
    with service(kafka, quick, names) as running, KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        running.until_judged(len(FIRST))
        admin.delete_topics([names.topic])
        wait_until(lambda: names.topic not in admin.list_topics(), "the end of the topic")
        wait_until(lambda: not running.process.running, "the end of the service")
        assert running.process.ended() == 1
        assert names.topic not in admin.list_topics()
        assert f"topic {names.topic} is gone" in "".join(running.process.err)


@pytest.fixture(scope="module")
def guarded(java: None) -> Iterator[Broker]:
    """A broker that asks who may do what."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    with OwnBroker(
        authorizer_class_name=authorizer, allow_everyone_if_no_acl_found="true", super_users="User:nobody"
    ) as own:
        yield own.broker


def deny(broker: Broker, operation: ACLOperation, topic: str) -> None:
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        everything_else = [
            ACL(
                "User:ANONYMOUS",
                "*",
                ACLOperation.ALL,
                ACLPermissionType.ALLOW,
                ResourcePattern(ResourceType.TOPIC, topic),
            ),
            ACL("User:ANONYMOUS", "*", operation, ACLPermissionType.DENY, ResourcePattern(ResourceType.TOPIC, topic)),
        ]
        admin.create_acls(everything_else)


def test_a_changelog_that_may_not_be_read_is_found_out_at_the_start(guarded: Broker) -> None:
    names = made_topics(guarded)
    outputs = (names.anomalies, names.dead_letters)
    check_topics(guarded.bootstrap_servers, [names.topic], outputs, None, names.changelog)
    deny(guarded, ACLOperation.READ, names.changelog)
    refusals: list[LogUnavailable] = []

    def is_refused() -> bool:
        """A rule that the broker has taken holds a little later."""
        try:
            check_topics(guarded.bootstrap_servers, [names.topic], outputs, None, names.changelog)
        except LogUnavailable as refused:
            refusals.append(refused)
        return bool(refusals)

    wait_until(is_refused, "a refusal")
    assert "not allowed" in str(refusals[0])


def test_a_changelog_that_is_not_compacted_is_refused(kafka: Broker) -> None:
    names = made_topics(kafka)
    outputs = (names.anomalies, names.dead_letters)
    with pytest.raises(RefusedInput, match=r"cleanup\.policy=delete, expected compact"):
        check_topics(kafka.bootstrap_servers, [names.topic], outputs, None, names.anomalies)
