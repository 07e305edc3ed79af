"""What the gates did, and which channels drove a score: readings judged again, with the net's inputs recorded.

The verdicts are those of the service, to the bit: the same Detector judges, and a hook records the inputs of its net.
Gates come from the cell's equations (cells.py, step()), which agree with the fused kernel to 1e-6.
Sizes: N readings shown, T readings of an episode, S ways to hide channels, L layers, H hidden units, F features.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools, Doubles, Floats
from models.detection.alarm import Change
from models.detection.detector import Detector, Readings, Transition, Verdicts
from models.detection.rows import Rows
from models.insight.forecasting import expect
from models.net.cells import CellState
from models.net.packing import pack

CAVEAT = (
    "A diagnostic, not a cause: it says what the net's memory did and which channels its score came from. "
    "What went wrong in the plant, it does not know."
)
LONGEST_EPISODE = 64  # readings up to a transition that are judged again with channels hidden
FEWEST_CALM = 16  # readings before an episode, from which a gate's baseline is taken
SMALLEST_SPREAD = 1e-4  # of a gate's mean activation
MOST_ACCOUNTS = 16  # transitions that are explained: the latest


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate of one layer let through; not judged readings are NaN."""

    name: str
    units: Floats  # (N, H)

    @property
    def mean(self) -> Floats:
        mean: Floats = self.units.mean(axis=1)
        return mean

    @property
    def low(self) -> Floats:
        """A tenth of the units are below it."""
        return np.quantile(self.units, 0.1, axis=1).astype(np.float32)

    @property
    def high(self) -> Floats:
        """A tenth of the units are above it."""
        return np.quantile(self.units, 0.9, axis=1).astype(np.float32)


class Layer(NamedTuple):
    """One layer at N readings. The memory is c, or h where the cell has no c."""

    gates: tuple[Gate, ...]
    memory: Floats  # (N,) mean of its absolute values
    change: Floats  # (N,) Euclidean norm of what the reading changed in it


class Swing(NamedTuple):
    """How far a layer's gate, the mean over its units, went from its baseline before the episode."""

    layer: int
    gate: str
    usual: float  # median
    lowest: float
    highest: float
    drop: float  # of the lowest below the baseline, in the baseline's spreads; NaN where too little came before
    rise: float  # of the highest above it


class Account(NamedTuple):
    """Of an alarm that opened or became more severe: its episode reaches from a little before it opened up to here."""

    transition: Transition  # its reading counts from the first one shown
    begin: int  # of the episode
    swings: tuple[Swing, ...]
    without: tuple[float, ...]  # the score had this channel been as expected all along
    alone: tuple[float, ...]  # the score had all others been
    weight: tuple[float, ...]  # of each channel by hiding it; sums to 1, or is 0 where hiding changes nothing
    rank_correlation: float  # of the weights with the score's own shares (Spearman); NaN where there is no order
    same_first: bool  # both name the same channel first


class Explained(NamedTuple):
    """N readings of one stream, their verdicts, and what the memory did."""

    readings: Readings
    verdicts: Verdicts
    layers: tuple[Layer, ...]  # bottom first
    accounts: tuple[Account, ...]


class _Call(NamedTuple):
    """The arguments of one call of the net."""

    inputs: Tensor  # (T, M, I): the lanes of one stream
    state: CellState  # before


def explain(detector: Detector, row: Rows, readings: Readings, shown: int | None = None) -> Explained:
    """Judge a stream's readings again, and explain what its memory did at the last of them.

    row: the stream's, before the first of its readings. shown: how many, counted from the last; None: all.
    """
    begin = 0 if shown is None else max(0, len(readings.offsets) - shown)
    if begin:
        _, row = _judge(detector, _part(readings, 0, begin), row)
    seen = _part(readings, begin, len(readings.offsets))
    explained = trace(detector, row, seen)
    changes = [t for t in explained.verdicts.transitions if t.change in (Change.OPENED, Change.UPDATED)]
    accounts = tuple(
        _account(detector, row, seen, explained.verdicts, explained.layers, one) for one in changes[-MOST_ACCOUNTS:]
    )
    return explained._replace(accounts=accounts)


def trace(detector: Detector, row: Rows, readings: Readings) -> Explained:
    """explain() of all readings without the accounts of alarms, which take most of the time: for a live view."""
    if not len(readings.offsets):
        return Explained(readings, _nothing(detector, readings), (), ())
    recording, calls = _recording(detector)
    verdicts, _ = _judge(recording, readings, row)
    return Explained(readings, verdicts, _layers(detector, calls, verdicts.fate.judged.numpy()), ())


def _judge(detector: Detector, readings: Readings, row: Rows) -> tuple[Verdicts, Rows]:
    return detector.observe(readings, pack(torch.zeros_like(readings.offsets)), row)


def _nothing(detector: Detector, readings: Readings) -> Verdicts:
    """The verdicts on no reading at all, which observe() does not accept."""
    row = detector.rows_for([b"unknown"])
    one = Readings(
        torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.zeros_like(row.channels[:, 0])
    )
    return _judge(detector, one, row)[0].part(0, len(readings.offsets))


def _part(readings: Readings, begin: int, end: int) -> Readings:
    return Readings(*(column[begin:end] for column in readings))


def _recording(detector: Detector) -> tuple[Detector, list[_Call]]:
    """A copy of the detector with the same weights, and the list of calls of its net from now on.

    The original may be judging in another thread: it is not changed.
    """
    forecaster = detector.forecaster
    shared = {id(tensor): tensor for tensor in (*forecaster.parameters(), *forecaster.buffers())}
    recording = copy.copy(detector)
    recording.forecaster = copy.deepcopy(forecaster, shared)
    calls: list[_Call] = []

    def record(_: torch.nn.Module, given: tuple[Tensor, CellState]) -> None:
        inputs, state = given
        calls.append(_Call(inputs.clone(), CellState(*(part.clone() for part in state))))

    cast(torch.nn.Module, recording.forecaster.recurrence).register_forward_pre_hook(record)
    return recording, calls


@torch.inference_mode()
def _layers(detector: Detector, calls: list[_Call], judged: Bools) -> tuple[Layer, ...]:
    """Apply the equations to the inputs of every call, from the call's own state."""
    names: tuple[str, ...] = ()
    opened: list[list[list[Tensor]]] = []  # by reading, by layer: the gates, then the memory's size and change
    for one in calls:
        state = one.state
        for inputs in one.inputs:
            after, gates = detector.forecaster.recurrence.step(inputs, state)
            names = gates[0]._fields
            size, change = _memory(after).abs().mean((1, 2)), (_memory(after) - _memory(state)).norm(dim=(1, 2))
            opened.append([[*(gate.flatten() for gate in layer), size[n], change[n]] for n, layer in enumerate(gates)])
            state = after
    return tuple(
        Layer(
            tuple(Gate(name, _spread_out([r[n][g] for r in opened], judged)) for g, name in enumerate(names)),
            _spread_out([r[n][-2] for r in opened], judged)[:, 0],
            _spread_out([r[n][-1] for r in opened], judged)[:, 0],
        )
        for n in range(detector.forecaster.config.layers)
        if opened
    )


def _memory(state: CellState) -> Tensor:
    return state.cell if state.cell.shape[-1] else state.hidden


def _spread_out(values: list[Tensor], judged: Bools) -> Floats:
    """The judged readings' values at their places among all N, (N, ...); else NaN."""
    table = torch.stack(values).reshape(len(values), -1).numpy()
    among_all = np.full((len(judged), table.shape[1]), np.nan, np.float32)
    among_all[judged] = table
    return among_all


def _account(
    detector: Detector, row: Rows, readings: Readings, verdicts: Verdicts, layers: tuple[Layer, ...], change: Transition
) -> Account:
    opened = np.flatnonzero(readings.offsets.numpy() == change.opened_offset)
    opened_at = int(opened[0]) if len(opened) else 0
    end = change.reading + 1
    begin = max(0, opened_at - detector.config.score.smooth_readings, end - LONGEST_EPISODE)
    if begin:
        _, row = _judge(detector, _part(readings, 0, begin), row)
    kept = torch.arange(begin, end)[verdicts.fate.judged[begin:end]]
    without, alone, neither = _hide(detector, row, Readings(*(column[kept] for column in readings)))
    gained = np.maximum(change.score - without, 0) + np.maximum(alone - neither, 0)
    weight = gained / gained.sum() if gained.sum() > 0 else np.zeros_like(gained)
    share = np.array(change.share)
    return Account(
        change,
        begin,
        _swings(layers, begin, end),
        tuple(without.tolist()),
        tuple(alone.tolist()),
        tuple(weight.tolist()),
        rank_correlation(weight, share),
        bool(gained.any() and weight.argmax() == share.argmax()),
    )


def _swings(layers: tuple[Layer, ...], begin: int, end: int) -> tuple[Swing, ...]:
    return tuple(
        _swing(n, gate.name, gate.mean[:begin], gate.mean[begin:end])
        for n, layer in enumerate(layers)
        for gate in layer.gates
    )


def _swing(layer: int, name: str, before: Floats, during: Floats) -> Swing:
    before, during = before[np.isfinite(before)], during[np.isfinite(during)]
    lowest, highest = float(during.min()), float(during.max())
    if len(before) < FEWEST_CALM:
        return Swing(layer, name, np.nan, lowest, highest, np.nan, np.nan)
    baseline = float(np.median(before))
    spread = max(
        1.4826 * float(np.median(np.abs(before - baseline))), SMALLEST_SPREAD
    )  # a normal distribution's standard deviation
    drop, rise = (baseline - lowest) / spread, (highest - baseline) / spread
    return Swing(layer, name, baseline, lowest, highest, drop, rise)


def _hide(detector: Detector, row: Rows, readings: Readings) -> tuple[Doubles, Doubles, float]:
    """The last reading's score if channels had been as expected at every reading.

    All ways to hide are judged side by side, as streams of their own: S = 2 F + 1. Returns the score without each
    channel (F,), with each alone (F,), and with none: where two would each suffice, hiding one changes little.
    """
    features = len(detector.features)
    each = torch.eye(features, dtype=torch.bool)
    hidden = torch.cat([each, ~each, torch.ones(1, features, dtype=torch.bool)])
    rows = Rows(*(column.expand(len(hidden), *column.shape[1:]).contiguous() for column in row))
    everyone = pack(torch.arange(len(hidden)))
    score = torch.zeros(len(hidden), dtype=torch.float64)
    for offset, time_ms, values in zip(*readings, strict=True):
        guess = expect(detector, rows, time_ms.expand(len(hidden)))
        as_expected = torch.where(hidden & guess.isfinite() & values.isfinite(), guess, values)
        wave = Readings(offset.expand(len(hidden)), time_ms.expand(len(hidden)), as_expected)
        verdicts, rows = detector.observe(wave, everyone, rows)
        score = verdicts.score
    scores = score.numpy()
    return scores[:features], scores[features:-1], float(scores[-1])


def rank_correlation(one: Doubles, other: Doubles) -> float:
    """Spearman's; NaN where either is all the same."""
    ranks = np.stack([_ranks(one), _ranks(other)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks * ranks).sum(axis=1))
    return float(ranks[0] @ ranks[1] / norms.prod()) if norms.all() else np.nan


def _ranks(values: Doubles) -> Doubles:
    """Equal values share the mean of their ranks."""
    below, equal = values[:, None] > values, values[:, None] == values
    ranks: Doubles = below.sum(axis=1) + (equal.sum(axis=1) - 1) / 2
    return ranks
