"""The figures of detection against their formulas written out threshold by threshold, and known points."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from models.data.arrays import Bools, Doubles
from models.data.series import Series, read_series
from models.detection.detector import Detector, Readings
from models.detection.priming import prime
from models.evaluation.evaluation import (
    Judged,
    auc_pr,
    backtest,
    find_events,
    forecast_error,
    judge_all,
    measure,
    number,
    range_auc_pr,
    read_labels,
    tally,
    training_spread,
    vus_pr,
    weigh,
)
from models.net.packing import pack
from models.training.loop import usable
from tests.data import QUICK, some_forecaster


def marks(text: str) -> Bools:
    """`..##.` as labels or alarms."""
    return np.array([one == "#" for one in text])


def some_labels(seed: int, readings: int) -> tuple[Bools, Doubles]:
    """Labels in runs, and scores with ties that have something to do with them."""
    random = np.random.default_rng(seed)
    label = np.zeros(readings, bool)
    for begin in random.integers(0, readings, 4):
        label[begin : begin + random.integers(1, 9)] = True
    return label, np.round(random.random(readings) + 0.3 * label, 1)


def average_precision(label: Bools, score: Doubles) -> float:
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        marked = [n for n in range(len(score)) if score[n] >= threshold]
        hits = sum(bool(label[n]) for n in marked)
        recall = hits / sum(label)
        area += (recall - recall_before) * hits / len(marked)
        recall_before = recall
    return float(area)


def slopes_by_hand(label: Bools, width: int) -> list[float]:
    """Every reading adds up what each event gives it."""
    given = [1.0 if one else 0.0 for one in label]
    events = [n for n, (a, b) in enumerate(pairwise([False, *label])) if b and not a]
    ends = [n for n, (a, b) in enumerate(pairwise([*label, False])) if a and not b]
    for n in range(len(label)):
        for first, last in zip(events, ends, strict=True):
            distance = max(first - n, n - last)
            if 0 < distance <= width // 2:
                given[n] += math.sqrt(1 - distance / width)
    return [min(one, 1.0) for one in given]


def range_area_by_hand(label: Bools, score: Doubles, width: int) -> float:
    """Paparrizos et al. 2022 with the recall of TSB-AD, a threshold at a time."""
    sloped = slopes_by_hand(label, width)
    groups: list[list[int]] = []
    for n, one in enumerate(sloped):
        if one > 0 and (n == 0 or sloped[n - 1] == 0):
            groups.append([])
        if one > 0:
            groups[-1].append(n)
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        marked = [n for n in range(len(score)) if score[n] >= threshold]
        hits = sum(sloped[n] for n in marked)
        with_all_events = sum(1.0 if label[n] else sloped[n] for n in range(len(label)) if label[n] or n in marked)
        positives = (sum(label) + with_all_events) / 2
        existence = sum(any(n in marked for n in group) for group in groups) / len(groups)
        recall = min(hits / positives, 1.0) * existence
        area += (recall - recall_before) * hits / len(marked)
        recall_before = recall
    return float(area)


@pytest.mark.parametrize("seed", range(6))
def test_areas_are_those_of_their_formulas(seed: int) -> None:
    label, score = some_labels(seed, 80)
    assert auc_pr(label, score) == pytest.approx(average_precision(label, score), rel=1e-12)
    by_width = [range_area_by_hand(label, score, width) for width in range(13)]
    assert [range_auc_pr(label, score, width) for width in range(13)] == pytest.approx(by_width, rel=1e-12)
    assert vus_pr(label, score, 12) == pytest.approx(sum(by_width) / 13, rel=1e-12)


def test_a_perfect_score_has_areas_of_one_and_an_inverted_one_that_of_marking_everything() -> None:
    label, _ = some_labels(3, 2_000)
    assert auc_pr(label, label.astype(float)) == 1.0
    assert vus_pr(label, label.astype(float)) == pytest.approx(1.0, abs=1e-12)
    assert auc_pr(label, (~label).astype(float)) == pytest.approx(label.mean(), rel=1e-12)


def test_random_scores_have_areas_of_about_the_share_of_anomalous_readings() -> None:
    random = np.random.default_rng(1)
    label = np.zeros(50_000, bool)
    for begin in range(1_000, 50_000, 2_500):
        label[begin : begin + 250] = True
    score = random.random(len(label))
    assert auc_pr(label, score) == pytest.approx(label.mean(), rel=0.05)
    assert vus_pr(label, score, 20) == pytest.approx(label.mean(), rel=0.1)


def test_a_score_that_peaks_just_beside_an_event_counts_for_vus_but_not_for_auc() -> None:
    label = marks("." * 300 + "#" * 20 + "." * 300)
    beside, far = np.zeros(len(label)), np.zeros(len(label))
    beside[290:300], far[100:110] = 1.0, 1.0
    assert auc_pr(label, beside) == auc_pr(label, far)
    assert vus_pr(label, beside) > 3 * vus_pr(label, far)


def test_without_an_event_there_is_no_area() -> None:
    assert math.isnan(auc_pr(marks("...."), np.zeros(4)))
    assert math.isnan(vus_pr(marks("...."), np.zeros(4)))


@pytest.mark.parametrize(
    ("label", "alarm", "hits", "false", "delays"),
    [
        ("..####..##", "...##....#", 2, 0, (1, 1)),
        ("..####..##", "##......##", 1, 1, (0,)),  # an alarm that ends where an event begins has missed it
        ("..####..##", ".########.", 2, 0, (0, 0)),  # one alarm, two events
        ("..######..", "..#.#.##..", 1, 0, (0,)),  # three alarms, one event
        ("..####....", "......####", 0, 1, ()),  # it begins where the event has ended
        ("##........", "#.........", 1, 0, (0,)),
        ("..........", ".#.#......", 0, 2, ()),
        ("....######", "..........", 0, 0, ()),
    ],
)
def test_an_event_is_found_by_any_alarm_that_overlaps_it(
    label: str, alarm: str, hits: int, false: int, delays: tuple[int, ...]
) -> None:
    found = find_events(marks(label), marks(alarm))
    assert (found.hits, found.false, found.delays) == (hits, false, delays)
    assert found.events == len([run for run in label.split(".") if run])
    assert found.alarms == len([run for run in alarm.split(".") if run])


def some_series(values: NDArray[np.float64], test_from: int, key: str = "pump") -> Series:
    names = tuple(f"f{n}" for n in range(values.shape[1]))
    number = np.arange(len(values), dtype=np.int64)
    return Series(key, Path(f"{key}.csv"), names, number, number * 60_000, values, number >= test_from)


def test_figures_of_several_streams_count_events_together_and_average_areas() -> None:
    labels = [marks("..##....##"), marks("..........")]
    alarms = [marks("..#..#...."), marks("####....##")]
    series = some_series(np.zeros((10, 1)), 0)
    scores = [np.array([0, 0, 9, 9, 0, 5, 0, 0, 1, 1.0]), np.ones(10)]
    band = [np.zeros((10, 1))] * 3
    tested = [Judged(series, score, alarm, *band) for score, alarm in zip(scores, alarms, strict=True)]
    figures = measure(tested, labels, buffer=4)
    assert (figures.recall, figures.precision, figures.delay) == (1 / 2, 1 / 4, 0)
    assert figures.f1 == pytest.approx(1 / 3)
    assert figures.false_alarms == 10_000 * 3 / 20
    assert (figures.events, figures.anomalous) == (2, 4 / 20)
    assert figures.auc_pr == average_precision(labels[0], scores[0])
    assert figures.vus_pr == vus_pr(labels[0], scores[0], 4)


def test_figures_of_single_readings_and_of_days_are_counted_by_hand() -> None:
    series = some_series(np.zeros((10, 1)), 0)._replace(times_ms=np.arange(10) * 6 * 3_600_000)  # 54 hours
    bands = [np.zeros((10, 1))] * 3
    tested = [Judged(series, np.zeros(10), marks(alarm), *bands) for alarm in ("..#..##...", "#.........")]
    figures = measure(tested, [marks("..##......"), marks("........##")], buffer=2)
    assert figures.alarms_a_day == pytest.approx(3 / 4.5)
    assert figures.false_alarms_a_day == pytest.approx(2 / 4.5)
    assert figures.point_f1 == pytest.approx(2 * 1 / (2 * 1 + 3 + 3)), "one right, three wrong, three missed"
    assert figures.false_alarm_rate == pytest.approx(3 / 16)
    assert figures.missed_alarm_rate == pytest.approx(3 / 4)


@pytest.mark.parametrize("seed", range(3))
def test_streams_that_count_several_times_are_as_if_they_were_there_several_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    tested, labels = [], []
    for n in range(5):
        label, score = some_labels(10 * seed + n, 60)
        series = some_series(np.zeros((60, 1)), 0, f"pump-{n}")
        tested.append(Judged(series, score, score > 0.9, *[np.zeros((60, 1))] * 3))
        labels.append(label if n else np.zeros(60, bool))
    weights = random.integers(0, 4, (6, 5))
    weighed = weigh([tally(one, label, 4) for one, label in zip(tested, labels, strict=True)], weights.astype(float))
    for draw, times in enumerate(weights.tolist()):
        places = [n for n, count in enumerate(times) for _ in range(count)]
        by_hand = measure([tested[n] for n in places], [labels[n] for n in places], 4)
        assert {name: column[draw] for name, column in weighed.items()} == pytest.approx(by_hand._asdict(), nan_ok=True)


def test_without_labels_nothing_is_measured_and_without_alarms_there_is_no_precision() -> None:
    nothing = measure([], [])
    assert (nothing.events, nothing.alarms) == (0, 0)
    measured = nothing._replace(events=0, alarms=math.nan)._asdict()
    assert all(math.isnan(figure) for name, figure in measured.items() if name != "events")
    silent = measure(
        [Judged(some_series(np.zeros((4, 1)), 0), np.zeros(4), marks("...."), *[np.zeros((4, 1))] * 3)], [marks(".##.")]
    )
    assert (silent.recall, silent.f1, silent.false_alarms) == (0, 0, 0)
    assert math.isnan(silent.precision)
    assert math.isnan(silent.delay)


def walks(seed: int, streams: int = 3, readings: int = 420) -> list[Series]:
    random = np.random.default_rng(seed)
    made = []
    for n in range(streams):
        values = random.normal(size=(readings + 30 * n, 2)).cumsum(0)
        values[330 : 330 + 10 * n] += 40
        values[random.random(values.shape) < 0.02] = np.nan
        made.append(some_series(values, 260 + 20 * n, f"pump-{n}"))
    return made


def one_by_one(detector: Detector, series: Series) -> tuple[list[float], list[bool], list[list[float]]]:
    """Reading by reading, the stream alone, as the service would if it were the only one."""
    rows = detector.rows_for([series.key.encode()])
    scores, alarms, expected = [], [], []
    for n in range(len(series.rows)):
        values = torch.from_numpy(series.values[n : n + 1])
        reading = Readings(torch.tensor([n]), torch.from_numpy(series.times_ms[n : n + 1]), values)
        verdicts, rows = detector.observe(reading, pack(torch.tensor([0])), rows)
        scores.append(float(verdicts.score[0]))
        alarms.append(bool(verdicts.alarm[0]))
        expected.append(verdicts.expected[0].tolist())
    return scores, alarms, expected


@pytest.mark.slow
def test_a_backtest_judges_the_test_part_as_the_service_does() -> None:
    series = walks(0)
    detector = prime(some_forecaster(2), QUICK, usable(series))
    tested = backtest(detector, series)
    assert [one.series.key for one in tested] == ["pump-0", "pump-1", "pump-2"]
    for whole, one in zip(series, tested, strict=True):
        part = whole.select(whole.test)
        scores, alarms, expected = one_by_one(detector, part)
        np.testing.assert_array_equal(one.series.rows, part.rows)
        np.testing.assert_array_equal(one.score, scores)
        np.testing.assert_array_equal(one.alarm, alarms)
        np.testing.assert_array_equal(one.expected, expected)
        known = np.isfinite(one.expected)
        assert (one.lower[known] < one.expected[known]).all()
        assert (one.expected[known] < one.upper[known]).all()
    assert any(one.alarm.any() for one in tested), "else nothing was compared"


@pytest.mark.slow
def test_a_stream_that_was_not_trained_on_is_judged_from_its_first_reading() -> None:
    stranger = walks(1, streams=1)[0]
    detector = Detector.cold(some_forecaster(2), QUICK)
    [tested] = backtest(detector, [stranger])
    scores, _, _ = one_by_one(detector, stranger)
    np.testing.assert_array_equal(tested.score, scores[260:])
    assert tested.score.any()


def test_what_comes_later_changes_nothing_that_was_said_before() -> None:
    series = walks(2)
    detector = prime(some_forecaster(2), QUICK, usable(series))
    changed = [
        one._replace(values=np.where(np.arange(len(one.rows))[:, None] < 360, one.values, 1e3)) for one in series
    ]
    for whole, before, after in zip(series, backtest(detector, series), backtest(detector, changed), strict=True):
        same = 360 - int((~whole.test).sum())
        np.testing.assert_array_equal(before.score[:same], after.score[:same])
        assert (before.score[same:] != after.score[same:]).any()


def test_a_reading_that_is_not_judged_leaves_an_open_alarm_open() -> None:
    values = np.random.default_rng(4).normal(size=(300, 1))
    values[200:] += 50
    series = some_series(values, 0)
    again = np.sort(np.append(np.arange(300), 210))  # the 210th reading comes twice
    detector = Detector.cold(some_forecaster(1), QUICK)
    once, twice = (
        judge_all(detector, [one], number([one]), detector.rows_for([b"pump"]))[0]
        for one in (series, series.select(again))
    )
    assert once.alarm[209:212].all()
    np.testing.assert_array_equal(twice.alarm, once.alarm[again])
    assert twice.score[211] == 0, "it was not judged"


def test_series_without_a_test_part_are_not_judged() -> None:
    series = walks(3, streams=2)
    series[0] = series[0]._replace(test=np.zeros(len(series[0].rows), bool))
    assert [one.series.key for one in backtest(Detector.cold(some_forecaster(2)), series)] == ["pump-1"]


def test_labels_are_those_of_the_rows_of_each_stream(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": [1_000, 1_000, 2_000, 2_000, 3_000],
            "stream": ["a", "b", "a", "b", "a"],
            "value": [1.0, 2.0, 3.0, 4.0, 5.0],
            "label": [0, 1, 1, None, 0],
        }
    )
    frame.write_parquet(tmp_path / "one.parquet")
    frame.with_columns(pl.col("stream") + "2").write_csv(tmp_path / "two.csv")
    frame.with_columns(pl.col("stream") + "3").drop("label").write_csv(tmp_path / "unlabelled.csv")
    series = read_series([tmp_path])
    labels = dict(zip([one.key for one in series], read_labels(series), strict=True))
    assert {key: None if label is None else label.tolist() for key, label in labels.items()} == {
        "a": [False, True, False],
        "b": [True, False],
        "a2": [False, True, False],
        "b2": [True, False],
        "a3": None,
        "b3": None,
    }


def test_the_forecast_error_is_of_calm_readings_in_spreads_of_the_training_part() -> None:
    values = np.array([[0.0, 7.0, 1.0], [4.0, 7.0, np.nan], [5.0, 9.0, 2.0], [np.nan, 9.0, 3.0], [90.0, 9.0, 9.0]])
    series = some_series(values, 2)
    spread = training_spread(series)
    assert spread[0] == pytest.approx(np.std([0, 4], ddof=1))
    assert np.isnan(spread[1:]).all(), "neither a channel that stands still nor one known once has a spread"
    part = series.select(series.test)
    expected = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [80.0, 0.0, 0.0]])
    tested = Judged(part, np.zeros(3), marks("..."), expected, expected, expected)
    spreads = np.array([2.0, np.nan, 0.1])
    error = forecast_error([expected], [tested], [marks("..#")], [spreads])
    assert error == pytest.approx((4 / 2 + 10 + 10) / 3), "errors of 20 and 30 spreads are cut at 10"
    unlabelled = forecast_error([expected], [tested], [None], [spreads])
    assert unlabelled == pytest.approx((4 / 2 + 10 / 2 + 10 + 10 + 10) / 5)
