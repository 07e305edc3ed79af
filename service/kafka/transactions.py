"""Transactions of kafka-python's producer with time limits, and ended once."""

import time
from collections.abc import Iterable
from typing import Any

import kafka
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.producer.transaction_manager import EndTxnHandler

from service.errors import LogUnavailable
from service.kafka.client import CLOSE_WITHIN_S
from service.log.port import Record


class _EndTransactionOnce(EndTxnHandler):  # type: ignore[misc]
    """Ends a transaction without asking twice.

    The client repeats the request over a new connection when the first is lost. The lost one may still arrive, and
    then ends the next transaction half-way (reproduced 4 of 4 times). Here it is an error: a new producer follows,
    whose epoch makes the broker refuse what comes late.
    """

    def on_complete(self, correlation_id: int, response_or_exc: object) -> None:
        if isinstance(response_or_exc, Exception):
            self.transaction_manager.clear_in_flight_transactional_request_correlation_id()
            self.fatal_error(
                kafka_errors.KafkaConnectionError(
                    f"no answer to the end of the transaction, its outcome is unknown: {response_or_exc}"
                )
            )
        else:
            super().on_complete(correlation_id, response_or_exc)


def end_transactions_once(producer: Any) -> None:
    manager = producer._transaction_manager
    if not callable(getattr(manager, "_begin_completing_transaction", None)):
        raise LogUnavailable(f"kafka-python {kafka.__version__} commits in a way not known here, expected 3.0")

    def begin_completing(committed: bool) -> Any:
        if manager._new_partitions_in_transaction:
            manager._enqueue_request(manager._add_partitions_to_transaction_handler())
        handler = _EndTransactionOnce(manager, committed)
        manager._enqueue_request(handler)
        return handler.result

    manager._begin_completing_transaction = begin_completing


def init_transactions(producer: Any, transactional_id: str) -> None:
    """Take the id over from the producer that had it: what is open under it ends.

    Raises LogUnavailable where the id is not ours.
    """
    end_transactions_once(producer)
    try:
        producer.init_transactions()
    except kafka_errors.TransactionalIdAuthorizationFailedError as error:
        group, slash, _ = transactional_id.partition("/")
        raise LogUnavailable(
            f"transactional id {transactional_id}: not allowed, expected a right to WRITE on all transactional ids that"
            f" begin with {group}{slash}"
        ) from error


def failure_of(producer: Any) -> Exception | None:
    """What an earlier request of its transaction failed with; None: none has.

    Whatever is asked of the client after that raises a bare KafkaError, which says only that one has failed.
    """
    error = None if producer is None else producer._transaction_manager.last_error
    return error if isinstance(error, Exception) else None


def open_transactions(admin: Any, tp: TopicPartition) -> dict[str, int]:
    """What is written to a partition and not committed yet: its transactional id, the offset of its first record."""
    producers = admin.describe_producers([tp])[tp].active_producers
    starts = {one.producer_id: one.current_transaction_start_offset for one in producers}
    starts = {number: start for number, start in starts.items() if start is not None and start >= 0}
    found = admin.list_transactions(producer_id_filters=list(starts)) if starts else {}
    listings = (listing for listings in found.values() for listing in listings)
    return {one.transactional_id: starts[one.producer_id] for one in listings if one.producer_id in starts}


def wait_for(producer: Any, result: Any, deadline: float) -> None:
    """Wait for a step of the transaction, but not for ever, as the client's public methods do."""
    producer._sender.wakeup()
    if not result.wait(timeout_ms=max(0.0, 1000 * (deadline - time.monotonic()))):
        raise kafka_errors.KafkaTimeoutError("the transaction took longer than its time limit")


def wait_for_all(producer: Any, sent: Iterable[Any], deadline: float) -> None:
    """Wait until every record that was sent is written; raises what became of the first that is not.

    The client halves a batch that a topic refuses as too large. Its flush then ends with an error though nothing is
    wrong ("Future not done"), so it is asked again.
    """
    while True:
        try:
            producer.flush(timeout=max(0.0, deadline - time.monotonic()))
            break
        except kafka_errors.UnknownError:
            if time.monotonic() > deadline:
                raise
    for future in sent:
        future.get(timeout=max(0.0, deadline - time.monotonic()))


def drop(producer: Any) -> None:
    """Close without waiting for anything that is under way: a broker that hangs must not hang us."""
    try:
        producer.close(timeout=0)
    except kafka_errors.KafkaError:
        producer._sender.force_close()
        producer._closed = True
    producer._sender.join(CLOSE_WITHIN_S / 2)


def send(producer: Any, topic: str, partition: int | None, record: Record) -> Any:
    """partition: None: the one that the key is hashed to, as every Kafka client does."""
    # The client refuses a record without key and value: such a dead letter gets an empty value.
    value = b"" if record.key is None and record.value is None else record.value
    return producer.send(topic, value, record.key, list(record.headers), partition, record.time_ms)
