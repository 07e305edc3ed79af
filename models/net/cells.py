"""The recurrences as their equations, gates by name.

Every cell here is an nn.Module with the interface of Recurrence, and CELLS has it by its name. In the equations x is
what a layer is shown, h its memory after the reading before, h' its memory after this one; likewise c and c'; * is by
element. With more than one layer, x of a layer is h' of the one below it, and h' of the top layer is what is spoken.

Sizes: T waves, S streams, I inputs, H hidden units, L layers, C numbers kept in a cell (H or none).
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from models.net.names import CELL_NAMES
from models.net.peephole_layer import PeepholeLayer

COMPANY = 16  # streams: a matrix product's bits for a row are the same in every product of a multiple of so many rows
CEILING = 1e4  # of a rectified unit: a thousand times what the farthest reading is shown as, and its squares are finite


class CellState(NamedTuple):
    """What S streams remember: h, the memory that speaks, and c, the memory that is kept."""

    hidden: Tensor  # (L, S, H)
    cell: Tensor  # (L, S, C); C is H for the LSTMs, 0 for every other cell


class LSTMGates(NamedTuple):
    """What one layer of an LSTM decided at one reading; each (S, H)."""

    input: Tensor  # 0..1: which of the candidate's values enter the cell, and how much of each
    forget: Tensor  # 0..1, of h and x: for every number in the cell, 0 drops it and 1 keeps it
    output: Tensor  # 0..1: which of the cell's numbers are spoken, and how much of each (as tanh of the cell)
    candidate: Tensor  # -1..1: what would enter


class GRUGates(NamedTuple):
    """What one layer of a GRU decided at one reading; each (S, H)."""

    reset: Tensor  # 0..1: how much of the memory the candidate is made with; 0: as if there had been none
    update: Tensor  # 0..1, for every number in the memory: 1 keeps it, 0 puts the candidate in its place
    candidate: Tensor  # -1..1: what would take its place


class NoGates(NamedTuple):
    """What one layer without gates made of one reading, (S, H): all of it becomes the memory."""

    candidate: Tensor


Gates = LSTMGates | GRUGates | NoGates


class Recurrence(Protocol):
    """What every cell can do; made of (inputs, hidden, layers), in float32 or float64, with gradients or without.

    forward() is the one numeric path of training and service. Under inference_mode, float32, with one thread and H a
    multiple of 16, a stream's bits depend neither on which or how many other streams are in the call nor on how many
    waves are; models.numerics measures on the machine at hand whether that is so. step() is the equations, for
    looking at the gates: it agrees with forward() to 1e-6, not to the bit, and promises nothing of company.
    """

    has_cell: ClassVar[bool]  # whether it keeps a c beside h

    def __call__(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """inputs: (T, S, I). Returns the top layer's h after every wave, (T, S, H), and the state after the last."""

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, Sequence[Gates]]:
        """inputs: (S, I), one reading a stream. Returns the state after it and each layer's gates, bottom first."""


class Feedforward(nn.Module):
    """No memory: hidden layers that see the present reading only. What memory is worth is measured against it.

    h' = tanh(W x + b)

    Its state is h', so that the next reading can be expected from this one; it is never read here.
    """

    has_cell: ClassVar[bool] = False

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(hidden if layer else inputs, hidden) for layer in range(layers))
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hiddens = _in_company(inputs), []
        for layer in self.layers:
            memory = torch.tanh(layer(memory))
            hiddens.append(memory[-1, :streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), state.cell)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[NoGates]]:
        """See Recurrence."""
        gates = []
        for layer in self.layers:
            inputs = torch.tanh(layer(inputs))
            gates.append(NoGates(inputs))
        return CellState(torch.stack([one.candidate for one in gates]), state.cell), gates


class TanhRNN(nn.Module):
    """The simple recurrent net (Elman 1990): all of the memory is made again at every reading.

    h' = tanh(W x + U h + b)

    forward() is torch.nn.RNN, which computes the equations, in company.
    """

    has_cell: ClassVar[bool] = False

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.RNN(inputs, hidden, layers, nonlinearity="tanh")
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        return _forward_in_company(self.fused, inputs, state)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[NoGates]]:
        """See Recurrence."""
        return _step_without_gates(self.fused, torch.tanh, inputs, state)


class ReluRNN(nn.Module):
    """The simple recurrent net (Elman 1990) with rectified units: where one is on, its gradient does not fade.

    h' = max(0, W x + U h + b), and no more than CEILING

    Without a ceiling a memory that grows with every reading would end as infinity and then as no number at all, in
    service, where a stream has no last reading. torch.nn.RNN knows none, so forward() is the equations wave by wave.
    """

    has_cell: ClassVar[bool] = False

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.weights = nn.RNN(inputs, hidden, layers, nonlinearity="relu")
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hiddens = _in_company(inputs), []
        for layer, before in enumerate(_in_company(state.hidden)):
            w, u, b, d = _weights(self.weights, layer)
            hidden, spoken = before, []
            for shown in linear(memory, w, b + d).unbind():
                hidden = _rectified(torch.addmm(shown, hidden, u.T))
                spoken.append(hidden)
            memory = torch.stack(spoken)
            hiddens.append(hidden[:streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), state.cell)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[NoGates]]:
        """See Recurrence."""
        return _step_without_gates(self.weights, _rectified, inputs, state)


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = sigmoid(W_i x + U_i h + b_i)     f = sigmoid(W_f x + U_f h + b_f)     o = sigmoid(W_o x + U_o h + b_o)
    g = tanh(W_g x + U_g h + b_g)        c' = f * c + i * g                   h' = o * tanh(c')

    forward() is the fused kernel of torch.nn.LSTM, which needs no company but with more than one layer.
    """

    has_cell: ClassVar[bool] = True

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.LSTM(inputs, hidden, layers)
        _start_without_biases(self)
        for layer in range(layers):  # at first the cell keeps what it has (Jozefowicz et al. 2015)
            nn.init.ones_(self.fused.get_parameter(f"bias_ih_l{layer}")[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        if inputs.shape[1] == 1 and self.fused.num_layers > 1:
            return self._forward_alone(inputs, state)
        memory, (hidden, cell) = self.fused(inputs, (state.hidden, state.cell))
        return memory, CellState(hidden, cell)

    def _forward_alone(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """With more than one layer the kernel has other bits for one stream than for several: give it company."""
        twice = [column.expand(-1, 2, -1).contiguous() for column in (inputs, state.hidden, state.cell)]
        memory, (hidden, cell) = self.fused(twice[0], (twice[1], twice[2]))
        return memory[:, :1].contiguous(), CellState(hidden[:, :1].contiguous(), cell[:, :1].contiguous())

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[LSTMGates]]:
        """See Recurrence."""
        hiddens, cells, gates = [], [], []
        for layer, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            now = self._gates(layer, inputs, hidden)
            cell_after = now.forget * cell + now.input * now.candidate
            inputs = now.output * torch.tanh(cell_after)
            hiddens.append(inputs)
            cells.append(cell_after)
            gates.append(now)
        return CellState(torch.stack(hiddens), torch.stack(cells)), gates

    def _gates(self, layer: int, inputs: Tensor, hidden: Tensor) -> LSTMGates:
        shown, remembered = _products(self.fused, layer, inputs, hidden)
        i, f, g, o = (shown + remembered).chunk(4, dim=1)
        return LSTMGates(torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g))


class PeepholeLSTM(nn.Module):
    """The vanilla LSTM of Greff et al. (2017): an LSTM whose gates see the cell too, each its own number of it.

    i = sigmoid(W_i x + U_i h + p_i * c + b_i)      f = sigmoid(W_f x + U_f h + p_f * c + b_f)
    g = tanh(W_g x + U_g h + b_g)                   c' = f * c + i * g
    o = sigmoid(W_o x + U_o h + p_o * c' + b_o)     h' = o * tanh(c')

    Input and forget gate see the cell as it was, the output gate as it has become (Gers & Schmidhuber 2000). It
    starts with peepholes of 0, as an LSTM. No library has a kernel for it: forward() is the equations wave by wave,
    in company, and finds its gradient by hand.
    """

    has_cell: ClassVar[bool] = True

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        start = hidden**-0.5  # as torch's own recurrent nets

        def weight(columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(4 * hidden, columns).uniform_(-start, start))

        self.shown = nn.ParameterList(weight(hidden if layer else inputs) for layer in range(layers))
        self.remembered = nn.ParameterList(weight(hidden) for _ in range(layers))
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(4 * hidden)) for _ in range(layers))
        self.peepholes = nn.ParameterList(nn.Parameter(torch.zeros(3, hidden)) for _ in range(layers))
        for bias in self.bias:  # at first the cell keeps what it has (Jozefowicz et al. 2015)
            nn.init.ones_(bias[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hidden, cell = map(_in_company, (inputs, state.hidden, state.cell))
        hiddens, cells = [], []
        with torch.autocast(inputs.device.type, enabled=False):  # in place, all of it is of one precision
            for layer, weights in enumerate(zip(self.shown, self.remembered, self.bias, self.peepholes, strict=True)):
                memory, last = PeepholeLayer.apply(memory, hidden[layer], cell[layer], *weights)
                hiddens.append(memory[-1, :streams])
                cells.append(last[:streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), torch.stack(cells))

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[LSTMGates]]:
        """See Recurrence."""
        hiddens, cells, gates = [], [], []
        for layer, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            shown = linear(inputs, self.shown[layer], self.bias[layer])
            i, f, g, o = (shown + linear(hidden, self.remembered[layer])).chunk(4, dim=1)
            p_i, p_f, p_o = self.peepholes[layer]
            i, f, g = torch.sigmoid(i + p_i * cell), torch.sigmoid(f + p_f * cell), torch.tanh(g)
            cell_after = f * cell + i * g
            o = torch.sigmoid(o + p_o * cell_after)
            inputs = o * torch.tanh(cell_after)
            hiddens.append(inputs)
            cells.append(cell_after)
            gates.append(LSTMGates(i, f, o, g))
        return CellState(torch.stack(hiddens), torch.stack(cells)), gates


class GRU(nn.Module):
    """The gated recurrent unit (Cho et al. 2014), in torch's and cuDNN's variant.

    r = sigmoid(W_r x + U_r h + b_r)      n = tanh(W_n x + b_n + r * (U_n h + d_n))
    z = sigmoid(W_z x + U_z h + b_z)      h' = z * h + (1 - z) * n

    The variant: r is applied after the product with U_n and not to h before it. forward() is torch.nn.GRU, which
    computes the equations, in company.
    """

    has_cell: ClassVar[bool] = False

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.GRU(inputs, hidden, layers)
        _start_without_biases(self)
        for layer in range(layers):  # at first it keeps what it has, as the LSTMs do
            nn.init.ones_(self.fused.get_parameter(f"bias_ih_l{layer}")[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        return _forward_in_company(self.fused, inputs, state)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[GRUGates]]:
        """See Recurrence."""
        hiddens, gates = [], []
        for layer, hidden in enumerate(state.hidden):
            shown, remembered = (part.chunk(3, dim=1) for part in _products(self.fused, layer, inputs, hidden))
            reset, update = (torch.sigmoid(shown[n] + remembered[n]) for n in (0, 1))
            candidate = torch.tanh(shown[2] + reset * remembered[2])
            inputs = update * hidden + (1 - update) * candidate
            hiddens.append(inputs)
            gates.append(GRUGates(reset, update, candidate))
        return CellState(torch.stack(hiddens), state.cell), gates


CELLS: dict[str, type[Feedforward | TanhRNN | ReluRNN | LSTM | PeepholeLSTM | GRU]] = dict(
    zip(CELL_NAMES, (Feedforward, TanhRNN, ReluRNN, LSTM, PeepholeLSTM, GRU), strict=True)
)
"""Every recurrence a checkpoint may name."""


def _start_without_biases(cell: nn.Module) -> None:
    for name, parameter in cell.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)


def _rectified(sums: Tensor) -> Tensor:
    return sums.clamp(0, CEILING)


def _step_without_gates(
    fused: nn.RNNBase, squash: Callable[[Tensor], Tensor], inputs: Tensor, state: CellState
) -> tuple[CellState, list[NoGates]]:
    gates = []
    for layer, hidden in enumerate(state.hidden):
        shown, remembered = _products(fused, layer, inputs, hidden)
        inputs = squash(shown + remembered)
        gates.append(NoGates(inputs))
    return CellState(torch.stack([one.candidate for one in gates]), state.cell), gates


def _products(fused: nn.RNNBase, layer: int, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """W x + b and U h + d of one layer, for all its gates side by side."""
    w, u, b, d = _weights(fused, layer)
    return linear(inputs, w, b), linear(hidden, u, d)


def _weights(fused: nn.RNNBase, layer: int) -> list[Tensor]:
    """W, U, b and d, in which a fused kernel has the bias twice."""
    return [getattr(fused, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _forward_in_company(fused: nn.Module, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    streams = inputs.shape[1]
    memory, hidden = fused(_in_company(inputs), _in_company(state.hidden))
    return memory[:, :streams].contiguous(), CellState(hidden[:, :streams].contiguous(), state.cell)


def _in_company(column: Tensor) -> Tensor:
    """(..., S, N) -> (..., at least S, N): zeros for as many streams as there must be."""
    missing = -column.shape[-2] % COMPANY
    return pad(column, (0, 0, 0, missing)) if missing else column
