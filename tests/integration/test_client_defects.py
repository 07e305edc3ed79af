"""What kafka-python does wrong today, on the bare client, and that Telltale's way is safe in the same place.

Each defect stands here as it is, so that a version of the client which mends it, or changes it, is noticed: the test
then says what `service/kafka_*.py` no longer needs. Telltale's way is beside it, or named where another test has it.
"""

import contextlib
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.structs import ConsumerGroupMetadata

from service.errors import TaskMigrated
from service.kafka import transactional_writer
from service.kafka.transactions import drop, send
from tests.integration.test_kafka_log import KafkaWorld, wait_until
from tests.kafka import Broker
from tests.proxy import END_TXN, PRODUCE, SYNC_GROUP, Proxy
from tests.service.log_contract import WITHIN_S, Reader, readings

GROUP_OFFSET = OffsetAndMetadata(100, "", -1)


class Bench:
    """Bare clients with the transactional id, the group and the topic of one test, all through the proxy."""

    def __init__(self, broker: Broker, proxy: Proxy) -> None:
        self.broker, self.proxy = broker, proxy
        self.topic = broker.create_topic(1)
        self.input = TopicPartition(self.topic, 0)
        self.group = f"group-{uuid.uuid4().hex[:10]}"
        self.closing = contextlib.ExitStack()

    def producer(self, **settings: Any) -> Any:
        """One that has begun a transaction."""
        common = {"transactional_id": f"{self.group}-worker", "retry_backoff_ms": 5, "reconnect_backoff_max_ms": 50}
        servers = self.broker.bootstrap_servers
        producer = KafkaProducer(**{"bootstrap_servers": servers, "proxy_url": self.proxy.url, **common, **settings})
        self.closing.callback(drop, producer)
        producer.init_transactions()
        producer.begin_transaction()
        return producer

    def consumer(self, **settings: Any) -> Any:
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers,
            **{"group_id": self.group, "enable_auto_commit": False, "heartbeat_interval_ms": 50, **settings},
        )
        self.closing.callback(consumer.close)
        return consumer

    def member(self, **settings: Any) -> Any:
        """A consumer that owns the partition."""
        consumer = self.consumer(**settings)
        consumer.subscribe([self.topic])
        consumer.partitions_for_topic(self.topic)  # else it may join before it knows them, and then stick: see below
        wait_until(lambda: bool(consumer.assignment()), lambda: consumer.poll(500))
        return consumer

    def evict(self, member: Any) -> None:
        with self.admin() as admin:
            admin.remove_group_members(self.group, [MemberToRemove(member_id=member.group_metadata().member_id)])

    def transaction_ended(self) -> bool:
        """Whether the broker has ended the last transaction, on its own account or not."""
        with self.admin() as admin:
            (described,) = admin.describe_transactions([f"{self.group}-worker"]).values()
        return described.state in {"CompleteAbort", "CompleteCommit"}

    def written(self) -> list[bytes | None]:
        return [w.record.value for w in self.broker.read_committed(self.topic)]

    def committed(self) -> int | None:
        offset: int | None = self.consumer(isolation_level="read_committed").committed(self.input)
        return offset

    def admin(self) -> Any:
        return KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)


@pytest.fixture
def bench(kafka: Broker, proxy: Proxy) -> Iterator[Bench]:
    bench = Bench(kafka, proxy)
    with bench.closing:
        yield bench


@pytest.fixture
def new_world(kafka: Broker, proxy: Proxy) -> Iterator[Callable[[int], KafkaWorld]]:
    """Telltale's own log, through the proxy."""
    with contextlib.ExitStack() as closing:

        def new_world(partitions: int) -> KafkaWorld:
            world = KafkaWorld(kafka, partitions, client={"proxy_url": proxy.url})
            closing.callback(world.close)
            return world

        yield new_world


@pytest.fixture
def world(new_world: Callable[[int], KafkaWorld]) -> KafkaWorld:
    return new_world(2)


def in_background(work: Callable[[], object]) -> "Future[object]":
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # for whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


# --- commit_transaction() says yes to a transaction that was aborted -------------------------------------------------


def lie(bench: Bench) -> Any:
    """Let a transaction run out of time between its offsets and its last records; return the producer."""
    producer = bench.producer(transaction_timeout_ms=1_000, linger_ms=60_000)
    producer.send(bench.topic, b"first", partition=0)
    producer.flush()
    producer.send_offsets_to_transaction({bench.input: GROUP_OFFSET}, bench.group)
    wait_until(bench.transaction_ended)
    return producer


def test_a_commit_of_what_the_broker_has_aborted_succeeds(bench: Bench) -> None:
    producer = lie(bench)
    last = producer.send(bench.topic, b"last", partition=0)
    producer.commit_transaction()  # mended if it raises: `_write` may then leave the futures unchecked
    with pytest.raises(kafka_errors.InvalidProducerEpochError):
        last.get(timeout=WITHIN_S)
    assert bench.written() == []
    assert bench.committed() is None
    producer.begin_transaction()  # and it goes on as if nothing had been
    producer.send(bench.topic, b"next", partition=0)
    producer.commit_transaction()
    assert bench.written() == [b"next"]


def test_after_that_error_the_producer_is_ready_as_if_there_had_been_no_transaction(bench: Bench) -> None:
    producer = lie(bench)
    with pytest.raises(kafka_errors.InvalidProducerEpochError):
        producer.send(bench.topic, b"last", partition=0).get(timeout=producer.flush() or WITHIN_S)
    wait_until(lambda: not producer._transaction_manager.is_bumping_epoch())
    for end in (producer.commit_transaction, producer.abort_transaction):
        with pytest.raises(kafka_errors.KafkaError, match="Invalid transition attempted from state READY"):
            end()
    producer.begin_transaction()  # mended if it raises; nothing here depends on it, as a failed producer is dropped


def test_a_transaction_that_the_broker_has_aborted_is_told(world: KafkaWorld, bench: Bench, proxy: Proxy) -> None:
    bench.group = world.group
    world.append(0, readings(10))
    log = world.open(transaction_timeout_ms=1_000)
    log._writer._transaction_timeout_s = WITHIN_S  # its own time limit is not what is to notice it
    reader = Reader(log).until(10)
    proxy.keep_back(PRODUCE, break_off=False)
    committing = in_background(lambda: log.commit(reader.commits()))
    assert proxy.kept.wait(WITHIN_S)
    wait_until(bench.transaction_ended)
    proxy.deliver(reconnect=False)
    with pytest.raises(TaskMigrated, match="ended by another"):
        committing.result(WITHIN_S)
    assert world.anomalies() == []
    reader.fetched.clear()
    log.commit(reader.until(10).commits())
    assert [r.value for _, r in world.anomalies()] == [b"anomaly 10"]


# --- a zombie fences the living --------------------------------------------------------------------------------------


def test_a_zombies_late_send_fences_the_living_producer(bench: Bench) -> None:
    zombie = bench.producer()
    zombie.send(bench.topic, b"zombie", partition=0).get(timeout=WITHIN_S)
    living = bench.producer()
    living.send(bench.topic, b"living", partition=0).get(timeout=WITHIN_S)
    with pytest.raises(kafka_errors.InvalidProducerEpochError):
        zombie.send(bench.topic, b"late", partition=0).get(timeout=WITHIN_S)
    wait_until(bench.transaction_ended)
    with pytest.raises(kafka_errors.ProducerFencedError):
        living.commit_transaction()  # mended if it succeeds; a worker that was fenced must start again all the same
    assert bench.written() == []


def test_a_worker_that_a_zombie_has_fenced_goes_on(world: KafkaWorld, bench: Bench, proxy: Proxy) -> None:
    bench.group = world.group
    zombie = bench.producer()
    zombie.send(world.anomalies_topic, b"zombie", partition=0).get(timeout=WITHIN_S)
    world.append(0, readings(10))
    log = world.open()
    reader = Reader(log).until(10)
    proxy.keep_back(END_TXN, break_off=False)
    committing = in_background(lambda: log.commit(reader.commits()))
    assert proxy.kept.wait(WITHIN_S)
    with pytest.raises(kafka_errors.InvalidProducerEpochError):
        zombie.send(world.anomalies_topic, b"late", partition=0).get(timeout=WITHIN_S)
    wait_until(bench.transaction_ended)
    proxy.deliver(reconnect=False)
    with pytest.raises(TaskMigrated, match="ended by another"):
        committing.result(WITHIN_S)
    reader.fetched.clear()
    log.commit(reader.until(10).commits())
    assert [r.value for _, r in world.anomalies()] == [b"anomaly 10"]


def test_a_send_after_one_that_was_fenced_says_only_that_one_has_failed(bench: Bench) -> None:
    fenced = bench.producer()
    bench.producer()
    with pytest.raises(kafka_errors.KafkaError):
        fenced.send(bench.topic, b"first", partition=0).get(timeout=WITHIN_S)
    with pytest.raises(kafka_errors.KafkaError, match="at least one previous") as caught:
        fenced.send(bench.topic, b"second", partition=0)
    assert type(caught.value) is kafka_errors.KafkaError  # mended if not: `failure_of` can go


def test_a_worker_that_is_fenced_between_two_sends_goes_on(
    world: KafkaWorld, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.group = world.group
    world.append(0, readings(10))
    log = world.open()
    reader = Reader(log).until(10)
    sends = 0

    def send_slowly(producer: Any, *what: Any) -> Any:
        nonlocal sends
        sends += 1
        if sends == 1:
            bench.producer()
            return send(producer, *what)
        wait_until(producer._transaction_manager.has_error)
        return send(producer, *what)

    monkeypatch.setattr(transactional_writer, "send", send_slowly)
    with pytest.raises(TaskMigrated, match="ended by another"):
        log.commit([commit._replace(anomalies=2 * commit.anomalies) for commit in reader.commits()])
    assert sends == 2
    monkeypatch.undo()
    reader.fetched.clear()
    log.commit(reader.until(10).commits())
    assert [r.value for _, r in world.anomalies()] == [b"anomaly 10"]


# --- a transaction is torn by the end of another, which came late ---------------------------------------------------


def test_a_lost_commit_is_repeated_and_what_comes_late_commits_half_of_the_next(bench: Bench) -> None:
    """Telltale's way: test_a_commit_whose_answer_is_lost_is_not_repeated_and_cannot_end_the_next_one."""
    producer = bench.producer()
    producer.send(bench.topic, b"to be committed", partition=0)
    bench.proxy.keep_back(END_TXN)
    producer.commit_transaction()  # mended if it raises: `_EndTransactionOnce` can go
    assert bench.proxy.kept.is_set()
    producer.begin_transaction()
    producer.send(bench.topic, b"to be aborted", partition=0).get(timeout=WITHIN_S)
    bench.proxy.deliver()
    with contextlib.suppress(kafka_errors.KafkaError):
        producer.abort_transaction()
    # Mended in the broker if only the first is there (KIP-890): `_EndTransactionOnce` can go once all brokers do so.
    assert bench.written() == [b"to be committed", b"to be aborted"]


# --- offsets that are not fenced -------------------------------------------------------------------------------------


def test_offsets_with_the_groups_name_alone_are_taken_from_a_worker_that_was_thrown_out(bench: Bench) -> None:
    """Telltale's way: log_contract.py's test of a worker whose partitions have passed to another."""
    member = bench.member()
    membership = member.group_metadata()
    bench.evict(member)
    producer = bench.producer()
    with pytest.raises(kafka_errors.CommitFailedError):
        producer.send_offsets_to_transaction({bench.input: GROUP_OFFSET}, membership)
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send_offsets_to_transaction({bench.input: GROUP_OFFSET}, bench.group)
    producer.commit_transaction()
    assert bench.committed() == 100  # mended if refused; a membership is what says which worker it is all the same


def test_a_member_that_has_heard_of_its_end_has_a_membership_that_is_not_fenced(bench: Bench) -> None:
    """Telltale's way: test_a_worker_that_was_thrown_out_cannot_commit_even_when_it_has_heard_of_it."""
    member = bench.member()
    bench.evict(member)
    wait_until(lambda: member.group_metadata().generation_id == -1)
    assert member.group_metadata() == ConsumerGroupMetadata(bench.group)
    producer = bench.producer()
    producer.send_offsets_to_transaction({bench.input: GROUP_OFFSET}, member.group_metadata())
    producer.commit_transaction()
    # Mended if either raises: `RebalanceListener` then need not remember the membership with each assignment.
    assert bench.committed() == 100


@pytest.mark.parametrize("isolation_level", ["read_uncommitted", "read_committed"])
def test_only_a_reader_of_committed_records_waits_for_offsets_that_are_pending(
    bench: Bench, isolation_level: str
) -> None:
    producer = bench.producer()
    producer.send_offsets_to_transaction({bench.input: GROUP_OFFSET}, bench.group)
    consumer = bench.consumer(isolation_level=isolation_level)
    if isolation_level == "read_uncommitted":
        # Mended if it waits: then `isolation_level` is a matter of records only.
        assert consumer.committed(bench.input, timeout_ms=300) is None
    else:
        with pytest.raises(kafka_errors.KafkaTimeoutError):
            consumer.committed(bench.input, timeout_ms=300)
    producer.commit_transaction()
    wait_until(lambda: consumer.committed(bench.input) == 100)


# --- waiting without end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["send_offsets_to_transaction", "commit_transaction", "abort_transaction"])
def test_a_step_of_a_transaction_waits_for_a_lost_broker_without_end(bench: Bench, step: str) -> None:
    """Often even after the broker has come back, as the client drops a request whose coordinator refused to connect.

    Telltale's way: test_a_commit_into_silence_ends_in_time_and_the_worker_recovers.
    """
    producer = bench.producer(request_timeout_ms=200, delivery_timeout_ms=200, max_block_ms=200)
    producer.send(bench.topic, b"v", partition=0).get(timeout=WITHIN_S)
    arguments = ({bench.input: GROUP_OFFSET}, bench.group) if step == "send_offsets_to_transaction" else ()
    method = getattr(producer, step)
    assert not {name for name in inspect.signature(method).parameters if "timeout" in name}, "`_wait` can go"
    bench.proxy.reset(refuse=True)
    waiting = in_background(lambda: method(*arguments))
    with pytest.raises(TimeoutError):
        waiting.result(4 * 0.2)  # mended if it ends by an error of its own: `_wait` can go


def test_the_producers_queue_has_no_bound() -> None:
    assert "buffer_memory" not in KafkaProducer.DEFAULT_CONFIG, "PRODUCE_FLUSH_EVERY can go"


def test_a_transaction_right_after_another_may_wait_the_whole_backoff(bench: Bench) -> None:
    """The broker is still busy with the one before; the client knows of a shorter wait and does not take it."""
    producer = bench.producer(retry_backoff_ms=300)
    took_s = [0.0]

    def commit() -> None:
        start = time.monotonic()
        producer.send(bench.topic, b"v", partition=0)
        producer.commit_transaction()
        producer.begin_transaction()
        took_s.append(time.monotonic() - start)

    wait_until(lambda: took_s[-1] > 0.3, commit)  # mended if it never is: `retry_backoff_ms` can go


# --- rebalances ------------------------------------------------------------------------------------------------------


class Complaining(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def on_partitions_revoked(self, revoked: object) -> None: ...

    def on_partitions_assigned(self, assigned: object) -> None:
        self.threads.append(threading.current_thread())
        raise ValueError("a partition that cannot be restored")


def test_a_listener_runs_on_the_clients_own_thread_and_its_errors_lose_their_kind(bench: Bench) -> None:
    """Telltale's listener only queues, and its worker does what takes long or may fail."""
    consumer, listener = bench.consumer(), Complaining()
    consumer.subscribe([bench.topic], listener=listener)
    consumer.partitions_for_topic(bench.topic)
    with pytest.raises(kafka_errors.KafkaError, match="User rebalance callback throws an error"):
        wait_until(lambda: False, lambda: consumer.poll(50))
    # Mended if it is this one: `RebalanceListener` could do the work itself.
    assert listener.threads[0] is not threading.current_thread()


def rejoin_over_two_polls(proxy: Proxy, admin: Any, topic: str, consumer: Any, poll: Callable[[], object]) -> None:
    """Give the topic more partitions; let a poll end while the leader, who has assigned them, waits for the group."""
    proxy.keep_back(SYNC_GROUP, break_off=False)
    with admin:
        admin.create_partitions({topic: 3})

    def learn() -> None:
        if not proxy.kept.is_set():
            consumer._coordinator._cluster.request_update()
        poll()

    wait_until(proxy.kept.is_set, learn)
    poll()
    proxy.deliver(reconnect=False)


def test_a_leader_whose_poll_ends_too_soon_forgets_that_it_was_joining(bench: Bench) -> None:
    """It sends no heartbeats any more, is thrown out, and does not hear of it."""
    consumer = bench.member(proxy_url=bench.proxy.url)
    rejoin_over_two_polls(bench.proxy, bench.admin(), bench.topic, consumer, lambda: consumer.poll(50))
    for _ in range(20):
        consumer.poll(50)  # mended if it then has all three: KafkaLog.poll() need not ask for joining again
    assert consumer.assignment() == {bench.input}
    assert not consumer._coordinator.need_rejoin()
    assert not consumer._coordinator.stable()


def test_a_worker_that_leads_its_group_gets_partitions_that_were_added(
    new_world: Callable[[int], KafkaWorld], bench: Bench, proxy: Proxy
) -> None:
    world = new_world(1)
    log = world.open()
    reader = Reader(log).until_owned(1)
    with bench.admin() as admin:  # a partition is served when the topics that are written to have it too
        admin.create_partitions({world.anomalies_topic: 3, world.dead_letters_topic: 3, world.changelog_topic: 3})
    rejoin_over_two_polls(proxy, bench.admin(), world.topic, log._consumer, lambda: reader.poll(0.05))
    reader.until_owned(3)


def test_what_is_held_of_a_paused_partition_is_not_taken_up_again_once_others_were_read(bench: Bench) -> None:
    """Nor is the partition fetched: it stands still for ever."""
    topic = bench.broker.create_topic(2)
    for number in (0, 1):
        bench.broker.produce(topic, [(number, record) for record in readings(10)])
    tps = [TopicPartition(topic, number) for number in (0, 1)]
    consumer = bench.consumer(auto_offset_reset="earliest", max_poll_records=4)
    consumer.assign(tps)
    first: dict[TopicPartition, list[Any]] = {}
    wait_until(lambda: bool(first), lambda: first.update(consumer.poll(500)))
    (paused,) = first
    consumer.pause(paused)
    (other,) = set(tps) - {paused}
    wait_until(lambda: consumer.position(other) == 10, lambda: consumer.poll(50))
    consumer.resume(paused)
    for _ in range(20):
        assert consumer.poll(50) == {}  # mended if the rest comes: forget_set_aside() is not needed
    assert consumer.position(paused) == 4


def test_partitions_that_start_again_one_after_another_all_go_on(world: KafkaWorld) -> None:
    for number in (0, 1):
        world.append(number, readings(10))
    log = world.open(max_poll_records=4)
    reader = Reader(log).until(4)
    held = reader.fetched[0].partition  # of which the client has some more
    world.evict(log)
    with pytest.raises(TaskMigrated):
        log.commit(reader.commits())
    reader.starts, reader.fetched, reader.assigned = False, [], []
    wait_until(lambda: len(reader.assigned) == 2, reader.poll)
    reader.poll()
    (other,) = reader.until_owned(2).owned - {held}
    log.start(other, 0)
    reader.until(10)
    log.start(held, 0)
    reader.until(20)
    assert reader.offsets(0) == reader.offsets(1) == list(range(10))


# --- defaults that are not for us ------------------------------------------------------------------------------------


def test_settings_that_must_be_given_because_their_defaults_are_otherwise(world: KafkaWorld) -> None:
    log = world.open()
    consumer, producer = log._consumer.config, log._writer._producer.config
    for client, name, default, ours in (
        (KafkaConsumer, "allow_auto_create_topics", True, consumer["allow_auto_create_topics"] is False),
        (KafkaProducer, "allow_auto_create_topics", True, producer["allow_auto_create_topics"] is False),
        (KafkaConsumer, "isolation_level", "read_uncommitted", consumer["isolation_level"] == "read_committed"),
        (KafkaConsumer, "reconnect_backoff_max_ms", 30_000, consumer["reconnect_backoff_max_ms"] <= 1_000),
        (KafkaProducer, "reconnect_backoff_max_ms", 30_000, producer["reconnect_backoff_max_ms"] <= 1_000),
        (KafkaProducer, "transaction_timeout_ms", 60_000, producer["transaction_timeout_ms"] <= 10_000),
        (KafkaProducer, "retry_backoff_ms", 100, producer["retry_backoff_ms"] <= 5),
        (KafkaConsumer, "enable_auto_commit", True, consumer["enable_auto_commit"] is False),
    ):
        assert client.DEFAULT_CONFIG[name] == default, f"{client.__name__}: {name} need not be given any more"
        assert ours, f"{client.__name__}: {name}"
    # Two members of a process that share a cooperative assignor mostly rebalance without end: it is to be the class.
    assert all(isinstance(assignor, type) for assignor in consumer["partition_assignment_strategy"])
