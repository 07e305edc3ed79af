"""Topics: making and checking them, who reads them, and writing readings into them."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.partitioner import murmur2

from service.errors import LogUnavailable, RefusedInput, TelltaleError
from service.kafka.client import (
    CLOSE_WITHIN_S,
    CONNECT_WITHIN_S,
    MAX_MESSAGE_BYTES,
    connecting,
    require_fast_checksums,
    silence_client_below_warning,
    translated,
)
from service.kafka.transactions import drop
from service.log.port import Record

logger = structlog.get_logger("telltale.kafka")

PRODUCE_FLUSH_EVERY = 20_000  # the client's queue has no bound of its own


# Compacted, in segments small enough that the cleaner comes round: it leaves the last one alone.
CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": str(3_600_000),
    "min.cleanable.dirty.ratio": "0.5",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}


COMPACTED = {"cleanup.policy": "compact"}


class TopicSpec(NamedTuple):
    """A topic to be made, or one that was found. replication -1: the cluster's default."""

    partitions: int
    replication: int = -1
    configs: Mapping[str, str] = {}


def produce(
    bootstrap_servers: str,
    topic: str,
    records: Iterable[tuple[Record, int | None]],
    client: Mapping[str, object] | None = None,
) -> int:
    """Append records, to the partition given or else by the key's hash; return how many, once all are written.

    Records are taken as fast as they can be sent: a generator that waits sets the rate.
    """
    require_fast_checksums()
    silence_client_below_warning()
    with connecting(bootstrap_servers, client):
        producer: Any = KafkaProducer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            compression_type="lz4",
            linger_ms=20,
            allow_auto_create_topics=False,
            batch_size=256 * 1024,
            max_request_size=MAX_MESSAGE_BYTES,
            metrics_enabled=False,
            **(client or {}),
        )
    failures: list[Exception] = []
    count = 0
    try:
        with translated(f"writing to {topic} on {bootstrap_servers}"):
            for count, (record, partition) in enumerate(records, 1):
                producer.send(
                    topic, record.value, record.key, list(record.headers), partition, record.time_ms
                ).add_errback(failures.append)
                if count % PRODUCE_FLUSH_EVERY == 0 or failures:
                    producer.flush()
                    _raise_first(failures)
            producer.flush()
            _raise_first(failures)
    finally:
        drop(producer)
    return count


def _raise_first(failures: list[Exception]) -> None:
    if failures:
        raise failures[0]


def last_values(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None = None) -> list[bytes]:
    """What the last record of each partition holds; of those that have none, nothing."""
    check_topics(bootstrap_servers, [topic], (), client)
    silence_client_below_warning()
    with connecting(bootstrap_servers, client):
        consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            allow_auto_create_topics=False,
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
            **(client or {}),
        )
    try:
        with translated(f"reading {topic} on {bootstrap_servers}"):
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            waiting = {partition for partition in partitions if ends[partition] > begins[partition]}
            consumer.assign(list(waiting))
            for partition in waiting:
                consumer.seek(partition, ends[partition] - 1)
            found: list[bytes] = []
            deadline = time.monotonic() + CONNECT_WITHIN_S
            while waiting and time.monotonic() < deadline:
                for partition, records in consumer.poll(timeout_ms=200).items():
                    found += [records[0].value or b""] if partition in waiting else []
                    waiting.discard(partition)
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)
    if waiting:
        raise LogUnavailable(f"reading {topic} on {bootstrap_servers}: nothing came within {CONNECT_WITHIN_S:.0f} s")
    return found


def create_topics(
    bootstrap_servers: str, topics: Mapping[str, TopicSpec], client: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    """Make those that are missing, wait until they can be used, and return their names."""
    with admin_of(bootstrap_servers, client) as admin:
        found = {topic["name"] for topic in admin.describe_topics(list(topics)) if topic["error_code"] == 0}
        missing = {
            name: {
                "num_partitions": spec.partitions,
                "replication_factor": spec.replication,
                "configs": dict(spec.configs),
            }
            for name, spec in topics.items()
            if name not in found
        }
        if missing:
            admin.create_topics(missing, wait_for_metadata=True)
    return tuple(missing)


def widen_topics(
    bootstrap_servers: str, partitions: Mapping[str, int], client: Mapping[str, object] | None = None
) -> dict[str, int]:
    """Add partitions to topics that have fewer, and return how many those had. Only for topics of which a record's
    partition is chosen, not hashed from its key: there it moves nothing.
    """
    with admin_of(bootstrap_servers, client) as admin:
        described = admin.describe_topics(list(partitions))
        had = {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}
        narrow = {name: count for name, count in had.items() if count < partitions[name]}
        if narrow:
            admin.create_partitions({name: partitions[name] for name in narrow})
    return narrow


def describe_topics(
    bootstrap_servers: str, topics: Sequence[str], client: Mapping[str, object] | None = None
) -> dict[str, TopicSpec | None]:
    """Partitions, replication and the settings that differ from the cluster's; None for a topic that does not exist."""
    with admin_of(bootstrap_servers, client) as admin:
        described = {t["name"]: t for t in admin.describe_topics(list(topics)) if t["error_code"] == 0}
        configs: dict[str, Any] = {}
        if described:
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
            configs = admin.describe_configs(resources).get("topic", {})
    return {
        name: TopicSpec(
            len(described[name]["partitions"]),
            min(len(partition["replica_nodes"]) for partition in described[name]["partitions"]),
            {key: str(config["value"]) for key, config in configs.get(name, {}).items()},
        )
        if name in described
        else None
        for name in topics
    }


def max_message_bytes(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None = None) -> int | None:
    """The largest batch that a topic takes; None, with a warning, where that may not be asked."""
    name = "max.message.bytes"
    try:
        with admin_of(bootstrap_servers, client) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
            found = admin.describe_configs([resource], config_filter="all").get("topic", {})
        return int(found[topic][name]["value"])
    except (TelltaleError, KeyError) as error:
        logger.warning("topic_limit_unknown", topic=topic, setting=name, reason=str(error))
        return None


class TopicIdentity(NamedTuple):
    topic_id: str  # another one after the topic was deleted and made again
    partitions: int


def identify_topic(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None = None) -> TopicIdentity:
    """Raises RefusedInput where there is no such topic."""
    with admin_of(bootstrap_servers, client) as admin:
        (found,) = admin.describe_topics([topic])
    if found["error_code"] != 0:
        raise RefusedInput(f"{bootstrap_servers}: found no topic {topic}")
    return TopicIdentity(str(found["topic_id"]), len(found["partitions"]))


def check_topics(
    bootstrap_servers: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    client: Mapping[str, object] | None = None,
    changelog: str | None = None,
) -> dict[str, int]:
    """How many partitions each of them has.

    Raises RefusedInput unless all exist, every other topic has at least as many as each input, and the changelog is
    compacted and can be read.
    """
    others = (*outputs, *([changelog] if changelog else []))
    counts = _counts_of(bootstrap_servers, (*inputs, *others), client)
    widest = max(inputs, key=lambda name: counts[name])
    narrow = [name for name in others if counts[name] < counts[widest]]
    if narrow:
        found = {name: counts[name] for name in narrow}
        raise RefusedInput(f"{bootstrap_servers}: {too_narrow(found, counts[widest], widest)}")
    if changelog:
        _check_changelog(bootstrap_servers, changelog, client)
    return counts


def check_first_partitions(
    bootstrap_servers: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    client: Mapping[str, object] | None = None,
    changelog: str | None = None,
) -> dict[str, int]:
    """How many partitions each of them has, where all that is written goes to the first.

    Raises RefusedInput unless all exist, and the changelog is compacted and can be read.
    """
    counts = _counts_of(bootstrap_servers, (*inputs, *outputs, *([changelog] if changelog else [])), client)
    if changelog:
        _check_changelog(bootstrap_servers, changelog, client)
    return counts


def _counts_of(bootstrap_servers: str, topics: Sequence[str], client: Mapping[str, object] | None) -> dict[str, int]:
    """Partitions of each. Raises RefusedInput where one is missing."""
    with admin_of(bootstrap_servers, client) as admin:
        described = admin.describe_topics(list(topics))
    counts = {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}
    missing = [
        f"{topic['name']} ({kafka_errors.for_code(topic['error_code']).__name__})"
        for topic in described
        if topic["error_code"] != 0
    ]
    if missing:
        raise RefusedInput(
            f"{bootstrap_servers}: found no topic {', '.join(missing)}; `telltale topics create` makes it"
        )
    return counts


def too_narrow(found: Mapping[str, int], expected: int, topic: str) -> str:
    """found: topics with fewer partitions than the `expected` of an input topic."""
    some = ", ".join(f"{name} has {count}" for name, count in found.items())
    return (
        f"{some} partitions, expected at least the {expected} of {topic}; `telltale topics create` adds what is missing"
    )


def _check_changelog(bootstrap_servers: str, topic: str, client: Mapping[str, object] | None) -> None:
    """Compacted, since retention would delete the memory of quiet streams; and readable, or a restart would fail."""
    try:
        found = describe_topics(bootstrap_servers, [topic], client)[topic]
    except LogUnavailable as error:
        logger.warning("changelog_settings_unknown", topic=topic, reason=str(error))
    else:
        policy = found.configs.get("cleanup.policy", "delete") if found else ""
        if policy != "compact":
            raise RefusedInput(f"{bootstrap_servers}: {topic} has cleanup.policy={policy}, expected compact")
    with connecting(bootstrap_servers, client):
        consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            allow_auto_create_topics=False,
            fetch_max_wait_ms=20,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **(client or {}),
        )
    try:
        with translated(f"reading {topic} on {bootstrap_servers}"):
            consumer.assign([TopicPartition(topic, 0)])
            consumer.poll(timeout_ms=200)  # raises where reading is not allowed; there need not be anything to read
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_WITHIN_S * 1000)


@contextmanager
def admin_of(bootstrap_servers: str, client: Mapping[str, object] | None) -> Iterator[Any]:
    silence_client_below_warning()
    with connecting(bootstrap_servers, client):
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=CONNECT_WITHIN_S * 1000,
            **(client or {}),
        )
    try:
        with translated(f"topics of {bootstrap_servers}"):
            yield admin
    finally:
        admin.close()


def members_of(bootstrap_servers: str, group: str, client: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Who is in a consumer group now: client names and hosts. A group that no one knows has no members."""
    with admin_of(bootstrap_servers, client) as admin:
        found = admin.describe_groups([group])[group]
    return tuple(f"{member['client_id']} on {member['client_host'].lstrip('/')}" for member in found["members"])


def partition_of(key: bytes, partitions: int) -> int:
    """Where a producer that is told no partition sends a record with this key: as every Kafka client hashes it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
