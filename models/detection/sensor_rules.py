"""What people say of sensors: which values count, which deviations do, and the unit.

Rules are for streams and channels by pattern. Of each thing that a rule can say, the first rule that says it of a
stream's channel holds. A value that a rule excludes is a missing one to everything after it, in service, in files and
in training alike. A deviation that a rule leaves out is learned from, but raises no alarm
and no threshold.
Sizes: N readings, S streams, F features, B values a channel, D sets of rules that differ.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from models.detection.records import LIMITS, NEVER, Limits
from models.net.clock import MINUTE_MS, clock_changes

if TYPE_CHECKING:
    from models.data.series import Series

T = TypeVar("T")

UTC = "UTC"
MOST_CACHED = 131_072  # streams whose rules are looked up once: some 20 MB
AT_ONCE = 1_048_576  # values of a series that are looked at together: bounds the memory that it takes


class Excluded(StrEnum):
    """Why a value counts as missing; in the order in which it is counted."""

    BAD_VALUE = "bad_value"  # it is one of those that stand for none
    OUT_OF_RANGE = "out_of_range"  # the sensor cannot have it


class Direction(StrEnum):
    """Which deviations raise alarms."""

    UP = "up"  # values that are too high
    DOWN = "down"
    BOTH = "both"


class Holiday(NamedTuple):
    """A day that is like one of the week, whichever it is."""

    day: int  # since 1970, by the clocks of the stream
    like: int  # Monday is 0


class Span(NamedTuple):
    """The values that a sensor can have, both ends included."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class SensorRule:
    """What is said of the channels that match, in the streams that match. None: nothing is said of it.

    Patterns are those of a shell: `*` stands for anything, `?` for one character, `[ab]` for one of some. What is equal
    to a pattern matches too.
    """

    streams: str = "*"
    channels: tuple[str, ...] = ("*",)
    bad_values: tuple[float, ...] | None = None
    valid_range: Span | None = None
    unit: str | None = None
    direction: Direction | None = None
    minimum_deviation: float | None = None  # in the sensor's unit
    minimum_relative_deviation: float | None = None  # share of the size of what it deviates from
    false_alarm_ms: float | None = None  # of a whole stream: event time in which it may raise one; 0: the default
    time_zone: str | None = None  # IANA name: of the clocks that the stream's days and weeks go by; of all its channels
    holidays: tuple[Holiday, ...] | None = None  # of all its channels, each day once, rising

    def is_of(self, stream: str) -> bool:
        return _matches(stream, self.streams)

    def says_of(self, channel: str) -> bool:
        return any(_matches(channel, pattern) for pattern in self.channels)


Units = tuple[str | None, ...]  # of channels; None: no rule gives one


@dataclass(frozen=True, slots=True, eq=False)
class StreamRules:
    """What holds for the channels of one stream, or of several that the same rules are of."""

    bad_values: Doubles  # (F, B), NaN where there are fewer
    low: Doubles  # (F,)
    high: Doubles  # (F,)
    units: Units  # F
    limits: Doubles  # (F, 4), as LIMITS
    false_alarm_ms: float  # as Limits
    time_zone: str
    holidays: tuple[Holiday, ...]

    def excluded(self, values: Doubles) -> tuple[Bools, Bools]:
        """Which values (N, F) count as missing, by reason: (F, N) each, no value in both."""
        columns = np.ascontiguousarray(values.T)  # in this order the comparisons take a fifth of the time
        bad = np.zeros(columns.shape, np.bool_)
        for some in self.bad_values.T:
            bad |= columns == some[:, None]
        outside = (columns < self.low[:, None]) | (columns > self.high[:, None])
        return bad, outside & ~bad


def units_of(rules: "SensorRules | None", stream: bytes, channels: int) -> Units:
    """Of the channels of the stream with this key; none has a unit where there are no rules."""
    return (None,) * channels if rules is None else rules.of(stream).units


def digest_of(rules: Sequence[SensorRule]) -> str:
    """Of what verdicts depend on, 16 digits; empty where rules only give units."""
    judged = [(rule.streams, rule.channels, *_judged_by(rule)) for rule in rules]
    said = [one for one in judged if any(said is not None for said in one[2:])]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16] if said else ""


def _judged_by(rule: SensorRule) -> tuple[object, ...]:
    excluded = rule.bad_values, rule.valid_range
    return *excluded, *_limiting(rule)


class SensorRules:
    """Rules for the channels of one checkpoint."""

    def __init__(self, rules: Sequence[SensorRule], features: Sequence[str]) -> None:
        self.features = tuple(features)
        self._rules = tuple(rules)
        self._distinct: list[StreamRules] = []  # by number
        self._known: dict[tuple[int, ...], int] = {}  # the number of those that come of some of the rules, by place
        self._numbers: dict[bytes, int] = {}  # by stream
        self._limits: Limits | None = None  # of the distinct ones, as many as there were
        self._strictest = _strictest(self._rules, self.features)
        self.excludes = _excludes(self._strictest)
        self.limits_any = any(map(_limits, self._rules))

    @property
    def digest(self) -> str:
        return digest_of(self._rules)

    def without_channels(self) -> list[int]:
        """Rules whose patterns none of the features matches, by place."""
        return [n for n, rule in enumerate(self._rules) if not any(map(rule.says_of, self.features))]

    def of(self, stream: bytes) -> StreamRules:
        """Those of the stream with this key."""
        return self._distinct[self._number_of(stream)]

    def limits(self, streams: Sequence[bytes]) -> Limits | None:
        """Those of streams with these keys, in their order; None: no rule limits what raises alarms."""
        if not self.limits_any:
            return None
        numbers = np.array([self._number_of(stream) for stream in streams], np.int64)
        known = self._limits  # several threads ask: what is looked up here is of the numbers above
        if known is None or len(known.channels) <= numbers.max(initial=0):
            distinct = tuple(self._distinct)
            channels = np.stack([rules.limits for rules in distinct])
            false_alarm_ms = np.array([rules.false_alarm_ms for rules in distinct])
            clocks = _clocks([rules.time_zone for rules in distinct])
            holidays = _holidays([rules.holidays for rules in distinct])
            self._limits = known = Limits(channels, false_alarm_ms, numbers, *clocks, *holidays)
        return known._replace(sets=numbers)

    def _number_of(self, stream: bytes) -> int:
        """Which of the distinct ones are a stream's."""
        number = self._numbers.get(stream)
        if number is None:
            name = stream.decode(errors="replace")
            places = tuple(n for n, rule in enumerate(self._rules) if rule.is_of(name))
            number = self._known.setdefault(places, len(self._distinct))
            if number == len(self._distinct):
                self._distinct.append(_resolved([self._rules[n] for n in places], self.features))
            if len(self._numbers) >= MOST_CACHED:
                self._numbers.clear()
            self._numbers[stream] = number
        return number

    def clean(self, values: Doubles, streams: Sequence[bytes]) -> tuple[Doubles, Int64s | None]:
        """The values (N, F) without those that count as missing, and how many these are: (N, 2), as Excluded.

        streams: the key of each reading's. Where nothing is excluded the values come back as they are, and None. Only
        readings with a value that some stream's rules exclude are looked at one by one.
        """
        bad, outside = self._strictest.excluded(values)
        suspects = np.flatnonzero((bad | outside).any(axis=0))
        if not len(suspects):
            return values, None
        numbers = np.array([self._number_of(streams[n]) for n in suspects.tolist()])
        cleaned, counts = values.copy(), np.zeros((len(values), len(Excluded)), np.int64)
        for number in np.unique(numbers).tolist():
            readings = suspects[numbers == number]
            some = values[readings]
            reasons = self._distinct[number].excluded(some)
            some[(reasons[0] | reasons[1]).T] = np.nan
            cleaned[readings] = some
            counts[readings] = np.stack([one.sum(axis=0) for one in reasons], axis=1)
        return (cleaned, counts) if counts.any() else (values, None)

    def clean_series(self, series: "Iterable[Series]") -> dict[str, int]:
        """Make what counts as missing NaN in the very arrays of these series; returns how many values, by reason."""
        total = np.zeros(len(Excluded), np.int64)
        together = max(1, AT_ONCE // len(self.features))
        for one in series if self.excludes else ():
            rules = self.of(one.key.encode())
            for begin in range(0, len(one.times_ms), together):
                values = one.values[begin : begin + together]
                reasons = rules.excluded(values)
                values[(reasons[0] | reasons[1]).T] = np.nan
                total += [int(found.sum()) for found in reasons]
        return dict(zip(map(str, Excluded), total.tolist(), strict=True))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _resolved(rules: Sequence[SensorRule], features: Sequence[str]) -> StreamRules:
    """Of rules that are of one stream, what holds for each channel: what the first says that says it."""
    bad_values, spans, units, limits = [], [], [], []
    for name in features:
        mine = [rule for rule in rules if rule.says_of(name)]
        bad_values.append(_first(mine, lambda rule: rule.bad_values) or ())
        spans.append(_first(mine, lambda rule: rule.valid_range) or Span())
        units.append(_first(mine, lambda rule: rule.unit))
        limits.append(_limits_of(mine))
    false_alarm_ms = _first(rules, lambda rule: rule.false_alarm_ms) or 0.0
    time_zone = _first(rules, lambda rule: rule.time_zone) or UTC
    holidays = _first(rules, lambda rule: rule.holidays) or ()
    return _stream_rules(bad_values, spans, units, limits, false_alarm_ms, time_zone, holidays)


def _strictest(rules: Sequence[SensorRule], features: Sequence[str]) -> StreamRules:
    """What none of any stream's rules exclude, this does not either."""
    bad_values, spans = [], []
    for name in features:
        mine = [rule for rule in rules if rule.says_of(name)]
        bad_values.append(tuple({value for rule in mine for value in rule.bad_values or ()}))
        ranges = [rule.valid_range for rule in mine if rule.valid_range is not None] or [Span()]
        spans.append(Span(max(one.low for one in ranges), min(one.high for one in ranges)))
    return _stream_rules(bad_values, spans, [None] * len(features), [_limits_of(())] * len(features))


def _stream_rules(
    bad_values: Sequence[Sequence[float]],
    spans: Sequence[Span],
    units: Sequence[str | None],
    limits: Sequence[Sequence[float]],
    false_alarm_ms: float = 0.0,
    time_zone: str = UTC,
    holidays: tuple[Holiday, ...] = (),
) -> StreamRules:
    both = [sorted({form for value in values for form in (value, _as_float32(value))}) for values in bad_values]
    padded = np.full((len(both), max(map(len, both), default=0)), np.nan)
    for row, values in zip(padded, both, strict=True):
        row[: len(values)] = values
    low, high = np.array(spans, np.float64).reshape(-1, 2).T.copy()
    of_channels = np.array(limits, np.float64).reshape(-1, len(LIMITS))
    return StreamRules(padded, low, high, tuple(units), of_channels, false_alarm_ms, time_zone, holidays)


def _clocks(zones: Sequence[str]) -> tuple[Int64s, Int64s]:
    """Of D zones, as Limits has them."""
    found = [tuple(column.numpy() for column in clock_changes(zone)) for zone in zones]
    most = max(len(changes) for changes, _ in found)
    changes = [np.pad(one, (0, most - len(one)), constant_values=NEVER) for one, _ in found]
    offsets = [np.pad(one, (0, most + 1 - len(one)), mode="edge") * MINUTE_MS for _, one in found]
    return np.stack(changes), np.stack(offsets)


def _holidays(sets: Sequence[tuple[Holiday, ...]]) -> tuple[Int64s, Int64s]:
    """Of D sets, as Limits has them."""
    most = max(map(len, sets))
    days, like = np.full((len(sets), most), NEVER), np.zeros((len(sets), most), np.int64)
    for place, found in enumerate(sets):
        days[place, : len(found)] = [one.day for one in found]
        like[place, : len(found)] = [one.like for one in found]
    return days, like


def _limits_of(rules: Sequence[SensorRule]) -> tuple[float, ...]:
    """As LIMITS, of rules that say something of one channel."""
    direction = _first(rules, lambda rule: rule.direction) or Direction.BOTH
    absolute = _first(rules, lambda rule: rule.minimum_deviation) or 0.0
    relative = _first(rules, lambda rule: rule.minimum_relative_deviation) or 0.0
    return float(direction != Direction.DOWN), float(direction != Direction.UP), absolute, relative


def _limits(rule: SensorRule) -> bool:
    return any(one is not None for one in _limiting(rule))


def _limiting(rule: SensorRule) -> tuple[object, ...]:
    of_channels = rule.direction, rule.minimum_deviation, rule.minimum_relative_deviation
    return *of_channels, rule.false_alarm_ms, rule.time_zone, rule.holidays


def _as_float32(value: float) -> float:
    """-9999.9 as it comes from a producer that counts in single precision."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _excludes(rules: StreamRules) -> bool:
    return bool(rules.bad_values.size or (rules.low > -math.inf).any() or (rules.high < math.inf).any())


def _first(rules: Sequence[SensorRule], said: Callable[[SensorRule], T | None]) -> T | None:
    return next((found for rule in rules if (found := said(rule)) is not None), None)
