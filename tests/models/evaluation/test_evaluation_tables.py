"""Means, spreads and ties of runs that are written down here."""

import math

import numpy as np
import pytest

from models.evaluation.benchmark import NAB_FIGURES, NET_ALONE, WHOLE, BenchmarkRun
from models.evaluation.evaluation import EventCounts
from models.evaluation.evaluation_report import TITLES, drawn_measures
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
    runs = [some_run("a", WHOLE, seed, [area, area + 0.2] * 5) for seed, area in enumerate((0.3, 0.4, 0.5))]
    [one] = summarise(runs)
    assert one.mean["vus_pr"] == pytest.approx(0.5)
    assert one.spread["vus_pr"] == pytest.approx(0.1)
    assert one.mean["false_alarms"] == pytest.approx(20)
    assert one.mean["alarms_a_day"] == pytest.approx(1.5)
    [(header, [row])] = tables([one], "a")
    shown = dict(zip(header, row, strict=True))
    assert shown["VUS-PR"] == "0.500 ± 0.100", "the only detector is not the best of several"
    assert shown["event recall"] == "1.000 ± 0.000"


def shown_of(runs: list[BenchmarkRun], name: str = "a") -> dict[str, dict[str, str]]:
    """Cells by detector and column."""
    [(header, rows)] = tables(summarise(runs), name)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def some_runs(series: int, seeds: int = 1, hits: int = 1) -> list[BenchmarkRun]:
    """Telltale is far better on every series."""
    return [
        some_run("a", name, seed, [area] * series, of)
        for name, area, of in ((WHOLE, 0.9, hits), ("level only", 0.1, hits))
        for seed in range(seeds)
    ]


def test_five_series_name_no_winner_and_six_do() -> None:
    """By hand: all of n series agree by chance in 2 of 2^n cases, which is below 5 % from six on."""
    assert [2 * 0.5**n < 0.05 for n in (5, 6)] == [False, True]
    for series, star in ((5, ""), (6, " *")):
        shown = shown_of(some_runs(series))
        assert (shown[WHOLE]["VUS-PR"], shown["level only"]["VUS-PR"]) == (f"0.900{star}", "0.100")


def test_series_without_an_event_tell_nothing_of_who_finds_events() -> None:
    quiet = EventCounts(1_000, 2.0, 0, 0, 0, 3, 3, (), 0, 20, math.nan, math.nan)
    runs = [run._replace(tallies=(*run.tallies[:5], *(quiet,) * 5)) for run in some_runs(10)]
    shown = shown_of(runs)
    assert shown[WHOLE]["VUS-PR"] == "0.900"
    assert shown[WHOLE]["false / 10,000"].endswith(" *"), "of false alarms all ten series tell"


def test_a_share_of_fewer_than_ten_events_is_told_in_counts() -> None:
    shown = shown_of(some_runs(9))[WHOLE]
    assert (shown["event recall"], shown["event F1"]) == ("9 of 9", "too few")
    assert shown["precision"] == "0.333 *", "of 27 alarms"
    shown = shown_of(some_runs(10))[WHOLE]
    assert shown["event recall"] == "1.000 *"
    assert shown["event F1"] == "0.500 *"
    missed = shown_of(some_runs(10, hits=0))[WHOLE]
    assert (missed["event recall"], missed["delay"]) == ("0.000 *", "-")


def test_in_the_mean_over_seeds_counts_are_means() -> None:
    runs = [some_run("a", WHOLE, seed, [0.5] * 3, hits=hits) for seed, hits in enumerate((1, 1, 0))]
    assert shown_of(runs)[WHOLE]["event recall"] == "2 of 3"
    assert shown_of(runs[1:])[WHOLE]["event recall"] == "1.5 of 3"


def test_two_seeds_have_no_deviation_and_three_have_one() -> None:
    for seeds, varies in ((2, False), (3, True)):
        assert ("±" in shown_of(some_runs(10, seeds))[WHOLE]["VUS-PR"]) == varies


def test_over_sets_a_set_of_one_series_leaves_no_winner() -> None:
    """Drawn again, its series is always the same one: the interval would be too narrow."""
    here, there = some_runs(10), [run._replace(set="b") for run in some_runs(10)]
    alone = [run._replace(set="c") for run in some_runs(1)]
    assert shown_of([*here, *there], OVER_SETS)[WHOLE]["VUS-PR"] == "0.900 *"
    assert shown_of([*here, *there, *alone], OVER_SETS)[WHOLE]["VUS-PR"] == "0.900"


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


def test_a_rate_a_day_of_less_than_a_day_is_not_told() -> None:
    runs = [
        run._replace(tallies=tuple(one._replace(days=0.11) for one in run.tallies))
        for run in (*some_runs(9), *some_runs(10))
    ]
    short, day = shown_of(runs[:2])[WHOLE], shown_of(runs[2:])[WHOLE]
    assert (short["false / day"], short["alarms / day"]) == ("too short", "too short")
    assert day["alarms / day"].startswith("27.27")


def test_a_chart_has_only_what_there_are_figures_of() -> None:
    for series, panels in ((9, ["VUS-PR", "false alarms a 10,000 readings"]), (10, list(TITLES.values()))):
        runs = some_runs(series)
        assert [TITLES[one] for one in drawn_measures(summarise(runs), "a")] == panels
