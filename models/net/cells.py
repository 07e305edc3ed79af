"""The recurrences as their equations, gates by name.

Every cell here is an nn.Module with the interface of Recurrence, and CELLS has it by its name. In the equations x is
the input of a layer, h its hidden output after the reading before, h' its hidden output after this one; c and c' are
the cell state before and after; * is by element. With more than one layer, x of a layer is h' of the one below it, and
h' of the top layer is the output.

Sizes: T waves, S streams, I inputs, H hidden units, L layers, C numbers kept in a cell (none, H or 2 H).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, pad

from models.net.names import CELL_NAMES
from models.net.peephole_layer import PeepholeLayer

ROW_MULTIPLE = 16  # streams: a matrix product with a multiple of this many rows gives each row the same bits
_MODE_LSTM = 2  # of at::native::cudnn's enumeration, which torch.mkldnn_rnn_layer takes
CEILING = 1e4  # of a rectified unit: a thousand times the largest input, and its squares are finite


class CellState(NamedTuple):
    """The recurrent state of S streams: h, the hidden output, and c, the cell state."""

    hidden: Tensor  # (L, S, H)
    cell: Tensor  # (L, S, C); C is H for the LSTMs, 2 H for xLSTM (c, then log n), 0 for every other cell


class LSTMGates(NamedTuple):
    """The gates of one layer of an LSTM at one reading; each (S, H)."""

    input: Tensor  # 0..1: how much of each of the candidate's values enters the cell
    forget: Tensor  # 0..1, of h and x: for every number in the cell, 0 drops it and 1 keeps it
    output: Tensor  # 0..1: how much of each number in the cell goes to the hidden output (as tanh of the cell)
    candidate: Tensor  # -1..1: what may enter


class GRUGates(NamedTuple):
    """The gates of one layer of a GRU at one reading; each (S, H)."""

    reset: Tensor  # 0..1: how much of h the candidate is computed from; 0: as if h were zero
    update: Tensor  # 0..1, for every number in h: 1 keeps it, 0 replaces it by the candidate
    candidate: Tensor  # -1..1: what may replace it


class NoGates(NamedTuple):
    """One layer without gates at one reading, (S, H): the candidate is the new h."""

    candidate: Tensor


Gates = LSTMGates | GRUGates | NoGates


class Recurrence(Protocol):
    """The interface of every cell, which is constructed from (inputs, hidden, layers).

    It works in float32 and float64, with gradients and without. forward() is the one numeric path of training and
    service. Under inference_mode, float32, with one thread and H a multiple of 16, a stream's bits depend neither on
    which or how many other streams are in the call nor on how many waves there are; models.detection.numerics checks
    that on the machine it runs on. step() is the equations, for looking at the gates: it agrees with forward() to 1e-6,
    not to the bit, and its bits may depend on the other streams.
    """

    cell_numbers: ClassVar[int]  # that each unit keeps in its cell, beside h: C / H

    def __call__(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """inputs: (T, S, I). Returns the top layer's h after every wave, (T, S, H), and the state after the last."""

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, Sequence[Gates]]:
        """inputs: (S, I), one reading a stream. Returns the state after it and each layer's gates, bottom first."""


class Feedforward(nn.Module):
    """No memory: hidden layers that see the present reading only. The baseline for what memory is worth.

    h' = tanh(W x + b)

    Its state is h', from which the forecaster predicts the next reading; the cell itself never reads it.
    """

    cell_numbers: ClassVar[int] = 0

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(hidden if layer else inputs, hidden) for layer in range(layers))
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hiddens = _pad_rows(inputs), []
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
    """The simple recurrent net (Elman 1990): every reading replaces all of h.

    h' = tanh(W x + U h + b)

    forward() is torch.nn.RNN, which computes the equations, on padded rows.
    """

    cell_numbers: ClassVar[int] = 0

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.RNN(inputs, hidden, layers, nonlinearity="tanh")
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        return _forward_padded(self.fused, inputs, state)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[NoGates]]:
        """See Recurrence."""
        return _step_without_gates(self.fused, torch.tanh, inputs, state)


class ReluRNN(nn.Module):
    """The simple recurrent net (Elman 1990) with rectified units: where one is on, its gradient does not fade.

    h' = max(0, W x + U h + b), and no more than CEILING

    Without a ceiling an h that grows with every reading would become infinite and then NaN, since in service a stream
    never ends. torch.nn.RNN has no ceiling, so forward() is the equations wave by wave.
    """

    cell_numbers: ClassVar[int] = 0

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.weights = nn.RNN(inputs, hidden, layers, nonlinearity="relu")
        _start_without_biases(self)

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hiddens = _pad_rows(inputs), []
        for layer, before in enumerate(_pad_rows(state.hidden)):
            w, u, b, d = _weights(self.weights, layer)
            hidden, outputs = before, []
            for from_input in linear(memory, w, b + d).unbind():
                hidden = _rectified(torch.addmm(from_input, hidden, u.T))
                outputs.append(hidden)
            memory = torch.stack(outputs)
            hiddens.append(hidden[:streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), state.cell)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[NoGates]]:
        """See Recurrence."""
        return _step_without_gates(self.weights, _rectified, inputs, state)


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = sigmoid(W_i x + U_i h + b_i)     f = sigmoid(W_f x + U_f h + b_f)     o = sigmoid(W_o x + U_o h + b_o)
    g = tanh(W_g x + U_g h + b_g)        c' = f * c + i * g                   h' = o * tanh(c')

    forward() is the fused kernel of torch.nn.LSTM, which needs no padding, except for one stream with several layers.
    Under inference_mode its weights are laid out for it once and not at every call: the bits are the same.
    """

    cell_numbers: ClassVar[int] = 1

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.LSTM(inputs, hidden, layers)
        self._layout: tuple[list[tuple[int, int]], list[list[Tensor]]] | None = None
        _start_without_biases(self)
        for layer in range(layers):  # at first the cell state is kept (Jozefowicz et al. 2015)
            nn.init.ones_(self.fused.get_parameter(f"bias_ih_l{layer}")[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        if inputs.shape[1] == 1 and self.fused.num_layers > 1:
            return self._forward_one_stream(inputs, state)
        memory, hidden, cell = self._call_kernel(inputs, state)
        return memory, CellState(hidden, cell)

    def _forward_one_stream(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """With several layers the kernel has other bits for one stream than for several: compute it twice."""
        twice = [column.expand(-1, 2, -1).contiguous() for column in (inputs, state.hidden, state.cell)]
        memory, hidden, cell = self._call_kernel(twice[0], CellState(*twice[1:]))
        return memory[:, :1].contiguous(), CellState(hidden[:, :1].contiguous(), cell[:, :1].contiguous())

    def _call_kernel(self, inputs: Tensor, state: CellState) -> tuple[Tensor, Tensor, Tensor]:
        """What calling torch.nn.LSTM does, without its checks: they take longer than a few readings."""
        weights = cast(list[Tensor], list(self.fused._parameters.values()))  # noqa: SLF001  (the public ways are slow)
        changes_are_seen = not weights[0].is_inference()
        if torch.is_inference_mode_enabled() and changes_are_seen and _onednn_takes(inputs):
            return self._call_layers(weights, inputs, state)
        with _without_onednn() if torch.is_autocast_enabled("cpu") else nullcontext():
            layers = self.fused.num_layers
            return torch.lstm(inputs, tuple(state), weights, True, layers, 0.0, self.training, False, False)

    def _call_layers(self, weights: list[Tensor], inputs: Tensor, state: CellState) -> tuple[Tensor, Tensor, Tensor]:
        """The same kernel of oneDNN, with weights that are laid out for it already: torch does that at each call."""
        hiddens, cells, size = [], [], self.fused.hidden_size
        for (w, u, b, d), hidden, cell in zip(self._laid_out(weights), state.hidden, state.cell, strict=True):
            inputs, after, cell_after, _ = torch.mkldnn_rnn_layer(
                inputs, w, u, b, d, hidden, cell, False, [], _MODE_LSTM, size, 1, True, False, False, False
            )
            hiddens.append(after)
            cells.append(cell_after)
        return inputs, _stacked(hiddens), _stacked(cells)

    def _laid_out(self, weights: list[Tensor]) -> list[list[Tensor]]:
        """Of every layer W, U, b and d, as the kernel wants them; laid out again when one has changed."""
        stamp = [(weight.data_ptr(), weight._version) for weight in weights]  # noqa: SLF001  (it has no other name)
        if self._layout is None or self._layout[0] != stamp:
            layers = [[weight.detach() for weight in weights[n : n + 4]] for n in range(0, len(weights), 4)]
            self._layout = stamp, [[*_lay_out(w, u), b, d] for w, u, b, d in layers]
        return self._layout[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without the layout, which cannot be copied."""
        return {**self.__dict__, "_layout": None}

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
        from_input, from_hidden = _products(self.fused, layer, inputs, hidden)
        i, f, g, o = (from_input + from_hidden).chunk(4, dim=1)
        return LSTMGates(torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g))


class PeepholeLSTM(nn.Module):
    """The vanilla LSTM of Greff et al. (2017): an LSTM whose gates also see the cell state, each unit its own number.

    i = sigmoid(W_i x + U_i h + p_i * c + b_i)      f = sigmoid(W_f x + U_f h + p_f * c + b_f)
    g = tanh(W_g x + U_g h + b_g)                   c' = f * c + i * g
    o = sigmoid(W_o x + U_o h + p_o * c' + b_o)     h' = o * tanh(c')

    Input and forget gate see c, the output gate sees c' (Gers & Schmidhuber 2000). It starts with peepholes of 0, as an
    LSTM. No library has a kernel for it: forward() is the equations wave by wave, on padded rows, with a gradient
    written by hand (PeepholeLayer).
    """

    cell_numbers: ClassVar[int] = 1

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        start = hidden**-0.5  # as torch's own recurrent nets

        def weight(columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(4 * hidden, columns).uniform_(-start, start))

        self.shown = nn.ParameterList(weight(hidden if layer else inputs) for layer in range(layers))
        self.remembered = nn.ParameterList(weight(hidden) for _ in range(layers))
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(4 * hidden)) for _ in range(layers))
        self.peepholes = nn.ParameterList(nn.Parameter(torch.zeros(3, hidden)) for _ in range(layers))
        for bias in self.bias:  # at first the cell state is kept (Jozefowicz et al. 2015)
            nn.init.ones_(bias[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hidden, cell = map(_pad_rows, (inputs, state.hidden, state.cell))
        hiddens, cells = [], []
        with torch.autocast(inputs.device.type, enabled=False):  # works in place, so all of it has one precision
            for layer, weights in enumerate(zip(self.shown, self.remembered, self.bias, self.peepholes, strict=True)):
                memory, last = PeepholeLayer.apply(memory, hidden[layer], cell[layer], *weights)
                hiddens.append(memory[-1, :streams])
                cells.append(last[:streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), torch.stack(cells))

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[LSTMGates]]:
        """See Recurrence."""
        hiddens, cells, gates = [], [], []
        for layer, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            from_input = linear(inputs, self.shown[layer], self.bias[layer])
            i, f, g, o = (from_input + linear(hidden, self.remembered[layer])).chunk(4, dim=1)
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
    computes the equations, on padded rows.
    """

    cell_numbers: ClassVar[int] = 0

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.fused = nn.GRU(inputs, hidden, layers)
        _start_without_biases(self)
        for layer in range(layers):  # at first h is kept, as the cell state of the LSTMs
            nn.init.ones_(self.fused.get_parameter(f"bias_ih_l{layer}")[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        return _forward_padded(self.fused, inputs, state)

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[GRUGates]]:
        """See Recurrence."""
        hiddens, gates = [], []
        for layer, hidden in enumerate(state.hidden):
            from_input, from_hidden = (part.chunk(3, dim=1) for part in _products(self.fused, layer, inputs, hidden))
            reset, update = (torch.sigmoid(from_input[n] + from_hidden[n]) for n in (0, 1))
            candidate = torch.tanh(from_input[2] + reset * from_hidden[2])
            inputs = update * hidden + (1 - update) * candidate
            hiddens.append(inputs)
            gates.append(GRUGates(reset, update, candidate))
        return CellState(torch.stack(hiddens), state.cell), gates


class XLSTM(nn.Module):
    """The LSTM with an exponential input gate and a normaliser n (sLSTM of Beck et al. 2024), of one head.

    i = exp(W_i x + U_i h + b_i)     f = sigmoid(W_f x + U_f h + b_f)     o = sigmoid(W_o x + U_o h + b_o)
    g = tanh(W_g x + U_g h + b_g)    n' = f * n + i                       c' = (f * n * c + i * g) / n'
    h' = o * c'

    c is the paper's cell over its normaliser. Instead of n and a stabiliser the state has log n, which is of a common
    size whatever i is: f * n / n' = sigmoid(log f + log n - log i) needs no large number. A new stream begins with
    c = 0 and n = 1. forward() is the equations wave by wave, on padded rows.
    """

    cell_numbers: ClassVar[int] = 2

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.weights = nn.LSTM(inputs, hidden, layers)
        _start_without_biases(self)
        for layer in range(layers):  # at first the cell state is kept, as of the LSTM
            nn.init.ones_(self.weights.get_parameter(f"bias_ih_l{layer}")[hidden : 2 * hidden])

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """See Recurrence."""
        streams = inputs.shape[1]
        memory, hiddens, cells = _pad_rows(inputs), [], []
        with torch.autocast(inputs.device.type, enabled=False):  # log n needs all of its digits
            for layer, before in enumerate(zip(*map(_pad_rows, state), strict=True)):
                w, u, b, d = _weights(self.weights, layer)
                (hidden, cell), outputs = before, []
                for from_input in linear(memory, w, b + d).unbind():
                    hidden, cell, _ = _exponential_step(torch.addmm(from_input, hidden, u.T), cell)
                    outputs.append(hidden)
                memory = torch.stack(outputs)
                hiddens.append(hidden[:streams])
                cells.append(cell[:streams])
        return memory[:, :streams].contiguous(), CellState(torch.stack(hiddens), torch.stack(cells))

    def step(self, inputs: Tensor, state: CellState) -> tuple[CellState, list[LSTMGates]]:
        """See Recurrence. The gates are shares: input is i / n', forget is f * n / n'."""
        hiddens, cells, gates = [], [], []
        for layer, (hidden, cell) in enumerate(zip(*state, strict=True)):
            from_input, from_hidden = _products(self.weights, layer, inputs, hidden)
            inputs, cell_after, now = _exponential_step(from_input + from_hidden, cell)
            hiddens.append(inputs)
            cells.append(cell_after)
            gates.append(now)
        return CellState(torch.stack(hiddens), torch.stack(cells)), gates


CELLS: dict[str, type[Feedforward | TanhRNN | ReluRNN | LSTM | PeepholeLSTM | GRU | XLSTM]] = dict(
    zip(CELL_NAMES, (Feedforward, TanhRNN, ReluRNN, LSTM, PeepholeLSTM, GRU, XLSTM), strict=True)
)
"""Every recurrence a checkpoint may name."""


def _onednn_takes(inputs: Tensor) -> bool:
    """Whether torch.lstm leaves these to oneDNN, as they are."""
    as_they_are = inputs.device.type == "cpu" and inputs.numel() > 0 and not torch.is_autocast_enabled("cpu")
    # torch.backends.mkldnn says the same, but takes microseconds.
    has_onednn = torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()  # noqa: SLF001
    return as_they_are and inputs.dtype == torch.float32 and has_onednn


@contextmanager
def _without_onednn() -> Iterator[None]:
    """With torch's own kernels: oneDNN has no LSTM of bfloat16 on many processors, and torch asks it all the same."""
    before = torch._C._get_mkldnn_enabled()  # noqa: SLF001  (see _onednn_takes)
    torch._C._set_mkldnn_enabled(False)  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)  # noqa: SLF001


def _lay_out(w: Tensor, u: Tensor) -> list[Tensor]:
    """W and U of an LSTM's layer, (4 H, I) and (4 H, H), in the order in which oneDNN multiplies by them."""
    shape = u.shape[1], False, True, False, [1, 1, w.shape[1]]
    laid_out: list[Tensor] = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(w, u, *shape)  # noqa: SLF001  (its name)
    return laid_out


def _stacked(layers: list[Tensor]) -> Tensor:
    return layers[0].unsqueeze(0) if len(layers) == 1 else torch.stack(layers)


def _start_without_biases(cell: nn.Module) -> None:
    for name, parameter in cell.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)


def _rectified(sums: Tensor) -> Tensor:
    return sums.clamp(0, CEILING)


def _exponential_step(sums: Tensor, state: Tensor) -> tuple[Tensor, Tensor, LSTMGates]:
    """XLSTM's equations. sums: (S, 4 H) of i, f, g, o. state: (S, 2 H). Returns h', the state after and the gates."""
    i, f, g, o = sums.chunk(4, dim=1)
    cell, log_n = state.chunk(2, dim=1)
    kept = logsigmoid(f) + log_n
    ahead = kept - i
    forget, candidate, output = torch.sigmoid(ahead), torch.tanh(g), torch.sigmoid(o)
    share = torch.sigmoid(-ahead)
    cell_after = forget * cell + share * candidate
    log_n_after = kept - logsigmoid(ahead)
    after = torch.cat([cell_after, log_n_after], dim=1)
    return output * cell_after, after, LSTMGates(share, forget, output, candidate)


def _step_without_gates(
    fused: nn.RNNBase, activation: Callable[[Tensor], Tensor], inputs: Tensor, state: CellState
) -> tuple[CellState, list[NoGates]]:
    gates = []
    for layer, hidden in enumerate(state.hidden):
        from_input, from_hidden = _products(fused, layer, inputs, hidden)
        inputs = activation(from_input + from_hidden)
        gates.append(NoGates(inputs))
    return CellState(torch.stack([one.candidate for one in gates]), state.cell), gates


def _products(fused: nn.RNNBase, layer: int, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """W x + b and U h + d of one layer, for all its gates side by side."""
    w, u, b, d = _weights(fused, layer)
    return linear(inputs, w, b), linear(hidden, u, d)


def _weights(fused: nn.RNNBase, layer: int) -> list[Tensor]:
    """W, U, b and d: a fused kernel has two biases, which add up."""
    return [getattr(fused, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _forward_padded(fused: nn.Module, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    streams = inputs.shape[1]
    memory, hidden = fused(_pad_rows(inputs), _pad_rows(state.hidden))
    return memory[:, :streams].contiguous(), CellState(hidden[:, :streams].contiguous(), state.cell)


def _pad_rows(column: Tensor) -> Tensor:
    """(..., S, N) -> (..., S rounded up to ROW_MULTIPLE, N), filled with zeros."""
    missing = -column.shape[-2] % ROW_MULTIPLE
    return pad(column, (0, 0, 0, missing)) if missing else column
