"""What the net is shown of readings, and what its memory says of the next ones: compiled, on either side of the net.

The formulas are those of Forecaster.inputs and Forecaster.predict, which training has as tensors with gradients. Here
they are scalar, as the judge's are: some forty calls of torch a block took more time than the net where streams are
few. Only operations that are rounded exactly are used, and a stream's numbers are computed from its own alone.
Sizes: T waves, S streams, F features, H hidden units, M lanes a stream, I inputs a lane, O outputs a lane (1 or F).
"""

import math
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Floats, Int64s
from models.detection.arithmetic import at_least, at_most, count_until, dot, logarithm, one_if, within
from models.detection.compiling import compiled, fetch_ahead, kept
from models.detection.rows import CHANNELS, RowsInPlace
from models.net.cells import CellState
from models.net.clock import EPOCH_WEEKDAY_MINUTES, MINUTE_MS, WEEK_MINUTES
from models.net.forecaster import CLIP, Forecaster

AHEAD = 8  # rows that are fetched before they are needed
SMALLEST_STEP = 1e-5  # spreads: the logarithm of what is smaller is cut

_LAST, _CENTRE, _SPREAD, _STEP = (CHANNELS.places[name] for name in ("last", "centre", "spread", "step"))


class NetArithmetic(NamedTuple):
    """What of a forecaster is not its recurrence. Arrays share the memory of its parameters."""

    channelwise: bool
    phases: Floats  # (WEEK_MINUTES, 2 P)
    clock_changes: Int64s  # (K,) ms
    offsets: Int64s  # (K + 1,) minutes
    persistence: Floats  # (O,)
    head_weight: Floats  # (O, H)
    head_bias: Floats  # (O,)

    @classmethod
    def of(cls, net: Forecaster) -> Self:
        persistence = net.head_bias if net.config.channelwise else net.persistence  # of every channel its own is kept
        parameters = (column.detach().numpy() for column in (persistence, net.head_weight, net.head_bias))
        clock = (column.numpy() for column in (net.phases, net.clock_changes, net.offsets))
        return cls(net.config.channelwise, *clock, *parameters)

    def recall(self, rows: RowsInPlace) -> CellState:
        """What the net remembers of S streams, as it reads it: a copy."""
        (_, layers, width), (_, _, cells), streams = rows.hidden.shape, rows.cell.shape, len(rows.slots)
        hidden, cell = np.empty((layers, streams, width), np.float32), np.empty((layers, streams, cells), np.float32)
        recall(rows.hidden, rows.cell, rows.slots, hidden, cell)
        return CellState(torch.from_numpy(hidden), torch.from_numpy(cell))

    def remember(self, rows: RowsInPlace, memory: CellState) -> None:
        """Put it back."""
        remember(rows.hidden, rows.cell, rows.slots, memory.hidden.numpy(), memory.cell.numpy())

    def inputs(self, times_ms: Int64s, leaps: Int64s, elapsed_ms: Doubles, held: Doubles, rows: RowsInPlace) -> Tensor:
        """What the net is shown of T waves, (T, S * M, I). See show()."""
        waves, streams, features = held.shape
        lanes, values = (features, 4) if self.channelwise else (1, 2 * features)
        shown = np.empty((waves, streams, lanes, values + 1 + self.phases.shape[1]), np.float32)
        show(self, times_ms, leaps, elapsed_ms, held, rows.channels, rows.slots, shown)
        return torch.from_numpy(shown.reshape(waves, streams * lanes, -1))

    def predict(self, first: Tensor, memory: Tensor, held: Doubles, rows: RowsInPlace) -> Doubles:
        """What is expected of T waves, (T, S, F) in spreads. See predict()."""
        predicted = np.empty(held.shape)
        predict(self, first.numpy(), memory.numpy(), held, rows.channels, rows.slots, predicted)
        return predicted


@kept
def recall(hidden: Floats, cell: Floats, slots: Int64s, hidden_now: Floats, cell_now: Floats) -> None:
    """Fill in h and c of some streams, (L, S, M * H), from rows, (R, L, M * H)."""
    layers, streams, width = hidden_now.shape
    for stream in range(streams):
        slot = slots[stream]
        if stream + AHEAD < streams:
            fetch_ahead(hidden, slots[stream + AHEAD], hidden.strides[0])
            fetch_ahead(cell, slots[stream + AHEAD], cell.strides[0])
        for layer in range(layers):
            for n in range(width):
                hidden_now[layer, stream, n] = hidden[slot, layer, n]
            for n in range(cell.shape[2]):
                cell_now[layer, stream, n] = cell[slot, layer, n]


@kept
def remember(hidden: Floats, cell: Floats, slots: Int64s, hidden_now: Floats, cell_now: Floats) -> None:
    """The other way round."""
    layers, streams, width = hidden_now.shape
    for stream in range(streams):
        slot = slots[stream]
        for layer in range(layers):
            for n in range(width):
                hidden[slot, layer, n] = hidden_now[layer, stream, n]
            for n in range(cell.shape[2]):
                cell[slot, layer, n] = cell_now[layer, stream, n]


@kept
def show(
    net: NetArithmetic,
    times_ms: Int64s,
    leaps: Int64s,
    elapsed_ms: Doubles,
    held: Doubles,
    channels: Doubles,
    slots: Int64s,
    shown: Floats,
) -> None:
    """Fill in what the net is shown of T waves. See Forecaster.inputs.

    times_ms, elapsed_ms: (T, S). leaps: (T, S), see rhythm.week_leaps. held: (T, S, F). channels: (R, C, F) of rows
    before them, of which slots, (S,), are those of the streams. shown: (T, S, M, I).
    """
    waves, streams, features = held.shape
    lanes = shown.shape[2]
    shared = 4 if net.channelwise else 2 * features  # inputs before those that all lanes have
    for wave in range(waves):
        for stream in range(streams):
            slot = slots[stream]
            if wave == 0 and stream + AHEAD < streams:
                fetch_ahead(channels, slots[stream + AHEAD], (_LAST + 1) * features * 8)
            for f in range(features):
                now = in_spreads(held[wave, stream, f], channels, slot, f)
                before = held[wave - 1, stream, f] if wave else channels[slot, _LAST, f]
                difference = now - in_spreads(before, channels, slot, f)
                if net.channelwise:
                    step = step_of(channels, slot, f)
                    shown[wave, stream, f, 0] = within(now, CLIP)
                    shown[wave, stream, f, 1] = within(difference / step, CLIP)
                    shown[wave, stream, f, 2] = at_most(
                        at_least(logarithm(at_least(step, SMALLEST_STEP)) * 0.3, -3.0), 1.0
                    )
                    shown[wave, stream, f, 3] = one_if(difference == 0.0)
                else:
                    shown[wave, stream, 0, f] = within(now, CLIP)
                    shown[wave, stream, 0, features + f] = within(difference, CLIP)
            elapsed = logarithm(1.0 + elapsed_ms[wave, stream] / 1000.0) * 0.1
            minute = (minute_of_week(times_ms[wave, stream], net) + leaps[wave, stream]) % WEEK_MINUTES
            for lane in range(lanes):
                shown[wave, stream, lane, shared] = elapsed
                for p in range(net.phases.shape[1]):
                    shown[wave, stream, lane, shared + 1 + p] = net.phases[minute, p]


@kept
def predict(
    net: NetArithmetic,
    first: Floats,
    memory: Floats,
    held: Doubles,
    channels: Doubles,
    slots: Int64s,
    predicted: Doubles,
) -> None:
    """Fill in what is expected of each of T waves, in spreads, from what is known before it. See Forecaster.predict.

    first: (S, M * H) before the first wave. memory: (T, S, M * H) after each wave. held: (T, S, F); of both, what is of
    the last wave is not read. channels, slots: as in show(). predicted: (T, S, F).
    """
    waves, streams, features = predicted.shape
    hidden = net.head_weight.shape[1]
    for wave in range(waves):
        for stream in range(streams):
            known = memory[wave - 1, stream] if wave else first[stream]
            slot = slots[stream]
            for f in range(features):
                value = held[wave - 1, stream, f] if wave else channels[slot, _LAST, f]
                before = in_spreads(value, channels, slot, f)
                if net.channelwise:
                    change = read_out(net, 0, known[f * hidden : (f + 1) * hidden])
                    predicted[wave, stream, f] = before + step_of(channels, slot, f) * change
                else:
                    change = read_out(net, f, known)
                    predicted[wave, stream, f] = np.float64(net.persistence[f]) * before + change


@compiled
def read_out(net: NetArithmetic, output: int, memory: Floats) -> float:
    """A linear layer: memory (H,) to one of its outputs."""
    return dot(net.head_weight[output], memory) + float(np.float64(net.head_bias[output]))


@compiled
def in_spreads(value: float, channels: Doubles, slot: int, f: int) -> float:
    return float((value - channels[slot, _CENTRE, f]) / channels[slot, _SPREAD, f])


@compiled
def step_of(channels: Doubles, slot: int, f: int) -> float:
    """The root mean square of a channel's differences, in spreads; 1 while the scale is unknown."""
    spread = channels[slot, _SPREAD, f]
    return channels[slot, _STEP, f] / spread if spread < math.inf else 1.0


@compiled
def minute_of_week(time_ms: int, net: NetArithmetic) -> int:
    """See models.net.clock."""
    ahead = int(net.offsets[count_until(net.clock_changes, time_ms)])
    return (time_ms // MINUTE_MS + ahead + EPOCH_WEEKDAY_MINUTES) % WEEK_MINUTES
