"""What a net's memory is worth: its loss of one step ahead over that of "the same as before", on unseen parts.

    python -m tests.bench.memory FOLDER... --seconds 60      each folder is a set of series with `part` = train and test
    python -m tests.bench.memory --plants --families         simulated ones, seeded

Huber's loss in steps, the root mean square of a channel's differences in the training part: so every channel of every
series counts the same. What residuals are at the edges of shifts and jobs, `telltale evaluate --simulated` says.
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
from models.data.arrays import Doubles
from models.data.families import families
from models.data.plants import plants
from models.data.series import Series, read_series
from models.data.windows import Lane
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import fit, huber, usable
from models.training.run import TrainingConfig

CPU = torch.device("cpu")
BEFORE = {"chunk_readings": 64, "remembers": 0, "epoch_steps": 1, "epochs": 40, "patience": 6, "warm_up": 128}
FEATURE, MACHINES, COPIES = ("value",), 4, 4  # machines of each kind of plant, series of each family


class Ratio(NamedTuple):
    """Of every channel of every series that moves."""

    mean: float
    worst: float
    lost: float  # share of those above 1.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--plants", action="store_true", help="14 days that work by the clock, and 14 more")
    parser.add_argument("--families", action="store_true", help="nine plain kinds of series")
    parser.add_argument("--seconds", type=float, default=60, help="of training, for each net")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for folder in args.folders:
        judge_set(folder.name, read_series([folder]), args.seconds, args.seed)
    made = {"plants": plants(FEATURE, MACHINES, args.seed), "families": families(FEATURE, COPIES, args.seed)}
    for name, simulated in made.items():
        if getattr(args, name):
            series = [in_halves(one.series) for one in simulated if one.fault is None]
            judge_set(name, series, args.seconds, args.seed)


def in_halves(one: Series) -> Series:
    """The second half is the test part, where there is none yet."""
    return one if one.test.any() else one._replace(test=np.arange(len(one.test)) >= len(one.test) // 2)


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
    print(
        f"{name:<8} {what:<13} {found.mean:.3f} of as before, worst {found.worst:.2f}, "
        f"{found.lost:.0%} above 1.02 ({how})",
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
        for residuals, judged in walk(net, one):
            total += torch.where(judged, huber(residuals), 0.0).sum((0, 1)).double().numpy()
        yield total


@torch.inference_mode()
def walk(net: Forecaster, one: Series) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Residuals in steps (T, 1, F), and which are judged: of the test part, the memory being warm from training."""
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
        yield residuals[tested], chunk.judged[tested]


if __name__ == "__main__":
    main()
