"""Judged readings as a request of Prometheus' remote write 1.0: a WriteRequest, compressed by Snappy as one block.

The messages and the numbers of their fields are those of the specification's `remote.proto` and `types.proto`.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from service.input.scores import CHANNEL_COLUMNS
from service.notify.delivery import Letter

CONTENT_TYPE = "application/x-protobuf"
HEADERS: Mapping[str, str] = {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
SCORE = "telltale_reading_score"
CHANNEL_METRICS = {f"{column}_": f"telltale_reading_{column}" for column in CHANNEL_COLUMNS}
# A field's number and wire type, as its key in the bytes.
TIMESERIES, LABELS, SAMPLES = b"\x0a", b"\x0a", b"\x12"
NAME, VALUE = b"\x0a", b"\x12"
SAMPLE_VALUE, SAMPLE_TIMESTAMP = b"\x09", b"\x10"


class NoScore(ValueError):
    """A record that is not of the topic of scores, and why."""


class SampledReading(NamedTuple):
    """One reading: its time, and what is known at it of each series."""

    time_ms: int
    values: Sequence[tuple["Series", float]]


class Series(NamedTuple):
    """A series' labels; its channel is empty where it is of the whole reading."""

    name: str
    channel: str
    stream: str
    topic: str


class _Score(msgspec.Struct):
    stream: str
    timestamp: int
    score: float
    topic: str


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def sampled(value: bytes) -> SampledReading:
    """A record of the topic of scores. What is null is left out. Raises NoScore."""
    try:
        row = _decode(value)
        score = msgspec.convert(row, _Score)
        values = [(Series(SCORE, "", score.stream, score.topic), score.score)]
        for field, number in row.items():
            column, _, channel = field.partition("_")
            metric = CHANNEL_METRICS.get(f"{column}_")
            if metric is not None and number is not None:
                series = Series(metric, channel, score.stream, score.topic)
                values.append((series, msgspec.convert(number, float)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoScore(f"found {value[:80]!r}, expected a judged reading: {error}") from None
    return SampledReading(score.timestamp, values)


def write_letter(readings: Sequence[SampledReading]) -> Letter:
    import snappy  # noqa: PLC0415  (only where something is sent so)

    return Letter(snappy.compress(write_request(readings)), CONTENT_TYPE, len(readings), readings)


def write_request(readings: Sequence[SampledReading]) -> bytes:
    """Each series once, with its samples in the order of time, as receivers ask for it."""
    samples: dict[Series, dict[int, float]] = defaultdict(dict)
    for reading in readings:
        for series, value in reading.values:
            samples[series][reading.time_ms] = value
    return b"".join(_field(TIMESERIES, b"".join(_time_series(series, at))) for series, at in samples.items())


def _time_series(series: Series, samples: Mapping[int, float]) -> Iterator[bytes]:
    labels = {"__name__": series.name, "channel": series.channel, "stream": series.stream, "topic": series.topic}
    for name, value in labels.items():  # sorted by their names
        if value:
            yield _field(LABELS, _field(NAME, name.encode()) + _field(VALUE, value.encode()))
    for time_ms, number in sorted(samples.items()):
        yield _field(SAMPLES, SAMPLE_VALUE + struct.pack("<d", number) + SAMPLE_TIMESTAMP + _varint(time_ms))


def _field(key: bytes, content: bytes) -> bytes:
    return key + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as 64 bits of two's complement."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
