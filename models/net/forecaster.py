"""The net: what a stream's memory expects of its next reading, and how far off that may be.

Sizes: T waves, S streams, F features, H hidden units, L layers, P periods of the clock. A lane is what one memory
reads: M = 1 lane a stream with C = F channels, or, channelwise, M = F lanes a stream with C = 1 channel each; I inputs
a lane.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.net.cells import CELLS, CellState, Gates, Recurrence
from models.net.clock import WEEK_MINUTES, clock_changes, minute_of_week

CLIP = 10.0  # spreads, or steps; further out the net sees no more, the residual still does
FARTHEST = 100.0  # steps that an expectation may learn to leap: one switched off at weekends leaps by 30
MOST_DAY_HARMONICS = 48  # the shortest period is half an hour
MOST_WEEK_HARMONICS = 6  # the seventh is the day's first
SMALLEST_SPREAD = 0.01  # of an expectation, in spreads or steps
STEEPEST = 16.0  # of what a spread is computed from: the largest is 250


@dataclass(frozen=True, slots=True)
class ForecasterConfig:
    features: tuple[str, ...]
    cell: str = "lstm"
    hidden: int = 64  # a multiple of 16: only then does the recurrence give the same bits in every batch
    layers: int = 1
    day_harmonics: int = 1  # of the clock that the net is shown: 24 tell one hour from the next
    week_harmonics: int = 1
    time_zone: str = "UTC"  # IANA name: where that clock hangs
    channelwise: bool = False  # every channel is a lane of its own, with the same weights
    spreads: bool = False  # it also says how far off an expectation may be

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r} is not known, expected one of {', '.join(sorted(CELLS))}")
        if self.hidden < 16 or self.hidden % 16:
            raise ValueError(f"hidden is {self.hidden}, expected a multiple of 16")
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}, expected at least 1")
        for name, most in (("day_harmonics", MOST_DAY_HARMONICS), ("week_harmonics", MOST_WEEK_HARMONICS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 to {most}")
        clock_changes(self.time_zone)
        if not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"features are {self.features}, expected at least one, each named once")
        for name in self.features:
            if not name.isprintable() or '"' in name or "\\" in name:
                raise ValueError(
                    f"feature {name!r}: expected a name without quotes, backslashes and control characters"
                )

    @property
    def periods_a_week(self) -> tuple[int, ...]:
        """The first harmonic of day and week, then the others of the day, then those of the week."""
        return (7, 1, *range(14, 7 * self.day_harmonics + 1, 7), *range(2, self.week_harmonics + 1))

    @property
    def lanes(self) -> int:
        """M, memories a stream."""
        return len(self.features) if self.channelwise else 1

    @property
    def inputs(self) -> int:
        """I, of a lane."""
        values = 4 if self.channelwise else 2 * len(self.features)
        return values + 1 + self.clock_inputs

    @property
    def clock_inputs(self) -> int:
        """The last of a lane's inputs: what it is shown of day and week."""
        return 2 * len(self.periods_a_week)

    @property
    def memory_width(self) -> int:
        """Hidden units of all lanes of a stream in one layer."""
        return self.lanes * self.hidden

    @property
    def cell_width(self) -> int:
        """Numbers a layer keeps in its cells, beside its hidden units: none unless it is an LSTM."""
        return self.memory_width * CELLS[self.cell].cell_numbers


class Forecaster(nn.Module):
    """One step ahead, all streams of a checkpoint with the same weights.

    The expectation of reading t is a function of the memory after reading t - 1 alone:
    expected(t) = persistence * scaled(t - 1) + W h(t - 1) + b, so it starts out as "the same as before" and
    learns, per feature, how much of that to keep and what to add. Channelwise, what is added is in steps: root mean
    squares of a channel's differences; and all of "the same as before" is kept.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        outputs = 1 if config.channelwise else len(config.features)
        self.recurrence: Recurrence = CELLS[config.cell](config.inputs, config.hidden, config.layers)
        if not config.channelwise:
            self.persistence = nn.Parameter(torch.ones(outputs))
        self.head_weight = nn.Parameter(torch.zeros(outputs, config.hidden))
        self.head_bias = nn.Parameter(torch.zeros(outputs))
        if config.spreads:
            self.spread_weight = nn.Parameter(torch.zeros(outputs, config.hidden))
            self.spread_bias = nn.Parameter(torch.zeros(outputs))
        self.phases: Tensor
        self.clock_changes: Tensor
        self.offsets: Tensor
        self.register_buffer("phases", phase_table(config.periods_a_week), persistent=False)
        for name, column in zip(("clock_changes", "offsets"), clock_changes(config.time_zone), strict=True):
            self.register_buffer(name, column.clone(), persistent=False)

    def fresh(self, streams: int) -> CellState:
        """The memory of streams that have not been seen: zeros."""
        layers, device, dtype = self.config.layers, self.head_weight.device, self.head_weight.dtype
        hidden, cell = (
            torch.zeros(layers, streams, width, device=device, dtype=dtype)
            for width in (self.config.memory_width, self.config.cell_width)
        )
        return CellState(hidden, cell)

    def inputs(self, scaled: Tensor, before: Tensor, step: Tensor, elapsed_s: Tensor, times_ms: Tensor) -> Tensor:
        """What the net is shown of each reading, (T, S * M, I) float32.

        scaled: (T, S, F) in spreads. before: (S, F), the reading before the first wave. step: (S, F), the root mean
        square of a channel's differences, in spreads. elapsed_s: (T, S) since the stream's last reading. times_ms:
        (T, S) int64, for the place in day and week.
        """
        difference = torch.cat([scaled[:1] - before, scaled[1:] - scaled[:-1]])
        elapsed = (torch.log1p(elapsed_s.float().contiguous()) * 0.1).unsqueeze(-1)
        phases = self.phases[minute_of_week(times_ms, self.clock_changes, self.offsets)]
        if not self.config.channelwise:
            values = scaled.clamp(-CLIP, CLIP).float(), difference.clamp(-CLIP, CLIP).float()
            return torch.cat([*values, elapsed, phases], dim=-1)
        waves, streams, features = scaled.shape
        channels = torch.stack(
            [
                scaled.clamp(-CLIP, CLIP).float(),
                (difference / step).clamp(-CLIP, CLIP).float(),
                (torch.log(step.float().contiguous()) * 0.3).clamp(-3, 1).expand_as(scaled),
                (difference == 0).float(),
            ],
            dim=-1,
        )
        shared = torch.cat([elapsed, phases], dim=-1).unsqueeze(2).expand(-1, -1, features, -1)
        return torch.cat([channels, shared], dim=-1).reshape(waves, streams * features, -1)

    def observe(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take in T readings of S streams.

        Returns the top layer's memory after each, (T, S, M * H), and the state after the last.
        """
        if not self.config.channelwise:
            return self.recurrence(inputs, state)
        memory, after = self.recurrence(inputs, self._by_lane(state))
        return memory.reshape(len(inputs), state.hidden.shape[1], -1), self._by_stream(after)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, Sequence[Gates]]:
        """One reading of S streams, (S * M, I), by the equations, with the gates of every layer and lane."""
        after, gates = self.recurrence.step(inputs, self._by_lane(state))
        return self._by_stream(after), gates

    def predict(self, memory: Tensor, scaled: Tensor, step: Tensor) -> Tensor:
        """What is expected next, (..., F) in spreads. memory: (..., M * H) after a reading, scaled: (..., F) that one.

        step: (S, F), see inputs().
        """
        change = self._read_out(memory, self.head_weight, self.head_bias)
        return scaled + step * change if self.config.channelwise else self.persistence * scaled + change

    def residuals(
        self, memory: Tensor, before: Tensor, values: Tensor, step: Tensor, farthest: float = FARTHEST
    ) -> Tensor:
        """How far readings are from what was expected, (..., F), in spreads; channelwise, in steps.

        memory, before: after the reading before. values: (..., F). What is further out than CLIP spreads, or has leapt
        by more than `farthest` steps, counts as if it were there.
        """
        if self.config.channelwise:
            change = self._read_out(memory, self.head_weight, self.head_bias)
            return self.changes(before, values, step, farthest) - change
        return values.clamp(-CLIP, CLIP) - self.predict(memory, before.clamp(-CLIP, CLIP), step)

    def changes(self, before: Tensor, values: Tensor, step: Tensor, farthest: float = FARTHEST) -> Tensor:
        """What residuals() are of "the same as before"."""
        if self.config.channelwise:
            return ((values - before) / step).clamp(-farthest, farthest)
        return values.clamp(-CLIP, CLIP) - before.clamp(-CLIP, CLIP)

    def unlikelihoods(self, memory: Tensor, residuals: Tensor) -> Tensor:
        """Negative logarithms of the likelihoods of those residuals by the spreads, (..., F), but for a constant."""
        scale = self.spread(memory, torch.ones_like(residuals))
        return residuals.abs() / scale + scale.log()

    def spread(self, memory: Tensor, step: Tensor) -> Tensor:
        """How far off that may be, (..., F) in spreads; 1 throughout from a net that does not say.

        The scale of a Laplace distribution: p(x) ** 2 of the head's output x, p = (x + sqrt(x ** 2 + 4)) / 2. Near 0
        that is exp(x), but it is computed with exactly rounded operations alone: no bit depends on the batch.
        """
        if not self.config.spreads:
            return torch.ones(*memory.shape[:-1], len(self.config.features), dtype=step.dtype, device=memory.device)
        x = self._read_out(memory, self.spread_weight, self.spread_bias).clamp(-STEEPEST, STEEPEST)
        root = (x * x + 4).sqrt()
        p = torch.where(x < 0, 2 / (root - x), (root + x) / 2)  # the same, each where nothing cancels out
        spread = p * p + SMALLEST_SPREAD
        return spread * step if self.config.channelwise else spread.to(step.dtype)

    def _read_out(self, memory: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A linear layer on every lane's memory: (..., M * H) -> (..., F).

        Multiply and sum, not a matrix product: a matrix product's last bit depends on the number of rows. Where a
        gradient is wanted there is no such promise to keep, and it is one: with many features its backward pass takes a
        third of the time. The two agree to 1e-6.
        """
        lanes = memory.reshape(*memory.shape[:-1], self.config.lanes, self.config.hidden)
        if torch.is_grad_enabled():
            change = lanes @ weight.T
        else:
            change = torch.stack([(lanes * row).sum(-1) for row in weight], dim=-1)
        out: Tensor = (change + bias).flatten(-2)
        return out

    def _by_lane(self, state: CellState) -> CellState:
        return self._reshaped(state, state.hidden.shape[1] * self.config.lanes, self.config.lanes)

    def _by_stream(self, state: CellState) -> CellState:
        return self._reshaped(state, state.hidden.shape[1] // self.config.lanes, 1)

    def _reshaped(self, state: CellState, columns: int, lanes: int) -> CellState:
        """Lanes lie side by side in a stream's memory."""
        if columns == state.hidden.shape[1]:
            return state
        widths = self.config.memory_width // lanes, self.config.cell_width // lanes
        return CellState(*(part.reshape(len(part), columns, width) for part, width in zip(state, widths, strict=True)))


def phase_table(periods_a_week: Sequence[int]) -> Tensor:
    """Sine and cosine of the phase of every period at each minute of the week, (10080, 2 P) float32.

    Single precision, since libraries agree on it: the last bits of a sine are their own. On the CPU whatever the
    default device is: arithmetic on the device "meta" makes torch import its compiler, for seconds.
    """
    minute = torch.arange(WEEK_MINUTES, dtype=torch.float64, device="cpu")
    angles = [minute / (WEEK_MINUTES / periods) * 2 * math.pi for periods in periods_a_week]
    return torch.stack([of for angle in angles for of in (angle.sin(), angle.cos())], dim=1).float()
