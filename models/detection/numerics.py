"""Whether this machine makes the same bits in every batch, and which bits it makes: checked at start.

A replay is the run it replays only if a stream's bits depend on nothing but that stream's readings. Which kernels keep
to that was measured on some machines; this measures it on the one at hand, through the very path that judges.

Sizes: T waves, S streams, F features.
"""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.detection.alarm import AlarmConfig
from models.detection.detector import Detector, DetectorConfig, Readings, Verdicts
from models.detection.records import Limits, Scratch
from models.detection.rows import (
    CALENDAR,
    CHANNELS,
    LARGEST_RESIDUAL,
    LASTING_LAW,
    REBOUND_LAW,
    RELATION_MATRIX,
    RELATION_MEAN,
    RELATION_VARIANCE,
    SCALARS,
    Rows,
    RowsInPlace,
    fresh,
)
from models.detection.scoring import BLOCK_DIGIT, ScoreConfig
from models.detection.ticks import Ticks
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from models.output.wording import counted

COUNTS = (1, 2, 3, 5, 7, 12, 64, 333)  # streams judged together; kernels change their ways between these
STREAMS = 1_000  # judged together for comparison
WAVES = 5
# Two layers, so that the kernel is seen with few inputs and with as many as units.
NET = ForecasterConfig(("a", "b", "c"), hidden=64, layers=2)
# Every rule comes into force within a few waves.
RULES = DetectorConfig(
    ScoreConfig(
        warm_up=64,
        smooth_readings=2,
        level_readings=2,
        long_readings=256,
        block_readings=15,
        sharp_period=512,
        smooth_period=64,
        longest_smooth_period=128,
        blocks=8,
        memory_interval_s=66.0,
        range_share=0.1,
    ),
    AlarmConfig(close_after=1, rest=2, learn_first=2, adopt_after=64, relearn=4),
)
START_MS = 1_700_000_000_000


class UnsteadyNumerics(ValueError):
    """A stream's bits depend on more than its readings: says which value, and on what."""


class Golden(NamedTuple):
    """Made of whole numbers and powers of two, so that it is the same everywhere to the last bit."""

    offsets: Tensor  # (T, S) int64
    times_ms: Tensor  # (T, S) int64
    values: Tensor  # (T, S, F) float64
    rows: Rows  # of S streams: most in mid-life, some in alarm, some never seen


class SelfTestOutcome(NamedTuple):
    """What golden readings come to, stream first."""

    hidden: Tensor  # (S, L, H)
    cell: Tensor  # (S, L, H)
    expected: Tensor  # (S, T, F)
    lower: Tensor  # (S, T, F)
    upper: Tensor  # (S, T, F)
    score: Tensor  # (S, T)
    alarm: Tensor  # (S, T)
    channels: Tensor  # (S, C, F)
    scalars: Tensor  # (S, K)


def self_test(detector: Detector) -> str:
    """The numerics fingerprint, if this detector's bits do not depend on batches. Raises UnsteadyNumerics.

    More than one torch thread is refused unseen: how threads share the work out depends on the batch, so that a test
    which passes for some batches says nothing of the next.
    """
    threads = torch.get_num_threads()
    if threads != 1:
        raise UnsteadyNumerics(
            f"torch computes with {threads} threads, expected 1: bits depend on how they divide a batch"
        )
    check_steady(detector.forecaster)
    tell_no_one(detector)
    copy_no_row(detector)
    return fingerprint(detector.forecaster.config.cell)


def check_steady(forecaster: Forecaster) -> None:
    """Judge some streams in other company, and wave by wave, and compare every bit. Raises UnsteadyNumerics."""
    given = golden(forecaster.config)
    detector = Detector.cold(forecaster, RULES)
    everyone = judge(detector, given, torch.arange(STREAMS))
    for count in COUNTS:
        some = company(count)
        expected = SelfTestOutcome(*(column[some] for column in everyone))
        for waves in (WAVES, 1):
            _require_same(judge(detector, given, some, waves), expected, some, waves)


def company(count: int) -> Tensor:
    """So many streams, none beside its neighbour: 617 has no factor in common with 1,000, so each is there once."""
    return (torch.arange(count) * 617 + count) % STREAMS


def fingerprint(cell: str = NET.cell) -> str:
    """16 hexadecimal digits that say which bits this machine and these libraries make of a cell; of no checkpoint."""
    net = golden_net(cell)
    outcome = judge(Detector.cold(net, RULES), golden(net.config), torch.arange(COUNTS[-1]))
    digest = hashlib.sha256()
    for column in outcome:
        digest.update(column.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def tell_no_one(detector: Detector) -> None:
    """Look for a silent stream where there is none: the first tick of a clock must not wait for the compiler."""
    from models.detection.silence import Arrivals  # noqa: PLC0415  (numba takes a second to import)

    rows, features = detector.rows_for([b""]), len(detector.features)
    numbers, last, nothing = rows.scalars.numpy(), np.zeros((1, features)), np.zeros(0, np.int64)
    applied, tick = np.zeros(1, np.int64), Ticks(*np.zeros((3, 1), np.int64))
    none = np.zeros(1, np.bool_)
    of_streams = (applied, applied, numbers, last, numbers, last, none, none)
    arrivals = Arrivals(nothing, nothing, np.zeros((0, features)), nothing, *of_streams, nothing, nothing, np.empty(0))
    detector.find_silent(tick, arrivals, rows, torch.from_numpy(applied), none)
    detector.fall_silent(tick, rows, torch.from_numpy(applied))


def copy_no_row(detector: Detector) -> None:
    """Compile what copies rows, where no code of it was kept: no first turn of several partitions waits for it."""
    from models.detection.row_copies import copy_rows  # noqa: PLC0415  (as above)

    none = RowsInPlace.of(detector.rows_for([b""]), torch.empty(0, dtype=torch.int64))
    copy_rows(none, none)


def keep_code() -> None:
    """Compile all that is kept, forecasts too: for an image, whose file system is read only when it runs."""
    from models.detection.judge import expect_next  # noqa: PLC0415  (numba takes a second to import)

    fingerprint()
    detector = Detector.cold(golden_net(NET.cell))
    tell_no_one(detector)
    copy_no_row(detector)
    rows = golden(NET).rows
    streams, features = rows.channel("last").shape
    before, predicted, expected, profile = (np.zeros((streams, features)) for _ in range(4))
    times_ms = np.zeros(streams, np.int64)
    statistics = rows.channels.contiguous().numpy(), rows.scalars.contiguous().numpy()
    expect_next(
        *statistics,
        Limits.none(streams, features),
        times_ms,
        before,
        predicted,
        Scratch.of(features),
        expected,
        profile,
    )


def judge(detector: Detector, given: Golden, some: Tensor, waves: int = WAVES) -> SelfTestOutcome:
    """Judge some of the golden streams as one slab would hold them, `waves` waves in one call."""
    rows = given.rows.take(some)
    made: list[Verdicts] = []
    for begin in range(0, WAVES, waves):
        part = slice(begin, begin + waves)
        offsets, times_ms, values = (column[part][:, some].flatten(0, 1) for column in given[:3])
        verdicts, rows = detector.observe(
            Readings(offsets, times_ms, values), pack(torch.arange(len(some)).repeat(waves)), rows
        )
        made.append(verdicts)
    columns = zip(*((one.expected, one.lower, one.upper, one.score, one.alarm) for one in made), strict=True)
    expected, lower, upper, score, alarm = (
        torch.cat(column).reshape(WAVES, len(some), *column[0].shape[1:]).transpose(0, 1) for column in columns
    )
    return SelfTestOutcome(rows.hidden, rows.cell, expected, lower, upper, score, alarm, rows.channels, rows.scalars)


def golden(config: ForecasterConfig) -> Golden:
    """Readings in which everything happens that takes another way through the arithmetic.

    Spikes, alarms open since long, missing values, streams without a scale, scales that move, subnormal numbers.
    Where a scale moves a block is cut: so the streams come in blocks of other lengths in other company.
    """
    features = len(config.features)
    stream, wave = torch.arange(STREAMS), torch.arange(WAVES).unsqueeze(1)
    kinds = _GoldenKinds(
        fresh=stream % 8 == 4, moving=stream % 8 == 5, in_alarm=stream % 14 == 4, tiny=stream % 16 == 12
    )
    spread = torch.exp2((stream % 13 - 4).double()).unsqueeze(1)
    centre = _fractions((STREAMS, features), seed=1) * 4096
    values = centre + _fractions((WAVES, STREAMS, features), seed=2) * spread
    values += (64 * spread) * kinds.in_alarm.unsqueeze(1)
    values -= (4 * spread) * ((stream % 28 == 7) & (wave == 1)).unsqueeze(2)
    values -= (8 * spread) * ((stream % 28 == 21) & (wave == WAVES - 1)).unsqueeze(2)
    values[:, kinds.tiny] = _fractions((WAVES, STREAMS, features), seed=3)[:, kinds.tiny] * 2.0**-1058
    values[3, stream % 6 == 1, 0] = torch.nan
    step_ms = 1_000 * (1 + stream * 37 % STREAMS) ** 2  # a second to eleven days, so every phase of day and week
    times_ms = START_MS + (wave + 1) * step_ms
    return Golden(wave * STREAMS + stream, times_ms, values, _golden_rows(config, kinds, centre, spread))


class _GoldenKinds(NamedTuple):
    """Which golden streams are what; each (S,) bool."""

    fresh: Tensor  # never seen
    moving: Tensor  # about to come to an age at which the scale moves
    in_alarm: Tensor  # and about to be adopted, unless fresh
    tiny: Tensor  # fresh, with values below the smallest normal number: a library may have switched them off


SHARES = ("season", "week", "clock", "level", "net")


def _golden_rows(config: ForecasterConfig, kinds: _GoldenKinds, centre: Tensor, spread: Tensor) -> Rows:
    """centre: (S, F), spread: (S, 1), both of the values."""
    rows = fresh(STREAMS, config)
    lived = ~kinds.fresh
    for channel, column in {
        "known": torch.tensor(190.0),
        "mean": centre,
        "square": 189 * spread * spread,
        "centre": centre + spread / 4,
        "spread": spread,
        "step_square": 189 * spread * spread / 4,
        "step": spread / 2,
        "last": centre - spread / 2,
        "low": centre - 2 * spread,
        "high": centre + 2 * spread,
        "residual_mean": torch.tensor(0.015625),
        "residual_variance": torch.tensor(1.0),
        "mean_in_alarm": centre + 64 * spread,
        "level_deviation": torch.tensor(0.375),
        "level_deviation_mean": torch.tensor(0.03125),
        "level_deviation_variance": torch.tensor(0.25),
        "band": torch.tensor(1.5),
        "profile_step": torch.tensor(2.0**-9),
        "last_profile": torch.tensor(0.25),
        "visit_sum": torch.tensor(1.25),
        "visit_readings": torch.tensor(3.0),
        "sudden_peak_mean": torch.tensor(1.5),
        "sudden_peak_variance": torch.tensor(0.0625),
        "sudden_threshold": torch.tensor(9.0),
        **{f"{share}_product": torch.tensor(24.0 + n) for n, share in enumerate(SHARES)},
        **{f"{share}_square": torch.tensor(32.0 + n) for n, share in enumerate(SHARES)},
        **{four: torch.tensor(float((n + 1) * 65_537 * 131)) for n, four in enumerate(CALENDAR)},
    }.items():
        rows.channel(channel)[lived] = column.expand_as(centre)[lived].double()
    for which, scalar, number in (
        *((lived, "age", 200.0), (lived & kinds.moving, "age", 253.0)),
        *((lived, "time_ms", float(START_MS)), (lived, "learned", 180.0), (lived, "residual_strength", 0.875)),
        *((lived, "residual_largest", 0.0625), (lived, "told_strength", 0.875), (lived, "told_largest", 0.0625)),
        *((lived, "residual_strength_mean", 0.75), (lived, "residual_strength_variance", 0.0625)),
        *((lived, "residual_threshold", 4.0), (lived, "level_threshold", 3.0)),
        *((lived, "level_strength_mean", 0.25), (lived, "level_strength_variance", 0.015625)),
        *((lived, "days", 2.5), (lived, "level_block_peak", 1.0)),
        *((lived, "level_peak_mean", 0.75), (lived, "level_peak_variance", 0.0625)),
        *((lived, "range_peak_mean", 0.5), (lived, "range_peak_variance", 0.25), (lived, "range_threshold", 1.5)),
        *((lived, "blocks", 5 + 13 * BLOCK_DIGIT), (lived, "residual_block_peak", 2.0)),
        *((lived, "residual_peak_mean", 1.5), (lived, "residual_peak_variance", 0.25)),
        *((lived, "interval_ms", 60_000.0), (lived, "longest_gap_ms", 90_000.0), (lived, "level_factor", 1.5)),
        *((lived & kinds.in_alarm, "alarm", 1.0), (lived & kinds.in_alarm, "length", RULES.alarm.adopt_after - 3.0)),
    ):
        rows.scalar(scalar)[which] = number
    features = centre.shape[1]
    if rows.relation.numel():
        matrix = torch.full((features, features), -0.25).triu(1) + 1.5 * torch.eye(features)
        products = (64 * spread * spread)[:, :, None] * torch.ones(features, features).tril(-1)
        rows.relation[lived, RELATION_MEAN], rows.relation[lived, RELATION_VARIANCE] = 0.03125, 0.5
        rows.relation[lived, LARGEST_RESIDUAL] = -0.75
        for place, number in enumerate((1.0, 1.25, 0.125, 4.0, 0.125)):  # of a law
            rows.relation[lived, LASTING_LAW + place] = rows.relation[lived, REBOUND_LAW + place] = number
        rows.relation[lived, RELATION_MATRIX:] = (matrix + products)[lived]
        for place, number in enumerate(
            (0.75, 0.0625, 2.0, 1.5, 0.25, 6.0, 0.5, 0.125, 1.0, 1.25, 0.125, 3.0, 1.25, 1.5, 0.06)
        ):  # in the order of Relations
            rows.relation_statistics[lived, place] = number
    hidden, cell = (
        _fractions((STREAMS, config.layers, width), seed).float()
        for width, seed in ((config.memory_width, 4), (config.cell_width, 5))
    )
    hidden[kinds.fresh], cell[kinds.fresh] = 0, 0
    return rows._replace(hidden=hidden, cell=cell)


def golden_net(cell: str = NET.cell) -> Forecaster:
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # what draws numbers after this draws the same as before
        net = Forecaster(replace(NET, cell=cell))
        for seed, parameter in enumerate(net.parameters(), 6):
            parameter.copy_(_fractions(tuple(parameter.shape), seed) / 4)
    return net.eval()


def _fractions(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers between -1 and 1 in no apparent order, float64, exact also in float32: whole numbers over 2^15.

    A random generator would do, but for the promise that its next version draws the same.
    """
    number = torch.arange(int(np.prod(shape)))
    mixed = (number * number * 7_919 + number * 104_729 + seed * 1_299_709) % 65_521
    return (mixed - 32_760).reshape(shape).double() / 2**15


def _require_same(found: SelfTestOutcome, expected: SelfTestOutcome, some: Tensor, waves: int) -> None:
    for name, one, other in zip(SelfTestOutcome._fields, found, expected, strict=True):
        different = (_bits(one) != _bits(other)).nonzero()
        if len(different):
            place = tuple(different[0].tolist())
            raise UnsteadyNumerics(
                f"{_name_of(name, place)} of golden stream {int(some[place[0]])}: judged among "
                f"{counted(len(some), 'stream')}, {waves} of {WAVES} waves a call, it is {_exactly(one[place])}, "
                f"among {STREAMS} in one call it is {_exactly(other[place])}, expected the same bits "
                f"(torch {torch.__version__})"
            )


def _bits(column: Tensor) -> Tensor:
    as_integers = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bool: torch.uint8}
    return column.contiguous().view(as_integers[column.dtype])


def _name_of(column: str, place: tuple[int, ...]) -> str:
    statistics = {"channels": CHANNELS.names, "scalars": SCALARS.names}
    names = statistics.get(column, ())
    return names[place[1]] if names and place[1] < len(names) else column


def _exactly(value: Tensor) -> str:
    """As many digits as distinguish a number from its neighbours."""
    return f"{value.item():.{9 if value.dtype == torch.float32 else 17}g}"
