"""How a worker's log is set up: the cluster, its topics, its place in the group, and how much one poll brings."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import RefusedSetting
from service.log.port import POLL_BYTES


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the brokers are, and what every client of them takes.

    servers: HOST:PORT, separated by commas. client: settings of kafka-python's own (security, client_id).
    """

    servers: str
    client: Mapping[str, object] | None = None
    request_timeout_ms: int = 10_000

    def client_settings(self) -> dict[str, object]:
        return {
            "bootstrap_servers": self.servers.split(","),
            "request_timeout_ms": self.request_timeout_ms,
            "reconnect_backoff_max_ms": 1_000,  # the client's 30 s make a 6 s restart of the broker an outage of 25
            **(self.client or {}),
        }


@dataclass(frozen=True, slots=True)
class TopicNames:
    """What a worker reads, and where it writes. scores: None: no commit has any."""

    readings: tuple[str, ...]
    anomalies: str
    dead_letters: str
    changelog: str
    scores: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.anomalies, self.dead_letters, *([self.scores] if self.scores else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A worker's place in its consumer group.

    transactional_id: this worker's own; a restart with the same one ends what the dead worker left open.
    instance_id: with it a restarted worker gets its partitions back at once, but one that is stopped keeps them until
    session_timeout_ms is over, unless it leaves_at_close. A worker that does not poll for max_poll_interval_ms is
    thrown out.

    takes_all: one member of the group has all partitions, and all that it writes is in the first partition of its
    topics; the other members stand by.
    """

    group: str
    transactional_id: str
    instance_id: str | None = None
    leaves_at_close: bool = False
    takes_all: bool = False
    auto_offset_reset: str = "earliest"
    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 500
    max_poll_interval_ms: int = 45_000
    transaction_timeout_ms: int = 10_000

    def __post_init__(self) -> None:
        if self.transaction_timeout_ms > self.session_timeout_ms:
            # A dead worker's partitions would wait for its transaction, not for its session.
            raise RefusedSetting(
                f"transaction_timeout_ms is {self.transaction_timeout_ms}, expected at most session_timeout_ms"
                f" {self.session_timeout_ms}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PollLimits:
    """The most that one poll brings, and that the client fetches ahead of it.

    poll_bytes: of decompressed records; a poll brings one record at least.
    """

    poll_records: int = 50_000
    poll_bytes: int = POLL_BYTES
    fetch_bytes: int = 16 * 1024 * 1024
    partition_fetch_bytes: int = 1024 * 1024


POLL_LIMITS = PollLimits()
