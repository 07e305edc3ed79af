"""A real Kafka broker for the tests, and what a test does to it from outside: topics, records in, records out.

Which broker: KAFKA_BOOTSTRAP_SERVERS if set; else a container, where a Docker engine answers and has the image or
can pull it; else deploy/kafka/broker. TELLTALE_TEST_KAFKA=env|container|local takes that one and no other.
"""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from service.log.port import Record

IMAGE = "apache/kafka:4.1.0"
BROKER_SCRIPT = Path(__file__).parent.parent / "deploy" / "kafka" / "broker"
UP_WITHIN_S = 300.0
# Test data has times long past, and a broker deletes by them: the first time half a minute after its start.
KEEP = {"retention.ms": "-1"}
LIBC = ctypes.CDLL(None)


class NoBroker(Exception):
    """This way of getting a broker is not to be had here; the message says what is missing."""


class Written(NamedTuple):
    """One record as a reader of committed records sees it."""

    partition: int
    offset: int
    record: Record


@dataclass(frozen=True)
class Broker:
    """A running broker. kind: how it was got, for the test report."""

    bootstrap_servers: str
    kind: str

    def create_topic(
        self, partitions: int = 1, name: str = "readings", configs: Mapping[str, str] | None = None
    ) -> str:
        """Make a topic with a name of its own, wait until every partition has a leader, return the name."""
        topic = f"{name}-{uuid.uuid4().hex[:10]}"
        with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
            configs = {**KEEP, **(configs or {})}
            options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
            admin.create_topics({topic: options}, wait_for_metadata=True)
        return topic

    def produce(self, topic: str, records: Iterable[tuple[int, Record]], **settings: object) -> None:
        """Append (partition, record) pairs and wait until all of them are there."""
        with KafkaProducer(bootstrap_servers=self.bootstrap_servers, **{"linger_ms": 5, **settings}) as producer:
            futures = [
                producer.send(topic, r.value, r.key, list(r.headers), partition=partition, timestamp_ms=r.time_ms)
                for partition, r in records
            ]
            producer.flush()
            for future in futures:
                future.get(timeout=180)

    def produce_part(self, topic: str, records: Mapping[int, Sequence[Record]], part: int, parts: int) -> None:
        """Of what is in each partition one of equal parts: however fast the machine, something is left for later."""
        for number, mine in records.items():
            some = mine[part * len(mine) // parts : (part + 1) * len(mine) // parts]
            self.produce(topic, [(number, record) for record in some])

    def read_committed(self, topic: str) -> list[Written]:
        """Everything a reader of committed records sees, by partition and offset, once no transaction is open.

        A commit is acknowledged before its markers are in the partitions.
        """
        with KafkaConsumer(
            bootstrap_servers=self.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            fetch_max_wait_ms=20,
        ) as consumer:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = self._end_offsets(partitions)
            while consumer.end_offsets(partitions) != ends:
                ends = self._end_offsets(partitions)
            written: list[Written] = []
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                for records in consumer.poll(timeout_ms=200).values():
                    written += [_written(record) for record in records]
        return sorted(written, key=lambda w: (w.partition, w.offset))

    def _end_offsets(self, partitions: list[TopicPartition]) -> Any:
        """Past the last record of each partition, committed or not."""
        with KafkaConsumer(bootstrap_servers=self.bootstrap_servers) as consumer:
            return consumer.end_offsets(partitions)


def _written(record: Any) -> Written:
    headers = tuple((name, value) for name, value in record.headers)
    return Written(record.partition, record.offset, Record(record.key, record.value, headers, record.timestamp))


@contextmanager
def running_broker() -> Iterator[Broker]:
    """The first broker to be had, ended again afterwards. Raises NoBroker saying what to install."""
    ways = {"env": _from_environment, "container": _in_container, "local": _local}
    forced = os.environ.get("TELLTALE_TEST_KAFKA")
    if forced is not None and forced not in ways:
        raise NoBroker(f"TELLTALE_TEST_KAFKA is {forced!r}, expected one of {', '.join(ways)}")
    missing = []
    for kind in [forced] if forced else ways:
        way = ways[kind]()
        try:
            bootstrap_servers = next(way)
        except NoBroker as reason:
            missing.append(f"  {kind}: {reason}")
            continue
        try:
            yield Broker(bootstrap_servers, kind)
        finally:
            way.close()
        return
    raise NoBroker(
        "these tests need a Kafka broker and found none:\n"
        + "\n".join(missing)
        + f"\nInstall Docker with the image {IMAGE}, or Java 17 and Maven (Debian: apt install openjdk-17-jre-headless"
        " maven), or set KAFKA_BOOTSTRAP_SERVERS=host:port to a broker that tests may write to."
    )


def _from_environment() -> Generator[str, None, None]:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        raise NoBroker("KAFKA_BOOTSTRAP_SERVERS is not set")
    if not _answers_within(servers, 60.0):
        raise NoBroker(f"KAFKA_BOOTSTRAP_SERVERS is {servers}, but no broker answers there")
    yield servers


def _in_container() -> Generator[str, None, None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own deprecations are not ours to fail on
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    engine = _docker_engine()
    if not _have_image(engine, IMAGE):
        raise NoBroker(f"the Docker engine has no image {IMAGE} and cannot pull it")
    if not _have_image(engine, testcontainers_config.ryuk_image):
        testcontainers_config.ryuk_disabled = True  # its reaper is a second line: the container is stopped below
    port = _free_ports(1)
    host = engine.host()
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    for name, value in _container_settings(host, port).items():
        container.with_env(name, value)
    try:
        container.start()
        servers = f"{host}:{port}"
        if not _answers_within(servers, UP_WITHIN_S):
            raise NoBroker(f"the container of {IMAGE} did not answer on {servers} within {UP_WITHIN_S:.0f} s")
        yield servers
    finally:
        container.stop()


def _docker_engine() -> Any:
    """The engine's client, or NoBroker when none answers."""
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # where no engine answers, the library leaves its socket open
        try:
            engine = DockerClient(timeout=60)
            engine.client.ping()
        except DockerException as error:
            reason = type(error).__name__
        else:
            return engine
        gc.collect()
    raise NoBroker(f"no Docker engine answers ({reason})")


def _have_image(engine: Any, image: str) -> bool:
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415

    try:
        engine.client.images.get(image)
    except ImageNotFound:
        try:
            engine.client.images.pull(image)
        except DockerException:
            return False
    return True


def _container_settings(host: str, port: int) -> dict[str, str]:
    return {
        "CLUSTER_ID": "telltale-broker-000000",
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{host}:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "1000",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_HEAP_OPTS": "-Xmx768m",
    }


def _local() -> Generator[str, None, None]:
    with tempfile.TemporaryDirectory(prefix="telltale-kafka-") as folder:
        port = _free_ports(2)
        output = Path(folder) / "output"
        with output.open("w") as out:
            broker = subprocess.Popen(
                [BROKER_SCRIPT, "start", "--port", str(port), "--dir", f"{folder}/broker"],
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
                start_new_session=True,  # Ctrl-C is for the tests: they end the broker when they are through
            )
        try:
            servers = f"127.0.0.1:{port}"
            # The first start fetches the jars: as long as the script runs, it is at work.
            while not _answers_within(servers, 1.0):
                if broker.poll() is not None:
                    raise NoBroker(output.read_text().strip() or f"{BROKER_SCRIPT} ended with {broker.returncode}")
            yield servers
        finally:
            broker.terminate()  # the script has become the broker: one pid
            try:
                broker.wait(20)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()


def require_java() -> None:
    """Raises NoBroker, saying what to install, unless BROKER_SCRIPT can run here."""
    ran = subprocess.run([BROKER_SCRIPT, "check"], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise NoBroker(ran.stderr.strip())


def _end_with_parent() -> None:
    """Let the kernel end this child when the tests are killed (Linux: PR_SET_PDEATHSIG). Runs between fork and exec."""
    if sys.platform == "linux":
        LIBC.prctl(1, signal.SIGTERM)


def _answers_within(servers: str, timeout_s: float) -> bool:
    """Whether a metadata request succeeds before the time is over."""
    host, _, port = servers.split(",", 1)[0].rpartition(":")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            with KafkaAdminClient(bootstrap_servers=servers, bootstrap_timeout_ms=2_000) as admin:
                admin.list_topics()
        except (OSError, KafkaError):
            time.sleep(0.1)
        else:
            return True
    return False


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nothing listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first
