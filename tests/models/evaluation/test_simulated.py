"""Simulated series: what counts as found, false and late, and the tables that are made of it."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.data.arrays import Bools, Doubles
from models.data.families import PlainFault, Simulated, series_of
from models.detection.detector import Detector
from models.evaluation.evaluation import Judged
from models.evaluation.simulated import (
    FEATURE,
    GRACE_READINGS,
    SimulatedRun,
    faulty_run,
    healthy_run,
    simulate,
    trained_on_plants,
    untrained,
)
from models.evaluation.simulated_tables import figures, tables, write
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.run import TrainingConfig

R = 600
NOWHERE = np.zeros(R, np.bool_)


def marked(*places: int) -> Bools:
    found = np.zeros(R, np.bool_)
    found[list(places)] = True
    return found


def with_fault(begin: int, end: int) -> Simulated:
    label = np.zeros(R, np.bool_)
    label[begin:end] = True
    series = series_of("one", ("value",), np.arange(R) * 60_000, np.arange(R, dtype=np.float64))
    return Simulated("walk", PlainFault.SHIFT, series, label, NOWHERE)


def healthy(values: Doubles, edge: Bools = NOWHERE, noise: float = math.nan) -> Simulated:
    return Simulated("walk", None, series_of("one", ("value",), np.arange(R) * 60_000, values), NOWHERE, edge, noise)


def expecting(values: Doubles, expected: Doubles, half: Doubles, alarm: Bools = NOWHERE) -> Judged:
    """With a band of `half` to either side."""
    series = series_of("one", ("value",), np.arange(R) * 60_000, values)
    column = expected[:, None]
    return Judged(series, np.zeros(R), alarm, column, column - half[:, None], column + half[:, None])


@pytest.mark.parametrize(
    ("opens", "found", "delay"),
    [
        ((), 0, math.nan),
        ((299,), 0, math.nan),  # too early to be about it
        ((300,), 1, 0),
        ((90, 311, 320), 1, 11),
        ((320 + GRACE_READINGS - 1,), 1, 20 + GRACE_READINGS - 1),
        ((320 + GRACE_READINGS,), 0, math.nan),
    ],
)
def test_a_fault_is_found_by_an_alarm_that_opens_in_it_or_soon_after(
    opens: tuple[int, ...], found: int, delay: float
) -> None:
    run = faulty_run("families", with_fault(300, 320), 0, marked(*opens), NOWHERE)
    assert (run.found, run.by_chance) == (found, 0)
    assert run.delay == pytest.approx(delay, nan_ok=True)


def test_a_fault_is_not_found_where_its_healthy_twin_raises_an_alarm_too() -> None:
    run = faulty_run("families", with_fault(300, 320), 0, marked(305), marked(310))
    assert (run.found, run.by_chance) == (0, 1)
    assert math.isnan(run.delay)
    elsewhere = faulty_run("families", with_fault(300, 320), 0, marked(305), marked(200, 500))
    assert (elsewhere.found, elsewhere.by_chance) == (1, 0)


def test_the_loss_is_one_for_the_last_value_and_zero_for_the_truth() -> None:
    values = np.random.default_rng(0).standard_normal(R).cumsum()
    before = np.concatenate([values[:1], values[:-1]])
    for expected, loss in ((before, 1.0), (values, 0.0)):
        run = healthy_run("families", healthy(values), 0, expecting(values, expected, np.ones(R)))
        assert run.loss == pytest.approx(loss)


def test_the_band_of_normal_errors_holds_nine_tenths_of_them() -> None:
    """Three standard deviations are shown."""
    errors = np.random.default_rng(0).standard_normal(R)
    run = healthy_run("families", healthy(errors), 0, expecting(errors, np.zeros(R), np.full(R, 3.0)))
    assert run.band == pytest.approx(0.9, abs=0.03)


def test_errors_at_edges_are_measured_beside_the_noise() -> None:
    values = np.where(np.arange(R) % 100 < 50, 1.0, 9.0)
    edge = marked(*range(50, R, 50))
    expected = np.where(edge, values + 4.0, values + 0.5)
    run = healthy_run("plants", healthy(values, edge, 0.25), 0, expecting(values, expected, np.ones(R)))
    assert (run.edge_error, run.noise) == (4.0, 0.25)
    shown = {title: rows for title, (_, rows) in tables([run])}
    assert shown["healthy plants, a machine"][-1][4] == "16.0"


def test_every_alarm_in_a_healthy_series_is_false() -> None:
    alarm = marked(10, 11, 12, 300, 301)
    ones = np.ones(R)
    run = healthy_run("families", healthy(ones), 0, expecting(ones, ones, ones, alarm))
    assert (run.false, run.readings) == (2, R)
    assert math.isnan(run.loss), "there is nothing to expect of a constant"


@pytest.fixture(scope="module")
def runs() -> list[SimulatedRun]:
    detector = untrained()
    return list(simulate(lambda _: detector, 1, ("families", "plants", "constants")))


@pytest.mark.slow
def test_an_untrained_detector_is_never_worse_than_the_last_value(runs: list[SimulatedRun]) -> None:
    plain = [run for run in runs if run.family in {"sine", "walk", "duty cycle"} and not run.fault]
    assert len(plain) == 3
    assert max(run.loss for run in plain) <= 1.01


@pytest.mark.slow
def test_a_spike_of_five_ranges_is_found_and_constants_raise_no_alarm(runs: list[SimulatedRun]) -> None:
    spikes = [run.found for run in runs if run.fault == PlainFault.SPIKE]
    assert len(spikes) == 9
    assert np.mean(spikes) > 0.7
    assert not any(run.false for run in runs if run.set == "constants")


@pytest.mark.slow
def test_the_tables_have_a_row_a_family_and_a_row_a_fault(runs: list[SimulatedRun]) -> None:
    found = {title: rows for title, (_, rows) in tables(runs)}
    families = found["plain families: % of the faults found by kind"]
    assert [row[0] for row in families][-2:] == ["quantised", "all"]
    assert len(families) == 10
    faults = {row[0]: row for row in found["plain families, by fault"]}
    assert faults["spike"][1] == "9"
    assert faults["missing peak"][1] == "4"
    assert [row[0] for row in found["healthy plants, a machine"]][-1] == "all"


def test_false_alarms_asked_for_stand_beside_those_counted() -> None:
    runs = [SimulatedRun("asked", "10 days", "", seed, days=60.0, false=seed) for seed in (4, 8)]
    runs.append(SimulatedRun("asked", "30 days", "", 0, days=60.0, false=9))
    runs.append(SimulatedRun("asked", "90 days", "", 0, days=60.0))
    (_, (_, (_, rows))) = tables(runs)
    assert rows == [
        ["10 days", "2", "12", "10.0 days"],
        ["30 days", "1", "9", "9 in 60 days"],
        ["90 days", "1", "0", "0 in 60 days"],
    ]


def test_the_figures_are_those_of_the_runs() -> None:
    made = [
        SimulatedRun("families", "sine", "", 0, readings=10_000, false=1, loss=0.5),
        SimulatedRun("families", "walk", "", 0, readings=10_000, false=4, loss=1.0),
        SimulatedRun("families", "sine", "spike", 0, found=1.0, by_chance=0.0, delay=3),
        SimulatedRun("families", "walk", "spike", 0, found=0.0, by_chance=0.0),
    ]
    shown = figures(made)
    assert shown["families: false in 10,000; worst family"] == "2.50; 4.00"
    assert shown["families: spike found"] == "1 of 2", "of two, one more or less is half of them"
    assert shown["families: loss over as before; worst family"] == "0.75; 1.00"
    assert not any(name.startswith("plants") for name in shown)


def test_no_kind_of_fault_is_named_the_worst_by_fewer_than_ten_of_it() -> None:
    lost = [SimulatedRun("machines", "press", "silence", n, found=0.0, by_chance=0.0) for n in range(9)]
    often = [SimulatedRun("machines", "press", "shift", n, found=float(n < 8), by_chance=0.0) for n in range(10)]
    assert figures([*lost, *often])["machines: faults found; worst kind"] == "42 % of 19; 80 % (shift)"
    assert figures(lost)["machines: faults found; worst kind"] == "0 of 9; -"
    (*_, (_, (_, rows))) = tables([*lost, *often])
    assert rows[0] == ["silence", "9", "0 of 9", "0 of 9", "-"]
    assert rows[1][:4] == ["shift", "10", "80 % of 10", "0"]


@pytest.mark.slow
def test_what_is_written_has_a_row_a_series(runs: list[SimulatedRun], tmp_path: Path) -> None:
    write(runs, tmp_path / "simulated")
    rows = pl.read_csv(tmp_path / "simulated.csv")
    assert len(rows) == len(runs)
    assert "| spike | 9 |" in (tmp_path / "simulated.md").read_text()


@pytest.mark.slow
def test_machines_with_faults_are_judged_channel_by_channel_or_together() -> None:
    found = list(simulate(lambda _: untrained(), 1, ("machines",)))
    kinds = {run.fault for run in found}
    assert len(kinds) == 8
    assert sum(run.readings for run in found) > 100_000
    apart = Detector.cold(Forecaster(ForecasterConfig(FEATURE, hidden=16)))  # reads all of its channels at once: one
    alone = list(simulate(lambda _: apart, 1, ("machines",)))
    assert sum(run.false for run in alone) > sum(run.false for run in found), "three streams raise more than one"


@pytest.mark.slow
def test_a_net_that_learned_the_plants_goes_on_where_their_first_fortnight_ended() -> None:
    detector = trained_on_plants(16, TrainingConfig(epochs=1, seed=1), torch.device("cpu"))
    assert b"12-hour-shifts__1-0-missed" in detector.known
    found = [run for run in simulate(lambda _: detector, 2, ("plants",)) if not run.fault]
    assert {run.readings for run in found} == {14 * 288}
    warm, cold = ([run.loss for run in found if run.seed == seed] for seed in (1, 0))
    assert warm != cold, "plants of another seed begin cold"
