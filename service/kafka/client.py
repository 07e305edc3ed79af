"""What all uses of kafka-python share: its errors in our words, connecting, and what it may log."""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record import util

from service.errors import LogUnavailable, RefusedSetting, TaskMigrated, TelltaleError
from service.host.outgoing import ClientCredentials, NoToken
from service.kafka.diagnosis import diagnosis, tls_context
from service.kafka.record_batches import CorruptBatch

logger = structlog.get_logger("telltale.kafka")

CONNECT_WITHIN_S = 10.0
CLOSE_WITHIN_S = 1.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a page of 128 rows with 4 layers of 512 hidden units takes 2 MB
# What to look at when a login is refused, where it is not a user's name and password.
LOGIN_SETTINGS = {
    "OAUTHBEARER": "kafka.sasl_oauth_scope, sasl_oauth_client_id and sasl_oauth_extensions",
    "AWS_MSK_IAM": "AWS's credentials of this process, its region and the role's policy",
    "GSSAPI": "kafka.sasl_kerberos_service_name, sasl_kerberos_domain_name and the ticket (klist)",
}
LOGIN_LIBRARIES = {
    "AWS_MSK_IAM": ("botocore", "msk"),
    "GSSAPI": ("gssapi", "kerberos"),
}  # and the extras that bring them
AbstractTokenProvider.register(ClientCredentials)  # it knows no more of Kafka than what is asked of it


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
def connecting(bootstrap_servers: str, client: Mapping[str, object] | None = None) -> Iterator[None]:
    """Say which servers could not be reached, and why: the client raises only that it could not.

    client: the settings it is given. Raises RefusedSetting when a file among them cannot be used.
    """
    client = client or {}
    if str(client.get("security_protocol", "")).endswith("SSL"):
        tls_context(client)
    require_login_library(client)
    complaints = _Complaints()
    loggers = [logging.getLogger(name) for name in ("kafka.net", "kafka.cluster")]
    for one in loggers:
        one.addHandler(complaints)
        one.propagate = False  # a line for every attempt would hide the one that says why
    try:
        with translated(f"connecting to {bootstrap_servers}"):
            try:
                yield
            except kafka_errors.KafkaTimeoutError as error:
                why = _why(complaints.last, bootstrap_servers, client)
                raise LogUnavailable(
                    f"could not connect to {bootstrap_servers} within {CONNECT_WITHIN_S:.0f} s{why}"
                ) from error
    finally:
        for one in loggers:
            one.removeHandler(complaints)
            one.propagate = True


def _why(last: Exception | None, bootstrap_servers: str, client: Mapping[str, object]) -> str:
    mechanism = str(client.get("sasl_mechanism"))
    if isinstance(last, kafka_errors.SaslAuthenticationFailedError) or _is_of_login_library(last, mechanism):
        word = str(last).rpartition("SaslAuthenticationFailedError: ")[2]  # the broker's, or the library's
        helps = LOGIN_SETTINGS.get(mechanism, "kafka.sasl_username and kafka.sasl_password")
        return f": the login failed, see {helps} ({word})"
    if isinstance(last, NoToken):
        return f": no token for the login: {last}"
    found = diagnosis(bootstrap_servers, client)
    return f": {found}" if found else f": {last}" if last else ""


def _is_of_login_library(last: Exception | None, mechanism: str) -> bool:
    """Whether a login failed before the broker saw it, for want of a ticket, of credentials or of a region."""
    if last is None or mechanism not in LOGIN_LIBRARIES:
        return False
    return isinstance(last, kafka_errors.KafkaConfigurationError) or not isinstance(
        last, (kafka_errors.KafkaError, OSError)
    )


class _Complaints(logging.Handler):
    """Keeps why the last connection failed: what the broker said of a login rather than that it hung up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        about = record.args if isinstance(record.args, tuple) else ()
        for one in about:
            refused = isinstance(self.last, kafka_errors.SaslAuthenticationFailedError)
            if isinstance(one, Exception) and not refused and (self.last is None or not _is_only_late(one)):
                self.last = one


def _is_only_late(error: Exception) -> bool:
    """Whether an attempt ended because the time was up: what an earlier one met says more."""
    return isinstance(error, kafka_errors.KafkaTimeoutError) or "Connection timed out" in str(error)


def _heard_out(receive: Callable[[Any], tuple[bytes, Exception | None]]) -> Any:
    """What has come, and then, when it is asked for again, that the connection has ended.

    The client throws away what came together with the end: the broker's word on why it hangs up.
    """

    def receive_before_the_end(transport: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(transport)
        return data, None if data else error

    return receive_before_the_end


KafkaTCPTransport._sock_recv = _heard_out(KafkaTCPTransport._sock_recv)
KafkaSSLTransport._sock_recv = _heard_out(KafkaSSLTransport._sock_recv)


def forget_set_aside(consumer: Any, tp: TopicPartition) -> None:
    """Let the consumer fetch a partition that is resumed, after a seek.

    What it holds of a paused partition it sets aside, and does not fetch that partition meanwhile. It takes such
    records up again only while it has none of any other partition, used up or not, so it may be never.
    """
    fetcher = consumer._fetcher
    fetcher._paused_completed_fetches.pop(tp, None)
    parked = fetcher._paused_partition_records.pop(tp, None)
    if parked is not None:
        parked.drain()


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def require_login_library(client: Mapping[str, object]) -> None:
    """The client would only say that it cannot connect."""
    library, extra = LOGIN_LIBRARIES.get(str(client.get("sasl_mechanism")), ("", ""))
    if library and importlib.util.find_spec(library) is None:
        raise RefusedSetting(
            f"kafka.sasl_mechanism is {client['sasl_mechanism']}: found no module {library}, expected the one that the"
            f" extra {extra} brings (pip install 'telltale[{extra}]')"
        )


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
        logging.getLogger(name).addFilter(_is_worth_logging)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # it warns of every pause of this process
    parent = logging.getLogger("kafka")
    parent.setLevel(max(parent.level, logging.WARNING))  # for those that are not there yet


def _is_worth_logging(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING and not _is_closing(record)


def _is_closing(record: logging.LogRecord) -> bool:
    """Whether the client complains that it closed a connection itself while something was under way on it."""
    about = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(one, kafka_errors.Cancelled) for one in about)
