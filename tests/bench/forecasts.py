"""How well forecasts hold on real series: `python -m tests.bench.forecasts CHECKPOINT DATA [PAST] [ORIGINS]`.

From places in each series' test part, PAST readings after its beginning and further on: how often the bands held,
and how far off the median was, beside "the same as before" and "the same as a day before". Errors are in spreads of
each channel over what was read before; channels that hardly ever move are left out of them. Labels are not read.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from models.checkpoints import checkpoint
from models.data.arrays import Doubles
from models.data.series import Series, read_series
from models.detection.detector import Detector, Readings
from models.detection.rows import Rows
from models.insight.forecasting import LEVELS, ForecastConfig, forecast
from models.net.packing import pack

STEPS = 48
SHOWN = (1, 2, 4, 8, 16, 32, 48)
DAY_MS = 86_400_000
FARTHEST = 10.0  # spreads: an error beyond counts as this, or a single one would be all that a mean shows
HARDLY_MOVES = 1e-3  # of the widest channel's spread

Found = dict[str, list[Doubles]]  # by what was measured: of every forecast, by step


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("past", type=int, nargs="?", default=512)
    arguments.add_argument("origins", type=int, nargs="?", default=5)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    found: Found = defaultdict(list)
    detector, began = checkpoint.load(given.checkpoint).detector, time.process_time()
    for series in read_series([given.data], detector.features):
        if (~series.test).any() and np.count_nonzero(series.test) > given.past + 2 * STEPS:
            _measure(detector, series, given.past, given.origins, found)
    forecasts = len(found["same as before"])
    print(f"{forecasts} forecasts of {STEPS} steps, {(time.process_time() - began) / forecasts / 2:.2f} s each")
    print("step".ljust(24), *(f"{step:>6}" for step in SHOWN), "   all")
    for what, every in found.items():
        mean = np.nanmean(np.stack(every), axis=0)
        print(what.ljust(24), *(f"{mean[step - 1]:6.3f}" for step in SHOWN), f"{mean.mean():6.3f}")


def _measure(detector: Detector, series: Series, past: int, origins: int, found: Found) -> None:
    known, series = series.select(~series.test), series.select(series.test)
    day = round(DAY_MS / float(np.median(np.diff(series.times_ms))))
    rows, at = detector.rows_for([series.key.encode()]), 0
    for origin in np.linspace(past, len(series.times_ms) - STEPS, origins).astype(int).tolist():
        begin = origin - past
        rows, at = _judge(detector, series, at, begin, rows), begin
        came, before = series.values[origin : origin + STEPS], np.concatenate([known.values, series.values[:origin]])
        spread = before.std(axis=0)
        moves = spread > HARDLY_MOVES * spread.max()
        for name, config in (("", ForecastConfig(STEPS)), (", untried", ForecastConfig(STEPS, origins=0))):
            ahead = forecast(detector, rows, _readings(series, begin, origin), config)
            for level, band in zip(LEVELS, ahead.bands, strict=True):
                held = ((came >= band.lower) & (came <= band.upper)).mean(axis=1)
                found[f"{100 * level:g} % band held{name}"].append(held)
        guesses = {"median": ahead.median, "same as before": before[[-1]].repeat(STEPS, axis=0)}
        if len(before) >= day:
            guesses["same as a day before"] = before[len(before) - day :][np.arange(STEPS) % day]
        for name, guess in guesses.items():
            error = np.minimum(np.abs(came - guess) / np.where(moves, spread, 1.0), FARTHEST)
            found[name].append(error[:, moves].mean(axis=1) if moves.any() else np.full(STEPS, np.nan))


def _judge(detector: Detector, series: Series, begin: int, end: int, rows: Rows) -> Rows:
    if begin == end:
        return rows
    return detector.observe(_readings(series, begin, end), pack(torch.zeros(end - begin, dtype=torch.int64)), rows)[1]


def _readings(series: Series, begin: int, end: int) -> Readings:
    times_ms, values = series.times_ms[begin:end], series.values[begin:end]
    return Readings(torch.arange(begin, end), torch.from_numpy(times_ms), torch.from_numpy(values))


if __name__ == "__main__":
    main()
