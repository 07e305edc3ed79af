"""How far back gradients reach: against finite differences, and against recurrences whose Jacobian is known."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data.arrays import Doubles
from models.data.series import Series, UnusableData
from models.data.windows import Chunk
from models.insight.gradients import WARM_UP, Flow, draw_windows, flows, flows_at_first, gradient_norms, untrained
from models.insight.gradients_report import flow_table
from models.net.cells import CELLS, CellState
from models.net.chrono import GATED
from models.net.forecaster import CLIP, Forecaster, ForecasterConfig

FEATURES = ("flow", "pressure")


def some_series(readings: int, seed: int = 0, key: str = "pump") -> Series:
    random = np.random.default_rng(seed)
    values = np.sin(np.arange(readings) / 9)[:, None] + random.normal(0, 0.5, (readings, 2))
    rows = np.arange(readings)
    return Series(key, Path(key), FEATURES, rows, rows * 60_000, values, np.zeros(readings, bool))


def forecaster_of(cell: str, layers: int = 1, seed: int = 0) -> Forecaster:
    """Of every weight a random share, so that all of them matter."""
    forecaster = untrained(ForecasterConfig(FEATURES, cell, 16, layers), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return forecaster


def only_remembering(cell: str, factor: float) -> Forecaster:
    """A simple recurrent net that sees nothing and multiplies its memory by `factor`: U = factor * 1, W = 0."""
    forecaster = untrained(ForecasterConfig(FEATURES, cell, 16), 0)
    weights = weights_of(forecaster)
    nn.init.zeros_(weights["weight_ih_l0"])
    with torch.no_grad():
        weights["weight_hh_l0"].copy_(torch.eye(16) * factor)
        if cell == "rnn-relu":
            weights["bias_ih_l0"].fill_(1e-6)  # every unit is on, and stays small
    return forecaster


def weights_of(forecaster: Forecaster) -> dict[str, nn.Parameter]:
    """Those of the recurrence, by torch's names."""
    named = forecaster.recurrence.named_parameters()  # type: ignore[attr-defined]
    return {name.split(".")[-1]: weight for name, weight in named}


def loss_after(forecaster: Forecaster, inputs: Tensor, state: CellState, chunk: Chunk) -> Tensor:
    """(W,) losses of the last reading, the net going on from `state` through its fused kernel."""
    hidden = forecaster.observe(inputs, state)[0][-1] if len(inputs) else state.hidden[-1]
    predicted = forecaster.predict(hidden, chunk.values[-2].double().clamp(-CLIP, CLIP), chunk.step.double())
    target = chunk.values[-1].double().clamp(-CLIP, CLIP)
    return nn.functional.smooth_l1_loss(predicted, target, reduction="none").sum(-1)


def by_differences(forecaster: Forecaster, chunk: Chunk, lag: int) -> tuple[Doubles, Doubles]:
    """Norms with respect to h and c at a lag, each number of the state moved a little up and down."""
    exact = forecaster.double()
    inputs = exact.inputs(*chunk[:5]).double()
    known = len(inputs) - lag
    norms = []
    with torch.no_grad():
        _, state = exact.observe(inputs[:known], exact.fresh(inputs.shape[1]))
        for place, part in enumerate(state):
            square = torch.zeros(inputs.shape[1], dtype=torch.float64)
            for layer in range(part.shape[0]):
                for unit in range(part.shape[2]):
                    sides = []
                    for step in (1e-5, -1e-5):
                        moved = [column.clone() for column in state]
                        moved[place][layer, :, unit] += step
                        sides.append(loss_after(exact, inputs[known:-1], CellState(*moved), chunk))
                    square += ((sides[0] - sides[1]) / 2e-5) ** 2
            norms.append(square.sqrt().numpy())
    return norms[0], norms[1]


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_norms_are_those_of_finite_differences(cell: str, layers: int) -> None:
    chunk = draw_windows([some_series(200)], lags=4, count=5, seed=1)
    norms = gradient_norms(forecaster_of(cell, layers), chunk, lags=4)
    assert norms.hidden.shape == (4, 5)
    for lag in (1, 2, 4):
        hidden, kept = by_differences(forecaster_of(cell, layers), chunk, lag)
        np.testing.assert_allclose(norms.hidden[lag - 1], hidden, rtol=1e-4, atol=1e-8)
        if CELLS[cell].cell_numbers:
            np.testing.assert_allclose(norms.cell[lag - 1], kept, rtol=1e-4, atol=1e-8)
        else:
            assert norms.cell.size == 0


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.5, "vanishes"), (0.97, "carries"), (1.0, "carries"), (1.1, "explodes")]
)
@pytest.mark.parametrize("cell", ["rnn-tanh", "rnn-relu"])
def test_a_known_eigenvalue_is_the_factor_a_reading(cell: str, factor: float, verdict: str) -> None:
    chunk = draw_windows([some_series(300)], lags=120, count=8, seed=0)
    (flow,) = flows(only_remembering(cell, factor), chunk, 120, "at first")
    np.testing.assert_allclose(flow.middle, factor ** np.arange(120.0), rtol=2e-5)  # a float32 weight
    np.testing.assert_allclose(flow.low, flow.high)
    assert flow.factor == pytest.approx(factor)
    assert flow.half_life == (pytest.approx(math.log(0.5) / math.log(factor)) if factor < 1 else math.inf)
    assert flow.verdict == verdict


@pytest.mark.parametrize("forget", [-1.0, 2.0, 50.0])
def test_along_the_cell_a_gradient_is_multiplied_by_the_forget_gate(forget: float) -> None:
    """Nothing enters and nothing is heard, so the only way back is c' = f * c: the constant error carousel."""
    forecaster = untrained(ForecasterConfig(FEATURES, "lstm", 16), 0)
    weights = weights_of(forecaster)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.init.zeros_(weights[name])
    with torch.no_grad():
        weights["bias_ih_l0"].copy_(torch.tensor([-50.0, forget, 0.0, 0.0]).repeat_interleave(16))
    chunk = draw_windows([some_series(200)], lags=40, count=4, seed=0)
    norms = gradient_norms(forecaster, chunk, 40)
    assert (norms.cell[0] == 0).all(), "what is handed over in the cell reaches the loss only through the next reading"
    keeps = 1 / (1 + math.exp(-forget))
    np.testing.assert_allclose(norms.cell[2:] / norms.cell[1:-1], keeps, rtol=1e-9)
    assert (norms.hidden[1:] == 0).all()


def test_a_net_without_memory_hears_of_the_last_reading_only() -> None:
    chunk = draw_windows([some_series(200)], lags=20, count=4, seed=0)
    (flow,) = flows(forecaster_of("feedforward"), chunk, 20, "trained")
    assert flow.middle.tolist() == [1.0] + [0.0] * 19
    assert (flow.factor, flow.half_life, flow.verdict) == (0.0, 0.0, "none")


def test_a_loss_that_no_one_knows_is_left_out() -> None:
    one = some_series(WARM_UP + 11)
    one.values[-1] = np.nan
    chunk = draw_windows([one, some_series(WARM_UP + 11, 1, "mill")], lags=10, count=40, seed=0)
    norms = gradient_norms(forecaster_of("gru"), chunk, 10)
    known = int(chunk.judged[-1].all(-1).sum())
    assert 0 < known < 40
    assert norms.hidden.shape == (10, known)


def test_data_in_which_nothing_moves_is_refused() -> None:
    forecaster = untrained(ForecasterConfig(FEATURES, "rnn-tanh", 16), 0)
    nn.init.zeros_(forecaster.head_weight)  # it expects no change, and is never wrong
    one = some_series(WARM_UP + 11)
    chunk = draw_windows([one._replace(values=np.full_like(one.values, 7.0))], lags=10, count=3, seed=0)
    with pytest.raises(UnusableData, match="nothing moves in this data"):
        flows(forecaster, chunk, 10, "trained")


def test_windows_end_at_every_reading_with_the_same_chance() -> None:
    waves = WARM_UP + 10 + 1
    series = [some_series(waves + 2), some_series(waves - 1, 1, "short"), some_series(waves, 2, "mill")]
    chunk = draw_windows(series, lags=10, count=2_000, seed=3)
    assert chunk.values.shape == (waves, 2_000, 2)
    ends, counts = np.unique(chunk.values[-1, :, 0].numpy(), return_counts=True)
    assert len(ends) == 4, "three places in the first stream, one in the last"
    assert counts.min() > 420


def test_data_too_short_for_the_lags_is_refused() -> None:
    with pytest.raises(UnusableData, match="the longest stream has 100 readings, 50 lags take at least 115"):
        draw_windows([some_series(100)], lags=50, count=1, seed=0)


def test_untrained_is_what_training_starts_from() -> None:
    config = ForecasterConfig(FEATURES, "lstm", 16)
    before = torch.random.get_rng_state()
    found = untrained(config, 5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    expected = Forecaster(config).state_dict()
    torch.random.set_rng_state(before)
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == ["head_weight"]


@pytest.mark.parametrize("cell", CELLS)
def test_biases_for_long_memories_carry_the_gradient_of_gated_cells(cell: str) -> None:
    chunk = draw_windows([some_series(300)], lags=100, count=8, seed=0)
    found = flows_at_first(ForecasterConfig(FEATURES, cell, 16, 2), chunk, 100, 0)
    reach = {(flow.moment, flow.memory): flow.at(100) for flow in found}
    assert {moment for moment, _ in reach} == ({"at first", "chrono"} if cell in GATED else {"at first"})
    for (moment, memory), norm in reach.items():
        if moment == "chrono":
            assert norm > 100 * reach["at first", memory]


def flow_of(middle: Sequence[float]) -> Flow:
    column = np.array(middle)
    return Flow("lstm", "trained", "h", column, column, column)


def test_a_lag_that_was_not_measured_is_not_known() -> None:
    flow = flow_of([1.0, 0.5])
    assert flow.at(2) == 0.5
    assert math.isnan(flow.at(3))


def test_a_table_has_no_column_for_a_lag_that_was_not_measured() -> None:
    fading = np.full(60, 0.5)
    header, [row] = flow_table([Flow("gru", "trained", "h", fading, fading, fading)])
    assert header[3:-3] == ["lag 1", "lag 10", "lag 50"]
    assert len(row) == len(header)
