"""Which anomalies a peer must have written: the rule of programs/job.py, over all streams at once.

A reading that was skipped, judged twice or given to another stream moves the statistics of its stream, and with them
what is an anomaly; so a peer that writes just these did its job on every reading.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from models.data.arrays import Bools, Doubles
from tests.bench import load
from tests.bench.peers.programs.job import LIMIT, WARM_UP, WEIGHT

ROUNDING = 1e-3  # of LIMIT: what another order of float32 sums and another tanh may move the LSTM's scores
HIDDEN = 64

Place = tuple[str, int]  # a stream and the timestamp of one of its readings


class Expected(NamedTuple):
    """The places of anomalies. Whether what is possible but not certain is one, rounding decides."""

    certain: frozenset[Place]
    possible: frozenset[Place]


class Weights(NamedTuple):
    """The LSTM of the peers that have one, untrained, and the head that says what comes next."""

    cell: nn.LSTMCell
    head: nn.Linear

    def save(self, path: Path) -> None:
        """All numbers one behind the other, as float32, in torch's order."""
        numbers = parameters_to_vector([*self.cell.parameters(), *self.head.parameters()])
        path.write_bytes(numbers.detach().numpy().tobytes())


def weights() -> Weights:
    torch.manual_seed(0)
    lstm = Weights(nn.LSTMCell(1, HIDDEN), nn.Linear(HIDDEN, 1))
    with torch.no_grad():
        lstm.head.weight *= 4  # what it remembers moves its forecasts by as much as the noise: a wrong memory shows
    return lstm


def by_statistics(values: Doubles) -> Expected:
    """values: (waves, streams)."""
    exact = _places(_scores(values) > LIMIT)
    return Expected(exact, exact)


def by_lstm(values: Doubles, lstm: Weights) -> Expected:
    """The same rule, on how far a value is from what the LSTM expected. values: (waves, streams)."""
    residuals = np.empty_like(values)
    hidden = cell = torch.zeros(values.shape[1], HIDDEN)
    with torch.inference_mode():
        for wave, row in enumerate(values):
            residuals[wave] = row - lstm.head(hidden)[:, 0].double().numpy()
            hidden, cell = lstm.cell(torch.from_numpy(row).float()[:, None], (hidden, cell))
    certain, possible = (_places(_scores(residuals) > LIMIT * (1 + side * ROUNDING)) for side in (1, -1))
    return Expected(certain, possible)


def filled(streams: int, readings: int) -> Doubles:
    """(waves, streams) the values that load.fill() sends."""
    values = load.fill_values()
    return values[np.arange(readings) % len(values)].reshape(-1, streams)


def _scores(values: Doubles) -> Doubles:
    mean, variance, scores = np.zeros(values.shape[1]), np.zeros(values.shape[1]), np.zeros_like(values)
    for count, row in enumerate(values):
        delta = row - mean
        if count >= WARM_UP:
            np.divide(np.abs(delta), np.sqrt(variance), out=scores[count], where=variance > 0)
        weight = max(1.0 / (count + 1), WEIGHT)
        mean = mean + weight * delta
        variance = (1.0 - weight) * (variance + weight * delta * delta)
    return scores


def _places(where: Bools) -> frozenset[Place]:
    return frozenset(
        (load.stream_name(stream), load.START_MS + wave * 1000) for wave, stream in np.argwhere(where).tolist()
    )
