"""Means, spreads and ties of runs that are written down here."""

import math

import numpy as np
import pytest

from models.evaluation.benchmark import NAB_FIGURES, NET_ALONE, WHOLE, BenchmarkRun
from models.evaluation.evaluation import EventCounts
from models.evaluation.evaluation_tables import MEASURES, OVER_SETS, best_of, summarise, tables
from models.evaluation.tables import Measure

VUS = next(measure for measure in MEASURES if measure.name == "vus_pr")
DELAY = next(measure for measure in MEASURES if measure.name == "delay")


def some_run(name: str, detector: str, seed: int, areas: list[float], hits: int = 1) -> BenchmarkRun:
    tallies = tuple(
        EventCounts(1_000, 2.0, 50, 1, hits, 3, 3 - hits, (4,) * hits, 30, 20, area, area) for area in areas
    )
    earned = {figure: (0.5,) * len(areas) for pair in NAB_FIGURES for figure in pair}
    return BenchmarkRun(name, detector, seed, 3, 0.0, "", tallies, earned, {})


def test_means_and_spreads_are_over_seeds() -> None:
    runs = [some_run("a", WHOLE, seed, [area, area + 0.2]) for seed, area in enumerate((0.3, 0.5))]
    [one] = summarise(runs)
    assert one.mean["vus_pr"] == pytest.approx(0.5)
    assert one.spread["vus_pr"] == pytest.approx(0.2 / math.sqrt(2))
    assert one.mean["false_alarms"] == pytest.approx(20)
    assert one.mean["alarms_a_day"] == pytest.approx(1.5)
    [(header, [row])] = tables([one], "a")
    assert dict(zip(header, row, strict=True))["VUS-PR"] == "0.500 ± 0.141 *"


def test_a_small_difference_that_every_series_has_is_none_of_chance() -> None:
    """Series differ far more than detectors: only because both are drawn together can they be told apart."""
    areas = np.random.default_rng(0).random(20)
    jitter = np.random.default_rng(1).normal(0, 0.05, 20)
    runs = [
        some_run("a", WHOLE, 0, areas.tolist()),
        some_run("a", "a little worse", 0, (areas - 0.01).tolist()),
        some_run("a", "now better, now worse", 0, (areas + jitter - jitter.mean() - 0.001).tolist()),
    ]
    best = {one.detector: "vus_pr" in one.best for one in summarise(runs)}
    assert best == {WHOLE: True, "a little worse": False, "now better, now worse": True}


def test_what_is_less_may_be_better_and_what_is_unknown_is_never_best() -> None:
    draws = np.random.default_rng(0).normal(size=100)
    slow, quick = (9.0, draws + 9), (2.0, draws + 2)
    assert best_of({"slow": slow, "quick": quick, "deaf": (math.nan, draws * math.nan)}, DELAY) == {"quick"}
    assert best_of({"slow": slow, "quick": quick}, VUS) == {"slow"}
    assert best_of({"deaf": (math.nan, draws)}, VUS) == set()
    assert best_of({"slow": slow, "quick": quick}, Measure("band", "", 0, 0)) == set()
    assert best_of({"one": (1.0, draws), "same": (1.0, draws)}, Measure("f1", "", 0, 1)) == {"one", "same"}


def test_over_sets_every_set_counts_the_same_and_only_detectors_that_are_on_all_of_them() -> None:
    runs = [some_run("a", WHOLE, seed, [0.2]) for seed in range(2)] + [some_run("a", "level only", 0, [0.5])]
    runs += [some_run("b", WHOLE, seed, [0.4, 0.6, 0.8, 1.0]) for seed in range(2)]
    runs += [some_run("b", NET_ALONE, 0, [math.nan] * 4, hits=0)]
    over = [one for one in summarise(runs) if one.set == OVER_SETS]
    assert [one.detector for one in over] == [WHOLE]
    assert over[0].mean["vus_pr"] == pytest.approx((0.2 + 0.7) / 2)


def test_over_sets_the_last_value_stands_in_for_components_of_a_single_channel() -> None:
    runs = [
        some_run("a", "last value", 0, [0.2]),
        some_run("a", "PCA", 0, [0.5]),
        some_run("b", "last value", 0, [0.8]),
    ]
    over = {one.detector: one.mean["vus_pr"] for one in summarise(runs) if one.set == OVER_SETS}
    assert over == pytest.approx({"last value": 0.5, "PCA": 0.65})


def test_figures_of_nab_stand_only_where_it_is_nab() -> None:
    both = summarise([some_run(name, WHOLE, 0, [0.5]) for name in ("nab", "skab")])
    named = {one.set: one for one in both}
    assert named["nab"].mean["nab_standard"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert "nab_standard" not in named["skab"].mean
    assert named["skab"].mean["point_f1"] == pytest.approx(2 * 30 / (2 * 30 + 20 + 20))
