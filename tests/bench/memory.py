"""What a net's memory is worth: its loss of one step ahead over that of "the same as before", on unseen parts.

    python -m tests.bench.memory FOLDER... --seconds 60      each folder is a set of series with `part` = train and test
    python -m tests.bench.memory --plants                    machines that work by the clock, 14 days and 14 more

Huber's loss in steps, the root mean square of a channel's differences in the training part: so every channel of every
series counts the same. Of the plants also the mean absolute error at the edges of shifts and jobs, over the noise.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.checkpoint import load_net
from models.data import windows
from models.data.arrays import Bools, Doubles
from models.data.series import Series, read_series
from models.data.windows import Lane
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import fit, huber, usable
from models.training.run import TrainingConfig

CPU = torch.device("cpu")
BEFORE = {"chunk_readings": 64, "remembers": 0, "epoch_steps": 1, "epochs": 40, "patience": 6, "warm_up": 128}
MINUTES, DAYS, NOISE = 5, 28, 0.05
SPLIT = 14 * 1440 // MINUTES  # readings


class Ratio(NamedTuple):
    """Of every channel of every series that moves."""

    mean: float
    worst: float
    lost: float  # share of those above 1.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--plants", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="of training, for each net")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for folder in args.folders:
        judge_set(folder.name, read_series([folder]), args.seconds, args.seed)
    if args.plants:
        judge_set("plants", plants(), args.seconds, args.seed)


def judge_set(name: str, series: Sequence[Series], seconds: float, seed: int) -> None:
    parts = usable(series)
    names = parts[0].features
    before, now = ForecasterConfig(names), suited_to(parts)
    nets = {
        "as it was": (before, TrainingConfig(**BEFORE, budget_s=seconds, seed=seed)),  # type: ignore[arg-type]
        "clock alone": (now, TrainingConfig(**BEFORE, budget_s=seconds, seed=seed)),  # type: ignore[arg-type]
        "memory alone": (before, TrainingConfig(budget_s=seconds, seed=seed)),
        "as it is": (now, TrainingConfig(budget_s=seconds, seed=seed)),
    }
    for what, (config, training) in nets.items():
        begun = time.monotonic()
        fitted = fit(parts, config, training, CPU)
        report(name, what, fitted.forecaster, series, f"{fitted.ended} after {time.monotonic() - begun:.0f} s")
    report(name, "generic", load_net(names).detector.forecaster, series, "trained on none of it")


def report(name: str, what: str, net: Forecaster, series: Sequence[Series], how: str) -> None:
    found = ratio(net, series)
    edges = f", edges {edge_error(net, series):.1f} times the noise" if name == "plants" else ""
    print(
        f"{name:<8} {what:<13} {found.mean:.3f} of as before, worst {found.worst:.2f}, "
        f"{found.lost:.0%} above 1.02{edges} ({how})",
        flush=True,
    )


def ratio(net: Forecaster, series: Sequence[Series]) -> Ratio:
    untrained = Forecaster(net.config).eval()
    found = []
    for own, as_before in zip(losses(net, series), losses(untrained, series), strict=True):
        moves = as_before > 0
        found.append(own[moves] / as_before[moves])
    every = np.concatenate(found)
    return Ratio(float(every.mean()), float(every.max()), float((every > 1.02).mean()))


def losses(net: Forecaster, series: Sequence[Series]) -> Iterator[Doubles]:
    """Of each series' test part, (F,)."""
    for one in series:
        total = np.zeros(len(one.features))
        for residuals, judged, _ in walk(net, one):
            total += torch.where(judged, huber(residuals), 0.0).sum((0, 1)).double().numpy()
        yield total


def edge_error(net: Forecaster, series: Sequence[Series]) -> float:
    """Mean absolute error, in the sensor's unit, at the readings where a plant's state changes, over the noise."""
    errors = []
    for one in series:
        step = windows.scale_of(one.select(~one.test))[2]
        residuals = np.concatenate([found[:, 0].numpy() for found, _, _ in walk(net, one)])
        errors.append(np.abs(residuals * step)[edges_of(one)[one.test]])
    return float(np.concatenate(errors).mean() / (NOISE * np.sqrt(2 / np.pi)))


@torch.inference_mode()
def walk(net: Forecaster, one: Series) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Residuals in steps (T, 1, F), what is judged, and times: of the test part, its memory warm from training."""
    scale = windows.scale_of(one.select(~one.test))
    border = int(one.test.argmax())
    lane = Lane(windows.Scaled(one.values, one.times_ms, *scale), 0, len(one.times_ms), border)
    state, begin = net.fresh(1), 0
    memory = state.hidden[-1]
    for chunk in windows.chunks([lane], 2048):
        outputs, state = net.observe(net.inputs(*chunk[:5]), state)
        before = torch.cat([chunk.before.unsqueeze(0), chunk.values[:-1]])
        residuals = net.residuals(torch.cat([memory.unsqueeze(0), outputs[:-1]]), before, chunk.values, chunk.step)
        memory = outputs[-1]
        if not net.config.channelwise:
            residuals = residuals / chunk.step
        tested = slice(max(0, border - begin), None)
        begin += len(chunk.values)
        yield residuals[tested], chunk.judged[tested], chunk.times_ms[tested]


def plants() -> list[Series]:
    """Shifts, jobs at 06:00, working weeks and batch cycles, five of each; every 5 minutes, for 28 days."""
    row = np.arange(DAYS * 1440 // MINUTES)
    minute, day = row * MINUTES % 1440, row * MINUTES // 1440
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        level, period = random.uniform(2, 6), int(random.integers(40, 300))
        state = (
            level * ((minute + 60 * (seed % 12)) % 1440 < 720),  # a shift of twelve hours
            level * ((minute >= 360) & (minute < 400)),  # a job
            level * ((minute >= 420) & (minute < 1080) & (day % 7 < 5)),  # not at weekends
            level * ((row + seed * 13) % period < period * random.uniform(0.2, 0.8)),  # batches, by no clock
        )[seed % 4]
        values = (state + random.normal(0, NOISE, len(row)))[:, None]
        times_ms = 1_767_571_200_000 + row * MINUTES * 60_000  # from a Monday
        found.append(Series(f"plant {seed}", Path("made"), ("value",), row, times_ms, values, row >= SPLIT))
    return found


def edges_of(one: Series) -> Bools:
    jumps: Bools = np.abs(np.diff(one.values[:, 0], prepend=one.values[0, 0])) > 1
    return jumps


if __name__ == "__main__":
    main()
