"""Everything one stream remembers: a row. O(1) a stream, whatever its age.

Channels and Scalars are the one table of a row's statistics: their order is that of the numbers in a row.
Sizes: S streams, L layers, H hidden units, F features, C channel statistics, K scalars.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Floats, Int64s, Records
from models.net.forecaster import ForecasterConfig

T = TypeVar("T", float, Doubles)


class Field(NamedTuple):
    """One number that a row remembers."""

    name: str
    initial: float  # of a stream that has never been seen
    unit: str
    meaning: str
    stored_name: str  # its name in checkpoints, changelogs and exported states: what they hold stays readable


@dataclass(frozen=True)
class Table:
    """Fields in the order in which a row holds them."""

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, statistics: type) -> Self:
        return cls(tuple(field for field in vars(statistics).values() if isinstance(field, Field)))

    def __len__(self) -> int:
        return len(self.fields)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where in a row a field is, by its name."""
        return {field.name: place for place, field in enumerate(self.fields)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def stored_names(self) -> tuple[str, ...]:
        return tuple(field.stored_name for field in self.fields)

    @cached_property
    def record(self) -> "np.dtype[np.void]":
        """The numpy type of one row's numbers by name."""
        return np.dtype([(name, np.float64) for name in self.names])

    def field(self, name: str) -> Field:
        return self.fields[self.places[name]]

    def initial(self) -> Tensor:
        return torch.tensor([field.initial for field in self.fields], dtype=torch.float64)


class _Described(NamedTuple):
    initial: float
    unit: str
    meaning: str
    stored_name: str

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, Field(name, self.initial, self.unit, self.meaning, self.stored_name or name))


def remembered(initial: float, unit: str, meaning: str, stored_name: str = "") -> Any:
    """Describe a field in the body of a class; its name is that of the attribute."""
    return _Described(initial, unit, meaning, stored_name)


class _Statistics(Generic[T]):
    """Numbers by name: of one row (T = float), or of several (T = Doubles)."""

    @classmethod
    def of(cls, columns: Sequence[T]) -> Self:
        """columns: in the order of the table, and nothing behind them."""
        found = cls()
        for name, column in zip(Table.of(cls).names, columns, strict=True):
            setattr(found, name, column)
        return found


class Channels(_Statistics[T]):
    """What is remembered a channel (feature) of a stream; each (S, F) float64."""

    known: T = remembered(0.0, "readings", "learned from, missing values not counted")
    mean: T = remembered(0.0, "raw", "of those readings (Welford 1962)")
    square: T = remembered(0.0, "raw²", "sum of their squared distances from the mean")
    centre: T = remembered(0.0, "raw", "what counts as 0 for the net")
    spread: T = remembered(math.inf, "raw", "what counts as 1 for the net; infinite until known, so the net sees zeros")
    step_square: T = remembered(0.0, "raw²", "sum of the squared differences from reading to reading")
    step: T = remembered(math.inf, "raw", "their root mean square; derived when the spread is")
    last: T = remembered(0.0, "raw", "the last value that was not missing")
    low: T = remembered(math.inf, "raw", "the least value learned from")
    high: T = remembered(-math.inf, "raw", "the greatest value learned from")
    mean_in_alarm: T = remembered(0.0, "raw", "mean since the open alarm opened", "level")
    level_deviation: T = remembered(0.0, "spreads", "smoothed deviation from mean and season; see level", "tilt")
    residual_mean: T = remembered(0.0, "spreads", "long mean of the residual", "bias")
    level_deviation_mean: T = remembered(0.0, "spreads", "long mean of the level deviation", "tilt_bias")
    residual_variance: T = remembered(0.0, "spreads²", "long variance of the residual", "noise")
    level_deviation_variance: T = remembered(0.0, "spreads²", "long variance of the level deviation", "tilt_noise")
    band: T = remembered(0.0, "spreads", "half the width that holds nine in ten residuals")
    profile_step: T = remembered(8 / 4096, "spreads", "what the profile's numbers count; larger where it goes farther")
    last_profile: T = remembered(0.0, "spreads", "the profile of the day where the last value was read")
    visit_sum: T = remembered(0.0, "spreads", "of this quarter of an hour's distances from the profile of the day")
    visit_readings: T = remembered(0.0, "readings", "of this quarter of an hour")
    clock_loss: T = remembered(
        0.0, "deviations", "short mean of the errors that last value and clock alone make", "last_loss"
    )
    corrected_loss: T = remembered(0.0, "deviations", "of those that all corrections together make")
    season_product: T = remembered(0.0, "spreads²", "profile times distance from the mean: see expectation")
    season_square: T = remembered(0.0, "spreads²", "profile squared")
    clock_product: T = remembered(0.0, "spreads²", "the profile's change times the value's")
    clock_square: T = remembered(0.0, "spreads²", "the profile's change squared")
    level_product: T = remembered(0.0, "spreads²", "the level's correction times what was left to explain")
    level_square: T = remembered(0.0, "spreads²", "the level's correction squared")
    net_product: T = remembered(0.0, "spreads²", "the net's correction times what was left to explain")
    net_square: T = remembered(0.0, "spreads²", "the net's correction squared")
    hour_00: T = remembered(0.0, "steps", "the profile of four quarters of an hour, as digits: see expectation")
    hour_01: T = remembered(0.0, "steps", "")
    hour_02: T = remembered(0.0, "steps", "")
    hour_03: T = remembered(0.0, "steps", "")
    hour_04: T = remembered(0.0, "steps", "")
    hour_05: T = remembered(0.0, "steps", "")
    hour_06: T = remembered(0.0, "steps", "")
    hour_07: T = remembered(0.0, "steps", "")
    hour_08: T = remembered(0.0, "steps", "")
    hour_09: T = remembered(0.0, "steps", "")
    hour_10: T = remembered(0.0, "steps", "")
    hour_11: T = remembered(0.0, "steps", "")
    hour_12: T = remembered(0.0, "steps", "")
    hour_13: T = remembered(0.0, "steps", "")
    hour_14: T = remembered(0.0, "steps", "")
    hour_15: T = remembered(0.0, "steps", "")
    hour_16: T = remembered(0.0, "steps", "")
    hour_17: T = remembered(0.0, "steps", "")
    hour_18: T = remembered(0.0, "steps", "")
    hour_19: T = remembered(0.0, "steps", "")
    hour_20: T = remembered(0.0, "steps", "")
    hour_21: T = remembered(0.0, "steps", "")
    hour_22: T = remembered(0.0, "steps", "")
    hour_23: T = remembered(0.0, "steps", "")
    week_level_0: T = remembered(0.0, "steps", "what Monday to Thursday add to the profile, as digits")
    week_level_1: T = remembered(0.0, "steps", "Friday to Sunday, and the day that is not over")
    week_gain_0: T = remembered(0.0, "gain steps", "how much more of the profile these days show, as digits")
    week_gain_1: T = remembered(0.0, "gain steps", "")
    week_product: T = remembered(0.0, "spreads²", "what the day of the week adds times what the profile left")
    week_square: T = remembered(0.0, "spreads²", "what the day of the week adds, squared")
    equal_run: T = remembered(0.0, "readings", "in a row that are equal; as digits also a sum of what speaks for calm")
    longest_equal_run: T = remembered(0.0, "readings", "the longest of these runs, and of these sums, that are over")
    swing_run: T = remembered(
        0.0,
        "readings",
        "since the value was last low; below 0, since it was last high; as digits also since it became so",
    )
    longest_swing: T = remembered(
        0.0, "readings", "the longest of these runs that are over, and of those from high to high: turns"
    )
    changes: T = remembered(0.0, "readings", "that did not repeat the value before them")
    missing_run: T = remembered(0.0, "readings", "whose value is missing, in a row until now")
    longest_missing_run: T = remembered(
        0.0, "readings", "the longest of these runs that are over; as digits also the usual turn"
    )
    sudden_block_peak: T = remembered(0.0, "deviations", "the largest residual in the block that calibrates")
    sudden_peak_mean: T = remembered(1.4, "ln(1 + deviations)", "long mean of the blocks' peaks; first a prior")
    sudden_peak_variance: T = remembered(0.04, "", "long variance of them; first a prior")
    sudden_threshold: T = remembered(8.0, "deviations", "what scores 1.0 of `sudden`; at first a high one")


class Scalars(_Statistics[T]):
    """What is remembered a stream; each (S,) float64."""

    age: T = remembered(0.0, "readings", "judged")
    time_ms: T = remembered(0.0, "ms", "the stream's clock: event time of its last reading")
    late_run: T = remembered(0.0, "readings", "late ones dropped in a row")
    learned: T = remembered(-16.0, "readings", "in the residual statistics; the first 16 only warm the memory up")
    residual_strength: T = remembered(0.0, "deviations", "short mean of the residual's strength", "smooth")
    residual_largest: T = remembered(0.0, "deviations", "the largest share that one reading has of it")
    told_strength: T = remembered(0.0, "deviations", "that of the channels that are far enough off to be told")
    told_largest: T = remembered(0.0, "deviations", "the largest share that one reading has of it")
    residual_strength_mean: T = remembered(
        0.0, "deviations", "long mean of `residual_strength` without that share", "typical_of_several"
    )
    level_strength_mean: T = remembered(0.0, "deviations", "long mean of the level deviation's", "tilt_typical")
    residual_strength_variance: T = remembered(0.0, "deviations²", "long variance of the same", "variance_of_several")
    level_strength_variance: T = remembered(0.0, "deviations²", "of the level deviation's", "tilt_variance")
    days: T = remembered(0.0, "days", "that the season has learned from")
    blocks: T = remembered(0.0, "blocks", "that are full, and 2^-20 of one for each scored reading since")
    residual_block_peak: T = remembered(0.0, "deviations", "the smoothed residual's largest in the block", "block_peak")
    level_block_peak: T = remembered(0.0, "deviations", "the level's", "tilt_block_peak")
    range_block_peak: T = remembered(0.0, "margins", "how far outside the range a reading of it lay")
    residual_peak_mean: T = remembered(
        0.9, "ln(1 + deviations)", "long mean of the blocks' peaks; first a prior", "peak_mean"
    )
    level_peak_mean: T = remembered(0.9, "ln(1 + deviations)", "", "tilt_peak_mean")
    range_peak_mean: T = remembered(0.0, "ln(1 + margins)", "")
    residual_peak_variance: T = remembered(0.09, "", "long variance of them; first a prior", "peak_variance")
    level_peak_variance: T = remembered(0.09, "", "", "tilt_peak_variance")
    range_peak_variance: T = remembered(0.09, "", "")
    residual_threshold: T = remembered(5.0, "deviations", "what scores 1.0; at first a high one", "threshold")
    level_threshold: T = remembered(5.0, "deviations", "", "tilt_threshold")
    range_threshold: T = remembered(3.0, "margins", "")
    sudden_factor: T = remembered(1.0, "", "of the threshold: more is asked of a witness that opened alarms of late")
    prediction_factor: T = remembered(1.0, "", "")
    level_factor: T = remembered(1.0, "", "")
    range_factor: T = remembered(1.0, "", "")
    interval_ms: T = remembered(0.0, "ms", "usual time between readings")
    longest_gap_ms: T = remembered(0.0, "ms", "longest time between two readings")
    alarm: T = remembered(0.0, "", "0 while closed; open: 1 + alarm.Severity, by the rarest so far", "open_severity")
    opened_offset: T = remembered(-1.0, "", "of the reading that opened the alarm")
    opened_ms: T = remembered(0.0, "ms", "event time of that reading")
    opened_by: T = remembered(0.0, "", "alarm.OpenedBy")
    peak: T = remembered(0.0, "score", "the highest since it opened")
    length: T = remembered(0.0, "readings", "since it opened")
    rest: T = remembered(
        0.0,
        "readings",
        "until the next alarm may open; below 0, an adopted level is learned so long; while one is open, calm in a row",
        "rest_or_quiet",
    )


class Relations(_Statistics[T]):
    """What is remembered a stream beside Scalars where it has several channels; each (S,) float64: see relation."""

    strength_mean: T = remembered(0.0, "deviations", "long mean of how far channels are from what the others say")
    strength_variance: T = remembered(0.0, "deviations²", "long variance of it")
    block_peak: T = remembered(0.0, "deviations", "the largest in the block")
    peak_mean: T = remembered(1.4, "ln(1 + deviations)", "long mean of the blocks' peaks; first a prior")
    peak_variance: T = remembered(0.04, "", "long variance of them; first a prior")
    threshold: T = remembered(8.0, "deviations", "what scores 1.0; at first a high one")
    lasting_mean: T = remembered(0.0, "deviations", "long mean of how far channels lastingly are from it")
    lasting_variance: T = remembered(0.0, "deviations²", "long variance of it")
    lasting_block_peak: T = remembered(0.0, "deviations", "the largest in the block")
    lasting_peak_mean: T = remembered(1.4, "ln(1 + deviations)", "long mean of the blocks' peaks; first a prior")
    lasting_peak_variance: T = remembered(0.04, "", "long variance of them; first a prior")
    lasting_threshold: T = remembered(4.0, "deviations", "what scores 1.0; at first a high one")
    factor: T = remembered(1.0, "", "of both thresholds, after alarms")
    sudden_peak_mean: T = remembered(
        1.4, "ln(1 + deviations)", "long mean of the blocks' peaks of `sudden`, of all channels; first a prior"
    )
    sudden_peak_variance: T = remembered(0.04, "", "long variance of them; first a prior")


CHANNELS = Table.of(Channels)
SCALARS = Table.of(Scalars)
RELATIONS = Table.of(Relations)
RELATION_MEAN, RELATION_VARIANCE, RELATION_LASTING, LARGEST_RESIDUAL = range(4)
LASTING_LAW, REBOUND_LAW, RELATION_MATRIX = 4, 9, 14
"""Behind Channels, where there are several: long mean and variance of how far each is from what the others say, in
spreads; its short mean, in standard deviations; the largest residual of late, signed, in standard deviations; the laws
of the channel's own peaks, of that short mean and of rebounds; then (F, F), above the diagonal and on it the precision,
below it sums of products: see relation."""
LAW_PEAK, LAW_MEAN, LAW_VARIANCE, LAW_THRESHOLD, LAW_FAILED = range(5)
"""Of a law: the largest value in the block; long mean and variance of the logarithms of the blocks' peaks; the
threshold by these; the share of the blocks whose peak passed the threshold that was set before them."""
UNKNOWN_LAW = (0.0, 1.4, 0.04, 8.0, 1.0)  # of a stream that has never been seen


CALENDAR_BEGIN, CALENDAR_END = CHANNELS.places["hour_00"], CHANNELS.places["week_gain_1"] + 1
CALENDAR = CHANNELS.names[CALENDAR_BEGIN:CALENDAR_END]


MOST_RELATED = 64  # channels: of more, what is remembered of how they go together would outgrow the rest of a row


def relation_rows(features: int) -> int:
    """R, how many numbers a channel has behind those of Channels, for how it goes together with the others."""
    return RELATION_MATRIX + features if 1 < features <= MOST_RELATED else 0


def fresh_relation(features: int) -> Tensor:
    """The R numbers of a channel of a stream that has never been seen."""
    numbers = torch.zeros(relation_rows(features), dtype=torch.float64)
    for law in (LASTING_LAW, REBOUND_LAW):
        numbers[law : law + len(UNKNOWN_LAW)] = torch.tensor(UNKNOWN_LAW, dtype=torch.float64)[: len(numbers)]
    return numbers


def relation_scalars(features: int) -> int:
    """Q, how many numbers a stream has behind those of Scalars."""
    return len(RELATIONS) if relation_rows(features) else 0


class Rows(NamedTuple):
    """The rows of S streams: stream first, as a slab keeps them."""

    hidden: Tensor  # (S, L, H) float32
    cell: Tensor  # (S, L, H) float32; (S, L, 0) for a recurrence without a cell
    channels: Tensor  # (S, C + R, F) float64; (S, C + R + E, F) where symptoms are remembered too: see kinds
    scalars: Tensor  # (S, K + Q) float64; (S, K + Q + V) where symptoms and votes are: see kinds

    def channel(self, name: str) -> Tensor:
        """A view of one field of Channels, (S, F)."""
        return self.channels[:, CHANNELS.places[name]]

    def scalar(self, name: str) -> Tensor:
        """A view of one field of Scalars, (S,)."""
        return self.scalars[:, SCALARS.places[name]]

    @property
    def symptom_rows(self) -> int:
        """E, how many numbers a channel has behind all others for its symptoms."""
        _, numbers, features = self.channels.shape
        return numbers - len(CHANNELS) - relation_rows(features)

    @property
    def symptoms(self) -> Tensor:
        """A view, (S, E, F); E is 0 where none are remembered."""
        return self.channels[:, len(CHANNELS) + relation_rows(self.channels.shape[2]) :]

    @property
    def votes(self) -> Tensor:
        """A view, (S, V); V is 0 where none are remembered."""
        return self.scalars[:, len(SCALARS) + relation_scalars(self.channels.shape[2]) :]

    @property
    def relation(self) -> Tensor:
        """A view, (S, R, F); R is 0 where there is one channel."""
        return self.channels[:, len(CHANNELS) : len(CHANNELS) + relation_rows(self.channels.shape[2])]

    @property
    def relation_statistics(self) -> Tensor:
        """A view, (S, Q); Q is 0 where there is one channel."""
        return self.scalars[:, len(SCALARS) : len(SCALARS) + relation_scalars(self.channels.shape[2])]

    def copy(self) -> "Rows":
        return Rows(*(column.clone(memory_format=torch.contiguous_format) for column in self))

    def part(self, begin: int, end: int) -> "Rows":
        """A view of rows begin..end: what is changed there is changed here."""
        return self if (begin, end) == (0, len(self.scalars)) else Rows(*(column[begin:end] for column in self))

    def take(self, index: Tensor) -> "Rows":
        return Rows(*(column.index_select(0, index) for column in self))

    def put(self, index: Tensor, rows: "Rows") -> None:
        """Overwrite the rows at `index` (no index twice); these are contiguous."""
        for column, new in zip(self, rows, strict=True):
            _in_pieces(column)[index.numpy()] = _in_pieces(new.contiguous())

    @property
    def bytes_per_stream(self) -> int:
        return sum(column[:1].nbytes for column in self)


class RowsInPlace(NamedTuple):
    """The rows of S streams where they lie among R rows, as compiled code takes them: changes are made there."""

    hidden: Floats  # (R, ...), as those of Rows
    cell: Floats
    channels: Doubles
    scalars: Doubles
    slots: Int64s  # (S,) which of them are those of the streams

    @classmethod
    def of(cls, rows: Rows, slots: Tensor) -> Self:
        hidden, cell, channels, scalars = rows
        return cls(hidden.numpy(), cell.numpy(), channels.numpy(), scalars.numpy(), slots.numpy())

    def take(self, streams: Int64s | slice) -> "RowsInPlace":
        """Those of some of the streams."""
        hidden, cell, channels, scalars, slots = self
        return RowsInPlace(hidden, cell, channels, scalars, slots[streams])

    def channel(self, name: str) -> Doubles:
        """A copy of one field of Channels, (S, F)."""
        found: Doubles = self.channels[self.slots, CHANNELS.places[name]]
        return found

    def votes(self, stream: int) -> Doubles:
        """A view of those of one of the streams, (V,)."""
        begin = len(SCALARS) + relation_scalars(self.channels.shape[2])
        return self.scalars[self.slots[stream], begin:]


def _in_pieces(column: Tensor) -> Records:
    """(S,) each row's numbers as one value, the same memory: numpy moves such rows in two thirds of the time."""
    array = column.numpy()
    return np.ndarray(len(array), _piece(array.dtype, array.shape[1:]), array)


@cache
def _piece(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> "np.dtype[np.void]":
    return np.dtype((np.void, dtype.itemsize * math.prod(shape)))


def fresh(streams: int, config: ForecasterConfig) -> Rows:
    """Rows of streams that have never been seen."""
    hidden, cell = (torch.zeros(streams, config.layers, width) for width in (config.memory_width, config.cell_width))
    features = len(config.features)
    channels = torch.cat([CHANNELS.initial(), fresh_relation(features)])[:, None].expand(streams, -1, features)
    scalars = torch.cat([SCALARS.initial(), RELATIONS.initial()[: relation_scalars(features)]]).expand(streams, -1)
    return Rows(hidden, cell, channels.contiguous(), scalars.contiguous())
