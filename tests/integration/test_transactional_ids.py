"""Transactional ids on a real broker: who ends whose transactions, and what is said where an id is not allowed."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType
from kafka.admin import ACLResourcePatternType as PatternType

from service.errors import LogUnavailable
from service.kafka.transactional_ids import prefix_of, worker_id
from service.log.port import Commit, Partition, Record
from service.state.changelog_keys import Origin, page_key
from tests.faults.broker import OwnBroker
from tests.integration.test_kafka_log import KafkaWorld, new_world, wait_until
from tests.kafka import Broker
from tests.service.log_contract import Reader, readings, restored

__all__ = ["new_world"]  # a fixture
NEVER_MS = 600_000  # a time limit that no test waits for


@contextlib.contextmanager
def open_transaction(world: KafkaWorld, transactional_id: str, group: str) -> Iterator[Any]:
    """A worker's that has written a page of partition 0, and does not go on."""
    key = page_key(Origin(group, Partition(world.topic, 0)), 0)
    settings = {"transactional_id": transactional_id, "transaction_timeout_ms": NEVER_MS}
    with KafkaProducer(bootstrap_servers=world.broker.bootstrap_servers, **settings) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(world.changelog_topic, b"rows", key, partition=0).get(timeout=20)
        yield producer


def test_groups_and_instances_whose_names_run_together_do_not_fence_each_other(
    new_world: Callable[..., KafkaWorld],
) -> None:
    here, there = new_world(), new_world()
    here.group = f"tx-{uuid.uuid4().hex[:8]}"
    there.group = f"{here.group}-b"
    readers = []
    for world, instance in ((here, "b-c"), (there, "c")):
        world.append(0, readings(10))
        readers.append(Reader(world.open(transactional_id=worker_id(world.group, instance))).until(10))
    for end in (3, 7, 10):
        for world, reader in zip((here, there), readers, strict=True):
            reader.log.commit([Commit(Partition(world.topic, 0), end, (Record(b"s", b"%d" % end),))])
    assert [[r.value for _, r in world.anomalies()] for world in (here, there)] == [[b"3", b"7", b"10"]] * 2


def test_what_an_earlier_version_left_open_is_ended_and_a_group_of_a_similar_name_is_left_alone(
    new_world: Callable[..., KafkaWorld],
) -> None:
    world = new_world()
    neighbour = f"{world.group}-2"  # earlier versions called its worker w0 as if it were worker 2-w0 of ours
    with open_transaction(world, f"{world.group}-w0", world.group), contextlib.ExitStack() as open_there:
        theirs = open_there.enter_context(open_transaction(world, f"{neighbour}-w0", neighbour))
        log = world.open(transactional_id=worker_id(world.group, "w0"))
        Reader(log, starts=False).until_owned(2)
        here = Partition(world.topic, 0)
        wait_until(lambda: log.restore(here).read > 0)  # past what ours had left open
        theirs.commit_transaction()
    assert restored(log, here) == [(page_key(Origin(neighbour, here), 0), b"rows")]


def test_an_id_as_long_as_settings_allow_is_taken_by_the_broker(new_world: Callable[..., KafkaWorld]) -> None:
    world = new_world()
    world.append(0, readings(1))
    log = world.open(transactional_id=worker_id("\N{MOUSE}" * 255, "\N{CAT}" * 255))
    log.commit(Reader(log).until(1).commits())
    assert len(world.anomalies()) == 1


@pytest.mark.thorough
@pytest.mark.usefixtures("java")
def test_an_id_that_is_not_allowed_is_named_with_the_right_that_is_missing() -> None:
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    with OwnBroker(
        authorizer_class_name=authorizer, allow_everyone_if_no_acl_found="true", super_users="User:nobody"
    ) as own:
        world = KafkaWorld(own.broker)
        allow_only(own.broker, f"{world.group}-")  # what earlier versions needed
        name = worker_id(world.group, "w0")
        with pytest.raises(LogUnavailable, match=f"id {name}: not allowed, .* WRITE .* begin with {world.group}/"):
            world.open(transactional_id=name)


def allow_only(broker: Broker, prefix: str) -> None:
    """No one may use the group's ids as they are made now."""
    who = ("User:ANONYMOUS", "*", ACLOperation.ALL)
    allowed = ResourcePattern(ResourceType.TRANSACTIONAL_ID, prefix, PatternType.PREFIXED)
    denied = ResourcePattern(ResourceType.TRANSACTIONAL_ID, prefix_of(prefix[:-1]), PatternType.PREFIXED)
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        admin.create_acls([ACL(*who, ACLPermissionType.ALLOW, allowed), ACL(*who, ACLPermissionType.DENY, denied)])
