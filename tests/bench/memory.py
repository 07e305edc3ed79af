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
from models.evaluation.evaluation import backtest, read_labels
from models.evaluation.steps import hold, share_in_band
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
GENERIC = "generic"
FARTHEST = 50.0  # steps
BAND_SHARE = 0.9


class Ratio(NamedTuple):
    """Of every channel of every series that moves, in both parts: of one that does not, no step is known."""

    mean: float
    worst: float
    lost: float  # share of those above 1.02

    def __str__(self) -> str:
        return f"{self.mean:.3f}, worst {self.worst:.2f}, {self.lost:.1%} above 1.02"


class Mixed(NamedTuple):
    """Of the detector's expectation, and how much the 90 % band around it holds of what has no label."""

    ratio: Ratio
    band: float  # mean of the series
    farthest: float  # of a series, from 90 %

    def __str__(self) -> str:
        return f"{self.ratio}, band {self.band:.1%} (a series by up to {self.farthest:.1%} off)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--plants", action="store_true", help="14 days that work by the clock, and 14 more")
    parser.add_argument("--families", action="store_true", help="nine plain kinds of series")
    parser.add_argument("--seconds", type=float, default=60, help="of the processor, to train each net")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*CHOICES, GENERIC], action="append", help="of the nets; again for another")
    parser.add_argument("--kinds", action="store_true", help="each kind of plant and each family as a set of its own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    only = args.only or [*CHOICES, GENERIC]
    for folder in args.folders:
        judge_set(folder.name, read_series([folder]), only, args.seconds, args.seed)
    made = {"plants": plants(FEATURE, MACHINES, args.seed), "families": families(FEATURE, COPIES, args.seed)}
    for name, simulated in made.items():
        if getattr(args, name):
            healthy = [one for one in simulated if one.fault is None]
            for kind in sorted({one.family for one in healthy}) if args.kinds else [name]:
                series = [in_halves(one.series) for one in healthy if kind in (name, one.family)]
                judge_set(kind, series, only, args.seconds, args.seed)


def in_halves(one: Series) -> Series:
    """The second half is the test part, where there is none yet."""
    return one if not one.test.all() else one._replace(test=np.arange(len(one.test)) >= len(one.test) // 2)


def judge_set(name: str, series: Sequence[Series], only: Sequence[str], seconds: float, seed: int) -> None:
    parts = usable(series)
    suited = suited_to(parts)
    for what, settings in CHOICES.items():
        if what not in only:
            continue
        config = ForecasterConfig(suited.features, spreads=True) if what == "coarse clock" else suited
        until = time.process_time() + seconds

        def stop(_: Progress, until: float = until) -> None:
            if time.process_time() > until:
                raise KeyboardInterrupt

        fitted = fit(parts, config, replace(TrainingConfig(seed=seed), **settings), CPU, stop)
        report(name, what, fitted.forecaster, series, str(fitted.ended))
    if GENERIC in only:
        report(name, GENERIC, load_net(suited.features).detector.forecaster, series, "trained on none of it")


def report(name: str, what: str, net: Forecaster, series: Sequence[Series], how: str) -> None:
    tested = [one for one in series if one.test.any()]
    alone, mixed = ratio(net, tested), in_the_expectation(net, tested, without_label(tested))
    print(f"{name:<16} {what:<13} alone {alone}; in the expectation {mixed} ({how})", flush=True)


def without_label(series: Sequence[Series]) -> list[Bools]:
    """Of each series' test part."""
    on_disk = [one for one in series if one.path.exists()]
    labels = dict(zip((one.key for one in on_disk), read_labels(on_disk), strict=True))
    found = [labels.get(one.key) for one in series]
    return [
        np.ones(one.test.sum(), np.bool_) if of is None else ~of[one.test]
        for one, of in zip(series, found, strict=True)
    ]


def in_the_expectation(net: Forecaster, series: Sequence[Series], calm: Sequence[Bools]) -> Mixed:
    """Of what the detector expects, streams being warm from their training parts. calm: as without_label()."""
    known = {one.key: one.select(~one.test) for one in series}
    found, bands = [], []
    judging = backtest(prime(net, DetectorConfig(), usable(series)), series)
    for judged, healthy in zip(judging, calm, strict=True):
        part, values = known[judged.series.key], judged.series.values
        step = windows.scale_of(part)[2]
        last = np.full(values.shape[1], np.nan)
        before = np.vstack([hold(part.values, last)[-1:], values[:-1]])
        before = hold(before, last)
        counts = np.isfinite(values) & np.isfinite(before) & np.isfinite(judged.expected)
        own, as_before = (_loss(values - off, step, counts) for off in (judged.expected, before))
        found.append((own, np.where(_moves(part), as_before, 0.0)))
        bands.append(share_in_band(values, judged.expected, judged.upper, healthy))
    held = np.array(bands)
    return Mixed(_of(found), float(np.nanmean(held)), float(np.nanmax(np.abs(held - BAND_SHARE))))


def _loss(errors: Doubles, step: Doubles, counts: Bools) -> Doubles:
    """Huber's, (F,). errors: (R, F)."""
    steps = np.where(counts, errors, 0.0) / step
    return huber(torch.from_numpy(steps.clip(-FARTHEST, FARTHEST))).sum(0).numpy()


def ratio(net: Forecaster, series: Sequence[Series]) -> Ratio:
    untrained = Forecaster(net.config).eval()
    moving = (_moves(one.select(~one.test)) for one in series)
    both = zip(losses(net, series), losses(untrained, series), moving, strict=True)
    return _of((own, np.where(moves, as_before, 0.0)) for own, as_before, moves in both)


def _moves(part: Series) -> Bools:
    """Channels, (F,)."""
    known = np.isfinite(part.values)
    low, high = (np.where(known, part.values, fill) for fill in (np.inf, -np.inf))
    moves: Bools = low.min(0) < high.max(0)
    return moves


def _of(found: Iterable[tuple[Doubles, Doubles]]) -> Ratio:
    """found: of each series the own losses and those of "the same as before", (F,) each; 0: of no channel to judge."""
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
