"""Records that once ended a worker, or took all of its memory: each is a dead letter, and harms no other."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.codec import gzip_encode

from service.input.events import decode_event
from service.input.wire import encode_reading
from service.log.port import Record
from tests.commands import FreshProcess
from tests.integration import test_end_to_end
from tests.integration.test_end_to_end import NOW_MS, Service, good, made_topics, service
from tests.kafka import Broker
from tests.records import headers_of
from tests.sealed import record, send_sealed, zstd

quick = test_end_to_end.quick
MIB = 1024 * 1024
MEMORY_LIMIT = 2 * 1024 * MIB  # of Compose, and of Helm's values.yaml
GROWTH = 512 * MIB  # what all of it together may take beside the worker itself
WITHIN_S = 600.0
TRACE = (("traceparent", b"00-abc"),)


class Letter(NamedTuple):
    """A dead letter without its value, of which there are gigabytes."""

    offset: int
    reason: str
    headers: dict[str, bytes]
    key_bytes: int
    value_bytes: int
    sha256: str


def letters(broker: Broker, topic: str, partition: int = 0) -> Iterator[Letter]:
    """One after another."""
    settings = {"isolation_level": "read_committed", "enable_auto_commit": False, "fetch_max_wait_ms": 20}
    with KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, **settings) as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for one in consumer.poll(timeout_ms=200, max_records=100).get(place, []):
                headers = headers_of(Record(one.key, None, tuple(one.headers)))
                digest = hashlib.sha256(one.value or b"").hexdigest()
                reason = headers["telltale-reason"].decode()
                offset = int(headers["telltale-offset"])
                yield Letter(offset, reason, headers, len(one.key or b""), len(one.value or b""), digest)


def peak_bytes(running: Service) -> int:
    """The most memory that the worker's process has had resident."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024


def until_judged(running: Service, records: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while running.judged_records() < records:
        assert running.process.running, running.process.err[-5:]
        assert time.monotonic() < deadline, f"{running.judged_records()} of {records} records judged"
        time.sleep(0.1)


@pytest.mark.thorough
@pytest.mark.timeout(1_200)
def test_poison_of_every_kind_is_one_dead_letter_a_record_within_the_memory_limit(kafka: Broker, quick: Path) -> None:
    names = made_topics(kafka)
    spike = encode_reading(["f0", "f1"], NOW_MS + 60_000 * 100, [1e6, 1.0])
    clean = [*map(good, range(100)), Record(b"good", spike, (), NOW_MS), *map(good, range(101, 140))]
    incompressible = b"{" + os.urandom(1_048_487)  # not as a record of MessagePack begins
    bomb = 12_000
    whole = 1_536 * MIB
    with service(kafka, quick, names, FreshProcess) as running:
        kafka.produce(names.topic, [(1, one) for one in clean])
        kafka.produce(names.topic, [(0, one) for one in clean[:60]])
        until_judged(running, len(clean) + 60)
        before = peak_bytes(running)

        sent = len(clean) + 60
        expected: dict[int, tuple[str, int, str]] = {}  # by offset: reason, size and digest of the value
        offset = 60

        # As large as a record may be, incompressible, with a header.
        kafka.produce(names.topic, [(0, Record(b"poison", incompressible, TRACE))], max_request_size=1 << 31)
        expected[offset] = ("too_large", len(incompressible), hashlib.sha256(incompressible).hexdigest())
        # Small on the disk, and more than any dead letter may be.
        zeros = bytes(20_000_000)
        kafka.produce(
            names.topic, [(0, Record(b"poison", zeros, TRACE))], compression_type="zstd", max_request_size=1 << 31
        )
        expected[offset + 1] = ("too_large", len(zeros), hashlib.sha256(zeros).hexdigest())
        # The key is what is too large.
        key, value = os.urandom(1_000_000), b"{}"
        kafka.produce(names.topic, [(0, Record(key, value, TRACE))])
        expected[offset + 2] = ("bad_key", len(value), hashlib.sha256(value).hexdigest())
        # Headers without end, and one that has our name.
        headers = (("telltale-reason", b"theirs"), *((f"h{n}", b"") for n in range(100_000)))
        kafka.produce(names.topic, [(0, Record(b"poison", b"not json", headers))])
        expected[offset + 3] = ("bad_json", 8, hashlib.sha256(b"not json").hexdigest())
        # A record whose length is wrong, in a batch that the broker does not look into so closely.
        lies = gzip_encode(b"".join(record(0, b"k", b"v", longer=-1)))
        send_sealed(kafka, names.topic, 0, "gzip", lies, 1)
        # One record that stands for more than all of the memory.
        digest = hashlib.sha256()
        for _ in range(whole // MIB):
            digest.update(b" " * MIB)
        send_sealed(kafka, names.topic, 0, "zstd", zstd(record(0, b"poison", whole)), 1)
        expected[offset + 5] = ("too_large", whole, digest.hexdigest())
        kafka.produce(names.topic, [(0, one) for one in clean[60:90]])
        # Twelve thousand of sixty kilobytes, in a batch of 136.
        blanks = hashlib.sha256(b" " * 60_000).hexdigest()
        batch = zstd(piece for n in range(bomb) for piece in record(n, b"poison-%d" % n, 60_000))
        assert len(batch) < 200_000
        first = send_sealed(kafka, names.topic, 0, "zstd", batch, bomb)
        expected |= {first + n: ("bad_json", 60_000, blanks) for n in range(bomb)}
        kafka.produce(names.topic, [(0, one) for one in clean[90:]])

        sent += 6 + bomb + len(clean) - 60
        until_judged(running, sent)
        peak = peak_bytes(running)
        print(f"resident before {before / MIB:.0f} MiB, at most {peak / MIB:.0f} MiB")
        assert peak < MEMORY_LIMIT
        assert peak - before < GROWTH
        assert running.metric("telltale_records_rejected_total") == 6 + bomb
        assert running.metric("telltale_transaction_aborts_total") == 0

    found = list(letters(kafka, names.dead_letters))
    assert [one.offset for one in found] == sorted({*expected, offset + 4})
    for one in found:
        if one.offset == offset + 4:
            assert one.reason == "unreadable_batch"
            continue
        reason, size, digest_ = expected[one.offset]
        assert one.reason == reason
        said = one.headers.get("telltale-value-bytes")
        assert (int(said) if said else one.value_bytes) == size
        assert (one.headers["telltale-value-sha256"].decode() if said else one.sha256) == digest_
        assert (one.value_bytes < size) == (said is not None)
    assert {found[0].headers["traceparent"], found[1].headers["traceparent"], found[2].headers["traceparent"]} == {
        b"00-abc"
    }
    assert found[0].value_bytes > 1_040_000
    assert int(found[2].headers.get("telltale-key-bytes", b"1000000")) == len(key)
    assert int(found[3].headers["telltale-headers-left-out"]) == len(headers) - 1_000
    assert list(letters(kafka, names.dead_letters, 1)) == []

    events = [decode_event(written.record.value or b"") for written in kafka.read_committed(names.anomalies)]
    among_poison, alone = ([e for e in events if e.data.partition == number] for number in (0, 1))
    assert [event.change for event in alone][:1] == ["opened"]
    assert [(e.change, e.time, e.data.score, e.data.channels) for e in among_poison] == [
        (e.change, e.time, e.data.score, e.data.channels) for e in alone
    ]
