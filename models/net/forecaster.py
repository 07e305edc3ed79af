"""The net: what a stream's memory expects of its next reading.

Sizes: T waves, S streams, F features, H hidden units, L layers, I = 2 F + 5 inputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.net.cells import CELLS, CellState, Recurrence

CLIP = 10.0  # spreads; further out the net sees no more, the residual still does
MINUTE_MS = 60_000
WEEK_MINUTES = 7 * 24 * 60
EPOCH_WEEKDAY_MINUTES = 3 * 24 * 60  # 1970-01-01 was a Thursday; weeks begin on Monday


@dataclass(frozen=True, slots=True)
class ForecasterConfig:
    features: tuple[str, ...]
    cell: str = "lstm"
    hidden: int = 64  # a multiple of 16: only then does the recurrence give the same bits in every batch
    layers: int = 1

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r} is not known, expected one of {', '.join(sorted(CELLS))}")
        if self.hidden < 16 or self.hidden % 16:
            raise ValueError(f"hidden is {self.hidden}, expected a multiple of 16")
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}, expected at least 1")
        if not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"features are {self.features}, expected at least one, each named once")
        for name in self.features:
            if not name.isprintable() or '"' in name or "\\" in name:
                raise ValueError(
                    f"feature {name!r}: expected a name without quotes, backslashes and control characters"
                )

    @property
    def inputs(self) -> int:
        return 2 * len(self.features) + 5

    @property
    def cell_width(self) -> int:
        """Numbers a layer keeps in its cell, beside its hidden units: none unless it is an LSTM."""
        return self.hidden if CELLS[self.cell].has_cell else 0


class Forecaster(nn.Module):
    """One step ahead, all streams of a checkpoint with the same weights.

    The expectation of reading t is a function of the memory after reading t - 1 alone:
    expected(t) = persistence * scaled(t - 1) + W h(t - 1) + b, so it starts out as "the same as before" and
    learns, per feature, how much of that to keep and what to add.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        features = len(config.features)
        self.recurrence: Recurrence = CELLS[config.cell](config.inputs, config.hidden, config.layers)
        self.persistence = nn.Parameter(torch.ones(features))
        self.head_weight = nn.Parameter(torch.zeros(features, config.hidden))
        self.head_bias = nn.Parameter(torch.zeros(features))
        self.phases: Tensor
        self.register_buffer("phases", phase_table((7, 1)), persistent=False)

    def fresh(self, streams: int) -> CellState:
        """The memory of streams that have not been seen: zeros."""
        layers, device, dtype = self.config.layers, self.head_weight.device, self.head_weight.dtype
        hidden, cell = (
            torch.zeros(layers, streams, width, device=device, dtype=dtype)
            for width in (self.config.hidden, self.config.cell_width)
        )
        return CellState(hidden, cell)

    def inputs(self, scaled: Tensor, before: Tensor, elapsed_s: Tensor, times_ms: Tensor) -> Tensor:
        """What the net is shown of each reading, (T, S, I) float32.

        scaled: (T, S, F) in spreads. before: (S, F), the reading before the first wave. elapsed_s: (T, S) since the
        stream's last reading. times_ms: (T, S) int64, for the phase of the day and of the week (UTC).
        """
        difference = torch.cat([scaled[:1] - before, scaled[1:] - scaled[:-1]])
        minute = (times_ms // MINUTE_MS + EPOCH_WEEKDAY_MINUTES) % WEEK_MINUTES
        return torch.cat(
            [
                scaled.clamp(-CLIP, CLIP).float(),
                difference.clamp(-CLIP, CLIP).float(),
                (torch.log1p(elapsed_s.float().contiguous()) * 0.1).unsqueeze(-1),
                self.phases[minute],
            ],
            dim=-1,
        )

    def observe(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take in T readings of S streams. Returns the memory after each, (T, S, H), and the state after the last."""
        return self.recurrence(inputs, state)

    def predict(self, memory: Tensor, scaled: Tensor) -> Tensor:
        """memory: (..., H) after a reading, scaled: (..., F) that reading. Returns what is expected next, (..., F).

        Multiply and sum, not a matrix product: a matrix product's last bit depends on the number of rows. Where a
        gradient is wanted there is no such promise to keep, and it is one: with many features its backward pass takes a
        third of the time. The two agree to 1e-6.
        """
        if torch.is_grad_enabled():
            change = memory @ self.head_weight.T
        else:
            change = torch.stack([(memory * weight).sum(-1) for weight in self.head_weight], dim=-1)
        return self.persistence * scaled + (change + self.head_bias)


def phase_table(periods_a_week: Sequence[int]) -> Tensor:
    """Sine and cosine of the phase of every period at each minute of the week, (10080, 2 P) float32.

    Single precision, since libraries agree on it: the last bits of a sine are their own. On the CPU whatever the
    default device is: arithmetic on the device "meta" makes torch import its compiler, for seconds.
    """
    minute = torch.arange(WEEK_MINUTES, dtype=torch.float64, device="cpu")
    angles = [minute / (WEEK_MINUTES // periods) * 2 * math.pi for periods in periods_a_week]
    return torch.stack([of for angle in angles for of in (angle.sin(), angle.cos())], dim=1).float()
