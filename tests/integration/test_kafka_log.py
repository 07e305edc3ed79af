"""The log on a real broker: the contract, rebalances, lost brokers, and what readers of its outputs see."""

import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, MemberToRemove
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from structlog.testing import capture_logs

from service import failpoints
from service.errors import LogUnavailable, RefusedInput, RefusedSetting, TaskMigrated
from service.kafka import client as kafka_client
from service.kafka import columns as kafka_columns
from service.kafka import log as kafka_log
from service.kafka import topics as kafka_topics
from service.kafka import transactional_writer
from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, PollLimits, TopicNames
from service.kafka.membership import remove_member
from service.kafka.topics import (
    CHANGELOG,
    TopicSpec,
    check_topics,
    create_topics,
    describe_topics,
    partition_of,
    produce,
)
from service.log.fitting import record_bytes
from service.log.port import POLL_BYTES, Commit, Fetched, Headers, Log, Partition, Record
from tests.kafka import KEEP, Broker
from tests.proxy import END_TXN, Proxy
from tests.records import headers_of
from tests.service.log_contract import TIMES_MS, WITHIN_S, LogContract, Reader, World, readings

NOWHERE = (
    Cluster("127.0.0.1:9"),
    TopicNames(("readings",), "anomalies", "dead-letters", "changelog"),
    GroupMember(group="g", transactional_id="t"),
)


def connect_within(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kafka_client, kafka_log, kafka_topics):
        monkeypatch.setattr(module, "CONNECT_WITHIN_S", seconds)


class KafkaWorld:
    """Three topics and a group of their own on the broker."""

    def __init__(self, broker: Broker, partitions: int = 2, client: Mapping[str, object] | None = None) -> None:
        self.broker = broker
        self.group = f"group-{uuid.uuid4().hex[:10]}"
        self.topic, self.anomalies_topic, self.dead_letters_topic, self.changelog_topic = (
            f"{self.group}-{name}" for name in ("readings", "anomalies", "dead-letters", "changelog")
        )
        self.client = client
        self.opened: list[KafkaLog] = []
        names = (self.topic, self.anomalies_topic, self.dead_letters_topic)
        specs = {name: TopicSpec(partitions, 1, KEEP) for name in names}
        specs[self.changelog_topic] = TopicSpec(partitions, 1, CHANGELOG)
        create_topics(broker.bootstrap_servers, specs)

    def open(
        self,
        max_poll_records: int = 20_000,
        max_poll_bytes: int = POLL_BYTES,
        *,
        request_timeout_ms: int = 10_000,
        unreachable_after_s: float = 60.0,
        columnar: bool = True,
        **member: Any,
    ) -> KafkaLog:
        """member: of GroupMember, where a test wants another than the usual."""
        membership = {
            "transactional_id": f"{self.group}-worker",
            "session_timeout_ms": 6_000,
            "transaction_timeout_ms": 6_000,
            "heartbeat_interval_ms": 100,
            **member,
        }
        log = KafkaLog(
            Cluster(self.broker.bootstrap_servers, self.client, request_timeout_ms),
            TopicNames((self.topic,), self.anomalies_topic, self.dead_letters_topic, self.changelog_topic),
            GroupMember(group=self.group, **membership),
            PollLimits(poll_records=max_poll_records, poll_bytes=max_poll_bytes),
            unreachable_after_s=unreachable_after_s,
            columnar=columnar,
        )
        self.opened.append(log)
        return log

    def append(self, partition: int, records: Sequence[Record]) -> None:
        self.broker.produce(self.topic, [(partition, record) for record in records])

    def gap(self, partition: int) -> None:
        self.append_transaction(partition, readings(2), committed=False)

    def append_transaction(self, partition: int, records: Sequence[Record], committed: bool, **settings: Any) -> None:
        settings = {"transactional_id": f"{self.group}-writer", "retry_backoff_ms": 5, **settings}
        with KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers, **settings) as producer:
            producer.init_transactions()
            producer.begin_transaction()
            for r in records:
                producer.send(self.topic, r.value, r.key, list(r.headers), partition, r.time_ms)
            producer.flush()
            if committed:
                producer.commit_transaction()
            else:
                producer.abort_transaction()

    def evict(self, log: Log) -> None:
        assert isinstance(log, KafkaLog)
        member = log._consumer.group_metadata().member_id
        with KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers) as admin:
            admin.remove_group_members(self.group, [MemberToRemove(member_id=member)])

    def anomalies(self) -> list[tuple[int, Record]]:
        return [(w.partition, w.record) for w in self.broker.read_committed(self.anomalies_topic)]

    def dead_letters(self) -> list[tuple[int, Record]]:
        return [(w.partition, w.record) for w in self.broker.read_committed(self.dead_letters_topic)]

    def close(self) -> None:
        for log in self.opened:
            log.close()


@pytest.fixture
def new_world(kafka: Broker) -> Iterator[Callable[..., KafkaWorld]]:
    """Worlds with client settings of their own, whose workers are closed whatever becomes of the test."""
    with contextlib.ExitStack() as closing:

        def new_world(partitions: int = 2, client: Mapping[str, object] | None = None) -> KafkaWorld:
            world = KafkaWorld(kafka, partitions, client)
            closing.callback(world.close)
            return world

        yield new_world


@pytest.fixture
def world(new_world: Callable[..., KafkaWorld]) -> KafkaWorld:
    return new_world()


@pytest.fixture
def proxied(proxy: Proxy, new_world: Callable[..., KafkaWorld]) -> KafkaWorld:
    """A world whose workers reach the broker through the proxy."""
    return new_world(client={"proxy_url": proxy.url})


def wait_until(condition: Callable[[], bool], poll: Callable[[], object] = lambda: time.sleep(0.01)) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {WITHIN_S} s"
        poll()


class TestKafkaLog(LogContract):
    @pytest.fixture
    def world(self, world: KafkaWorld) -> World:
        return world


# --- columns -------------------------------------------------------------------------------------------------------


def nasty(world: KafkaWorld) -> int:
    """Fill partition 0 with all that a topic may hold; return how many records a reader is to see."""
    headers = (("a", b"1"), ("b", b""))
    special = [Record(None, b"v"), Record(b"k", None), Record(b"", b"}\x00"), Record(b"k", b"x" * 70_000, headers)]
    seen = 0
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        world.broker.produce(world.topic, [(0, r) for r in readings(60) + special], compression_type=codec)
        world.append_transaction(0, readings(5), committed=False, compression_type=codec)
        world.append_transaction(0, readings(5), committed=True, compression_type=codec)
        seen += 60 + len(special) + 5
    world.append(1, readings(7))
    return seen + 7


def together(fetched: Sequence[Fetched], number: int) -> tuple[list[Any], ...]:
    parts = [f for f in fetched if f.partition.number == number]
    columns = [[x for f in parts for x in np.asarray(getattr(f, name), dtype=object)] for name in Fetched._fields[1:5]]
    return (*columns, [parts[-1].next_offset, parts[-1].end_offset])


@pytest.mark.thorough
def test_columns_are_what_the_clients_own_decoder_gives(world: KafkaWorld) -> None:
    count = nasty(world)
    plain = Reader(world.open(columnar=False)).until(count)
    plain.poll()
    plain.log.close()
    for limit in (7, 20_000):
        with capture_logs() as logged:
            log = world.open(limit)
            fast = Reader(log).until(count)
            fast.poll()
        log.close()
        assert log._ends is not None
        assert logged == []
        assert together(fast.fetched, 0) == together(plain.fetched, 0)
        assert together(fast.fetched, 1) == together(plain.fetched, 1)


def test_a_client_that_is_made_otherwise_decodes_by_itself(world: KafkaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.append(0, readings(10))
    monkeypatch.setattr(kafka_columns, "_partition_records", lambda *_, **__: None)
    with capture_logs() as logged:
        reader = Reader(world.open()).until(10)
    assert [w["event"] for w in logged] == ["records_decoded_one_by_one"]
    assert reader.values() == [r.value for r in readings(10)]


def test_an_open_transaction_is_not_read_and_not_lag(world: KafkaWorld) -> None:
    world.append(0, readings(4))
    settings = {"transactional_id": f"{world.group}-open", "bootstrap_servers": world.broker.bootstrap_servers}
    with KafkaProducer(**settings) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(world.topic, b"open", b"s", partition=0).get(timeout=WITHIN_S)
        world.append(0, readings(4, 4))
        reader = Reader(world.open()).until(4)
        assert reader.poll(0.3) == ()
        assert [(f.next_offset, f.end_offset) for f in reader.fetched] == [(4, 4)]
        producer.commit_transaction()
    assert reader.until(9).values() == [r.value for r in readings(4)] + [b"open"] + [r.value for r in readings(4, 4)]


def test_records_that_were_deleted_unread_are_told(world: KafkaWorld) -> None:
    world.append(0, readings(10))
    log = world.open()
    Reader(log).until(10)
    log.commit([Commit(Partition(world.topic, 0), 4, (), ())])
    log.close()
    with KafkaAdminClient(bootstrap_servers=world.broker.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(world.topic, 0): 7})
    with capture_logs() as logged:
        assert Reader(world.open()).until(3).offsets(0) == [7, 8, 9]
    assert [(w["event"], w["offset"]) for w in logged] == [("records_deleted_unread", 4)]


# --- rebalances ----------------------------------------------------------------------------------------------------


def judge(*readers: Reader) -> None:
    """Poll each once, and publish every record that came as an anomaly."""
    for reader in readers:
        fetched = reader.poll(0.02)
        assert all(part.next_offset > part.offsets[-1] for part in fetched)
        commits = [
            Commit(f.partition, f.next_offset, tuple(Record(k, v) for k, v in zip(f.keys, f.values, strict=True)), ())
            for f in fetched
        ]
        with contextlib.suppress(TaskMigrated):
            reader.log.commit(commits)


@pytest.mark.thorough
def test_a_second_worker_takes_over_partitions_and_the_first_goes_on_with_the_rest(
    new_world: Callable[..., KafkaWorld],
) -> None:
    world = new_world(partitions=4)
    for number in range(4):
        world.append(number, readings(200, 1_000 * number))
    first = Reader(world.open(max_poll_records=20))
    wait_until(lambda: len(first.values()) > 0, lambda: judge(first))
    second = Reader(world.open(max_poll_records=20, transactional_id=f"{world.group}-second"))
    wait_until(lambda: len(first.owned) == len(second.owned) == 2, lambda: judge(first, second))
    assert second.owned <= set(first.revoked)  # a slow machine: all of them, where a generation lies between
    for number in range(4):
        world.append(number, readings(50, 1_000 * number + 200))
    wait_until(lambda: len(world.anomalies()) == 1_000, lambda: judge(*[first, second] * 20))
    second.log.close()
    wait_until(lambda: len(first.owned) == 4, lambda: judge(first))
    for number in range(4):
        world.append(number, readings(10, 1_000 * number + 250))
    wait_until(lambda: len(world.anomalies()) == 1_040, lambda: judge(first))
    published = world.anomalies()
    for number in range(4):
        assert [r.value for n, r in published if n == number] == [r.value for r in readings(260, 1_000 * number)]
    # What the first kept, it read on without a break: one pass, nothing twice.
    kept = {Partition(world.topic, n) for n in range(4)} - set(first.revoked)
    assert all(first.offsets(p.number) == list(range(260)) for p in kept)


def test_partitions_kept_over_a_generation_that_was_missed_start_again(world: KafkaWorld) -> None:
    """Another worker may have had them in between: only a generation that follows directly proves otherwise."""
    world.append(0, readings(10))
    log = world.open()
    reader = Reader(log).until(10)
    log.commit([Commit(Partition(world.topic, 0), 4, (), ())])
    membership: Any = log._membership
    log._membership = membership._replace(generation_id=membership.generation_id - 1)
    log._consumer._coordinator.request_rejoin()
    reader.fetched.clear()
    reader.until(6)
    assert reader.offsets(0) == [4, 5, 6, 7, 8, 9]
    assert sorted(reader.revoked) == sorted(reader.owned)


@pytest.mark.thorough
def test_a_worker_that_was_thrown_out_cannot_commit_even_when_it_has_heard_of_it(world: KafkaWorld) -> None:
    """The client then knows no generation, and without one the broker fences nothing."""
    world.append(0, readings(10))
    log = world.open()
    reader = Reader(log).until(10)
    world.evict(log)
    wait_until(lambda: log._consumer.group_metadata().generation_id == -1)
    with pytest.raises(TaskMigrated, match="the group has moved on"):
        log.commit(reader.commits())
    reader.fetched.clear()
    assert reader.until(10).offsets(0) == list(range(10))
    assert world.anomalies() == []
    log.commit(reader.commits())
    assert len(world.anomalies()) == 1


def test_a_restarted_worker_fences_the_one_before_it(world: KafkaWorld) -> None:
    world.append(0, readings(10))
    old = world.open()
    reader = Reader(old).until(10)
    new = world.open()
    with pytest.raises(TaskMigrated, match="ended by another"):
        old.commit(reader.commits())
    assert world.anomalies() == []
    new.close()


def test_a_static_worker_restarts_at_once_and_keeps_its_partitions(world: KafkaWorld) -> None:
    world.append(0, readings(10))
    log = world.open(instance_id="worker-1")
    reader = Reader(log).until(10)
    log.commit(reader.commits())
    log.close()
    world.append(0, readings(5, 10))
    start = time.monotonic()
    again = Reader(world.open(instance_id="worker-1")).until(5)
    assert time.monotonic() - start < 4.0  # below the session timeout
    assert again.offsets(0) == [10, 11, 12, 13, 14]


# --- transactions --------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_static_worker_that_is_back_is_given_partitions_that_were_added(world: KafkaWorld, kafka: Broker) -> None:
    """It leads the group, and is not told so."""
    Reader(world.open(instance_id="worker-1")).until_owned(2)
    world.opened[0].close()
    again = Reader(world.open(instance_id="worker-1"))
    again.until_owned(2)
    names = (world.topic, world.anomalies_topic, world.dead_letters_topic, world.changelog_topic)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        admin.create_partitions(dict.fromkeys(names, 3))
    again.until_owned(3)


def test_a_static_worker_leaves_when_it_closes_where_it_is_to(world: KafkaWorld, kafka: Broker) -> None:
    Reader(world.open(instance_id="worker-1", leaves_at_close=True)).until_owned(2)
    world.opened[0].close()
    assert kafka_topics.members_of(kafka.bootstrap_servers, world.group) == ()


def test_a_member_that_is_gone_can_be_taken_out_of_its_group(world: KafkaWorld, kafka: Broker) -> None:
    settings: dict[str, Any] = {"session_timeout_ms": 60_000, "transaction_timeout_ms": 60_000}
    Reader(world.open(instance_id="host-1/worker-1", **settings)).until_owned(2)
    world.opened[0].close()  # it keeps its place
    (member,) = kafka_topics.members_of(kafka.bootstrap_servers, world.group)
    assert remove_member(kafka.bootstrap_servers, world.group, "host-1/worker-1")
    assert kafka_topics.members_of(kafka.bootstrap_servers, world.group) == (), member
    assert not remove_member(kafka.bootstrap_servers, world.group, "host-1/worker-1"), "it is no error"
    other = Reader(world.open(instance_id="host-1/worker-2", **settings))
    began = time.monotonic()
    other.until_owned(2)
    assert time.monotonic() - began < 20, "the session of the other one would be 60 s"


def test_outputs_of_a_transaction_that_fails_half_way_are_never_seen(world: KafkaWorld, kafka: Broker) -> None:
    world.anomalies_topic = kafka.create_topic(2, configs={"max.message.bytes": "1000"})
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    big = Record(b"s", os.urandom(3_200))  # not compressible
    with pytest.raises(LogUnavailable, match=f"too large for {world.anomalies_topic}, .* set max.message.bytes"):
        log.commit([Commit(Partition(world.topic, 0), 3, (Record(b"s", b"anomaly"), big), (Record(b"s", b"dead"),))])
    log.close()
    assert Reader(world.open()).until(3).offsets(0) == [0, 1, 2]
    assert world.anomalies() == world.dead_letters() == []


# --- dead letters that their topic takes


def rejected(size: int, headers: Headers = ()) -> Record:
    return Record(b"s", os.urandom(size), (*headers, ("telltale-reason", b"too_large")), TIMES_MS)


def set_config(world: KafkaWorld, topic: str, name: str, value: str) -> None:
    with KafkaAdminClient(bootstrap_servers=world.broker.bootstrap_servers) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])


def assert_cut(letter: Record, record: Record, max_bytes: int) -> None:
    """The beginning of the value, with what is known of all of it; and no shorter than it has to be."""
    value, headers = record.value or b"", headers_of(letter)
    assert letter.value == value[: len(letter.value or b"")]
    assert max_bytes - 1_000 < record_bytes(letter) <= max_bytes
    assert int(headers["telltale-value-bytes"]) == len(value)
    assert headers["telltale-value-sha256"].decode() == hashlib.sha256(value).hexdigest()


def test_a_dead_letter_is_cut_to_what_its_topic_takes(world: KafkaWorld, kafka: Broker) -> None:
    world.dead_letters_topic = kafka.create_topic(2, configs={"max.message.bytes": "5000"})
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    records = [rejected(size) for size in (100, 4_000, 6_000, 200_000)]
    log.commit([Commit(Partition(world.topic, 0), 3, (Record(b"s", b"anomaly"),), tuple(records))])
    letters = [letter for _, letter in world.dead_letters()]
    assert letters[:2] == records[:2]
    for letter, record in zip(letters[2:], records[2:], strict=True):
        assert_cut(letter, record, 5_000)
    assert [letter.time_ms for letter in letters] == [TIMES_MS] * 4
    assert len(world.anomalies()) == 1


def test_a_topic_of_dead_letters_that_comes_to_take_less_ends_nothing(world: KafkaWorld) -> None:
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    set_config(world, world.dead_letters_topic, "max.message.bytes", "20000")
    records = [rejected(size) for size in (100, 8_000, 15_000, 8_000, 900_000)]
    with capture_logs() as logged:
        log.commit([Commit(Partition(world.topic, 0), 3, (Record(b"s", b"anomaly"),), tuple(records))])
    assert [line["max_bytes"] for line in logged if line["event"] == "dead_letters_refused"] == [20_000]
    letters = [letter for _, letter in world.dead_letters()]
    assert letters[:4] == records[:4]
    assert_cut(letters[4], records[4], 20_000)
    assert len(world.anomalies()) == 1
    log.close()
    world.append(0, readings(1, 3))
    assert Reader(world.open()).until(1).offsets(0) == [3]


def test_without_leave_to_ask_what_a_topic_takes_letters_are_cut_until_they_fit(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactional_writer, "max_message_bytes", lambda *_: None)
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    set_config(world, world.dead_letters_topic, "max.message.bytes", "20000")
    record = rejected(900_000)
    log.commit([Commit(Partition(world.topic, 0), 3, (), (record,))])
    ((_, letter),) = world.dead_letters()
    assert_cut(letter, record, 1_048_588 // 64)


def test_a_topic_that_takes_no_dead_letter_at_all_says_which_setting_to_raise(world: KafkaWorld) -> None:
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    set_config(world, world.dead_letters_topic, "max.message.bytes", "200")
    with pytest.raises(RefusedInput, match=r"takes at least \d+ bytes, its topic takes 200: set max.message.bytes"):
        log.commit([Commit(Partition(world.topic, 0), 3, (), (rejected(900),))])
    assert world.dead_letters() == []


def test_a_time_that_the_topic_of_dead_letters_refuses_goes_into_a_header(world: KafkaWorld) -> None:
    set_config(world, world.dead_letters_topic, "message.timestamp.before.max.ms", "3600000")
    world.append(0, readings(3))
    log = world.open()
    Reader(log).until(3)
    record = rejected(100)
    log.commit([Commit(Partition(world.topic, 0), 3, (), (record,))])
    ((_, letter),) = world.dead_letters()
    assert (letter.key, letter.value) == (record.key, record.value)
    assert int(headers_of(letter)["telltale-time-ms"]) == TIMES_MS
    assert letter.time_ms != TIMES_MS


@pytest.mark.thorough
def test_a_commit_whose_answer_is_lost_is_not_repeated_and_cannot_end_the_next_one(
    proxied: KafkaWorld, proxy: Proxy
) -> None:
    world = proxied
    world.append(0, readings(10))
    log = world.open()
    reader = Reader(log).until(10)
    proxy.keep_back(END_TXN)
    with pytest.raises(TaskMigrated, match="outcome is unknown"):
        log.commit(reader.commits())
    assert proxy.kept.is_set()
    reader.fetched.clear()
    reader.until(10)
    producer = log._writer.producer()
    producer.begin_transaction()
    producer.send(world.anomalies_topic, b"to be aborted", partition=0).get(timeout=WITHIN_S)
    proxy.deliver()  # the first commit's end arrives in the middle of the next transaction
    producer.abort_transaction()
    assert world.anomalies() == []
    log.commit(reader.commits())
    assert [r.value for _, r in world.anomalies()] == [b"anomaly 10"]


def test_polls_shrink_after_a_failed_commit_and_grow_back(world: KafkaWorld) -> None:
    world.append(0, readings(4_000))
    log = world.open(max_poll_records=800)
    reader = Reader(log).until(800)

    def fail(point: str) -> None:
        if point == "after_begin":
            raise KafkaTimeoutError("a time limit that was too short for so much")

    failpoints.arm(fail)
    try:
        with pytest.raises(TaskMigrated):
            log.commit(reader.commits())
    finally:
        failpoints.arm(None)
    sizes: list[int] = []
    while len(sizes) < 4:
        reader.fetched.clear()
        for fetched in reader.until(1).fetched:
            sizes.append(len(fetched.values))
            log.commit(reader.commits())
    assert sizes == [200, 400, 800, 800]


# --- a broker that is gone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "hang"])
def test_closing_is_fast_when_the_broker_is_gone(proxied: KafkaWorld, proxy: Proxy, how: str) -> None:
    world = proxied
    world.append(0, readings(3))
    log = world.open()
    reader = Reader(log).until(3)
    log.commit(reader.commits())
    getattr(proxy, how)()
    start = time.monotonic()
    log.close()
    assert time.monotonic() - start < 2.0


@pytest.mark.thorough
def test_a_commit_into_silence_ends_in_time_and_the_worker_recovers(
    proxied: KafkaWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactional_writer, "RECONNECT_WITHIN_S", 1.0)
    world = proxied
    world.append(0, readings(10))
    log = world.open(transaction_timeout_ms=1_500, request_timeout_ms=1_500)
    reader = Reader(log).until(10)
    proxy.hang()
    start = time.monotonic()
    with pytest.raises(TaskMigrated):
        log.commit(reader.commits())
    assert time.monotonic() - start < 4.0
    connect_within(1.0, monkeypatch)
    with pytest.raises(TaskMigrated, match="looking at"):
        reader.poll(0.1)
    proxy.resume()
    proxy.reset()
    wait_until(lambda: len(world.anomalies()) == 10, lambda: judge(reader))
    assert [r.value for _, r in world.anomalies()] == [r.value for r in readings(10)]


def test_a_transaction_that_the_client_gives_up_is_one_that_failed_like_others() -> None:
    silence = KafkaError("Could not execute transactional request for unknown reasons: [Error 7] RequestTimedOutError")
    with pytest.raises(TaskMigrated, match="no answer"), kafka_client.translated("a commit", interrupted=TaskMigrated):
        raise silence
    refusal = KafkaError("something else")
    with pytest.raises(LogUnavailable), kafka_client.translated("a commit", interrupted=TaskMigrated):
        raise refusal


def test_a_broker_that_does_not_come_back_ends_the_worker(proxied: KafkaWorld, proxy: Proxy) -> None:
    world = proxied
    log = world.open(unreachable_after_s=1.0)
    Reader(log).until_owned(2)
    proxy.stop()
    with pytest.raises(LogUnavailable, match=r"no answer for \d s"):
        wait_until(lambda: False, lambda: log.poll(0.1))


@pytest.mark.slow
def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_within(2, monkeypatch)
    with pytest.raises(LogUnavailable, match=r"could not connect to 127.0.0.1:9 within 2 s: .*ECONNREFUSED"):
        KafkaLog(*NOWHERE)


@pytest.mark.parametrize("late", [KafkaTimeoutError("closed"), KafkaConnectionError("Connection timed out")])
def test_an_attempt_that_the_deadline_ends_does_not_hide_why_the_one_before_it_failed(late: KafkaError) -> None:
    def connect() -> None:
        for failure in (KafkaConnectionError("111 ECONNREFUSED"), late):
            logging.getLogger("kafka.net.manager").error("Connection failed: %s", failure)
        raise KafkaTimeoutError("gave up")

    with (
        pytest.raises(LogUnavailable, match=r"could not connect to 127.0.0.1:9 within 10 s: .*ECONNREFUSED"),
        kafka_client.connecting("127.0.0.1:9"),
    ):
        connect()


# --- refusals ------------------------------------------------------------------------------------------------------


def test_missing_and_narrow_topics_are_refused_by_name(kafka: Broker, world: KafkaWorld) -> None:
    narrow = kafka.create_topic(1)
    with pytest.raises(RefusedInput, match=f"{narrow} has 1 partitions, expected at least the 2 of {world.topic}"):
        check_topics(kafka.bootstrap_servers, [world.topic], [narrow])
    world.topic = "no-such-topic"
    with pytest.raises(RefusedInput, match="found no topic no-such-topic"):
        world.open()


def test_a_wrong_mechanism_is_told(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_within(0.5, monkeypatch)
    secret = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u"}
    with pytest.raises(LogUnavailable, match=r"topics of|connect") as refused:
        check_topics(kafka.bootstrap_servers, ["a"], ["b"], {**secret, "sasl_plain_password": "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_transaction_may_not_outlive_its_session() -> None:
    with pytest.raises(RefusedSetting, match="expected at most session_timeout_ms 10000"):
        GroupMember(group="g", transactional_id="t", transaction_timeout_ms=60_000)


def test_slow_checksums_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.record.util.crc32c_c", None)
    with pytest.raises(LogUnavailable, match="crc32c"):
        KafkaLog(*NOWHERE)


def test_the_client_stays_silent_below_warning_whatever_the_level(
    kafka: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "kafka.net.connection"):
        describe_topics(kafka.bootstrap_servers, ["no-such-topic"])
        logging.getLogger("kafka.net.connection").debug("password hunter2")
        logging.getLogger("kafka.net.connection").warning("a warning")
    heard = [r for r in caplog.records if r.name.startswith("kafka")]
    assert heard[-1].message == "a warning"
    assert all(r.levelno >= logging.WARNING for r in heard)


# --- topics and writing --------------------------------------------------------------------------------------------


def test_topics_are_made_once_and_described(kafka: Broker) -> None:
    name = f"topic-{uuid.uuid4().hex[:10]}"
    spec = TopicSpec(3, 1, {"cleanup.policy": "compact"})
    assert create_topics(kafka.bootstrap_servers, {name: spec}) == (name,)
    assert create_topics(kafka.bootstrap_servers, {name: spec}) == ()
    assert describe_topics(kafka.bootstrap_servers, [name, "no-such-topic"]) == {name: spec, "no-such-topic": None}


def test_what_is_produced_is_counted_and_goes_to_its_partition(kafka: Broker) -> None:
    topic = kafka.create_topic(4)
    written = readings(100)
    assert produce(kafka.bootstrap_servers, topic, ((r, None) for r in written)) == 100
    assert produce(kafka.bootstrap_servers, topic, ((r, 3) for r in written)) == 100
    seen = kafka.read_committed(topic)
    assert len(seen) == 200
    by_key = {w.record.key: w.partition for w in seen if w.partition != 3}
    assert all(w.partition in (3, by_key.get(w.record.key, 3)) for w in seen)
    with pytest.raises(LogUnavailable, match="Unrecognized partition 7"):
        produce(kafka.bootstrap_servers, topic, [(written[0], 7)])


def test_a_keyed_record_is_where_any_producer_puts_its_key(new_world: Callable[..., KafkaWorld]) -> None:
    world = new_world()
    world.append(0, readings(1))
    log = world.open()
    Reader(log).until(1)
    keys = [b"stream-%d" % n for n in range(20)]
    log.commit([Commit(Partition(world.topic, 0), 1, keyed=tuple(Record(key, b"x") for key in keys))])
    found = {record.key: number for number, record in world.anomalies()}
    assert found == {key: partition_of(key, 2) for key in keys}


def test_a_time_that_the_topic_refuses_is_said_with_the_setting(new_world: Callable[..., KafkaWorld]) -> None:
    world = new_world()
    world.append(0, readings(1))
    log = world.open()
    Reader(log).until(1)
    in_a_year = Record(b"s", b"x", (), int((time.time() + 31_536_000) * 1000))
    with pytest.raises(LogUnavailable, match=r"refuses the time of a record: set message\.timestamp\.after\.max\.ms"):
        log.commit([Commit(Partition(world.topic, 0), 1, keyed=(in_a_year,))])
