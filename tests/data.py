"""What the tests judge: real series, and small made ones with every fault written in.

Sizes: N readings in offset order, S streams, F features.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.arrays import Doubles
from models.detection.alarm import AlarmConfig
from models.detection.detector import Detector, DetectorConfig, Readings, Transition
from models.detection.kinds import KindsHead, shapes
from models.detection.rows import CHANNELS, SCALARS, Channels, Rows, Scalars
from models.detection.scoring import ScoreConfig
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack

QUICK = DetectorConfig(
    ScoreConfig(
        warm_up=80,
        smooth_readings=10,
        level_readings=10,
        long_readings=256,
        block_readings=16,
        blocks=8,
        smooth_period=650,
        longest_smooth_period=650,
        opened_factor=1.5,
        range_share=0.1,
    ),
    AlarmConfig(close_below=0.5, close_after=4, rest=8, learn_first=4, adopt_after=48, adopt_days=0.0, relearn=24),
)
"""Everything that takes hundreds of readings by default happens within a few dozen."""
# Silence is told by the other streams of a partition: where each stream is held against itself alone, none is.
NEVER_SILENT = replace(QUICK, score=replace(QUICK.score, silent_intervals=1e9))
TEST_DATA = os.environ.get("TELLTALE_TEST_DATA")  # when tests begin; each is played without any variable of Telltale's


def data_folder() -> Path:
    """The real series of public benchmarks; a skip that says where they are looked for when they are not there."""
    folder = Path(TEST_DATA or Path(__file__).parents[1] / ".." / "shared" / "data").resolve()
    if not (folder / "series.json").is_file():
        pytest.skip(
            f"no real series: no series.json in {folder}; the environment variable TELLTALE_TEST_DATA says where they "
            "are, and docs/evaluation.md how they lie there"
        )
    return folder


def some_machines(folder: Path) -> list[Path]:
    """Three machines of the simulated plant, a file each: six calm days to train on, and as many with faults."""
    from models.data.synthetic import PlantSimulator, to_frame  # noqa: PLC0415  (polars starts threads: not where tests fork)

    days = 6 * 288
    plant = PlantSimulator(3, seed=4, step_s=300.0, fault_every=300.0, first_fault_after=days)
    rows = to_frame(plant.advance(2 * days))
    paths = []
    for (key,), of_one in rows.group_by("stream", maintain_order=True):
        paths.append(folder / f"{str(key).replace('/', '-')}.parquet")
        of_one.drop("stream").write_parquet(paths[-1])
    return paths


def statistics(rows: Rows) -> tuple[Channels[Doubles], Scalars[Doubles]]:
    """Copies by name, each (S, F) or (S,)."""
    channels, scalars = rows.channels[:, : len(CHANNELS)].numpy(), rows.scalars[:, : len(SCALARS)].numpy()
    return (
        Channels[Doubles].of([*np.moveaxis(channels, 1, 0).copy()]),
        Scalars[Doubles].of([*np.moveaxis(scalars, 1, 0).copy()]),
    )


def some_forecaster(features: int, hidden: int = 16, layers: int = 1, seed: int = 0, cell: str = "lstm") -> Forecaster:
    """A forecaster whose every weight matters: an untrained one's head is 0 and would not show what it remembers."""
    config = ForecasterConfig(tuple(f"f{n}" for n in range(features)), cell, hidden, layers)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        forecaster = Forecaster(config)
        for parameter in forecaster.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return forecaster.eval()


def fine_forecaster(features: int, *, channelwise: bool) -> Forecaster:
    """A forecaster with spreads and a fine clock in another time zone, whose every weight matters."""
    names = tuple(f"f{n}" for n in range(features))
    config = ForecasterConfig(
        names,
        day_harmonics=24,
        week_harmonics=6,
        time_zone="Europe/Berlin",
        channelwise=channelwise,
        spreads=True,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(features)
        forecaster = Forecaster(config)
        for parameter in forecaster.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return forecaster.eval()


def some_kinds(hidden: int = 16, units: int = 8, seed: int = 0) -> KindsHead:
    """A head that has learned nothing, but whose every weight matters."""
    random = np.random.default_rng(seed)
    return KindsHead(*(random.normal(0, 0.3, shape) for shape in shapes(hidden, units)))


class Batch(NamedTuple):
    """N readings and whose they are."""

    streams: Tensor  # (N,) int64, 0..S
    readings: Readings

    def part(self, keep: Tensor) -> "Batch":
        return Batch(self.streams[keep], Readings(*(column[keep] for column in self.readings)))


class Judged(NamedTuple):
    """What a detector thinks of a whole history, however it was cut into batches."""

    late: Tensor
    duplicate: Tensor
    score: Tensor
    alarm: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor
    transitions: tuple[Transition, ...]  # by place in the whole history
    rows: Rows  # after it


def batch_of(values: NDArray[np.float64] | Sequence[float], step_ms: int = 60_000, first_ms: int = 0) -> Batch:
    """One stream's readings, evenly spaced. values: (N,) or (N, F)."""
    table = torch.as_tensor(np.asarray(values, dtype=np.float64)).reshape(len(values), -1)
    number = torch.arange(len(table))
    return Batch(torch.zeros_like(number), Readings(number, first_ms + number * step_ms, table))


def judge(detector: Detector, batch: Batch, rows: Rows, borders: Sequence[int] = ()) -> Judged:
    """Judge a history batch by batch, as the service does. rows: of all streams, 0..S."""
    slab = Rows(*(column.clone() for column in rows))
    streams, readings = batch
    pieces, transitions = [], []
    for begin, end in pairwise([0, *borders, len(streams)]):
        if begin == end:
            continue
        waves = pack(streams[begin:end])
        part = Readings(*(column[begin:end] for column in readings))
        verdicts, after = detector.observe(part, waves, slab.take(waves.slots))
        slab.put(waves.slots, after)
        pieces.append((verdicts.fate.late, verdicts.fate.duplicate, *verdicts[1:6]))
        transitions += [replace(one, reading=one.reading + begin) for one in verdicts.transitions]
    late, duplicate, score, alarm, expected, lower, upper = map(torch.cat, zip(*pieces, strict=True))
    return Judged(late, duplicate, score, alarm, expected, lower, upper, tuple(transitions), slab)


def faulty(features: int, seed: int, streams: int = 12, readings: int = 3_000) -> Batch:
    """Streams of very different lengths, shuffled into one another, with everything in them that can go wrong.

    Spikes, noise, shifts that pass and shifts that last, missing values, a sensor that never moves, late readings (so
    many in a row that the clock is set back), duplicates, and other values at the same time.
    """
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, streams + 1)
    whose = random.choice(streams, readings, p=share / share.sum())
    values, times = np.empty((readings, features)), np.empty(readings, np.int64)
    for stream in range(streams):
        mine = np.flatnonzero(whose == stream)
        values[mine], times[mine] = _faulty_stream(len(mine), features, stream, random)
    return Batch(
        torch.from_numpy(whose),
        Readings(torch.arange(readings) * 3 + 1_000, torch.from_numpy(times), torch.from_numpy(values)),
    )


def _faulty_stream(
    readings: int, features: int, stream: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    place = np.arange(readings)
    noise = random.normal(0, 1 + stream, (readings, features))
    noise[5 * readings // 8 : 5 * readings // 8 + 12] *= 9
    values = 50 * stream + noise + 60 * (1 + stream) * np.sin(place / 25)[:, None]
    if stream == 3:
        values[:] = 7.0
    values[readings // 2 : readings // 2 + 15] += 70 * (1 + stream)
    if stream % 2:
        values[3 * readings // 4 :] -= 400 * (1 + stream)
    values[random.random(readings) < 0.01] += 90 * (1 + stream)
    values[random.random(values.shape) < 0.03] = np.nan
    values[random.random(readings) < 0.01] = np.nan

    times = 1_700_000_000_000 + np.cumsum(random.integers(50_000, 70_000, readings))
    times[random.random(readings) < 0.02] -= 600_000
    if stream == 0:
        times[readings // 3 :] -= 86_400_000
    for kind, chance in (("duplicate", 0.02), ("repeated time", 0.01)):
        for n in np.flatnonzero(random.random(readings) < chance):
            if n:
                times[n] = times[n - 1]
                if kind == "duplicate":
                    values[n] = values[n - 1]
    return values, times
