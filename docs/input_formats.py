"""The page on what may come in: the service's decoder reads each example, and its answer is printed."""

import json
import math

import msgspec
import numpy as np

from docs.data_files import file_table
from docs.payloads import payload_table
from docs.tables import block, page, table
from models.data import series, stream_key
from models.data.rfc3339 import rfc3339
from service.input.flaws import MAX_VALUE
from service.input.reasons import Reason
from service.input.rejects import Reject
from service.input.wire import MAX_VALUE_BYTES, Decoder
from service.log.port import Fetched, Partition
from service.settings.sections import LimitSettings

FEATURES = ("temperature", "pressure")
NOW_MS = 1_767_571_200_000  # of the records in the examples
KEY = b"line-03/pump-033"
ACCEPTED = (
    (FEATURES, '{"timestamp": 1767571200000, "values": {"temperature": 61.2, "pressure": 4.1}}'),
    (FEATURES, '{"timestamp": "2026-01-05T00:00:00Z", "values": {"pressure": 4.1, "temperature": 61.2}}'),
    (FEATURES, '{"timestamp": "2026-01-05T01:00:00+01:00", "values": [61.2, null], "quality": "good"}'),
    (FEATURES[:1], '{"timestamp": 1767571200000, "value": 61.2}'),
)
MANY_TIMES = [1767571200000, 1767571500000]
MANY_VALUES = [[61.2, 4.1], [61.4, None]]
STREAMS = ["line-03/pump-033", "line-03/pump-034"]
COLUMNS = (
    "- **`timestamps`**: an array of N times, each as above.\n"
    "- **`values`**: an object with an array of N numbers for every feature, or an array of N rows in the checkpoint's "
    "order.\n"
    "- **`stream`**: the readings' stream, or an array of N names, where that is not the message's key. The key then "
    "says only which partition the message goes to: a stream's readings belong in one partition.\n"
)
OTHER_FORMATS = (
    (
        "In **MessagePack** it is the same map. A missing value may be NaN as well as nil. Telltale reads arrays "
        "fastest in which every number is written alike: doubles, with NaN for what is missing."
    ),
    (
        "In **Arrow** the value is a stream of IPC messages, not a file: `pa.ipc.new_stream` in pyarrow, "
        "`write_ipc_stream` in Polars. Its columns are `timestamp` (milliseconds as integers, or a timestamp type of "
        "any unit; without a zone it is in UTC), one of numbers for every feature, and `stream` (text, also as a "
        "dictionary) where that is not the key. Other columns are ignored. All columns must be flat and uncompressed:"
        " let Kafka's producer compress."
    ),
    (
        "The first byte of a value says which format it has: `{` or white space begins JSON; 80 to 8F, DE or DF a map"
        " of MessagePack; FF Arrow. `input.format` allows one of them alone."
    ),
    (
        "A message is judged and committed as a whole. An event says in `index` which of its message's readings it is"
        " about, counted from 0; the field is left out of the first. If some readings cannot be judged, the others "
        "are, and the message becomes one dead letter. Its detail says how many were refused, and which and why for "
        "the first of them. `telltale_readings_total` counts readings, `telltale_records_total` messages."
    ),
)
REJECTED: dict[Reason, tuple[bytes | None, bytes | None]] = {
    Reason.MISSING_KEY: (None, ACCEPTED[0][1].encode()),
    Reason.BAD_KEY: (b'"line-03/pump-033"', ACCEPTED[0][1].encode()),
    Reason.MISSING_VALUE: (KEY, None),
    Reason.TOO_LARGE: (KEY, b" " * (MAX_VALUE_BYTES + 1)),
    Reason.BAD_JSON: (KEY, b'{"timestamp": 1767571200000, "values": {"temperature": 61.2'),
    Reason.BAD_MSGPACK: (KEY, msgspec.msgpack.encode({"timestamp": 1767571200000})[:-4]),
    Reason.BAD_ARROW: (KEY, b"\xff\xff\xff\xff\x98\x01\x00\x00"),
    Reason.TOO_MANY_READINGS: (KEY, msgspec.msgpack.encode({"timestamps": [1] * 2049, "values": [[1.5, 1.5]] * 2049})),
    Reason.BAD_TIMESTAMP: (KEY, b'{"timestamp": "2026-01-05T00:00:00", "values": [61.2, 4.1]}'),
    Reason.FUTURE_TIMESTAMP: (KEY, b'{"timestamp": 1767830400000, "values": [61.2, 4.1]}'),
    Reason.PAST_TIMESTAMP: (KEY, b'{"timestamp": 1767571200, "values": [61.2, 4.1]}'),
    Reason.WRONG_FEATURES: (KEY, b'{"timestamp": 1767571200000, "values": [61.2]}'),
    Reason.NOT_A_NUMBER: (KEY, b'{"timestamp": 1767571200000, "values": {"temperature": "61.2", "pressure": 4.1}}'),
    Reason.OUT_OF_RANGE: (KEY, b'{"timestamp": 1767571200000, "values": [1e39, 4.1]}'),
}
IN_WORDS = {
    Reason.BAD_AVRO: "of a topic with `format: avro`: a value that is not of its schema, or names none that is known",
    Reason.BAD_PROTOBUF: "of a topic with `format: protobuf`: a value that is not of its message",
    Reason.BAD_OTLP: "of a topic with `format: otlp`: a value that holds no metrics of OpenTelemetry",
    Reason.BAD_SPARKPLUG: "of a topic with `format: sparkplug`: a value that is no payload of Sparkplug B",
    Reason.UNKNOWN_ALIAS: "of a topic with `format: sparkplug`: a metric by alias alone, of which no birth is known",
    Reason.BAD_INFLUX: "of a topic with `format: influx`: a value with a line that is none",
    Reason.STREAM_LIMIT: "a new stream where the partition has `limits.max_streams` already",
    Reason.UNREADABLE_BATCH: "a batch whose records cannot be separated; the dead letter is the batch as stored",
}


def input_formats() -> str:
    missing = set(Reason) - set(REJECTED) - set(IN_WORDS)
    if missing:
        raise ValueError(f"no example of {', '.join(sorted(missing))}: docs/input_formats.py needs one each")
    limits = LimitSettings()
    return page(
        "# Input formats",
        "## Messages",
        "A reading is one Kafka message. Its key is the stream's name, its value is JSON or the same in MessagePack. A "
        "message may also hold [many readings](#many-readings-a-message).",
        f"- **Key**: {_sentence(stream_key.__doc__)}\n"
        "- **`timestamp`**: milliseconds since 1970 as a number, or RFC 3339 text with an offset. It may be at most "
        f"{limits.max_future_s:,.0f} s ahead of its record's own time (`limits.max_future_s`) and "
        f"{limits.max_past_s:,.0f} s behind it (`limits.max_past_s`).\n"
        "- **`values`**: an object with every feature of the checkpoint, or an array in its order. For a checkpoint "
        "with one feature `value` does too.\n"
        f"- **`null`** is a missing value. Numbers may be at most {MAX_VALUE:g} either side of 0.\n"
        f"- Fields that are not named here are ignored. A value has at most {MAX_VALUE_BYTES:,} bytes; in "
        f"MessagePack or Arrow {limits.max_batch_bytes:,} (`limits.max_batch_bytes`).",
        "These are read; the right column is what the decoder of the service made of each.",
        table(("checkpoint's features", "value of the message", "read as"), [_accepted(*one) for one in ACCEPTED]),
        'A message without values, `{"timestamp": 1767571200000, "silent": true}`, says that its stream is '
        "[silent](../detection.md#silence) from then on.",
        *_many(limits),
        "## Topics of another form",
        "A topic whose records are not of this form gets a mapping, a section of `input.topics` in the settings: "
        "[read any topic](../how-to/read-any-topic.md). Each row is a record, the mapping that reads it, and the "
        "readings that the service's decoder made of it.",
        payload_table(),
        "## Dead letters",
        "A record that cannot be read goes to the topic of dead letters, with its own headers and behind them "
        "`telltale-reason`, `-detail`, `-topic`, `-partition` and `-offset`. The examples are refused by the decoder "
        f"of a checkpoint with the features {' and '.join(FEATURES)}; their records are of {rfc3339(NOW_MS)}.",
        table(("reason", "example", "detail"), [_rejected(reason) for reason in Reason]),
        "## Files",
        "Of `telltale train`, `score`, `evaluate` and all other commands that take `--data` or files.",
        _rest(series.__doc__),
        "Without `--time-unit`, numbers that look like seconds, microseconds or nanoseconds are an error. Example:",
        block("text", "timestamp,stream,temperature,pressure\n2026-01-05T00:00:00Z,line-03/pump-033,61.2,4.1"),
        "Other files are read by the options of [files as they are](../how-to/train.md#files-as-they-are). Each row is "
        "a file, the options that read it, and the first reading that came out.",
        file_table(),
    )


def _many(limits: LimitSettings) -> tuple[str, ...]:
    """The part on messages of many readings."""
    example = {name: list(column) for name, column in zip(FEATURES, zip(*MANY_VALUES, strict=True), strict=True)}
    examples = [
        json.dumps({"timestamps": MANY_TIMES, "values": example}),
        json.dumps({"stream": STREAMS, "timestamps": MANY_TIMES, "values": MANY_VALUES}),
    ]
    return (
        "## Many readings a message",
        "A producer that sends many readings can put them into one message, as columns:",
        COLUMNS + f"- A message holds at most {limits.max_readings:,} readings (`limits.max_readings`).",
        table(("value of the message", "read as"), [(f"`{value}`", _read(value)) for value in examples]),
        *OTHER_FORMATS,
    )


def _read(value: str) -> str:
    """What the decoder made of each reading of a message."""
    batch, rejects = Decoder(FEATURES, 86_400_000).decode(_fetched(KEY, value.encode()))
    if rejects:
        raise ValueError(f"{value}: {rejects[0].detail}, expected an example that is read")
    times_ms, rows = batch.readings.times_ms.tolist(), batch.readings.values.tolist()
    return "<br>".join(
        f"{key.decode()}, {rfc3339(time_ms)}: {_numbers(FEATURES, row)}"
        for key, time_ms, row in zip(batch.keys, times_ms, rows, strict=True)
    )


def _numbers(features: tuple[str, ...], row: list[float]) -> str:
    return ", ".join(
        f"{name} {'missing' if math.isnan(number) else number}" for name, number in zip(features, row, strict=True)
    )


def _accepted(features: tuple[str, ...], value: str) -> tuple[str, str, str]:
    batch, rejects = Decoder(features, 86_400_000).decode(_fetched(KEY, value.encode()))
    if rejects:
        raise ValueError(f"{value}: {rejects[0].detail}, expected an example that is read")
    (time_ms,), (row,) = batch.readings.times_ms.tolist(), batch.readings.values.tolist()
    return ", ".join(features), f"`{value}`", f"{rfc3339(time_ms)}: {_numbers(features, row)}"


def _rejected(reason: Reason) -> tuple[str, str, str]:
    if reason in IN_WORDS:
        return f"`{reason}`", "", IN_WORDS[reason]
    key, value = REJECTED[reason]
    reject = _refusal(key, value)
    if reject.reason != reason:
        raise ValueError(f"{reject.reason}: {reject.detail}, expected an example of {reason}")
    return f"`{reason}`", _shown(key, value), reject.detail


def _refusal(key: bytes | None, value: bytes | None) -> Reject:
    limits = LimitSettings()
    decoder = Decoder(FEATURES, round(limits.max_future_s * 1000), round(limits.max_past_s * 1000))
    _, rejects = decoder.decode(_fetched(key, value))
    return rejects[0]


def _fetched(key: bytes | None, value: bytes | None) -> Fetched:
    return Fetched(Partition("plant", 0), [key], [value], np.array([0]), np.array([NOW_MS]), 1, 1)


def _shown(key: bytes | None, value: bytes | None) -> str:
    if key != KEY:
        return "no key" if key is None else f"key `{key.decode()}`"
    if value is None:
        return "no value"
    if len(value) > 1_000:
        return f"a value of {len(value):,} bytes"
    return f"`{value.decode()}`" if value.isascii() else f"bytes `{value.hex(' ')}`"


def _sentence(docstring: str | None) -> str:
    """The first paragraph of a module's docstring behind its colon."""
    first = (docstring or "").partition("\n\n")[0]
    return " ".join(first.partition(": ")[2].split())


def _rest(docstring: str | None) -> str:
    """A module's docstring without its first paragraph."""
    return (docstring or "").partition("\n\n")[2]
