"""What a net's memory is worth: loss of one step ahead over that of "the same as before", on unseen parts.

    python -m tests.bench.memory FOLDER... --seconds 15      each folder is a set of series with `part` = train and test
    python -m tests.bench.memory --plants --families         simulated ones, seeded

Each net twice: by itself, and in the expectation of the detector that it was made for (models/detection/expectation.py)
after its training part. Huber's loss in steps, the root mean square of a channel's differences in the training part: so
every channel of every series counts the same. What residuals are at the edges of shifts and jobs,
`telltale evaluate --simulated` says.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from models.checkpoints.checkpoint import load_net
from models.data import windows
from models.data.arrays import Bools, Doubles
from models.data.families import families
from models.data.plants import plants
from models.data.series import Series, read_series
from models.data.windows import Lane
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.evaluation.evaluation import backtest
from models.evaluation.steps import hold
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import Progress, fit, huber, usable
from models.training.run import TrainingConfig

CPU = torch.device("cpu")
CHOICES: dict[str, dict[str, Any]] = {  # of the trainer; an epoch of each is as many readings
    "as it is": {},
    "coarse clock": {},
    "short chunks": {"chunk_readings": 64, "epoch_steps": 96},
    "short memory": {"remembers": 0},
    "faster": {"learning_rate": 0.01},
    "both short": {"chunk_readings": 64, "epoch_steps": 96, "remembers": 0},
}
FEATURE, MACHINES, COPIES = ("value",), 4, 4  # machines of each kind of plant, series of each family
FARTHEST = 50.0  # steps


class Ratio(NamedTuple):
    """Of every channel of every series that moves."""

    mean: float
    worst: float
    lost: float  # share of those above 1.02

    def __str__(self) -> str:
        return f"{self.mean:.3f}, worst {self.worst:.2f}, {self.lost:.0%} above 1.02"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--plants", action="store_true", help="14 days that work by the clock, and 14 more")
    parser.add_argument("--families", action="store_true", help="nine plain kinds of series")
    parser.add_argument("--seconds", type=float, default=60, help="of the processor, to train each net")
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
    suited = suited_to(parts)
    for what, settings in CHOICES.items():
        config = ForecasterConfig(suited.features, spreads=True) if what == "coarse clock" else suited
        until = time.process_time() + seconds

        def stop(_: Progress, until: float = until) -> None:
            if time.process_time() > until:
                raise KeyboardInterrupt

        fitted = fit(parts, config, replace(TrainingConfig(seed=seed), **settings), CPU, stop)
        report(name, what, fitted.forecaster, series, str(fitted.ended))
    report(name, "generic", load_net(suited.features).detector.forecaster, series, "trained on none of it")


def report(name: str, what: str, net: Forecaster, series: Sequence[Series], how: str) -> None:
    tested = [one for one in series if one.test.any()]
    alone, mixed = ratio(net, tested), mixed_ratio(net, tested)
    print(f"{name:<8} {what:<13} alone {alone}; in the expectation {mixed} ({how})", flush=True)


def mixed_ratio(net: Forecaster, series: Sequence[Series]) -> Ratio:
    """Of what the detector expects, streams being warm from their training parts."""
    known = {one.key: one.select(~one.test) for one in series}
    found = []
    for judged in backtest(prime(net, DetectorConfig(), usable(series)), series):
        part, values = known[judged.series.key], judged.series.values
        step = windows.scale_of(part)[2]
        last = np.full(values.shape[1], np.nan)
        before = np.vstack([hold(part.values, last)[-1:], values[:-1]])
        before = hold(before, last)
        counts = np.isfinite(values) & np.isfinite(before) & np.isfinite(judged.expected)
        own, as_before = (_loss(values - off, step, counts) for off in (judged.expected, before))
        found.append((own, as_before))
    return _of(found)


def _loss(errors: Doubles, step: Doubles, counts: Bools) -> Doubles:
    """Huber's, (F,). errors: (R, F)."""
    steps = np.where(counts, errors, 0.0) / step
    return huber(torch.from_numpy(steps.clip(-FARTHEST, FARTHEST))).sum(0).numpy()


def ratio(net: Forecaster, series: Sequence[Series]) -> Ratio:
    untrained = Forecaster(net.config).eval()
    return _of(zip(losses(net, series), losses(untrained, series), strict=True))


def _of(found: Iterable[tuple[Doubles, Doubles]]) -> Ratio:
    """found: of each series the own losses and those of "the same as before", (F,) each."""
    every = np.concatenate([own[as_before > 0] / as_before[as_before > 0] for own, as_before in found])
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
