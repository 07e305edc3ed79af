"""Every cell against its equations in float64, against torch's own, and against itself among other streams.

Sizes: T waves, S streams, I inputs, H hidden units, L layers.
"""

import copy
import math
import pickle
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data.arrays import Doubles
from models.net import cells
from models.net.cells import CEILING, CELLS, GRU, LSTM, XLSTM, CellState, GRUGates, LSTMGates, PeepholeLSTM, ReluRNN

INPUTS, HIDDEN = 9, 32
Cell = nn.Module
every_cell = pytest.mark.parametrize("name", CELLS)


def random_cell(name: str, layers: int, seed: int = 0, inputs: int = INPUTS, hidden: int = HIDDEN) -> Cell:
    """Every weight, bias and peephole random, so that each of them matters."""
    cell = CELLS[name](inputs, hidden, layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.9 / hidden**0.5))
    return cell


def random_case(
    name: str, waves: int, streams: int, layers: int, inputs: int = INPUTS, hidden: int = HIDDEN
) -> tuple[Tensor, CellState]:
    generator = torch.Generator().manual_seed(waves * 1_000 + streams)
    shown = torch.randn(waves, streams, inputs, generator=generator)
    memory = torch.randn(layers, streams, hidden, generator=generator).tanh()
    width = hidden * CELLS[name].cell_numbers
    return shown, CellState(memory, torch.randn(layers, streams, width, generator=generator))


def walk(cell: Cell, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    """What forward() returns, by step()."""
    outputs = []
    for wave in inputs:
        state, _ = cell.step(wave, state)  # type: ignore[operator]
        outputs.append(state.hidden[-1])
    return torch.stack(outputs), state


def assert_close(found: tuple[Tensor, CellState], expected: tuple[Tensor, CellState], atol: float) -> None:
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=atol)


def assert_same_bits(found: tuple[Tensor, CellState], expected: tuple[Tensor, CellState]) -> None:
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


# --- the equations


class Layer(NamedTuple):
    """One layer's weights, all gates one below the other; d is the bias beside U."""

    w: Doubles
    u: Doubles
    b: Doubles
    d: Doubles
    p: Doubles  # (3, H) of input, forget and output gate


def sigmoid(x: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-x))


def feedforward(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    return np.tanh(x @ now.w.T + now.b), c


def tanh_rnn(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    return np.tanh(x @ now.w.T + now.b + h @ now.u.T + now.d), c


def relu_rnn(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    return np.clip(x @ now.w.T + now.b + h @ now.u.T + now.d, 0, CEILING), c


def lstm(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    (w_i, w_f, w_g, w_o), (u_i, u_f, u_g, u_o) = np.split(now.w, 4), np.split(now.u, 4)
    b_i, b_f, b_g, b_o = np.split(now.b + now.d, 4)
    i = sigmoid(x @ w_i.T + h @ u_i.T + now.p[0] * c + b_i)
    f = sigmoid(x @ w_f.T + h @ u_f.T + now.p[1] * c + b_f)
    g = np.tanh(x @ w_g.T + h @ u_g.T + b_g)
    c = f * c + i * g
    o = sigmoid(x @ w_o.T + h @ u_o.T + now.p[2] * c + b_o)
    return o * np.tanh(c), c


def gru(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    (w_r, w_z, w_n), (u_r, u_z, u_n) = np.split(now.w, 3), np.split(now.u, 3)
    (b_r, b_z, b_n), (d_r, d_z, d_n) = np.split(now.b, 3), np.split(now.d, 3)
    r = sigmoid(x @ w_r.T + h @ u_r.T + b_r + d_r)
    z = sigmoid(x @ w_z.T + h @ u_z.T + b_z + d_z)
    n = np.tanh(x @ w_n.T + b_n + r * (h @ u_n.T + d_n))
    return z * h + (1 - z) * n, c


def xlstm(now: Layer, x: Doubles, h: Doubles, c: Doubles) -> tuple[Doubles, Doubles]:
    """As the paper has them, without a stabiliser: in float64 the exponentials are finite."""
    over_n, log_n = np.split(c, 2, axis=1)
    n = np.exp(log_n)
    i, f, g, o = np.split(x @ now.w.T + now.b + h @ now.u.T + now.d, 4, axis=1)
    cell = sigmoid(f) * over_n * n + np.exp(i) * np.tanh(g)
    n = sigmoid(f) * n + np.exp(i)
    return sigmoid(o) * cell / n, np.concatenate([cell / n, np.log(n)], axis=1)


EQUATIONS: dict[str, Callable[[Layer, Doubles, Doubles, Doubles], tuple[Doubles, Doubles]]] = {
    "feedforward": feedforward,
    "rnn-tanh": tanh_rnn,
    "rnn-relu": relu_rnn,
    "lstm": lstm,
    "lstm-peephole": lstm,
    "gru": gru,
    "xlstm": xlstm,
}


def layer_of(name: str, cell: Cell, layer: int) -> Layer:
    weights = {of: weight.detach().double().numpy() for of, weight in cell.named_parameters()}
    nothing = np.zeros(1)
    if name == "feedforward":
        return Layer(weights[f"layers.{layer}.weight"], nothing, weights[f"layers.{layer}.bias"], nothing, nothing)
    if name == "lstm-peephole":
        w, u, b, p = (weights[f"{of}.{layer}"] for of in ("shown", "remembered", "bias", "peepholes"))
        return Layer(w, u, b, np.zeros_like(b), p)
    within = "weights" if name in ("rnn-relu", "xlstm") else "fused"
    w, u, b, d = (weights[f"{within}.{of}_l{layer}"] for of in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return Layer(w, u, b, d, np.zeros((3, 1)))


def written_out(name: str, cell: Cell, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    h, c = (list(column.double().numpy()) for column in state)
    layers = [layer_of(name, cell, layer) for layer in range(len(h))]
    outputs = []
    for x in inputs.double().numpy():
        below = x
        for layer, weights in enumerate(layers):
            below, c[layer] = EQUATIONS[name](weights, below, h[layer], c[layer])
            h[layer] = below
        outputs.append(below)
    stacked = (torch.from_numpy(np.stack(column)).float() for column in (outputs, h, c))
    return next(stacked), CellState(*stacked)


@every_cell
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_both_ways_are_the_equations(name: str, layers: int) -> None:
    cell = random_cell(name, layers, seed=1)
    inputs, state = random_case(name, 12, 5, layers)
    expected = written_out(name, cell, inputs, state)
    with torch.inference_mode():
        assert_close(cell(inputs, state), expected, atol=4e-6)
        assert_close(walk(cell, inputs, state), expected, atol=4e-6)


TORCHS_OWN: dict[str, Callable[[int], tuple[nn.RNNBase, str]]] = {
    "rnn-tanh": lambda layers: (nn.RNN(INPUTS, HIDDEN, layers), "fused"),
    "rnn-relu": lambda layers: (nn.RNN(INPUTS, HIDDEN, layers, nonlinearity="relu"), "weights"),
    "lstm": lambda layers: (nn.LSTM(INPUTS, HIDDEN, layers), "fused"),
    "gru": lambda layers: (nn.GRU(INPUTS, HIDDEN, layers), "fused"),
}


@pytest.mark.parametrize("name", TORCHS_OWN)
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_both_ways_agree_with_torch(name: str, layers: int) -> None:
    cell = random_cell(name, layers)
    oracle, within = TORCHS_OWN[name](layers)
    oracle.load_state_dict(cell.get_submodule(within).state_dict())
    inputs, state = random_case(name, 20, 5, layers)
    outputs, after = oracle(inputs, tuple(state) if name == "lstm" else state.hidden)
    expected = (outputs, CellState(*after) if name == "lstm" else CellState(after, state.cell))
    assert_close(cell(inputs, state), expected, atol=2e-6)
    assert_close(walk(cell, inputs, state), expected, atol=2e-6)


@every_cell
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_both_ways_agree(name: str, layers: int) -> None:
    cell = random_cell(name, layers)
    inputs, state = random_case(name, 20, 7, layers)
    assert_close(cell(inputs, state), walk(cell, inputs, state), atol=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_without_its_peepholes_the_vanilla_lstm_is_an_lstm(layers: int) -> None:
    peephole, plain = PeepholeLSTM(INPUTS, HIDDEN, layers), nn.LSTM(INPUTS, HIDDEN, layers)
    assert all(not one.any() for one in peephole.peepholes), "nor has it any at first"
    names = {"weight_ih": peephole.shown, "weight_hh": peephole.remembered, "bias_ih": peephole.bias}
    with torch.no_grad():
        for layer in range(layers):
            plain.get_parameter(f"bias_hh_l{layer}").zero_()
            for name, weights in names.items():
                plain.get_parameter(f"{name}_l{layer}").copy_(weights[layer])
    inputs, state = random_case("lstm-peephole", 20, 5, layers)
    outputs, after = plain(inputs, tuple(state))
    assert_close(peephole(inputs, state), (outputs, CellState(*after)), atol=2e-6)


# --- gradients


class Ways(nn.Module):
    """Either way as a call: torch.func puts other weights into calls only."""

    def __init__(self, cell: Cell, way: str) -> None:
        super().__init__()
        self.cell = cell
        self.way = way

    def forward(self, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        if self.way == "step":
            return walk(self.cell, inputs, state)
        outputs, after = self.cell(inputs, state)
        return outputs, after


@pytest.mark.slow
@every_cell
@pytest.mark.parametrize("way", ["forward", "step"])
def test_gradients_are_those_of_the_function(name: str, way: str) -> None:
    """By everything that goes in, state and weights too, of everything that comes out (float64, finite differences)."""
    layers, hidden, streams = 2, 3, 2
    cell = random_cell(name, layers, seed=2, inputs=2, hidden=hidden).double()
    inputs, state = random_case(name, 4, streams, layers, inputs=2, hidden=hidden)
    weights = dict(cell.named_parameters())
    ways = Ways(cell, way)

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        replaced = dict(zip((f"cell.{of}" for of in weights), given[3:], strict=True))
        outputs, after = torch.func.functional_call(ways, replaced, (given[0], CellState(given[1], given[2])))
        return (outputs, *after) if CELLS[name].cell_numbers else (outputs, after.hidden)

    given = [one.detach().double().requires_grad_() for one in (inputs, *state, *weights.values())]
    assert torch.autograd.gradcheck(function, given)


@every_cell
def test_gradients_through_many_readings_are_the_same_both_ways(name: str) -> None:
    found = []
    for way in ("forward", "step"):
        cell = random_cell(name, 2).double()
        inputs, state = random_case(name, 60, 5, 2)
        given = [one.double().requires_grad_() for one in (inputs, *state)]
        outputs, after = Ways(cell, way)(given[0], CellState(*given[1:]))
        (outputs.square().sum() + after.hidden.sum() + after.cell.sum()).backward()
        found.append([torch.zeros_like(one) if one.grad is None else one.grad for one in (*given, *cell.parameters())])
    assert any(one.abs().max() > 0.1 for one in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@every_cell
def test_half_the_precision_is_enough_to_learn_with(name: str) -> None:
    cell = random_cell(name, 2)
    inputs, state = random_case(name, 20, 5, 2)
    expected, _ = cell(inputs, state)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = cell(inputs, state)
    outputs.float().square().sum().backward()
    torch.testing.assert_close(outputs.float(), expected, atol=0.1, rtol=0.1)
    for parameter in cell.parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == torch.float32
            assert parameter.grad.isfinite().all()


# --- gates


@pytest.mark.parametrize("name", ["lstm", "lstm-peephole", "gru", "xlstm"])
def test_gates_stay_in_their_ranges_however_loud_the_input(name: str) -> None:
    cell = random_cell(name, 2)
    inputs, state = random_case(name, 1, 50, 2)
    for loudness in (0.0, 1.0, 1e3, 1e30):
        _, gates = cell.step(inputs[0] * loudness, state)  # type: ignore[operator]
        assert len(gates) == 2
        for layer in gates:
            for of, gate in layer._asdict().items():
                assert gate.shape == (50, HIDDEN)
                assert ((gate >= (-1 if of == "candidate" else 0)) & (gate <= 1)).all()


@every_cell
def test_gates_are_those_that_made_the_memory(name: str) -> None:
    cell = random_cell(name, 2)
    inputs, state = random_case(name, 1, 6, 2)
    after, gates = cell.step(inputs[0], state)  # type: ignore[operator]
    for layer, gate in enumerate(gates):
        made = gate.candidate
        if isinstance(gate, LSTMGates):
            kept = gate.forget * state.cell[layer][:, :HIDDEN] + gate.input * gate.candidate
            torch.testing.assert_close(after.cell[layer][:, :HIDDEN], kept)
            made = gate.output * (kept if name == "xlstm" else torch.tanh(kept))
        if isinstance(gate, GRUGates):
            made = gate.update * state.hidden[layer] + (1 - gate.update) * gate.candidate
        torch.testing.assert_close(after.hidden[layer], made)


@pytest.mark.parametrize("layers", [1, 3])
def test_at_first_a_memory_with_gates_keeps_what_it_has(layers: int) -> None:
    plain, peephole, gated = (
        LSTM(INPUTS, HIDDEN, layers),
        PeepholeLSTM(INPUTS, HIDDEN, layers),
        GRU(INPUTS, HIDDEN, layers),
    )
    for layer in range(layers):
        for cell, parts in ((plain, 4), (gated, 3)):
            bias = cell.fused.get_parameter(f"bias_ih_l{layer}") + cell.fused.get_parameter(f"bias_hh_l{layer}")
            assert [set(one.tolist()) for one in bias.chunk(parts)] == [{0}, {1}, {0}, {0}][:parts]
        assert [set(one.tolist()) for one in peephole.bias[layer].chunk(4)] == [{0}, {1}, {0}, {0}]


# --- what each cell promises


def test_a_feedforward_net_remembers_nothing() -> None:
    cell = random_cell("feedforward", 2)
    inputs, state = random_case("feedforward", 9, 4, 2)
    expected, _ = cell(inputs, state)
    other = CellState(state.hidden + 7, state.cell)
    assert torch.equal(cell(inputs, other)[0], expected)
    alone, after = cell(inputs[5:6], other)
    torch.testing.assert_close(alone[0], expected[5])
    assert torch.equal(after.hidden[-1], alone[-1]), "but the next reading can be expected from this one"


def test_a_rectified_memory_that_grows_with_every_reading_stays_a_number() -> None:
    cell, unbounded = ReluRNN(INPUTS, HIDDEN, 2), nn.RNN(INPUTS, HIDDEN, 2, nonlinearity="relu")
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(0.5)
    inputs = torch.ones(300, 3, INPUTS)
    state = CellState(torch.zeros(2, 3, HIDDEN), torch.zeros(2, 3, 0))
    unbounded.load_state_dict(cell.weights.state_dict())
    assert not unbounded(inputs, state.hidden)[0].isfinite().all(), "or else this would show nothing"
    with torch.inference_mode():
        for outputs, after in (cell(inputs, state), walk(cell, inputs, state)):
            assert outputs[-1].eq(CEILING).all()
            assert after.hidden.eq(CEILING).all()


@pytest.mark.parametrize("loudness", [1e-3, 1e3, 1e30])
def test_an_exponential_gate_keeps_the_memory_a_number_however_loud_the_input(loudness: float) -> None:
    """exp(1e3) is no number, yet the memory is a mean of candidates: within -1..1, over a thousand readings."""
    cell = random_cell("xlstm", 2)
    inputs, _ = random_case("xlstm", 1_000, 3, 2)
    fresh = CellState(torch.zeros(2, 3, HIDDEN), torch.zeros(2, 3, 2 * HIDDEN))
    with torch.inference_mode():
        outputs, after = cell(inputs * loudness, fresh)
    assert outputs.abs().max() <= 1
    assert after.cell[..., :HIDDEN].abs().max() <= 1
    assert after.cell.isfinite().all()


def test_the_memory_of_an_exponential_gate_revises_what_it_took_in_before() -> None:
    """A later reading may weigh e**10 times what came before (section 2.2): no sigmoid gate can do that."""
    cell = XLSTM(1, HIDDEN, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        w = cell.weights.get_parameter("weight_ih_l0")
        w[:HIDDEN], w[2 * HIDDEN : 3 * HIDDEN] = 10.0, -1.0  # the larger, the more it counts; -1 is what it says
        cell.weights.get_parameter("bias_ih_l0")[HIDDEN : 2 * HIDDEN] = 20.0  # nothing is forgotten
        shown = torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None, None]
        fresh = CellState(torch.zeros(1, 1, HIDDEN), torch.zeros(1, 1, 2 * HIDDEN))
        _, after = cell(shown, fresh)
    torch.testing.assert_close(after.cell[..., :HIDDEN], torch.full((1, 1, HIDDEN), -math.tanh(1)), atol=1e-3, rtol=0)


# --- the weights of an LSTM, laid out once


def kernels_own(cell: LSTM, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    """What torch.nn.LSTM makes of it, which lays the weights out at every call."""
    with torch.no_grad():
        memory, after = cell.fused(inputs, tuple(state))
    return memory, CellState(*after)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("waves", "streams"), [(1, 2), (1, 500), (10, 6), (300, 2), (7, 333)])
def test_weights_that_are_laid_out_once_make_the_bits_of_torchs_own_lstm(layers: int, waves: int, streams: int) -> None:
    cell = cast(LSTM, random_cell("lstm", layers).eval())
    inputs, state = random_case("lstm", waves, streams, layers)
    expected = kernels_own(cell, inputs, state)
    for _ in range(2):  # laid out at the first call, and used again at the second
        with torch.inference_mode():
            found = cell(inputs, state)
        assert_same_bits(found, expected)


def replaced(cell: LSTM) -> None:
    other = {name: value.neg() for name, value in cell.state_dict().items()}
    cell.load_state_dict(other, assign=True)


def stepped(cell: LSTM) -> None:
    cell.train()
    inputs, state = random_case("lstm", 3, 4, 2)
    cell(inputs, state)[0].sum().backward()
    torch.optim.SGD(cell.parameters(), lr=0.1).step()
    cell.eval()


def loaded(cell: LSTM) -> None:
    cell.load_state_dict({name: value * 0.5 for name, value in cell.state_dict().items()})


def pointed_elsewhere(cell: LSTM) -> None:
    for parameter in cell.parameters():
        parameter.data = parameter.data + 0.25


@pytest.mark.parametrize("change", [replaced, stepped, loaded, pointed_elsewhere])
def test_weights_that_have_changed_are_laid_out_again(change: Callable[[LSTM], None]) -> None:
    cell = cast(LSTM, random_cell("lstm", 2).eval())
    inputs, state = random_case("lstm", 5, 4, 2)
    with torch.inference_mode():
        before = cell(inputs, state)
    change(cell)
    with torch.inference_mode():
        after = cell(inputs, state)
    assert not torch.equal(after[0], before[0])
    assert_same_bits(after, kernels_own(cell, inputs, state))


def test_an_lstm_that_was_called_is_copied_and_pickled_as_one_that_was_not() -> None:
    cell = random_cell("lstm", 1)
    inputs, state = random_case("lstm", 5, 4, 1)
    with torch.inference_mode():
        expected = cell(inputs, state)
        copies = [copy.deepcopy(cell)]  # whose weights do not say when they change
    copies += copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))
    with torch.inference_mode():
        for other in copies:
            assert_same_bits(other(inputs, state), expected)


# --- other streams in the same call


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_many_readings_at_once_are_the_same_bits_as_one_by_one(name: str, layers: int) -> None:
    cell = random_cell(name, layers)
    for streams in (1, 3, 16, 37):
        inputs, state = random_case(name, 40, streams, layers)
        with torch.inference_mode():
            together = cell(inputs, state)
            for waves in (1, 7):
                now, outputs = state, []
                for part in torch.split(inputs, waves):
                    memory, now = cell(part, now)
                    outputs.append(memory)
                assert_same_bits((torch.cat(outputs), now), together)


@every_cell
@pytest.mark.parametrize("hidden", [16, 32, 64])
def test_a_streams_bits_do_not_depend_on_how_many_others_there_are(name: str, hidden: int) -> None:
    cell = random_cell(name, 2, hidden=hidden)
    inputs, state = random_case(name, 3, 1_000, 2, hidden=hidden)
    with torch.inference_mode():
        everyone, after_everyone = cell(inputs, state)
        for streams in (1, 2, 3, 5, 7, 12, 17, 64, 333):
            for first in (0, 500, 1_000 - streams):
                some = slice(first, first + streams)
                few = CellState(*(column[:, some].contiguous() for column in state))
                expected = everyone[:, some], CellState(*(column[:, some] for column in after_everyone))
                assert_same_bits(cell(inputs[:, some].contiguous(), few), expected)


@every_cell
def test_a_streams_bits_do_not_depend_on_what_the_others_send(name: str) -> None:
    cell = random_cell(name, 2)
    inputs, state = random_case(name, 10, 5, 2)
    with torch.inference_mode():
        usual, _ = cell(inputs, state)
        for loud in (0.0, 1e-42, 3e38, torch.inf, torch.nan):
            others = inputs.clone()
            others[:, [0, 1, 3, 4]] = loud
            outputs, _ = cell(others, state)
            assert torch.equal(outputs[:, 2], usual[:, 2])


@pytest.mark.parametrize("name", sorted(CELLS.keys() - {"lstm"}))
def test_without_padded_rows_the_bits_would_differ(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above show is worth something on machines where this one is not skipped."""
    monkeypatch.setattr(cells, "ROW_MULTIPLE", 1)
    cell = random_cell(name, 2)
    inputs, state = random_case(name, 3, 64, 2)
    with torch.inference_mode():
        everyone, _ = cell(inputs, state)
        few = [
            cell(inputs[:, n : n + 1].contiguous(), CellState(*(c[:, n : n + 1].contiguous() for c in state)))[0]
            for n in range(64)
        ]
    if torch.equal(torch.cat(few, dim=1), everyone):
        pytest.skip(f"this machine's kernels give {name} the same bits without padding: nothing to show here")
