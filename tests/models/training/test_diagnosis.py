"""Every remark is provoked by a run that deserves it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.net.forecaster import ForecasterConfig
from models.training import diagnosis
from models.training.distributed import ALONE
from models.training.loop import Fitted, _identity, fit
from models.training.run import Ending, TrainingConfig
from models.training.state import pack, unpack
from tests.models.training.test_loop import CPU, FAST, NET, assert_same_net, series, some_series

WIDE = ForecasterConfig(("a",), hidden=64)
LONG = replace(FAST, chunk_readings=64, lane_readings=600, epochs=4)


def remark(fitted: Fitted, begins: str) -> str:
    """The one that begins so."""
    (found,) = [said for said in fitted.remarks if said.startswith(begins)]
    return found


def test_of_a_run_that_learns_well_nothing_is_said() -> None:
    fitted = fit(some_series(), NET, replace(FAST, epochs=8), CPU)
    assert fitted.remarks == ()
    assert fitted.ended == "epochs"


def test_a_run_that_diverges_at_once_leaves_the_forecaster_that_expects_no_change() -> None:
    fitted = fit(some_series(), replace(WIDE, cell="rnn-relu"), replace(LONG, learning_rate=1.0), CPU)
    assert (fitted.ended, fitted.best, len(fitted.epochs)) == ("diverged", None, 1)
    assert not fitted.forecaster.head_weight.any()
    said = remark(fitted, "Training diverged in epoch 1")
    assert "those of before training" in said
    assert "smaller --learning-rate than 1, or --cell lstm instead of rnn-relu" in said


def test_a_run_that_diverges_later_keeps_the_best_weights_it_had(tmp_path: Path) -> None:
    """It learns well, then goes on from a state in which its steps have been made ten thousand times as long."""
    path, net = tmp_path / "run", replace(WIDE, cell="rnn-relu")
    well = fit(some_series(), net, replace(FAST, epochs=2), CPU, run_file=path)
    identity = _identity(some_series(), net, FAST, CPU, ALONE)
    state = unpack(path, path.read_bytes(), identity)
    state.values["learning_rate"] *= 10_000
    path.write_bytes(pack(state, identity))
    fitted = fit(some_series(), net, replace(FAST, epochs=50), CPU, run_file=path)
    assert (fitted.ended, len(fitted.epochs)) == ("diverged", 3)
    assert fitted.best == well.best
    assert_same_net(fitted.forecaster, well.forecaster)
    assert "The weights kept are those of epoch 2" in remark(fitted, "Training diverged in epoch 3")


@pytest.mark.slow
def test_gradients_that_explode_are_told() -> None:
    fitted = fit(some_series(), replace(WIDE, cell="gru"), replace(LONG, learning_rate=0.3, remembers=0), CPU)
    assert "try a smaller --learning-rate than 0.3, or a shorter --chunk" in remark(fitted, "Gradients explode").lower()
    assert max(epoch.reach for epoch in fitted.epochs) > 100


def test_gradients_that_vanish_are_told_of_a_plain_net_and_not_of_an_lstm() -> None:
    slow = replace(FAST, chunk_readings=64, learning_rate=1e-3)
    plain = fit(some_series(), replace(NET, cell="rnn-tanh"), slow, CPU)
    assert "try --cell lstm instead of rnn-tanh" in remark(plain, "Gradients vanish")
    assert not any(said.startswith("Gradients vanish") for said in fit(some_series(), NET, slow, CPU).remarks)


def test_a_net_without_memory_is_not_told_that_it_forgets() -> None:
    fitted = fit(some_series(), replace(NET, cell="feedforward"), FAST, CPU)
    assert fitted.epochs[-1].reach == 0
    assert not any(said.startswith("Gradients vanish") for said in fitted.remarks)


def test_gradients_that_are_mostly_cut_are_told() -> None:
    fitted = fit(some_series(), NET, replace(FAST, gradient_norm=0.01), CPU)
    assert "Gradients longer than 0.01 are clipped, and" in remark(fitted, "Gradients longer")
    assert np.mean([epoch.clipped_share for epoch in fitted.epochs]) > 0.5
    assert all(epoch.largest_norm >= epoch.gradient_norm for epoch in fitted.epochs)


@pytest.mark.parametrize(
    ("training", "advice"),
    [
        (replace(FAST, learning_rate=0.5), "It forecasts worse than `the same as before`"),
        (replace(FAST, learning_rate=1e-6, epochs=1), "It forecasts no better than `the same as before`"),
    ],
)
def test_a_forecast_no_better_than_no_change_is_told(training: TrainingConfig, advice: str) -> None:
    walk = [series(np.random.default_rng(0).normal(size=400).cumsum())]
    fitted = fit(walk, NET, training, CPU)
    assert fitted.best is not None
    assert fitted.best.validation_loss >= fitted.persistence_loss
    remark(fitted, advice)


def test_what_helps_some_channels_and_harms_others_is_told_apart_from_what_harms_all() -> None:
    epoch = fit(some_series(), NET, FAST, CPU).epochs[0]._replace(best=True, validation_loss=0.11)
    helps, harms = (
        diagnosis.remarks([epoch._replace(proven_loss=proven)], 0.1, Ending.CONVERGED, FAST, NET)
        for proven in (0.06, 0.1)
    )
    (said,) = helps
    assert "some channels better than `the same as before` and others worse" in said
    assert "Its loss is 0.11, that of no change 0.1; counting the others as no change it is 0.06." in said
    assert harms[0].startswith("It forecasts no better than `the same as before`")


@pytest.mark.slow
def test_overfitting_is_told() -> None:
    noise = [series(np.random.default_rng(1).normal(size=120))]
    fitted = fit(noise, WIDE, replace(FAST, epochs=25, patience=25, learning_rate=0.03), CPU)
    assert fitted.best is not None
    assert f"since epoch {fitted.best.number}, whose weights are kept" in remark(fitted, "It overfits")
