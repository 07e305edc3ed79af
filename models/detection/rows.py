"""Everything one stream remembers: a row. O(1) a stream, whatever its age.

Memory (h and c) is for the net, in torch; statistics are for row-wise arithmetic, in numpy, which costs a third of
torch a call on the few hundred streams of a wave. Only +, -, *, /, square root and comparison work on statistics:
those are rounded exactly (IEEE 754), so no batch size, vector width or library changes a bit.
Sizes: S streams, L layers, H hidden units, F features, C channel statistics, K scalars.
"""

import math
from typing import Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from models.data.arrays import Doubles
from models.net.forecaster import ForecasterConfig

# Added, makes +0.0 of -0.0 and changes nothing else. Of two zeros, numpy's minimum and maximum return the one or the
# other depending on how many numbers they are given; among zeros of one sign it does not matter.
NO_MINUS = 0.0
FARTHEST = 1e6  # spreads, or margins of the range: distances are cut there, so that squares stay finite

T = TypeVar("T", float, Doubles)


class Channels(NamedTuple, Generic[T]):
    """What is remembered a channel (feature) of a stream; each (S, F) float64."""

    known: T  # readings learned from, missing values not counted
    mean: T  # of those readings (Welford 1962)
    square: T  # sum of their squared distances from the mean
    centre: T  # what counts as 0 for the net
    spread: T  # what counts as 1 for the net; infinite until known, so the net sees zeros
    last: T  # the last value that was not missing
    low: T  # the range learned so far
    high: T
    level: T  # mean since the open alarm opened
    tilt: T  # short mean of the distance from mean and season, in spreads; see level
    bias: T  # long mean of the residual, in spreads
    tilt_bias: T  # of the tilt
    noise: T  # long variance of the residual
    tilt_noise: T  # of the tilt
    day_sin: T  # the season's terms, in spreads: see level
    day_cos: T
    half_day_sin: T
    half_day_cos: T
    week_sin: T
    week_cos: T
    half_week_sin: T
    half_week_cos: T


class Scalars(NamedTuple, Generic[T]):
    """What is remembered a stream; each (S,) float64."""

    age: T  # readings judged
    rescale_at: T  # the age at which centre and spread are next derived
    time_ms: T  # the stream's clock: event time of its last reading
    late_run: T  # late readings dropped in a row
    learned: T  # readings in the residual statistics; the first 16 only warm the memory up
    relearn: T  # readings for which an adopted level is learned whatever its score
    smooth: T  # short mean of the residual's strength
    typical: T  # long mean of `smooth`
    tilt_typical: T  # of the tilt's strength
    variance: T  # long variance of `smooth`
    tilt_variance: T  # of the tilt's strength
    days: T  # that the season has learned from
    block_seen: T  # scored readings in the calibration block
    blocks: T  # finished blocks
    block_peak: T  # the residual's largest deviation in the block
    tilt_block_peak: T  # the level's
    range_block_peak: T  # how far outside the range a reading of it lay
    peak_mean: T  # long mean of the blocks' peaks
    tilt_peak_mean: T
    range_peak_mean: T
    peak_variance: T  # long variance of them
    tilt_peak_variance: T
    range_peak_variance: T
    threshold: T  # what scores 1.0; at first a high one
    tilt_threshold: T
    range_threshold: T
    alarm: T  # 1 while open
    opened_offset: T
    opened_ms: T
    opened_by: T  # alarm.OpenedBy
    peak: T  # highest score since it opened
    severity: T
    length: T  # readings since it opened
    quiet: T  # calm readings in a row
    rest: T  # readings until the next alarm may open


FRESH_CHANNELS: Channels[float] = Channels(
    known=0.0,
    mean=0.0,
    square=0.0,
    centre=0.0,
    spread=math.inf,
    last=0.0,
    low=math.inf,
    high=-math.inf,
    level=0.0,
    tilt=0.0,
    bias=0.0,
    tilt_bias=0.0,
    noise=0.0,
    tilt_noise=0.0,
    day_sin=0.0,
    day_cos=0.0,
    half_day_sin=0.0,
    half_day_cos=0.0,
    week_sin=0.0,
    week_cos=0.0,
    half_week_sin=0.0,
    half_week_cos=0.0,
)
FRESH_SCALARS: Scalars[float] = Scalars(
    age=0.0,
    rescale_at=2.0,
    time_ms=0.0,
    late_run=0.0,
    learned=-16.0,
    relearn=0.0,
    smooth=0.0,
    typical=0.0,
    tilt_typical=0.0,
    variance=0.0,
    tilt_variance=0.0,
    days=0.0,
    block_seen=0.0,
    blocks=0.0,
    block_peak=0.0,
    tilt_block_peak=0.0,
    range_block_peak=0.0,
    peak_mean=0.0,
    tilt_peak_mean=0.0,
    range_peak_mean=0.0,
    peak_variance=0.0,
    tilt_peak_variance=0.0,
    range_peak_variance=0.0,
    threshold=5.0,
    tilt_threshold=5.0,
    range_threshold=1.0,
    alarm=0.0,
    opened_offset=-1.0,
    opened_ms=0.0,
    opened_by=0.0,
    peak=0.0,
    severity=0.0,
    length=0.0,
    quiet=0.0,
    rest=0.0,
)


def _together(fields: tuple[str, ...], first: str, last: str) -> slice:
    return slice(fields.index(first), fields.index(last) + 1)


SEASON = _together(Channels._fields, "day_sin", "half_week_cos")
WATCHED_CHANNELS = tuple(_together(Channels._fields, name, f"tilt_{name}") for name in ("bias", "noise"))
WATCHED_SCALARS = (
    *(_together(Scalars._fields, name, f"tilt_{name}") for name in ("typical", "variance")),
    *(
        _together(Scalars._fields, name, f"range_{name}")
        for name in ("block_peak", "peak_mean", "peak_variance", "threshold")
    ),
)


class Watched(NamedTuple):
    """What is remembered alike of residual and level (2), or of residual, level and range (3), one behind the other.

    They are reckoned with together: numpy's cost a call is most of what judging a wave of a few hundred streams takes.
    """

    bias: Doubles  # (2, S, F)
    noise: Doubles  # (2, S, F)
    typical: Doubles  # (2, S)
    variance: Doubles  # (2, S)
    block_peak: Doubles  # (3, S)
    peak_mean: Doubles  # (3, S)
    peak_variance: Doubles  # (3, S)
    threshold: Doubles  # (3, S)


class Rows(NamedTuple):
    """The rows of S streams: stream first, as a slab keeps them."""

    hidden: Tensor  # (S, L, H) float32
    cell: Tensor  # (S, L, H) float32; (S, L, 0) for a recurrence without a cell
    channels: Tensor  # (S, C, F) float64; (S, C + E, F) where symptoms are remembered too: see kinds
    scalars: Tensor  # (S, K) float64; (S, K + V) where symptoms and votes are: see kinds

    def take(self, index: Tensor) -> "Rows":
        return Rows(*(column.index_select(0, index) for column in self))

    def put(self, index: Tensor, rows: "Rows") -> None:
        """Overwrite the rows at `index` (no index twice)."""
        for column, new in zip(self, rows, strict=True):
            column.index_copy_(0, index, new)

    @property
    def bytes_per_stream(self) -> int:
        return sum(column[:1].nbytes for column in self)


class Columns(NamedTuple):
    """The same, turned so that every quantity of all streams is contiguous: how a batch is judged, in place."""

    hidden: Tensor  # (L, S, H)
    cell: Tensor  # (L, S, H)
    channels: Tensor  # (C, S, F)
    scalars: Tensor  # (K, S)

    @classmethod
    def of(cls, rows: Rows) -> Self:
        return cls(*(column.transpose(0, 1).clone(memory_format=torch.contiguous_format) for column in rows))

    def rows(self) -> Rows:
        return Rows(*(column.transpose(0, 1).clone(memory_format=torch.contiguous_format) for column in self))

    def first(self, streams: int) -> "Columns":
        """A view of the first streams: what is changed there is changed here."""
        return Columns(*(column[:, :streams] for column in self))

    def take(self, index: Tensor) -> "Columns":
        return Columns(*(column.index_select(1, index) for column in self))

    def put(self, index: Tensor, columns: "Columns") -> None:
        for column, new in zip(self, columns, strict=True):
            column.index_copy_(1, index, new)

    def views(self) -> tuple[Channels[Doubles], Scalars[Doubles]]:
        """The statistics by name, each (S, F) or (S,): to be changed in place."""
        channels = self.channels[: len(Channels._fields)]  # behind them may be symptoms and votes: see kinds
        scalars = self.scalars[: len(Scalars._fields)]
        return Channels[Doubles](*channels.numpy()), Scalars[Doubles](*scalars.numpy())

    def season(self) -> Doubles:
        """The season's terms together, (P, S, F): to be changed in place."""
        terms: Doubles = self.channels[SEASON].numpy()
        return terms

    def watched(self) -> Watched:
        """To be changed in place."""
        channels, scalars = self.channels.numpy(), self.scalars.numpy()
        return Watched(*(channels[of] for of in WATCHED_CHANNELS), *(scalars[of] for of in WATCHED_SCALARS))


def fresh(streams: int, config: ForecasterConfig) -> Rows:
    """Rows of streams that have never been seen."""
    hidden, cell = (torch.zeros(streams, config.layers, width) for width in (config.hidden, config.cell_width))
    channels = torch.tensor(FRESH_CHANNELS, dtype=torch.float64)[:, None].expand(-1, len(config.features))
    scalars = torch.tensor(FRESH_SCALARS, dtype=torch.float64)
    return Rows(hidden, cell, channels.expand(streams, -1, -1).contiguous(), scalars.expand(streams, -1).contiguous())
