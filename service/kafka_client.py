"""What all uses of kafka-python share: its errors in our words, connecting, and what it may log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from kafka import errors as kafka_errors
from kafka.record import util

from service.errors import LogUnavailable, RefusedSetting, TaskMigrated, TelltaleError
from service.record_batches import CorruptBatch

log = structlog.get_logger()

CONNECT_WITHIN_S = 10.0
CLOSE_WITHIN_S = 1.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a page of 128 rows with 4 layers of 512 hidden units takes 2 MB


# What the client raises, by what the worker does about it; the first match counts. `None`: a lost connection or a
# time limit, which ends a worker that starts but in a commit only means that its outcome is unknown.
ERRORS: tuple[tuple[tuple[type[Exception], ...], type[TelltaleError] | None, str], ...] = (
    ((kafka_errors.FencedInstanceIdError,), LogUnavailable, "another worker has this group_instance_id"),
    (
        (
            kafka_errors.CommitFailedError,
            kafka_errors.IllegalGenerationError,
            kafka_errors.UnknownMemberIdError,
            kafka_errors.RebalanceInProgressError,
        ),
        TaskMigrated,
        "the group has moved on",
    ),
    (
        (
            kafka_errors.ProducerFencedError,
            kafka_errors.InvalidProducerEpochError,
            kafka_errors.InvalidTxnStateError,
            kafka_errors.InvalidProducerIdMappingError,
            kafka_errors.OutOfOrderSequenceNumberError,
            kafka_errors.UnknownProducerIdError,
            kafka_errors.TransactionAbortedError,
            kafka_errors.IllegalStateError,  # the client has noticed it, and is making a new epoch
        ),
        TaskMigrated,
        "the transaction was ended by another",
    ),
    ((kafka_errors.SaslAuthenticationFailedError,), LogUnavailable, "authentication failed"),
    ((kafka_errors.UnsupportedSaslMechanismError,), LogUnavailable, "authentication failed"),
    ((kafka_errors.AuthorizationError,), LogUnavailable, "not allowed"),
    ((kafka_errors.MessageSizeTooLargeError,), LogUnavailable, "a record is too large"),
    ((kafka_errors.CorruptRecordError, CorruptBatch), LogUnavailable, "corrupt records"),
    ((kafka_errors.KafkaConfigurationError,), RefusedSetting, "a client setting is wrong"),
    ((kafka_errors.RetriableError,), None, "no answer"),
    ((kafka_errors.KafkaError,), LogUnavailable, "refused"),
    ((ValueError,), LogUnavailable, "refused by the client"),
)


@contextmanager
def translated(where: str, interrupted: type[TelltaleError] = LogUnavailable) -> Iterator[None]:
    """The client's exceptions as ours. interrupted: what a lost connection or an over-long wait is."""
    try:
        yield
    except TelltaleError:
        raise
    except Exception as error:
        if _is_given_up(error):
            raise interrupted(f"{where}: no answer ({said(error)})") from error
        for kinds, ours, meaning in ERRORS:
            if isinstance(error, kinds):
                raise (ours or interrupted)(f"{where}: {meaning} ({said(error)})") from error
        raise


def _is_given_up(error: Exception) -> bool:
    """Whether the client says that a transaction's request got no answer; it has no class of error for that."""
    return type(error) is kafka_errors.KafkaError and "Could not execute transactional request" in str(error)


@contextmanager
def connecting(bootstrap_servers: str) -> Iterator[None]:
    """Say which servers could not be reached, and why: the client raises only that it could not."""
    complaints = _Complaints()
    client = logging.getLogger("kafka.net")
    client.addHandler(complaints)
    client.propagate = False  # a line for every attempt would hide the one that says why
    try:
        with translated(f"connecting to {bootstrap_servers}"):
            try:
                yield
            except kafka_errors.KafkaTimeoutError as error:
                why = f": {complaints.last}" if complaints.last else ""
                raise LogUnavailable(
                    f"could not connect to {bootstrap_servers} within {CONNECT_WITHIN_S:.0f} s{why}"
                ) from error
    finally:
        client.removeHandler(complaints)
        client.propagate = True


class _Complaints(logging.Handler):
    """Keeps why the last connection failed; at these levels the client writes no secrets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "failed: " in message and "Bootstrap failed" not in message:
            self.last = message.split("failed: ", 1)[1].split(" (backoff")[0]


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def require_fast_checksums() -> None:
    if util.crc32c_c is None:
        raise LogUnavailable(
            "kafka-python computes checksums in Python, four times slower than all the rest: found no module crc32c,"
            " expected the one that `pip install crc32c` brings"
        )


def silence_client_below_warning() -> None:
    """Whatever the log level is: below WARNING the client writes passwords. Errors that are none are left out too."""
    names = [name for name in logging.root.manager.loggerDict if name == "kafka" or name.startswith("kafka.")]
    for name in names:
        logging.getLogger(name).addFilter(_is_worth_telling)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # it warns of every pause of this process
    parent = logging.getLogger("kafka")
    parent.setLevel(max(parent.level, logging.WARNING))  # for those that are not there yet


def _is_worth_telling(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING and not _is_closing(record)


def _is_closing(record: logging.LogRecord) -> bool:
    """Whether the client complains that it closed a connection itself while it was asking for the metadata."""
    about = record.args if isinstance(record.args, tuple) else ()
    return record.name == "kafka.cluster" and any(isinstance(one, kafka_errors.Cancelled) for one in about)
