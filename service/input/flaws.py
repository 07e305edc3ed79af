"""What is said of a record or reading with a flaw."""

from typing import Any

from models.data.stream_key import flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS, looks_like
from service.errors import RejectedReading
from service.input.reasons import Reason
from service.log.port import Cut

MAX_VALUE = 3.4e38  # the largest float32
METRIC_NAMES = ("name", "metric")
Flaw = tuple[Reason, str]  # why something cannot be read


def key_flaw(key: bytes | None) -> Flaw | None:
    """Why a record with this key cannot be read; None if the key is not why."""
    if key is None:
        return Reason.MISSING_KEY, "the record has no key, expected the stream's name"
    flaw = flaw_of(key, size_of(key))
    return (Reason.BAD_KEY, flaw) if flaw else None


def size_of(data: bytes) -> int:
    """Of all of it, in bytes."""
    return data.size if isinstance(data, Cut) else len(data)


def check_metric(message: Any, key: bytes) -> None:
    """Refuse one value of a metric that the key does not name: all that its device sends would be one stream."""
    for field in METRIC_NAMES:
        metric = getattr(message, field)
        if type(metric) is str and metric.encode(errors="replace").lower() not in key.lower():
            raise RejectedReading(
                Reason.BAD_KEY,
                f"the value is of the {field} {metric[:80]!r}, which the key {key.decode()} does not name: all metrics "
                "with this key would be one stream",
            )


def unit_hint(number: int) -> str:
    unit = looks_like(number)
    return f"timestamp {number} looks like {unit.word if unit else 'no unit'}: expected milliseconds"


def out_of_bounds(time: int) -> str:
    return unit_hint(time) if looks_like(time) else f"timestamp {time} ms, expected 0 to {MAX_TIMESTAMP_MS}"


def out_of_range(name: str, value: float) -> str:
    return f"{name} is {value}, expected at most {MAX_VALUE} either side of 0"


def reason_of(message: str) -> Reason | None:
    """What a validation message is about, by the place it names; None: the value as a whole."""
    if "`$.timestamp" in message or "field `timestamp`" in message:
        return Reason.BAD_TIMESTAMP
    if "missing required field" in message:
        return Reason.WRONG_FEATURES
    if "$.value" in message:
        return Reason.NOT_A_NUMBER
    return None
