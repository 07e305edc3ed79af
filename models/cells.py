"""The recurrences as their equations, gates by name.

Sizes: T waves, S streams, I inputs, H hidden units, L layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class CellState(NamedTuple):
    """What S streams remember: h, the memory that speaks, and c, the memory that is kept."""

    hidden: Tensor  # (L, S, H)
    cell: Tensor  # (L, S, H)


class Gates(NamedTuple):
    """What one layer of an LSTM decided at one reading; each (S, H)."""

    input: Tensor  # 0..1: how much of the candidate enters the cell
    forget: Tensor  # 0..1: how much of each number in the cell is kept
    output: Tensor  # 0..1: how much of the cell is spoken
    candidate: Tensor  # -1..1: what would enter


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = sigmoid(W_i x + U_i h + b_i)     f = sigmoid(W_f x + U_f h + b_f)     o = sigmoid(W_o x + U_o h + b_o)
    g = tanh(W_g x + U_g h + b_g)        c' = f * c + i * g                   h' = o * tanh(c')

    forward() is the fused kernel, the one numeric path of the service: under inference_mode, with one thread and
    H a multiple of 16, a stream's bits do not depend on which or how many other streams are in the call.
    step() is the equations, for looking at the gates; it agrees with forward() to 1e-6, not to the bit.
    """

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.LSTM(inputs, hidden, layers)
        self._start_remembering()

    def _start_remembering(self) -> None:
        """Forget bias 1, all other biases 0: at first the cell keeps what it has (Jozefowicz et al. 2015)."""
        hidden = self.fused.hidden_size
        for name, parameter in self.fused.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """inputs: (T, S, I). Returns the top layer's h after every wave, (T, S, H), and the state after the last."""
        if inputs.shape[1] == 1 and self.fused.num_layers > 1:
            return self._forward_alone(inputs, state)
        memory, (hidden, cell) = self.fused(inputs, (state.hidden, state.cell))
        return memory, CellState(hidden, cell)

    def _forward_alone(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """With more than one layer the kernel has other bits for one stream than for several: give it company."""
        twice = [column.expand(-1, 2, -1).contiguous() for column in (inputs, state.hidden, state.cell)]
        memory, (hidden, cell) = self.fused(twice[0], (twice[1], twice[2]))
        return memory[:, :1].contiguous(), CellState(hidden[:, :1].contiguous(), cell[:, :1].contiguous())

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[Gates]]:
        """inputs: (S, I), one reading a stream. Returns the state after it and each layer's gates, bottom first."""
        hiddens, cells, gates = [], [], []
        for layer, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            now = self._gates(layer, inputs, hidden)
            cell_after = now.forget * cell + now.input * now.candidate
            inputs = now.output * torch.tanh(cell_after)
            hiddens.append(inputs)
            cells.append(cell_after)
            gates.append(now)
        return CellState(torch.stack(hiddens), torch.stack(cells)), gates

    def _gates(self, layer: int, inputs: Tensor, hidden: Tensor) -> Gates:
        w, u, b_w, b_u = (
            self.fused.get_parameter(f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        i, f, g, o = (inputs @ w.T + b_w + hidden @ u.T + b_u).chunk(4, dim=1)
        return Gates(torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g))


CELLS = {"lstm": LSTM}
"""Every recurrence a checkpoint may name."""
