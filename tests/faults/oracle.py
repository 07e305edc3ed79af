"""What a run that no one disturbed would have published: computed from the input topic alone, one reading a step.

`run` is the oracle's own process, one a partition: it follows the input at the lowest priority, without a changelog,
until the suite says where the input ends, and leaves what it expects in a file. `compare` holds that against what was
read.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from kafka import KafkaConsumer, TopicPartition

from models.checkpoints import checkpoint
from service.log.port import Fetched, Headers, KeptHeaders, Partition, Record
from service.pipeline import Pipeline
from service.state.pauses import restored_pauses
from service.state.slab import Page, StateSlab
from service.state.task import EventClock, PartitionTask
from tests.faults.worker import VerdictPipeline, verdict_pipeline_of, verdict_place

Published = tuple[bytes | None, bytes | None, Headers]  # key, value, headers
State = dict[bytes, tuple[int, bytes]]  # by stream: offset of its last reading, all bits of its row


class Expected(msgspec.Struct):
    """Of one partition."""

    end: int  # the input's
    anomalies: list[Published]
    dead_letters: list[Published]
    state: State
    counts: dict[str, int]
    paused: int = 0  # readings


@dataclass(slots=True)
class Differences:
    """What differs from what was expected, by kind; nothing may."""

    lost: int = 0  # verdicts, anomalies, dead letters that are not there
    twice: int = 0  # that are there more than once
    different: int = 0  # whose bytes are others, or that no one expected
    disorder: int = 0  # partitions in which all are there, but not in order
    state: int = 0  # streams whose row is not the same to the last bit, or that are missing, or too many
    other: list[str] = field(default_factory=list)  # in words

    @property
    def none(self) -> bool:
        return not (self.lost or self.twice or self.different or self.disorder or self.state or self.other)

    def add(self, more: "Differences") -> None:
        for name in ("lost", "twice", "different", "disorder", "state"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.other += more.other

    def __str__(self) -> str:
        said = f"lost {self.lost}, twice {self.twice}, different {self.different}, disorder {self.disorder}"
        return f"{said}, state {self.state}{''.join('; ' + one for one in self.other)}"


# --- computing -----------------------------------------------------------------------------------------------------


class Undisturbed:
    """A partition judged from its beginning, in steps of `step` readings, with nothing but memory."""

    def __init__(
        self, pipeline: Pipeline, task: PartitionTask, step: int = 1, *, keep_dead_letters: bool = True
    ) -> None:
        self.task = task
        self.expected = Expected(0, [], [], {}, {})
        self._pipeline = pipeline
        self._step = step
        self._keep_dead_letters = keep_dead_letters

    def judge(self, fetched: Fetched) -> None:
        for begin in range(0, len(fetched.keys), self._step):
            part = fetched.part(begin, min(begin + self._step, len(fetched.keys)))
            for one in self._pipeline.process(part, self.task):
                self.expected.paused += one.batch.paused
                self.expected.anomalies += map(published, one.commit.anomalies)
                if self._keep_dead_letters:
                    self.expected.dead_letters += map(published, one.commit.dead_letters)
        self.expected.end = fetched.next_offset

    def finish(self) -> Expected:
        self.expected.state = state_of(self.task.slab)
        self.expected.counts = dict(self.task.counts)
        return self.expected


def run(orders: Mapping[str, Any]) -> int:
    """orders: as Scene gives them. `until`: a file that says where the input ends; `into`: one for what is expected.

    pauses: None, or a file with the changelog's record of pauses, without which nothing is judged.
    """
    os.nice(19)  # what it judges later, it judges the same
    torch.set_num_threads(1)
    partition = Partition(orders["topic"], orders["partition"])
    keep = orders["keep_dead_letters"]
    pipeline, task = judges(orders, partition)
    if orders["pauses"] is not None:
        task.pauses = restored_pauses(_when_there(Path(orders["pauses"])) or None)
    undisturbed = Undisturbed(pipeline, task, orders["step"], keep_dead_letters=keep)
    until, end = Path(orders["until"]), None
    tp = TopicPartition(*partition)
    consumer: Any = KafkaConsumer(
        bootstrap_servers=orders["servers"],
        bootstrap_timeout_ms=600_000,  # the broker may be the one that is killed
        enable_auto_commit=False,
        max_poll_records=2000,
    )
    consumer.assign([tp])
    consumer.seek_to_beginning(tp)
    while end is None or undisturbed.expected.end < end:
        for records in consumer.poll(timeout_ms=200).values():
            undisturbed.judge(_fetched(partition, records))
        if end is None and until.exists():
            end = json_of(until)[str(partition.number)]
    made_whole(Path(orders["into"]), msgspec.msgpack.encode(undisturbed.finish()))
    return 0


def made_whole(path: Path, content: bytes) -> None:
    """Who sees the file sees all of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.rename(path)


def _when_there(path: Path) -> bytes:
    pause = threading.Event()
    while not path.exists():
        pause.wait(0.2)
    return path.read_bytes()


def judges(orders: Mapping[str, Any], partition: Partition) -> tuple[Pipeline, PartitionTask]:
    """What judges as a worker with these orders does, and a task that has seen nothing yet."""
    loaded = checkpoint.load(Path(orders["checkpoint"]))
    kind = VerdictPipeline if orders["verdicts_of"] is None else verdict_pipeline_of(orders["verdicts_of"].encode())
    future_ms, past_ms = (int(orders[name] * 1000) for name in ("max_future_s", "max_past_s"))
    pipeline = kind(loaded.detector, loaded.digest, future_ms, orders["max_streams"], past_ms)
    return pipeline, new_task(pipeline, partition, orders["ttl_s"])


def new_task(pipeline: Pipeline, partition: Partition, ttl_s: float | None) -> PartitionTask:
    return PartitionTask(partition, StateSlab(pipeline.detector.rows_for), EventClock(ttl_s))


def _fetched(partition: Partition, records: Sequence[Any]) -> Fetched:
    by_offset = {record.offset: record for record in records}
    return Fetched(
        partition,
        [record.key for record in records],
        [record.value for record in records],
        np.array([record.offset for record in records], np.int64),
        np.array([record.timestamp for record in records], np.int64),
        records[-1].offset + 1,
        records[-1].offset + 1,
        lambda offset: KeptHeaders(tuple(by_offset[offset].headers)),
    )


def published(record: Record) -> Published:
    """What counts of a record that was written: not when."""
    value = b"" if record.key is None and record.value is None else record.value  # Kafka has no record without both
    return record.key, value, record.headers


def state_of(slab: StateSlab) -> State:
    """Every stream of a slab with all its bits."""
    pages = [slab.page(number, 0) for number in range(slab.pages)]
    return {key: bits for page in pages for key, bits in state_of_page(page).items()}


def state_of_page(page: Page) -> State:
    applied = page.applied.tolist()
    return {
        bytes(key): (applied[n], b"".join(column[n].numpy().tobytes() for column in page.rows))
        for n, key in enumerate(page.keys)
    }


def json_of(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())


# --- comparing -----------------------------------------------------------------------------------------------------


def compare(
    partition: int, expected: Sequence[Published], found: Sequence[Published], name: Callable[[Published], object]
) -> Differences:
    """name: what a record is about; records that have the same are the same record, published again."""
    differences = Differences()
    if list(expected) == list(found):
        return differences
    wanted, there = Counter(map(name, expected)), Counter(map(name, found))
    differences.lost = sum((wanted - there).values())
    differences.twice = sum(max(0, there[one] - wanted[one]) for one in there if one in wanted)
    bits = {name(one): one for one in expected}
    differences.different = sum(one != bits.get(name(one)) for one in found)
    if not (differences.lost or differences.twice or differences.different):
        differences.disorder = 1
    first = next(
        (n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), min(len(expected), len(found))
    )
    differences.other.append(
        f"partition {partition}: {len(found)} for {len(expected)} records, the first other is number {first}"
    )
    return differences


def name_of_anomaly(record: Published) -> object:
    """A verdict is about a reading's place; an anomaly's event has an id."""
    place = verdict_place(record[1])
    return place if place is not None else msgspec.json.decode(record[1] or b"null").get("id")


def name_of_dead_letter(record: Published) -> object:
    return dict(record[2]).get("telltale-offset")


def compare_state(partition: int, expected: State, found: State) -> Differences:
    wrong = [key for key in {*expected, *found} if expected.get(key) != found.get(key)]
    differences = Differences(state=len(wrong))
    if wrong:
        missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        differences.other.append(
            f"partition {partition}: {len(missing)} streams are missing, {len(extra)} too many, "
            f"{len(wrong) - len(missing) - len(extra)} others, such as {wrong[0]!r}"
        )
    return differences
