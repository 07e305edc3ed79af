import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.cells import LSTM, CellState

INPUTS, HIDDEN = 9, 32
Floats = NDArray[np.float64]


def random_lstm(layers: int, seed: int = 0) -> LSTM:
    """Every weight and bias random, so that each of them matters."""
    lstm = LSTM(INPUTS, HIDDEN, layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return lstm


def random_case(waves: int, streams: int, layers: int) -> tuple[Tensor, CellState]:
    generator = torch.Generator().manual_seed(waves * 1_000 + streams)
    inputs = torch.randn(waves, streams, INPUTS, generator=generator)
    hidden = torch.randn(layers, streams, HIDDEN, generator=generator).tanh()
    return inputs, CellState(hidden, torch.randn(layers, streams, HIDDEN, generator=generator))


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def written_out(lstm: LSTM, inputs: Tensor, state: CellState) -> tuple[Floats, Floats, Floats]:
    """The equations in the class's docstring, in float64. Returns the top layer's h of every wave, and h and c."""
    weights = {name: weight.detach().double().numpy() for name, weight in lstm.fused.named_parameters()}
    h, c = state.hidden.double().numpy().copy(), state.cell.double().numpy().copy()
    spoken = []
    for x in inputs.double().numpy():
        below = x
        for layer in range(len(h)):
            w_i, w_f, w_g, w_o = np.split(weights[f"weight_ih_l{layer}"], 4)
            u_i, u_f, u_g, u_o = np.split(weights[f"weight_hh_l{layer}"], 4)
            b_i, b_f, b_g, b_o = np.split(weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"], 4)
            i = sigmoid(below @ w_i.T + h[layer] @ u_i.T + b_i)
            f = sigmoid(below @ w_f.T + h[layer] @ u_f.T + b_f)
            o = sigmoid(below @ w_o.T + h[layer] @ u_o.T + b_o)
            g = np.tanh(below @ w_g.T + h[layer] @ u_g.T + b_g)
            c[layer] = f * c[layer] + i * g
            h[layer] = o * np.tanh(c[layer])
            below = h[layer]
        spoken.append(below.copy())
    return np.stack(spoken), h, c


def assert_same_bits(one: Tensor, other: Tensor) -> None:
    assert one.dtype == other.dtype == torch.float32
    assert torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_both_ways_agree_with_torch(layers: int) -> None:
    lstm = random_lstm(layers)
    oracle = nn.LSTM(INPUTS, HIDDEN, layers)
    oracle.load_state_dict(lstm.fused.state_dict())
    inputs, state = random_case(20, 5, layers)
    expected, (hidden, cell) = oracle(inputs, tuple(state))

    spoken, after = lstm(inputs, state)
    stepped, now = [], state
    for wave in inputs:
        now, _ = lstm.step(wave, now)
        stepped.append(now.hidden[-1])
    for found, after_all in ((spoken, after), (torch.stack(stepped), now)):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(after_all.hidden, hidden, atol=1e-6, rtol=0)
        torch.testing.assert_close(after_all.cell, cell, atol=2e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_both_ways_are_the_equations(layers: int) -> None:
    lstm = random_lstm(layers, seed=1)
    inputs, state = random_case(12, 4, layers)
    expected, hidden, cell = written_out(lstm, inputs, state)

    with torch.inference_mode():
        spoken, after = lstm(inputs, state)
        now = state
        for wave in inputs:
            now, _ = lstm.step(wave, now)
    np.testing.assert_allclose(spoken.numpy(), expected, atol=2e-6)
    for found in (after, now):
        np.testing.assert_allclose(found.hidden.numpy(), hidden, atol=2e-6)
        np.testing.assert_allclose(found.cell.numpy(), cell, atol=4e-6)


def test_gates_stay_in_their_ranges_however_loud_the_input() -> None:
    lstm = random_lstm(2)
    inputs, state = random_case(1, 50, 2)
    for loudness in (0.0, 1.0, 1e3, 1e30):
        _, gates = lstm.step(inputs[0] * loudness, state)
        assert len(gates) == 2
        for layer in gates:
            for gate in (layer.input, layer.forget, layer.output):
                assert gate.shape == (50, HIDDEN)
                assert ((gate >= 0) & (gate <= 1)).all()
            assert (layer.candidate.abs() <= 1).all()


def test_gates_are_those_that_made_the_memory() -> None:
    lstm = random_lstm(2)
    inputs, state = random_case(1, 6, 2)
    after, gates = lstm.step(inputs[0], state)
    for layer, gate in enumerate(gates):
        torch.testing.assert_close(after.cell[layer], gate.forget * state.cell[layer] + gate.input * gate.candidate)
        torch.testing.assert_close(after.hidden[layer], gate.output * torch.tanh(after.cell[layer]))


@pytest.mark.parametrize("layers", [1, 3])
def test_at_first_the_cell_keeps_what_it_has(layers: int) -> None:
    lstm = LSTM(INPUTS, HIDDEN, layers)
    for layer in range(layers):
        bias = lstm.fused.get_parameter(f"bias_ih_l{layer}") + lstm.fused.get_parameter(f"bias_hh_l{layer}")
        assert bias.chunk(4)[1].eq(1).all(), "forget"
        assert torch.cat([bias.chunk(4)[n] for n in (0, 2, 3)]).eq(0).all(), "input, candidate, output"


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("streams", [1, 3, 16])
def test_many_readings_at_once_are_the_same_bits_as_one_by_one(layers: int, streams: int) -> None:
    lstm = random_lstm(layers)
    inputs, state = random_case(40, streams, layers)
    with torch.inference_mode():
        together, after = lstm(inputs, state)
        now, spoken = state, []
        for wave in inputs:
            memory, now = lstm(wave.unsqueeze(0), now)
            spoken.append(memory)
    assert_same_bits(torch.cat(spoken), together)
    assert_same_bits(now.hidden, after.hidden)
    assert_same_bits(now.cell, after.cell)


@pytest.mark.parametrize("hidden", [16, 32, 64])
@pytest.mark.parametrize("streams", [1, 2, 3, 5, 7, 12, 64, 333])
def test_a_streams_bits_do_not_depend_on_how_many_others_there_are(hidden: int, streams: int) -> None:
    torch.manual_seed(hidden)
    lstm = LSTM(INPUTS, hidden, 2)
    inputs = torch.randn(3, 1_000, INPUTS)
    state = CellState(torch.randn(2, 1_000, hidden).tanh(), torch.randn(2, 1_000, hidden))
    with torch.inference_mode():
        everyone, after_everyone = lstm(inputs, state)
        for first in (0, 500, 1_000 - streams):
            some = slice(first, first + streams)
            few = CellState(state.hidden[:, some].contiguous(), state.cell[:, some].contiguous())
            spoken, after = lstm(inputs[:, some].contiguous(), few)
            assert_same_bits(spoken, everyone[:, some])
            assert_same_bits(after.hidden, after_everyone.hidden[:, some])
            assert_same_bits(after.cell, after_everyone.cell[:, some])
