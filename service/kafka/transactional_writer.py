"""Writing commits: one transaction each, by the one producer of a worker."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from service import failpoints
from service.errors import LogUnavailable
from service.kafka.client import MAX_MESSAGE_BYTES, said
from service.kafka.log_config import Cluster, GroupMember, TopicNames
from service.kafka.rebalances import Membership
from service.kafka.topics import max_message_bytes
from service.kafka.transactions import drop, failure_of, init_transactions, send, wait_for, wait_for_all
from service.log.fitting import MAX_MESSAGE_BYTES as USUAL_MESSAGE_BYTES
from service.log.fitting import fitted
from service.log.port import Commit, Record

logger = structlog.get_logger("telltale.kafka")

RECONNECT_WITHIN_S = 5.0  # a poll after a failed commit takes at most this much longer
BATCH_BYTES = 1024 * 1024

REFUSED_LETTER = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidTimestampError,
)


class _LettersRefused(Exception):
    """The topic of dead letters takes smaller records, or other times, than it is believed to."""


class TransactionalWriter:
    """A worker's producer. After a transaction that failed it is thrown away; the next one ends what that left open."""

    def __init__(self, cluster: Cluster, topics: TopicNames, member: GroupMember) -> None:
        self._cluster, self._topics, self._member = cluster, topics, member
        self._transaction_timeout_s = member.transaction_timeout_ms / 1000
        self._producer_settings: dict[str, object] = {
            **cluster.client_settings(),
            "transactional_id": member.transactional_id,
            "allow_auto_create_topics": False,
            "transaction_timeout_ms": member.transaction_timeout_ms,
            "acks": "all",
            "compression_type": "lz4",
            "max_request_size": MAX_MESSAGE_BYTES,
            "retry_backoff_ms": 5,  # p95 of a small transaction: 15 ms, 113 with the client's 100
            "delivery_timeout_ms": cluster.request_timeout_ms,
            "max_block_ms": RECONNECT_WITHIN_S * 1000,
            "metrics_enabled": False,
        }
        self.letter_bytes = self._asked_letter_bytes() or USUAL_MESSAGE_BYTES  # of a dead letter, at most
        self._letters_have_times = True
        self._producer: Any = None

    def write(self, commits: Sequence[Commit], membership: Membership) -> None:
        """Write, and again with other dead letters while their topic refuses them: nothing else is refused for them."""
        while True:
            try:
                self._write(commits, membership)
            except _LettersRefused as refused:
                cause = refused.__cause__
                if isinstance(cause, kafka_errors.InvalidTimestampError):
                    self._letters_have_times = False
                else:
                    asked = self._asked_letter_bytes()
                    fewer = self.letter_bytes // 4
                    self.letter_bytes = asked if asked is not None and asked < self.letter_bytes else fewer
                logger.warning(
                    "dead_letters_refused",
                    topic=self._topics.dead_letters,
                    reason=said(refused),
                    max_bytes=self.letter_bytes,
                    with_times=self._letters_have_times,
                )
            else:
                return

    def _write(self, commits: Sequence[Commit], membership: Membership) -> None:
        """The transaction. Sends, flush, every future checked, offsets, commit; nothing after the offsets."""
        deadline = time.monotonic() + self._transaction_timeout_s
        sent: list[tuple[str, Any]] = []

        def write(topic: str, number: int | None, record: Record) -> None:
            sent.append((topic, send(producer, topic, number, record)))

        try:
            producer = self.producer()
            failpoints.reach("before_begin")
            producer.begin_transaction()
            failpoints.reach("after_begin")
            for commit in commits:
                for published in self._published(commit):
                    write(*published)
            failpoints.reach("after_anomalies")
            pages = [(commit.partition.number, page) for commit in commits for page in commit.pages]
            for page in pages[: len(pages) // 2]:
                write(self._topics.changelog, *page)
            failpoints.reach("after_pages_half")
            for page in pages[len(pages) // 2 :]:
                write(self._topics.changelog, *page)
            failpoints.reach("after_pages")
            for commit in commits:
                if commit.marker is not None:
                    write(self._topics.changelog, commit.partition.number, commit.marker)
            failpoints.reach("after_marker")
            wait_for_all(producer, (future for _, future in sent), deadline)
            offsets = {TopicPartition(*c.partition): OffsetAndMetadata(c.next_offset, "", -1) for c in commits}
            manager = producer._transaction_manager
            wait_for(producer, manager.send_offsets_to_transaction(offsets, membership), deadline)
            failpoints.reach("after_offsets")
            failpoints.reach("during_commit")
            wait_for(producer, manager.begin_commit(), deadline)
        except BaseException as error:
            failure = failure_of(self._producer)
            self.drop_producer()
            if isinstance(error, kafka_errors.KafkaError):
                self._raise_refused(sent)
            if type(error) is kafka_errors.KafkaError and failure is not None:
                raise failure from error
            raise

    def _published(self, commit: Commit) -> Iterator[tuple[str, int | None, Record]]:
        """Topic, partition and record of all but state. None: the partition that the key is hashed to."""
        number, topics = commit.partition.number, self._topics
        for record in commit.anomalies:
            yield topics.anomalies, number, record
        for record in commit.keyed:
            yield topics.anomalies, None, record
        for record in commit.dead_letters:
            yield topics.dead_letters, number, self._letter(record)
        for place, record in commit.beside:
            yield place.topic, place.number, record
        if topics.scores is not None:
            for record in commit.scores:
                yield topics.scores, number, record

    def _letter(self, record: Record) -> Record:
        if not self._letters_have_times and record.time_ms is not None:
            time = ("telltale-time-ms", str(record.time_ms).encode())
            record = record._replace(headers=(*record.headers, time), time_ms=None)
        return fitted(record, self.letter_bytes)

    def _raise_refused(self, sent: Sequence[tuple[str, Any]]) -> None:
        """Where a record was refused, raise that: of the others it is only said that the transaction is over."""
        for topic, future in sent:
            error = future.exception
            if topic == self._topics.dead_letters and isinstance(error, REFUSED_LETTER):
                raise _LettersRefused(said(error)) from error
            if isinstance(error, kafka_errors.MessageSizeTooLargeError):
                raise LogUnavailable(
                    f"{self._cluster.servers}: a record is too large for {topic}, and may not be cut: set"
                    f" max.message.bytes of that topic higher ({said(error)})"
                ) from error
            if isinstance(error, kafka_errors.InvalidTimestampError):
                raise LogUnavailable(
                    f"{self._cluster.servers}: {topic} refuses the time of a record: set message.timestamp.after.max.ms"
                    f" and message.timestamp.before.max.ms of that topic higher ({said(error)})"
                ) from error

    def _asked_letter_bytes(self) -> int | None:
        """What the topic of dead letters takes; None where that may not be asked."""
        found = max_message_bytes(self._cluster.servers, self._topics.dead_letters, self._cluster.client)
        return None if found is None else min(found, MAX_MESSAGE_BYTES)

    def producer(self, connect_within_s: float | None = None) -> Any:
        """The producer; after a failed commit a new one, which ends whatever the old one left open."""
        if self._producer is None:
            within_s = RECONNECT_WITHIN_S if connect_within_s is None else connect_within_s
            # No batch of several is larger than the topic of dead letters takes.
            settings = {**self._producer_settings, "batch_size": min(BATCH_BYTES, self.letter_bytes)}
            producer = KafkaProducer(**settings, bootstrap_timeout_ms=within_s * 1000)
            try:
                init_transactions(producer, self._member.transactional_id)
                for topic in (*self._topics.outputs, self._topics.changelog):
                    producer.partitions_for(topic)  # else the first send waits for it, beyond the time limit
            except BaseException:
                drop(producer)
                raise
            self._producer = producer
        return self._producer

    def take_over(self, transactional_id: str) -> None:
        """End what is open under an id of a worker that is gone."""
        settings = {**self._producer_settings, "transactional_id": transactional_id}
        producer = KafkaProducer(**settings, bootstrap_timeout_ms=RECONNECT_WITHIN_S * 1000)
        try:
            init_transactions(producer, transactional_id)
        finally:
            drop(producer)

    def drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            drop(producer)
