"""fit_generic(): a net of one channel that learns to recognise a stream's pattern while it reads.

It is trained on simulated series alone, new ones at every update, and each from its first reading to its last, so what
it learns is not a pattern but how to pick one up in its state (Hochreiter, Younger & Conwell 2001). Its inputs are
scaled as the detector scales a stream that it has never seen.
Sizes: B series side by side, T readings.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.data.simulated import SimulatedSeries, simulate
from models.net.chrono import remember_for
from models.net.forecaster import CLIP, Forecaster, ForecasterConfig
from models.training.loop import SPREAD_WEIGHT, huber

FEATURE = "value"
FIRST_RESCALE = 2  # readings; a stream's scale is derived again when their number has doubled: see learning.move_scale
PRIMED_SHARE = 0.3  # of the series are scaled as those of a training part: by all of their readings
UNSEEN_SEED = 2**31  # added to the seed: of the series that are judged on
UNSEEN_SERIES = 256
FINAL_RATE = 0.01  # of the learning rate, at the last update


@dataclass(frozen=True, slots=True)
class GenericConfig:
    epochs: int = 100
    epoch_updates: int = 24
    series: int = 64  # side by side in an update
    readings: int = 1_024  # of each; gradients reach back over all of them
    long_every: int = 4  # in every n-th update the series are twice as long
    unlearned: int = 16  # first readings of a series, which nothing could be expected of
    remembers: int = 512  # readings that the longest gate's memory lasts at first
    learning_rate: float = 3e-3
    gradient_norm: float = 1.0
    seed: int = 0

    @property
    def updates(self) -> int:
        return self.epochs * self.epoch_updates


def generic_architecture(hidden: int = 64) -> ForecasterConfig:
    """A clock too coarse to learn anything from by heart: what happens when, it has to find out from the stream."""
    return ForecasterConfig(
        (FEATURE,), hidden=hidden, day_harmonics=4, week_harmonics=2, channelwise=True, spreads=True
    )


class GenericFit(NamedTuple):
    forecaster: Forecaster
    readings: int  # that it was trained on
    loss: float  # on simulated series that it has not learned from, the last three quarters of each
    persistence_loss: float
    seconds: float


def fit_generic(
    architecture: ForecasterConfig, config: GenericConfig, progress: Callable[[int, float], None] = lambda *_: None
) -> GenericFit:
    """Train on a batch of new series at every update; progress: is called after each, with its number and its loss.

    Reproducible on one machine with one number of threads.
    """
    started = time.monotonic()
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    forecaster = Forecaster(architecture).train()
    remember_for(forecaster.get_submodule("recurrence"), config.remembers)
    optimiser = torch.optim.Adam(forecaster.parameters(), lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.updates, config.learning_rate * FINAL_RATE)
    seen = 0
    for update in range(1, config.updates + 1):
        readings = config.readings * (1 if update % config.long_every else 2)
        series = simulate(config.series, readings, generator)
        primed = torch.rand(config.series, generator=generator) < PRIMED_SHARE
        residuals, unlikelihood = _residuals(forecaster, series, primed)
        loss = huber(residuals[config.unlearned :]).mean()
        optimiser.zero_grad()
        (loss + SPREAD_WEIGHT * unlikelihood[config.unlearned :].mean()).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(forecaster.parameters(), config.gradient_norm)
        if math.isfinite(norm):
            optimiser.step()
        schedule.step()
        seen += series.values.numel()
        progress(update, loss.item())
    own, persistence = judge_generic(forecaster, config.seed + UNSEEN_SEED, 2 * config.readings)
    return GenericFit(forecaster.eval(), seen, own, persistence, time.monotonic() - started)


@torch.no_grad()
def judge_generic(forecaster: Forecaster, seed: int, readings: int) -> tuple[float, float]:
    """Huber's loss of one step ahead in steps, on unseen simulated series, and that of "the same as before"."""
    series = simulate(UNSEEN_SERIES, readings, torch.Generator().manual_seed(seed))
    nothing = torch.zeros(UNSEEN_SERIES, dtype=torch.bool)
    judged = slice(readings // 4, None)
    own, _ = _residuals(forecaster, series, nothing)
    as_before, _ = _residuals(Forecaster(forecaster.config), series, nothing)
    return huber(own[judged]).mean().item(), huber(as_before[judged]).mean().item()


def _residuals(forecaster: Forecaster, series: SimulatedSeries, primed: Tensor) -> tuple[Tensor, Tensor]:
    """Of every reading after the first, (T - 1, B, 1), in steps, and how unlikely each is by the net's spread."""
    values, readings = series.values.unsqueeze(-1), len(series.values)
    scaled, before, steps, shown = torch.empty_like(values), torch.empty_like(values), torch.empty_like(values), []
    begin = 0
    while begin < readings:
        end = min(max(2 * begin, FIRST_RESCALE), readings)
        stretch = slice(begin, end)
        centre, spread, step = _scale(values, begin, primed)
        scaled[stretch] = (values[stretch] - centre) / spread
        last = (values[max(begin - 1, 0)] - centre) / spread
        before[stretch] = torch.cat([last[None], scaled[begin : end - 1]])
        steps[stretch] = step
        now = series.elapsed_s[stretch], series.times_ms[stretch]
        shown.append(forecaster.inputs(scaled[stretch], last, step, *now))
        begin = end
    memory, _ = forecaster.observe(torch.cat(shown), forecaster.fresh(values.shape[1]))
    before, scaled, steps = (column[1:].float() for column in (before, scaled, steps))
    residuals = forecaster.residuals(memory[:-1], before, scaled, steps, farthest=CLIP)  # early steps: small by chance
    if not forecaster.config.spreads:
        return residuals, torch.zeros_like(residuals)
    return residuals, forecaster.unlikelihoods(memory[:-1], residuals.detach())


def _scale(values: Tensor, known: int, primed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, spread and step in spreads, (B, 1) each, as the first `known` readings have them; primed: as all have."""
    some, everything = (_scale_of(part) for part in (values[:known], values))
    if known < FIRST_RESCALE:  # nothing is known yet: the net sees zeros
        unknown = torch.zeros_like(values[0]), torch.full_like(values[0], math.inf), torch.ones_like(values[0])
        some = unknown
    centre, spread, step = (
        torch.where(primed[:, None], whole, part) for whole, part in zip(everything, some, strict=True)
    )
    return centre, spread, step


def _scale_of(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As learning.rescale derives it."""
    others = max(len(values) - 1, 1)
    centre = values.sum(0) / max(len(values), 1)
    floor = centre.abs() * 1e-6 + 1e-9
    spread = torch.maximum(((values - centre).square().sum(0) / others).sqrt(), floor)
    step = torch.maximum((values.diff(dim=0).square().sum(0) / others).sqrt(), floor)
    return centre, spread, step / spread
