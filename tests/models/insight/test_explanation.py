"""The memory laid open: the verdicts of the service, gates where its memory was, channels that are hidden."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from models.detection.alarm import Change
from models.detection.detector import Detector, Readings
from models.detection.rows import Rows, fresh
from models.insight.explanation import FEWEST_CALM, Explained, explain, rank_correlation, trace
from models.insight.explanation_report import agreement
from models.net.cells import CELLS
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from tests.data import QUICK, batch_of, faulty, judge, some_forecaster

SHOWN = 150


def detector_with(cell: str, features: int = 2, layers: int = 1) -> Detector:
    config = ForecasterConfig(tuple(f"f{n}" for n in range(features)), cell=cell, hidden=16, layers=layers)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        forecaster = Forecaster(config)
        forecaster.head_weight.add_(torch.randn(forecaster.head_weight.shape) * 0.2)
    return Detector.cold(forecaster.eval(), QUICK)


def one_stream(features: int = 2) -> Readings:
    """The longest of the faulty ones: spikes, shifts, missing, late and duplicate readings, a clock set back."""
    batch = faulty(features, seed=3, streams=4, readings=500)
    longest = int(torch.bincount(batch.streams).argmax())
    return batch.part(batch.streams == longest).readings


def one_by_one(detector: Detector, readings: Readings, row: Rows) -> list[Rows]:
    """The row after every reading, each a batch of its own."""
    rows = []
    for n in range(len(readings.offsets)):
        one = Readings(*(column[n : n + 1] for column in readings))
        row = detector.observe(one, pack(torch.zeros(1, dtype=torch.int64)), row)[1]
        rows.append(row)
    return rows


def with_a_jump(channel: int, features: int = 5, readings: int = 300, jump_from: int = 280) -> Readings:
    values = np.random.default_rng(1).normal(size=(readings, features))
    values[jump_from:, channel] += 12
    return batch_of(values).readings


def last_opened(explained: Explained) -> int:
    return max(n for n, one in enumerate(explained.accounts) if one.transition.change is Change.OPENED)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_verdicts_are_those_of_the_detector_to_the_bit(cell: str, layers: int) -> None:
    detector, readings = detector_with(cell, layers=layers), one_stream()
    row = fresh(1, detector.forecaster.config)
    whole = judge(detector, batch_of(readings.values.numpy())._replace(readings=readings), row)
    explained = explain(detector, row, readings, SHOWN)
    for name in ("score", "alarm", "expected", "lower", "upper"):
        mine = getattr(explained.verdicts, name)
        assert len(mine) == SHOWN
        assert torch.equal(mine.nan_to_num(), getattr(whole, name)[-SHOWN:].nan_to_num())
    assert torch.equal(explained.verdicts.fate.late, whole.late[-SHOWN:])
    assert torch.equal(explained.readings.offsets, readings.offsets[-SHOWN:])
    assert len(explained.layers) == layers


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_gates_stand_at_the_readings_where_the_memory_moved(cell: str) -> None:
    """The oracle is the detector's own row after every single reading; late and duplicate ones have no gates."""
    detector, readings = detector_with(cell, layers=2), one_stream()
    row = fresh(1, detector.forecaster.config)
    explained = explain(detector, row, readings)
    rows = one_by_one(detector, readings, row)
    memory = [(one.cell if CELLS[cell].cell_numbers else one.hidden)[0].numpy() for one in [row, *rows]]
    judged = explained.verdicts.fate.judged.numpy()
    assert 0 < (~judged).sum() < len(judged) / 2
    for n, layer in enumerate(explained.layers):
        sizes = [np.abs(one[n]).mean() for one in memory[1:]]
        moved = [np.linalg.norm(after[n] - before[n]) for before, after in pairwise(memory)]
        np.testing.assert_allclose(layer.memory[judged], np.array(sizes)[judged], atol=2e-5)
        np.testing.assert_allclose(layer.change[judged], np.array(moved)[judged], atol=2e-4)
        for gate in layer.gates:
            assert np.isnan(gate.units[~judged]).all()
            assert (gate.low[judged] <= gate.high[judged]).all()
            assert gate.units.shape == (len(judged), 16)


@pytest.mark.parametrize(
    ("cell", "gates"),
    [
        ("lstm", ("input", "forget", "output", "candidate")),
        ("lstm-peephole", ("input", "forget", "output", "candidate")),
        ("gru", ("reset", "update", "candidate")),
        ("rnn-tanh", ("candidate",)),
        ("feedforward", ("candidate",)),
    ],
)
def test_a_cell_shows_the_gates_it_has(cell: str, gates: tuple[str, ...]) -> None:
    detector = detector_with(cell)
    (layer,) = explain(detector, fresh(1, detector.forecaster.config), one_stream(), 5).layers
    assert tuple(gate.name for gate in layer.gates) == gates


@pytest.mark.parametrize("channel", [0, 3])
def test_the_channel_that_jumped_is_found_by_hiding_it_and_by_its_share(channel: int) -> None:
    detector = Detector.cold(Forecaster(ForecasterConfig(tuple("abcde"), hidden=16)), QUICK)
    explained = explain(detector, fresh(1, detector.forecaster.config), with_a_jump(channel))
    account = explained.accounts[last_opened(explained)]
    assert int(np.argmax(account.weight)) == int(np.argmax(account.transition.share)) == channel
    assert account.same_first
    assert account.weight[channel] > 0.9
    assert sum(account.weight) == pytest.approx(1)
    assert agreement(account, "abcde").endswith(f"both name {'abcde'[channel]} first.")
    assert "none is named first" in agreement(account._replace(weight=(0.2,) * 5, same_first=False), "abcde")
    score = account.transition.score
    assert account.without[channel] < score / 2 < account.alone[channel]
    assert min(account.without[:channel] + account.without[channel + 1 :]) > score / 2


def test_of_two_channels_that_would_each_suffice_both_have_weight() -> None:
    detector = Detector.cold(Forecaster(ForecasterConfig(tuple("abcde"), hidden=16)), QUICK)
    readings = with_a_jump(1)
    readings.values[280:, 4] += 12
    explained = explain(detector, fresh(1, detector.forecaster.config), readings)
    weight = np.array(explained.accounts[last_opened(explained)].weight)
    assert sorted(np.argsort(weight)[-2:].tolist()) == [1, 4]
    assert weight[[1, 4]].min() > 0.25


def test_with_every_other_channel_hidden_a_single_one_has_the_very_score() -> None:
    detector = Detector.cold(some_forecaster(1), QUICK)
    explained = explain(detector, fresh(1, detector.forecaster.config), with_a_jump(0, features=1))
    assert explained.accounts
    for account in explained.accounts:
        assert account.alone == (account.transition.score,)
        assert account.weight == (1.0,)


def test_a_swing_is_measured_against_the_readings_before_the_episode() -> None:
    detector = detector_with("lstm", features=5)
    explained = explain(detector, fresh(1, detector.forecaster.config), with_a_jump(2))
    account = explained.accounts[last_opened(explained)]
    end = account.transition.reading + 1
    assert account.begin == end - 1 - QUICK.score.smooth_readings
    (forget,) = [one for one in account.swings if one.gate == "forget"]
    (gate,) = [one for one in explained.layers[0].gates if one.name == "forget"]
    mean = gate.units.mean(axis=1)
    assert forget.usual == pytest.approx(np.median(mean[: account.begin]), rel=1e-5)
    assert (forget.lowest, forget.highest) == (
        mean[account.begin : end].min(),
        mean[account.begin : end].max(),
    )
    usual_spread = 1.4826 * np.median(np.abs(mean[: account.begin] - np.median(mean[: account.begin])))
    assert forget.drop == pytest.approx((forget.usual - forget.lowest) / usual_spread, rel=1e-3)
    assert forget.rise == pytest.approx((forget.highest - forget.usual) / usual_spread, rel=1e-3)


def test_what_is_usual_is_not_said_of_too_few_readings() -> None:
    detector = detector_with("lstm", features=5)
    explained = explain(detector, fresh(1, detector.forecaster.config), with_a_jump(2), shown=20 + FEWEST_CALM // 2)
    swings = explained.accounts[0].swings
    assert all(np.isnan(one.drop) and np.isnan(one.usual) and np.isfinite(one.lowest) for one in swings)


def test_explaining_changes_neither_the_detector_nor_the_row() -> None:
    detector, readings = detector_with("lstm"), one_stream()
    row = fresh(1, detector.forecaster.config)
    before = Rows(*(column.clone() for column in row))
    weights = [weight.clone() for weight in detector.forecaster.parameters()]
    explain(detector, row, readings)
    assert all(torch.equal(one, other) for one, other in zip(row, before, strict=True))
    assert all(torch.equal(*pair) for pair in zip(detector.forecaster.parameters(), weights, strict=True))
    hooks = [hook for module in detector.forecaster.modules() for hook in module._forward_pre_hooks]
    assert hooks == []


def test_a_trace_is_the_explanation_without_its_accounts() -> None:
    detector, readings = Detector.cold(some_forecaster(5), QUICK), with_a_jump(2)
    row = detector.rows_for([b"one"])
    explained, traced = explain(detector, row, readings), trace(detector, row, readings)
    assert explained.accounts
    assert traced.accounts == ()
    assert torch.equal(traced.verdicts.score, explained.verdicts.score)
    for mine, other in zip(traced.layers, explained.layers, strict=True):
        for gate, same in zip(mine.gates, other.gates, strict=True):
            np.testing.assert_array_equal(gate.units, same.units)


def test_of_no_readings_nothing_is_said() -> None:
    detector, readings = detector_with("lstm"), one_stream()
    nothing = Readings(*(column[:0] for column in readings))
    explained = explain(detector, fresh(1, detector.forecaster.config), nothing)
    assert (len(explained.verdicts.score), explained.layers, explained.accounts) == (0, (), ())
    assert explained.verdicts.expected.shape == (0, 2)


def test_readings_that_were_all_late_show_no_memory() -> None:
    detector, readings = detector_with("lstm"), one_stream()
    row = one_by_one(detector, readings, fresh(1, detector.forecaster.config))[-1]
    late = Readings(readings.offsets[:3], readings.times_ms[:3] - 10_000_000_000, readings.values[:3])
    explained = explain(detector, row, late)
    assert explained.verdicts.fate.late.all()
    assert explained.layers == ()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], 1.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0], 0.8),
        ([0.0, 0.0, 1.0], [0.0, 1.0, 2.0], 0.8660254),
        ([1.0, 1.0], [1.0, 2.0], float("nan")),
    ],
)
def test_rank_correlation_is_spearmans(one: list[float], other: list[float], expected: float) -> None:
    found = rank_correlation(np.array(one), np.array(other))
    assert found == pytest.approx(expected, nan_ok=True)
