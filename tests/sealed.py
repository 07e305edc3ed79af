"""Batches that a producer seals by hand, and a broker takes: whatever they hold once they are decompressed."""

from collections.abc import Iterable
from unittest.mock import patch

import zstandard
from kafka import KafkaProducer
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import encode_varint

from tests.kafka import Broker

PIECE = 1024 * 1024


def varint(number: int) -> bytes:
    data = bytearray()
    encode_varint(number, data.append)
    return bytes(data)


def record(offset_delta: int, key: bytes, value: bytes | int, longer: int = 0) -> Iterable[bytes]:
    """One record's bytes, in pieces. value: or a number of blanks. longer: by how much its length is wrong."""
    size = value if isinstance(value, int) else len(value)
    head = b"\0\0" + varint(offset_delta) + varint(len(key)) + key + varint(size)
    yield varint(len(head) + size + 1 + longer) + head
    if isinstance(value, bytes):
        yield value
    else:
        yield from (b" " * min(PIECE, size - start) for start in range(0, size, PIECE))
    yield b"\0"  # no headers


def zstd(records: Iterable[bytes]) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join([*map(compressor.compress, records), compressor.flush()])


def send_sealed(broker: Broker, topic: str, partition: int, codec: str, records: bytes, count: int) -> int:
    """Send one batch of `count` records that is compressed already; returns the offset of its first record."""

    def build(builder: DefaultRecordBatchBuilder) -> bytearray:
        builder._buffer[builder.HEADER_STRUCT.size :] = records
        builder._num_records, builder._last_offset = count, count - 1
        builder.write_header(use_compression_type=True)
        buffer: bytearray = builder._buffer
        return buffer

    settings = {"bootstrap_servers": broker.bootstrap_servers, "compression_type": codec, "enable_idempotence": False}
    with patch.object(DefaultRecordBatchBuilder, "build", build), KafkaProducer(**settings) as producer:
        sent = producer.send(topic, b"in its place", b"in its place", partition=partition)
        producer.flush()
        return int(sent.get(timeout=60).offset)
