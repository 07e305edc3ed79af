"""The input: readings of many streams, with everything in them that can be wrong with one. The same for the same seed.

A partition has a few streams that never end, so that alarms open and close, and many that come and go: some come back
long after they were forgotten.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from service.input.formats import InputFormat
from service.input.writing import encode_readings
from service.log.port import Record

FEATURES = ("f0", "f1")
START_MS = 1_700_000_000_000
STEP_MS = 1_000  # of event time, a record of the partition
STEADY, PASSING = 4, 150  # streams at a time; together more than a page
TO_STEADY = 0.6  # of the records
CHANGE_OF_STREAMS = 0.015  # a record: that a passing stream is replaced by another
BACK_AGAIN = 0.3  # of those: by one that was there before
FLAWS = (
    b"not json",
    b'{"timestamp":1700000000000}',
    b'{"timestamp":1700000000000,"values":[1.0]}',
    b'{"timestamp":1700000000000,"values":{"f0":"warm","f1":1}}',
    b'{"timestamp":-5,"values":[1,2]}',
    b'{"timestamp":1700000000000,"values":[1e39,2]}',
    b'{"timestamp":4102444800000,"values":[1,2]}',  # years ahead of its record
    b"",
)


@dataclass(slots=True)
class _Stream:
    key: bytes
    level: float
    readings: int = 0
    spike: int = 0  # readings left of something that passes
    last: bytes = field(default=b"")


def records(seed: int, partition: int, passing_streams: int = PASSING) -> Iterator[Record]:
    """What is in a partition, without end."""
    chance = random.Random(f"{seed}/{partition}")
    made = 0

    def new(kind: str) -> _Stream:
        nonlocal made
        made += 1
        return _Stream(f"{kind}-{partition}/{made}-é".encode(), chance.uniform(-50, 50))

    steady, passing = [new("steady") for _ in range(STEADY)], [new("passing") for _ in range(passing_streams)]
    gone: list[_Stream] = []
    time_ms = START_MS + partition
    while True:
        time_ms += STEP_MS
        if chance.random() < CHANGE_OF_STREAMS:
            place = chance.randrange(passing_streams)
            gone.append(passing[place])
            back = gone.pop(chance.randrange(len(gone))) if chance.random() < BACK_AGAIN else None
            passing[place] = back or new("passing")
        stream = chance.choice(steady if chance.random() < TO_STEADY else passing)
        yield Record(*_message(stream, time_ms, chance), (), time_ms)


def many_a_record(seed: int, partition: int, passing_streams: int = PASSING) -> Iterator[Record]:
    """The same readings in the same order, several a record and in any format: of one stream, or of many.

    The last of them gives the record its time. What is wrong with one stays so, alone or among others.
    """
    chance = random.Random(f"{seed}/{partition}/many")
    held: list[_Reading] = []
    wanted = 1
    for record in records(seed, partition, passing_streams):
        reading = _reading_of(record)
        if reading is not None:
            held.append(reading)
        if held and (reading is None or len(held) >= wanted):
            yield _joined(held, chance)
            held, wanted = [], chance.choice((1, 2, 5, 40))
        if reading is None:
            yield record


class _Reading(NamedTuple):
    key: bytes
    time_ms: int
    values: list[float]
    record_ms: int


def _reading_of(record: Record) -> _Reading | None:
    """None: it goes as it is."""
    try:
        message = json.loads(record.value or b"")
        values = [math.nan if one is None else float(one) for one in message["values"]]
        if record.key is None or len(values) != len(FEATURES):
            return None
        return _Reading(record.key, message["timestamp"], values, record.time_ms or 0)
    except (ValueError, KeyError, TypeError):
        return None


def _joined(readings: list[_Reading], chance: random.Random) -> Record:
    keys = [reading.key.decode() for reading in readings]
    streams = None if len(set(keys)) == 1 else keys
    times_ms, values = [reading.time_ms for reading in readings], np.array([reading.values for reading in readings])
    form = chance.choice([InputFormat.JSON, InputFormat.MSGPACK, InputFormat.ARROW])
    value = encode_readings(form, FEATURES, times_ms, values, streams)
    return Record(readings[-1].key if streams is None else None, value, (), readings[-1].record_ms)


def _message(stream: _Stream, time_ms: int, chance: random.Random) -> tuple[bytes | None, bytes | None]:
    what = chance.random()
    if what < 0.01:
        flaw = chance.randrange(len(FLAWS) + 2)
        if flaw < len(FLAWS):
            return stream.key, FLAWS[flaw]
        return (None, b'{"timestamp":1,"values":[1,2]}') if flaw == len(FLAWS) else (stream.key, None)
    if what < 0.03 and stream.last:
        return stream.key, stream.last  # a duplicate
    time_ms -= 700_000 if what < 0.05 else 0  # late
    stream.readings += 1
    if chance.random() < 0.004:
        stream.spike = chance.randrange(1, 12)
    if chance.random() < 0.001:
        stream.level += chance.choice((-90, 90))  # a shift that lasts
    shift, stream.spike = (70.0, stream.spike - 1) if stream.spike else (0.0, 0)
    values = [
        "null" if chance.random() < 0.03 else f"{stream.level + shift + wave * 9 + chance.gauss(0, 1):.4f}"
        for wave in (math.sin(stream.readings / 25), math.cos(stream.readings / 9))
    ]
    message = b'{"timestamp":%d,"values":[%s]}' % (time_ms, ",".join(values).encode())
    if what >= 0.05:
        stream.last = message
    return stream.key, message
