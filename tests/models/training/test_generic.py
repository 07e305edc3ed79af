from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.data.simulated import simulate
from models.data.windows import scale_of
from models.detection.detector import Detector
from models.detection.judging import judge_series
from models.detection.net_arithmetic import NetArithmetic
from models.detection.rows import CHANNELS, fresh
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training import generic
from models.training.generic import GenericConfig, fit_generic, generic_architecture
from tests.data import fine_forecaster
from tests.models.training.test_loop import series

BRIEF = GenericConfig(epochs=1, epoch_updates=3, series=8, readings=64)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    one, other, third = (
        fit_generic(generic_architecture(16), GenericConfig(1, 3, series=8, readings=64, seed=seed)).forecaster
        for seed in (1, 1, 2)
    )
    weights = one.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in other.state_dict().items())
    assert not torch.equal(third.head_weight, one.head_weight)


@pytest.mark.slow
def test_it_learns_to_expect_series_that_it_has_never_seen() -> None:
    fitted = fit_generic(generic_architecture(16), GenericConfig(epochs=1, epoch_updates=150, series=32, readings=128))
    assert fitted.loss < 0.99 * fitted.persistence_loss


def test_what_it_is_shown_while_it_learns_is_what_a_stream_shows_it_that_was_never_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scales of training are those of the judge, reading by reading, through every age at which it moves them."""
    net = fine_forecaster(1, channelwise=True)
    drawn = simulate(1, 80, torch.Generator().manual_seed(0))
    shown: list[torch.Tensor] = []

    def record(shows: type[Forecaster] | type[NetArithmetic]) -> None:
        right: Callable[..., torch.Tensor] = shows.inputs

        def inputs(*given: object) -> torch.Tensor:
            found = right(*given)
            shown.append(found[:, 0].detach())
            return found

        monkeypatch.setattr(shows, "inputs", inputs)

    record(Forecaster)
    record(NetArithmetic)
    generic._residuals(net, drawn, torch.tensor([False]))
    learning = torch.cat(shown)
    shown.clear()
    one = series(drawn.values.numpy())._replace(times_ms=drawn.times_ms[:, 0].numpy())
    judge_series(Detector.cold(net), [one], fresh(1, net.config))
    torch.testing.assert_close(torch.cat(shown), learning, atol=1e-4, rtol=1e-4)


def test_simulated_series_are_finite_move_and_are_of_many_kinds() -> None:
    values, times_ms, elapsed_s = simulate(500, 300, torch.Generator().manual_seed(1))
    assert values.isfinite().all()
    assert (values.std(0) > 0).double().mean() > 0.97
    assert (times_ms.diff(dim=0) > 0).all()
    assert torch.equal(elapsed_s[0], torch.zeros(500, dtype=torch.float64))
    np.testing.assert_allclose(elapsed_s[1:], times_ms.diff(dim=0) / 1000, atol=0.0011)
    unchanged = (values.diff(dim=0) == 0).double().mean(0)
    assert (unchanged > 0.5).any(), "some hardly ever move"
    assert (unchanged == 0).any(), "some always do"


def test_a_rows_step_is_the_root_mean_square_of_the_differences() -> None:
    values = np.random.default_rng(0).normal(50, 3, 65).cumsum()
    rows = fresh(1, ForecasterConfig(("a",), hidden=16))
    judge_series(Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=16))), [series(values)], rows)
    oracle = float(np.sqrt((np.diff(values[:64]) ** 2).sum() / 63))
    assert float(rows.channel("step")[0, 0]) == pytest.approx(oracle)
    assert scale_of(series(values[:64]))[2][0] == pytest.approx(oracle)
    assert CHANNELS.field("step").unit == "raw"
