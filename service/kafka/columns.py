"""Fetching columns: kafka-python's consumer with its decoder replaced, where it is made as expected.

A poll is bounded in bytes too: what a few compressed megabytes stand for may be far more than there is memory.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import kafka
import numpy as np
import structlog
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder

from service.kafka.record_batches import BatchReader, CorruptBatch, all_of_format_2
from service.kafka.record_windows import Bounds, RecordColumns, joined
from service.log.port import POLL_BYTES, KeptHeaders, Partition

logger = structlog.get_logger("telltale.kafka")


class FetchedChunk(NamedTuple):
    columns: RecordColumns
    next_offset: int


class PollBudget:
    """How many bytes of decompressed records one poll may bring; it always may bring one record."""

    def __init__(self, poll_bytes: int = POLL_BYTES, bounds: Bounds | None = None) -> None:
        self.poll_bytes = poll_bytes
        self.bounds = bounds or Bounds()
        self.left = poll_bytes

    def renew(self) -> None:
        self.left = self.poll_bytes


class _Taken:
    """What the fetcher takes for the list of records, but holding a single chunk."""

    def __init__(self, chunk: FetchedChunk, counts_as: int) -> None:
        """counts_as: how many records; more than there are where no more are to be taken in this poll."""
        self._chunk = chunk
        self._counts_as = counts_as

    def __len__(self) -> int:
        return self._counts_as

    def __iter__(self) -> Iterator[FetchedChunk]:
        return iter((self._chunk,))


class _ColumnarRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The client's own holder of one partition's fetched bytes, with its decoder replaced."""

    def __init__(
        self, budget: PollBudget, fetch_offset: int, tp: TopicPartition, records: Any, **settings: Any
    ) -> None:
        super().__init__(fetch_offset, tp, records, **settings)
        self._budget = budget
        self._data = records._buffer
        self._reader: BatchReader | None = None

    def take(self, n: int | None = None) -> _Taken:
        budget = self._budget
        try:
            if self._reader is None:
                aborted = [(a.first_offset, a.producer_id) for a in self.aborted_transactions]
                self._reader = BatchReader(self._data, self.fetch_offset, aborted, budget.bounds)
            columns = self._reader.take(n, budget.left)
        except CorruptBatch as error:
            raise CorruptBatch(f"{self.topic_partition.topic}-{self.topic_partition.partition}, {error}") from error
        count = len(columns.offsets)
        self.next_fetch_offset = self._reader.next_offset
        self.leader_epoch = self._reader.leader_epoch
        self.bytes_read = len(self._data)
        self.records_read += count
        budget.left -= columns.size
        if self._reader.exhausted:
            self.drain()
        is_last = n is not None and (budget.left <= 0 or (count < n and not self._reader.exhausted))
        return _Taken(
            FetchedChunk(columns, self.next_fetch_offset), n if is_last and n is not None and count else count
        )


def _partition_records(budget: PollBudget, fetch_offset: int, tp: TopicPartition, records: Any, **settings: Any) -> Any:
    if all_of_format_2(records._buffer):
        return _ColumnarRecords(budget, fetch_offset, tp, records, **settings)
    return Fetcher.PartitionRecords(fetch_offset, tp, records, **settings)


def fetch_columns(consumer: Any, budget: PollBudget | None = None) -> dict[TopicPartition, int] | None:
    """Let the consumer fetch columns, and note how far its partitions could be read (the last stable offset).

    budget: of each poll. None, with a warning, where this version of the client is not made as expected: it then
    decodes by itself, and holds whatever a fetch stands for.
    """
    budget = budget or PollBudget()
    try:
        fetcher = consumer._fetcher
        parse, take_fetched = fetcher._parse_fetched_data, fetcher.fetched_records
        if fetcher.PartitionRecords is not Fetcher.PartitionRecords or not _decodes_a_sample(fetcher):
            raise AttributeError("a sample was not decoded to what was written")
    except Exception as error:  # whatever a changed client raises, there is another way
        logger.warning("records_decoded_one_by_one", client=f"kafka-python {kafka.__version__}", reason=repr(error))
        return None
    ends: dict[TopicPartition, int] = {}

    def parse_and_note(completed: Any) -> Any:
        data = completed.partition_data
        if data.error_code == kafka_errors.OffsetOutOfRangeError.errno:
            logger.warning(
                "records_deleted_unread",
                partition=str(Partition(*completed.topic_partition)),
                offset=completed.fetched_offset,
            )
        elif data.error_code == 0:
            stable = data.last_stable_offset
            ends[completed.topic_partition] = stable if stable >= 0 else data.high_watermark
        return parse(completed)

    def take_within_budget(*arguments: Any, **settings: Any) -> Any:
        budget.renew()
        return take_fetched(*arguments, **settings)

    fetcher.PartitionRecords = partial(_partition_records, budget)
    fetcher._parse_fetched_data = parse_and_note
    fetcher.fetched_records = take_within_budget
    return ends


def _decodes_a_sample(fetcher: Any) -> bool:
    """Two records, through the same arguments with which the fetcher makes its holders of records."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1024)
    rows: list[tuple[bytes | None, bytes | None, int]] = [(b"k", b'{"value":1}', 7), (None, None, 9)]
    for delta, (key, value, time_ms) in enumerate(rows):
        builder.append(delta, time_ms, key, value, [])
    part = _partition_records(
        PollBudget(),
        0,
        TopicPartition("sample", 0),
        MemoryRecords(bytes(builder.build())),
        key_deserializer=fetcher.config["key_deserializer"],
        value_deserializer=fetcher.config["value_deserializer"],
        check_crcs=fetcher.config["check_crcs"],
        isolation_level=fetcher._isolation_level,
        aborted_transactions=[],
        metric_aggregator=None,
        on_drain=lambda _: None,
    )
    taken: list[Any] = []
    taken.extend(part.take(10))
    ((keys, values, offsets, times_ms, *_), next_offset) = taken[0]
    found = list(zip(keys, values, times_ms.tolist(), strict=True))
    return found == rows and offsets.tolist() == [0, 1] and next_offset == part.next_fetch_offset == 2 and not part


def columns_of(records: list[Any]) -> RecordColumns:
    """What the client has decoded."""
    by_offset = {record.offset: record for record in records}
    return RecordColumns(
        [record.key for record in records],
        [record.value for record in records],
        np.array([record.offset for record in records], dtype=np.int64),
        np.array([record.timestamp for record in records], dtype=np.int64),
        lambda offset: KeptHeaders(tuple(by_offset[offset].headers)),
        sum(len(record.key or b"") + len(record.value or b"") for record in records),
    )


def drained(parts: list[Any]) -> RecordColumns | None:
    """What a poll returned of one partition, in order of the offsets.

    Where we do not decode, without the hook or for batches of an older format, the client does.
    """
    found = [part.columns for part in parts if isinstance(part, FetchedChunk)]
    records = [part for part in parts if not isinstance(part, FetchedChunk)]
    found += [columns_of(records)] if records else []
    found.sort(key=lambda columns: int(columns.offsets[0]))
    return joined(found) if found else None
