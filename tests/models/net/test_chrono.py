"""Biases for long memories: what a gate keeps, and for how long."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.net.cells import CELLS, CellState, GRUGates, LSTMGates, NoGates
from models.net.chrono import GATED, remember_for, remember_up_to


@pytest.mark.parametrize("cell", GATED)
@pytest.mark.parametrize(("draw", "mean"), [(remember_for, 100), (remember_up_to, 1 + 198 / math.log(199))])
def test_gates_for_long_memories_keep_a_number_for_up_to_so_many_readings(
    cell: str, draw: Callable[[nn.Module, int], None], mean: float
) -> None:
    """With nothing shown and nothing remembered a gate is its bias; a number that is kept by f lasts 1 / (1 - f)."""
    torch.manual_seed(0)
    recurrence = CELLS[cell](3, 512, 2)
    draw(recurrence, 200)
    nothing = torch.zeros(2, 1, 512)
    state = CellState(nothing, nothing.repeat(1, 1, recurrence.cell_numbers))
    with torch.no_grad():
        _, layers = recurrence.step(torch.zeros(1, 3), state)
    for gates in layers:
        assert not isinstance(gates, NoGates)
        keeps = gates.update if isinstance(gates, GRUGates) else gates.forget
        lasts = 1 / (1 - keeps)
        assert 2 <= lasts.min() < 4
        assert 180 < lasts.max() <= 200.1
        assert lasts.mean() == pytest.approx(mean, rel=0.15)
        if isinstance(gates, LSTMGates):
            torch.testing.assert_close(gates.input, 1 - gates.forget)
