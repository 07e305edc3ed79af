"""How far back a loss reaches: the norm of its gradient with respect to the memory, lag by lag.

Back-propagation through time multiplies one Jacobian for every reading between the loss and the memory it asks about.
Where those shorten a vector the gradient vanishes, where they lengthen it it explodes (Hochreiter 1991, Bengio et al.
1994, Pascanu et al. 2013). What a gradient does not reach is not learned.
Sizes: K lags, W windows, T waves, L layers, H hidden units.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.data import windows
from models.data.arrays import Doubles
from models.data.series import Series, UnusableData
from models.data.windows import Chunk, Lane
from models.net.cells import CellState
from models.net.chrono import GATED, remember_for
from models.net.forecaster import Forecaster, ForecasterConfig
from models.output.wording import counted

WARM_UP = 64  # readings that fill the memory before the first lag that is asked about
SETTLED = 10  # lags; from here on the decay is taken to be the recurrence's own, not the head's
VANISHED = 0.01  # of the norm at lag 1, at lag 100
EXPLODED = 10.0  # times the norm at lag 1, at any lag


class Norms(NamedTuple):
    """Norms of the gradient of W losses; row k - 1 is lag k."""

    hidden: Doubles  # (K, W) with respect to h(t - k)
    cell: Doubles  # (K, W) with respect to c(t - k); (K, 0) for a cell that keeps none


@dataclass(frozen=True, slots=True)
class Flow:
    """How a gradient fades along the lags: over many windows, each relative to its own d loss(t) / d h(t - 1)."""

    cell: str
    moment: str  # at first; chrono: at first, with biases for long memories; trained
    memory: str  # h or c
    middle: Doubles  # (K,) median over the windows
    low: Doubles  # (K,) tenth and ninetieth percentile
    high: Doubles

    def at(self, lag: int) -> float:
        """The median at a lag; NaN beyond the last one measured."""
        return float(self.middle[lag - 1]) if lag <= len(self.middle) else math.nan

    @property
    def factor(self) -> float:
        """By how much a reading multiplies the gradient, from lag 10 on: the geometric mean. 0 where none arrives."""
        first = min(SETTLED, len(self.middle) // 2) - 1
        beyond = self.middle[first:]
        if not (beyond > 0).all():
            return 0.0
        return float((beyond[-1] / beyond[0]) ** (1 / (len(beyond) - 1)))

    @property
    def half_life(self) -> float:
        """Readings in which that factor halves the gradient; infinite where it does not."""
        if self.factor <= 0:
            return 0.0
        return math.log(0.5) / math.log(self.factor) if self.factor < 1 else math.inf

    @property
    def verdict(self) -> str:
        """none: exactly 0 beyond lag 1; explodes: above 10 at some lag; vanishes: below 0.01 at lag 100; else carries.

        Where fewer lags were measured the last one is taken for lag 100.
        """
        if not self.middle[1:].any():
            return "none"
        if self.middle.max() > EXPLODED:
            return "explodes"
        return "vanishes" if self.middle[:100][-1] < VANISHED else "carries"


def untrained(config: ForecasterConfig, seed: int, remembers: int | None = None) -> Forecaster:
    """The forecaster that training would start from, except for its head.

    That is all zeros at first, and no gradient would come through it; here it is drawn as a linear layer's is.
    remembers: readings, for a gated cell whose biases are drawn for memories of that length.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        forecaster = Forecaster(config)
        reach = 1 / math.sqrt(config.hidden)
        nn.init.uniform_(forecaster.head_weight, -reach, reach)
        if remembers is not None:
            remember_for(forecaster.get_submodule("recurrence"), remembers)
    return forecaster.eval()


def draw_windows(series: Sequence[Series], lags: int, count: int, seed: int) -> Chunk:
    """Windows that end at random readings, all equally likely: T = WARM_UP + lags + 1 waves of `count` streams."""
    waves = WARM_UP + lags + 1
    ends = np.array([max(0, len(one.times_ms) - waves + 1) for one in series])
    if not ends.sum():
        longest = max((len(one.times_ms) for one in series), default=0)
        raise UnusableData(f"the longest stream has {counted(longest, 'reading')}, {lags} lags take at least {waves}")
    places = np.random.default_rng(seed).integers(ends.sum(), size=count)
    borders = np.cumsum(ends)
    whose = np.searchsorted(borders, places, side="right")
    scaled = {int(stream): windows.scaled(series[stream]) for stream in np.unique(whose)}
    lanes = []
    for stream, place in zip(whose.tolist(), places.tolist(), strict=True):
        begin = place - int(borders[stream] - ends[stream])
        lanes.append(Lane(scaled[stream], begin, begin + waves, begin + waves - 1))
    return next(windows.chunks(lanes, waves))


def gradient_norms(forecaster: Forecaster, chunk: Chunk, lags: int) -> Norms:
    """Norms of d loss / d h and d loss / d c of the last wave's losses, in float64.

    The memory at lag k is the one handed over to the reading k - 1 before the judged one, h and c taken as independent:
    so the loss does not depend on c at lag 1. All layers count. Windows whose last reading is missing, or
    expected exactly, have no gradient and are left out.
    """
    exact = copy.deepcopy(forecaster).double()
    chunk = Chunk(*(column.double() if column.is_floating_point() else column for column in chunk))
    inputs = exact.inputs(*chunk[:5]).double()
    known = len(inputs) - lags
    with torch.no_grad():
        state = CellState(*(part.double() for part in exact.fresh(chunk.values.shape[1])))
        for wave in inputs[:known]:
            state, _ = exact.step(wave, state)
    state = CellState(*(part.requires_grad_() for part in state))
    memories = [state]
    for wave in inputs[known:-1]:
        state, _ = exact.step(wave, state)
        memories.append(state)
    off = exact.residuals(state.hidden[-1], chunk.values[-2], chunk.values[-1], chunk.step)
    loss = nn.functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="none")
    total = torch.where(chunk.judged[-1], loss, 0.0).sum()
    asked = [part for memory in memories[::-1] for part in memory]
    gradients = torch.autograd.grad(total, asked, allow_unused=True, materialize_grads=True)
    hidden, cell = _norms(gradients[::2]), _norms(gradients[1::2])
    has_gradient = hidden[0] > 0
    return Norms(hidden[:, has_gradient], cell[:, has_gradient] if memories[0].cell.numel() else cell[:, :0])


def _norms(gradients: Sequence[Tensor]) -> Doubles:
    """gradients: K of (L, W, H). Returns (K, W)."""
    norms: Doubles = torch.stack([gradient.square().sum((0, 2)).sqrt() for gradient in gradients]).numpy()
    return norms


def flows_at_first(config: ForecasterConfig, chunk: Chunk, lags: int, seed: int) -> list[Flow]:
    """Before training: as training starts, and for a gated cell also with biases for memories of `lags` readings."""
    found = flows(untrained(config, seed), chunk, lags, "at first")
    if config.cell in GATED:
        found += flows(untrained(config, seed, remembers=lags), chunk, lags, "chrono")
    return found


def flows(forecaster: Forecaster, chunk: Chunk, lags: int, moment: str) -> list[Flow]:
    """How the gradient of a forecaster's losses fades: along h, and along c where it has one."""
    norms = gradient_norms(forecaster, chunk, lags)
    if not norms.hidden.size:
        raise UnusableData("no window has a loss to follow back: nothing moves in this data")
    found = []
    for memory, kept in (("h", norms.hidden), ("c", norms.cell)):
        if kept.size:
            low, middle, high = np.quantile(kept / norms.hidden[0], [0.1, 0.5, 0.9], axis=1)
            found.append(Flow(forecaster.config.cell, moment, memory, middle, low, high))
    return found
