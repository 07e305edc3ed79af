"""More than one step ahead: many possible futures of a stream, drawn through the net, and bands around them.

A path is what the stream might do: the net expects the next reading, a residual as this stream has had them is added,
and the sum is fed back as if it had been read. Statistics do not move on the way: nothing is learned from a guess.
Sizes: K steps, S streams, M paths, F features, R readings of the past.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools, Doubles, Int64s
from models.detection.detector import Detector, Readings, Verdicts, leaps_of
from models.detection.records import BAND_DEVIATIONS, BAND_REACH, SMALLEST_BAND, Scratch
from models.detection.rows import Rows, RowsInPlace
from models.net.forecaster import Forecaster
from models.net.packing import pack
from models.output.wording import counted

if TYPE_CHECKING:
    from models.detection.net_arithmetic import NetArithmetic

LEVELS = (0.5, 0.8, 0.95)
MOST_STEPS = 1_000
FARTHEST_RESIDUAL = 20.0  # noises; residuals are clipped there before they are drawn
NARROWEST, WIDEST = 0.5, 5.0  # factors by which trying the bands out may change their width
PAST_READINGS = 2_048  # are enough: older ones say nothing about today's residuals


@dataclass(frozen=True, slots=True)
class ForecastConfig:
    steps: int = 48
    paths: int = 256
    block: int = 8  # neighbouring residuals that are drawn together, because they are correlated
    fewest_residuals: int = 64  # with fewer in the past, residuals are drawn from a normal distribution
    origins: int = 32  # places in the past from which the bands are tried out; 0: they are not
    tried_paths: int = 64  # from each of them
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps is {self.steps}, expected 1 to {MOST_STEPS}")
        if min(self.paths, self.tried_paths, self.block, self.fewest_residuals) < 1 or self.origins < 0:
            raise ValueError("paths, tried_paths, block, fewest_residuals: expected at least 1; origins: at least 0")


class UnknownInterval(ValueError):
    """Fewer than two readings: the interval between a stream's readings is unknown."""


class Band(NamedTuple):
    """Where the value will be with this probability, step by step; each (K, F), in the sensors' units."""

    level: float
    lower: Doubles
    upper: Doubles


class Forecast(NamedTuple):
    """A stream's next K readings. NaN where a channel's scale is unknown."""

    times_ms: Int64s  # (K,)
    median: Doubles  # (K, F)
    bands: tuple[Band, ...]  # one for each of LEVELS, narrowest first
    interval_ms: int
    origins: int  # places in the past from which the bands were tried out
    widened: Doubles  # (len(LEVELS), K): by how much that made them wider or narrower
    residuals: int  # of the past that were drawn from; 0: they come from a normal distribution


class _PastReadings(NamedTuple):
    """R readings, judged."""

    judged: Bools  # (R,) neither late nor a duplicate
    times_ms: Int64s  # (R,)
    values: Doubles  # (R, F)
    residual: Doubles  # (R, F) in noises; NaN where there is none, in an alarm and while warming up
    after: Rows  # of the stream, after the last of them
    origins: Int64s  # (S,) readings before each of the places from which the bands are tried out
    rows: Rows  # of the stream at each of them, (S, ...)


def forecast(
    detector: Detector, row: Rows, readings: Readings, config: ForecastConfig, interval_ms: int | None = None
) -> Forecast:
    """What a stream will read next, with bands that were tried out on its own past.

    row: the stream's, before the first of its `readings` (R >= 0). interval_ms: between two readings to come; None:
    the median of those read.

    Residuals are drawn from the stream's own, in blocks (moving block bootstrap: Künsch 1989).
    The bands' widths are then set so that, from places in the past, they held as often as they say (split conformal
    prediction: Papadopoulos et al. 2002, with the ratio to the band as the measure: Romano et al. 2019).
    Raises UnknownInterval.
    """
    interval_ms = interval_ms or _interval(readings)
    past = _judge(detector, row, readings, _origins(len(readings.offsets), config))
    random = np.random.default_rng(config.seed)
    residual = _draw(past.residual, (config.steps, config.paths), config, random)
    clock_ms = int(past.after.scalar("time_ms")[0])
    times_ms = clock_ms + interval_ms * np.arange(1, config.steps + 1)
    drawn = paths(detector, past.after, torch.from_numpy(times_ms)[:, None], torch.from_numpy(residual)[:, None])
    median, bands = _bands(drawn[:, 0])
    widened, tried = _try_out(detector, past, config, random)
    wider = tuple(_widen(median, band, factor[:, None]) for band, factor in zip(bands, widened, strict=True))
    known = int(np.isfinite(past.residual).all(axis=1).sum())
    return Forecast(
        times_ms, median, wider, interval_ms, tried, widened, known if known >= config.fewest_residuals else 0
    )


@torch.inference_mode()
def expect(detector: Detector, rows: Rows, times_ms: Tensor) -> Tensor:
    """What S streams' readings at these times are expected to be, (S, F), in the sensors' units: observe()'s very bits.

    times_ms: (S,) int64, each no earlier than its stream's clock.
    """
    rows = rows._replace(channels=rows.channels.contiguous())
    predicted = _predicted(_arithmetic(detector.forecaster), rows.hidden[:, -1].contiguous(), rows)
    return _expect_next(detector, rows, times_ms, predicted)[0]


@torch.inference_mode()
def paths(detector: Detector, rows: Rows, times_ms: Tensor, residual: Tensor) -> Doubles:
    """Possible futures of S streams in the sensors' units, (K, S, M, F); NaN where a channel's scale is unknown.

    times_ms: (K, S) int64. residual: (K, S, M, F), in standard deviations of the stream's own.
    """
    steps, streams, many, features = residual.shape
    rows = rows.take(torch.arange(streams).repeat_interleave(many))
    rows = rows._replace(channels=rows.channels.contiguous())
    arithmetic = _arithmetic(detector.forecaster)
    known = rows.channel("spread").isfinite()
    std = (rows.channel("band") / BAND_REACH).clamp(min=SMALLEST_BAND) * torch.where(known, rows.channel("spread"), 0.0)
    limits = detector.limits.take(np.zeros(streams * many, np.int64))
    everyone = RowsInPlace.of(rows, torch.arange(len(rows.scalars)))
    state = arithmetic.recall(everyone)
    clock_ms = rows.scalar("time_ms").long()
    memory, futures = state.hidden[-1], []
    for step in range(steps):
        now_ms = times_ms[step].repeat_interleave(many)
        expected, profile = _expect_next(detector, rows, now_ms, _predicted(arithmetic, memory, rows))
        rows.channel("last_profile").copy_(profile)
        value = expected + std * residual[step].reshape(-1, features)
        held = torch.where(known, value, rows.channel("last"))
        elapsed_ms = (now_ms - clock_ms).clamp(min=0).double()
        times, elapsed, values = (column.unsqueeze(0).numpy() for column in (now_ms, elapsed_ms, held))
        inputs = arithmetic.inputs(times, leaps_of(times, limits), elapsed, values, everyone)
        outputs, state = detector.forecaster.observe(inputs, state)
        rows.channel("last").copy_(held)
        memory, clock_ms = outputs[-1], now_ms
        futures.append(value)
    return torch.stack(futures).reshape(steps, streams, many, features).numpy()


def _arithmetic(forecaster: Forecaster) -> "NetArithmetic":
    from models.detection.net_arithmetic import NetArithmetic  # noqa: PLC0415  (numba takes a second to import)

    return NetArithmetic.of(forecaster)


def _predicted(arithmetic: "NetArithmetic", memory: Tensor, rows: Rows) -> Doubles:
    """What the net says of the readings after the last, (S, F) in spreads. memory: (S, M * H) after those."""
    nothing = np.empty((1, len(memory), rows.channels.shape[2]))
    everyone = RowsInPlace.of(rows, torch.arange(len(memory)))
    predicted: Doubles = arithmetic.predict(memory, memory.unsqueeze(0), nothing, everyone)[0]
    return predicted


def _expect_next(detector: Detector, rows: Rows, times_ms: Tensor, predicted: Doubles) -> tuple[Tensor, Tensor]:
    """What is expected of streams after their last values, (S, F), and the profile of the day at that time."""
    from models.detection import judge  # noqa: PLC0415  (as above)

    before = rows.channel("last").contiguous()
    expected, profile = np.empty(before.shape), np.empty(before.shape)
    channels, scalars = rows.channels.numpy(), rows.scalars.contiguous().numpy()
    scratch = Scratch.of(before.shape[1])
    limits = detector.limits.take(np.zeros(len(before), np.int64))
    given = times_ms.contiguous().numpy(), before.numpy(), predicted
    judge.expect_next(channels, scalars, limits, *given, scratch, expected, profile)
    return torch.from_numpy(expected), torch.from_numpy(profile)


def _interval(readings: Readings) -> int:
    apart = np.diff(np.unique(readings.times_ms.numpy()))
    if not len(apart):
        raise UnknownInterval(
            f"{counted(len(readings.offsets), 'reading')} cannot tell how far apart a stream's are, "
            "expected 2 or an interval"
        )
    return max(1, int(np.median(apart)))


def _origins(readings: int, config: ForecastConfig) -> Int64s:
    """Places with enough residuals before them, and after them at least one reading, better as many as are wanted."""
    first, last = config.fewest_residuals, readings - min(config.steps, readings // 4)
    if last - first < config.origins or not config.origins:
        return np.empty(0, np.int64)
    return np.unique(np.linspace(first, last, config.origins).astype(np.int64))


def _judge(detector: Detector, row: Rows, readings: Readings, origins: Int64s) -> _PastReadings:
    """Judge the past in pieces; where they end changes nothing."""
    ends = [*origins.tolist(), len(readings.offsets)]
    rows, residual, judged = [], [], []
    for begin, end in zip([0, *ends], ends, strict=False):
        if begin < end:
            piece = Readings(*(column[begin:end] for column in readings))
            ages = row.scalar("age")[0]
            verdicts, row = detector.observe(piece, pack(torch.zeros(end - begin, dtype=torch.int64)), row)
            known = ages + verdicts.fate.judged.cumsum(0) > detector.config.score.warm_up
            residual.append(_residual(piece, verdicts, known))
            judged.append(verdicts.fate.judged.numpy())
        rows.append(row)
    features = len(detector.features)
    return _PastReadings(
        np.concatenate(judged) if judged else np.empty(0, bool),
        readings.times_ms.numpy(),
        readings.values.numpy(),
        np.concatenate(residual) if residual else np.empty((0, features)),
        row,
        origins,
        Rows(*map(torch.cat, zip(*rows[:-1], strict=True))) if len(origins) else row,
    )


def _residual(readings: Readings, verdicts: Verdicts, known: Tensor) -> Doubles:
    """What the verdicts' bands say of the residuals, in noises. known: (R,) bool, the noise has settled."""
    noise = (verdicts.upper - verdicts.lower) / (2 * BAND_DEVIATIONS)
    residual = ((readings.values - verdicts.expected) / noise).clamp(-FARTHEST_RESIDUAL, FARTHEST_RESIDUAL)
    calm = verdicts.fate.judged & ~verdicts.alarm & known
    return torch.where(calm[:, None], residual, torch.nan).numpy()


def _draw(past: Doubles, shape: tuple[int, int], config: ForecastConfig, random: np.random.Generator) -> Doubles:
    """Residuals for K steps of M paths, (K, M, F): whole blocks of the past, all channels together."""
    known = past[np.isfinite(past).all(axis=1)]
    steps, many = shape
    if len(known) < config.fewest_residuals:
        return random.standard_normal((steps, many, past.shape[1]))
    blocks = -(-steps // config.block)
    begins = random.integers(0, len(known) - config.block + 1, (blocks, 1, many))
    places = (begins + np.arange(config.block)[:, None]).reshape(blocks * config.block, many)
    drawn: Doubles = known[places[:steps]]
    return drawn


def _bands(drawn: Doubles) -> tuple[Doubles, tuple[Band, ...]]:
    """drawn: (K, M, F), or (K, S, M, F). The median and the middle of LEVELS of the paths."""
    ends = [(1 - level) / 2 for level in LEVELS]
    quantiles = np.quantile(drawn, [0.5, *ends, *(1 - end for end in ends)], axis=-2)
    lower, upper = quantiles[1 : 1 + len(LEVELS)], quantiles[1 + len(LEVELS) :]
    return quantiles[0], tuple(map(Band, LEVELS, lower, upper))


def _widen(median: Doubles, band: Band, factor: Doubles) -> Band:
    return Band(band.level, median - (median - band.lower) * factor, median + (band.upper - median) * factor)


def _try_out(
    detector: Detector, past: _PastReadings, config: ForecastConfig, random: np.random.Generator
) -> tuple[Doubles, int]:
    """By how much each band has to be wider at each step to have held as often as it says, (len(LEVELS), K)."""
    widened = np.ones((len(LEVELS), config.steps))
    places = np.flatnonzero(past.judged)
    after = [places[places >= origin][: config.steps] for origin in past.origins]
    steps = min(map(len, after), default=0)
    if not steps:
        return widened, 0
    ahead = np.stack([one[:steps] for one in after], axis=1)  # (K, S)
    residual = np.stack(
        [_draw(past.residual[:origin], (steps, config.tried_paths), config, random) for origin in past.origins], axis=1
    )
    times_ms = torch.from_numpy(past.times_ms[ahead])
    median, bands = _bands(paths(detector, past.rows, times_ms, torch.from_numpy(residual)))
    for level, band in enumerate(bands):
        far = _how_far_out(past.values[ahead], median, band)
        for step in range(config.steps):
            near = far[
                min(step // 2, steps - 1) : min(2 * step + 1, steps)
            ]  # neighbouring steps: one alone is too little data
            near = near[np.isfinite(near)]
            if len(near):
                widened[level, step] = np.clip(np.quantile(near, band.level), NARROWEST, WIDEST)
    return widened, len(past.origins)


def _how_far_out(values: Doubles, median: Doubles, band: Band) -> Doubles:
    """The factor by which the band would just have reached the value; NaN where there is no value or no band."""
    with np.errstate(all="ignore"):
        above = (values - median) / (band.upper - median)
        below = (median - values) / (median - band.lower)
    return np.where(np.isfinite(above + below), np.maximum(above, below), np.nan)
