"""What gateways write without a stream's key, and how it is read: for the re-keying stage."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from service.input.formats import RecordRules, TopicMapping
from service.input.presets import PRESETS
from service.input.wire import Decoder
from service.log.memory_log import MemoryLog, Topics
from service.log.port import Record
from service.stages.rekey.birth_state import BirthChangelog
from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.joining import JoinRules
from service.stages.rekey.readings import RecordReader
from service.stages.rekey.stage import Joining, RekeyStage
from tests.service.stages.rekey import sparkplug_plant

TOPIC, PARTITIONS = "telegraf", 3
FEATURES = ("temp", "press")
BEGAN_MS = 1_767_571_200_000
MAPPING = TopicMapping("input.topics.telegraf", stream=("tags.host", "tags.id"), time_unit="s", values="fields")
RULES = RecordRules(mappings={TOPIC: MAPPING})
DAY_MS = 86_400_000
BIRTH_CHANGELOG = BirthChangelog("rekey", "readings")


def record(machine: int, second: int, *, temp: object = 61.5, press: object = 4.1) -> Record:
    """As a gateway writes it: without a key, so it may be in any partition."""
    value = {
        "fields": {"temp": temp, "press": press},
        "tags": {"host": f"h{machine % 3}", "id": f"m{machine}"},
        "timestamp": BEGAN_MS // 1000 + second,
    }
    return Record(None, json.dumps(value).encode(), (), BEGAN_MS + 1000 * second + 250)


def plant(seconds: int = 60, machines: int = 7) -> list[list[Record]]:
    """By partition. A machine's readings are in one after the other of them, some records hold several readings."""
    found: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for second in range(seconds):
        for machine in range(machines):
            one = record(machine, second, temp=60 + second / 7, press=None if second % 11 == 3 else machine / 3)
            found[(second + machine) % PARTITIONS].append(one)
        if second % 5 == 0:
            several = [json.loads(record(machine, second).value or b"") for machine in (100, 101, 100)]
            found[second % PARTITIONS].append(
                Record(b"gateway", json.dumps(several).encode(), (), BEGAN_MS + 1000 * second)
            )
        if second % 17 == 0:
            found[second % PARTITIONS].append(Record(b"x", b"{", (("a", b"b"),), BEGAN_MS + 1000 * second))
    return found


def in_parts(records: Sequence[Sequence[Record]], parts: int) -> list[list[list[Record]]]:
    """Of each part what is in each partition, by time: what is written of one is not later than any of the next."""
    last_ms = max(one.time_ms or 0 for mine in records for one in mine)
    borders = [BEGAN_MS + n * (last_ms + 1 - BEGAN_MS) // parts for n in range(parts + 1)]
    return [
        [[one for one in mine if begin <= (one.time_ms or 0) < end] for mine in records]
        for begin, end in pairwise(borders)
    ]


def by_stream(written: Mapping[int, Sequence[Record]]) -> dict[bytes, list[Record]]:
    """What was written, by partition, in its order. Fails where a stream is in two of them."""
    found: dict[bytes, list[Record]] = {}
    where: dict[bytes, int] = {}
    for number, records in written.items():
        for one in records:
            assert one.key is not None
            assert where.setdefault(one.key, number) == number
            found.setdefault(one.key, []).append(one)
    return found


METRICS = "metrics"  # topic of records of one metric each
METRIC_RULES = RecordRules(
    mappings={
        METRICS: TopicMapping(
            f"input.topics.{METRICS}", stream=("device",), time="ts", time_unit="s", metric="name", values="value"
        )
    }
)
JOIN = JoinRules(window_ms=2_000, late_ms=1_000, expire_ms=4_000)


def metric(device: str, second: float, name: str, value: object) -> Record:
    """As a gateway writes a value that has changed."""
    body = {"device": device, "ts": BEGAN_MS // 1000 + second, "name": name, "value": value}
    return Record(None, json.dumps(body).encode(), (), BEGAN_MS + round(1000 * second) + 250)


def metrics_plant(seconds: int = 60, devices: int = 5) -> list[list[Record]]:
    """By partition. Temperature each second, pressure at times, another metric, records that cannot be read."""
    found: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for second in range(seconds):
        for n in range(devices):
            device = f"d{n}"
            if not (n == 2 and second % 30 > 20):  # falls silent at times
                temp = None if second % 13 == 5 else 60 + second / 7
                found[(second + n) % PARTITIONS].append(metric(device, second, "temp", temp))
            if second % (n + 2) == 0 and second % 30 > 8:
                found[(second + 2 * n) % PARTITIONS].append(metric(device, second, "press", n + second / 3))
            if second % 7 == n:
                found[n % PARTITIONS].append(metric(device, second, "bdSeq", second))
        if second % 17 == 0:
            found[second % PARTITIONS].append(Record(b"x", b"{", (("a", b"b"),), BEGAN_MS + 1000 * second))
    return found


def topics_of(topic: str, records: Sequence[Sequence[Record]]) -> Topics:
    """A topic with what is in each of its partitions."""
    topics = Topics({topic: PARTITIONS})
    for partition, mine in zip(topics.partitions, records, strict=True):
        topics.append(partition, mine)
    return topics


def run_to_the_end(topics: Topics, stage: RekeyStage) -> None:
    ends = {partition: topics.bounds(partition)[1] for partition in topics.partitions}
    while any(topics.committed.get(partition, 0) < end for partition, end in ends.items()):
        stage.turn(0.0)


def of_streams(topics: Topics) -> dict[bytes, list[Record]]:
    """What a stage wrote."""
    return by_stream({partition.number: records for partition, records in topics.anomalies.items()})


class Plant(NamedTuple):
    """What is written to a topic, and how it is read."""

    records: Callable[[int], list[list[Record]]]  # of some seconds, by partition
    a_second: int  # records, at least
    mapping: TopicMapping
    joining: JoinRules | None = None

    def settings(self, source: str) -> dict[str, Any]:
        """Of `telltale rekey`, by "section.field"."""
        given = {name: value for name, value in self.mapping._asdict().items() if value != USUAL[name]}
        found: dict[str, Any] = {"features": FEATURES, "input.topics": {source: given}}
        if self.joining is not None:
            found |= {f"rekey.join_{name[:-3]}_s": value / 1000 for name, value in self.joining._asdict().items()}
        return found

    def written(self, source: str, records: Sequence[Sequence[Record]]) -> Topics:
        """What a stage that nothing disturbs writes, on a log in memory."""
        topics = topics_of(source, records)
        reader = RecordReader(Decoder(FEATURES, DAY_MS, DAY_MS, RecordRules(mappings={source: self.mapping})))
        joining = None
        if self.joining is not None:
            joining = Joining(self.joining, JoinChangelog("calm", "readings", FEATURES))
        stage = RekeyStage(MemoryLog(topics), reader, threading.Event(), BIRTH_CHANGELOG, joining=joining)
        run_to_the_end(topics, stage)
        return topics


def sparkplug_mapping(**given: Any) -> TopicMapping:
    """That of the preset."""
    preset: dict[str, Any] = {**PRESETS["sparkplug"], "good": (192,), **given}
    return TopicMapping(MAPPING.setting, **preset)


def sparkplug_records(seconds: int) -> list[list[Record]]:
    return sparkplug_plant.records(seconds, BEGAN_MS, PARTITIONS)


USUAL = {**TopicMapping("")._asdict(), "setting": MAPPING.setting}
PLANTS = {
    "keyed": Plant(plant, 7, MAPPING),
    "joined": Plant(metrics_plant, 6, METRIC_RULES.mappings[METRICS]._replace(setting=MAPPING.setting), JOIN),
    # Births are kept, and of what data says by alias alone the metrics of a node or a device are joined.
    "sparkplug": Plant(sparkplug_records, 5, sparkplug_mapping(stream=("$key.source",), metric="name"), JOIN),
}
