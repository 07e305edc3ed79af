"""Detectors that a net must beat to be worth having: simple expectations, judged by the same rules as the net's.

Each is causal and uses what a detector may use: a stream's training part and its readings so far. What they expect goes
through the same noise, calibration and alarm stage, and the range rule stays on in all of them.
Sizes: R readings of a stream, F features, N readings of all streams.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.data import windows
from models.data.arrays import Doubles
from models.data.series import Series
from models.data.time_units import DAY_MS
from models.detection.detector import Detector, DetectorConfig, Expected, Stretch
from models.detection.priming import prime, settle
from models.detection.rows import Rows, RowsInPlace, fresh
from models.evaluation import evaluation
from models.evaluation.steps import hold
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.loop import usable

SEASONAL_DAYS = 2  # of a training part; with more it has shown that one day is like another
EXPLAINED = 0.9  # share of the training part's variance that the principal components kept have
UNTRAINED_HIDDEN = 16  # the smallest; the memory of an untrained net changes no expectation

Expectation = Callable[[Series], Doubles]  # (R, F) in the sensor's units; NaN: nothing is expected
Build = Callable[[Sequence[Series], DetectorConfig], Detector]


def without(config: DetectorConfig, channel: str) -> DetectorConfig:
    """The same with one of the two channels that scores are made of switched off: `residual` or `level`."""
    off: dict[str, Any] = {f"{channel}_weight": 0.0}
    return replace(config, score=replace(config.score, **off))


def baselines(features: Sequence[str]) -> Mapping[str, Build]:
    """Those that make sense for streams with these features, by name; each takes series with their training parts."""
    builds = dict(BASELINES)
    if len(features) < 2:  # the only component of one feature is the feature
        del builds["PCA"]
    return builds


def last_value(series: Series) -> Doubles:
    """The last value known before each reading."""
    nothing = np.full_like(series.values[:1], np.nan)
    return np.concatenate([nothing, hold(series.values, nothing[0])[:-1]])


def seasonal_naive(series: Series) -> Doubles:
    """The last value known a day before each reading, by event time; before there is one, the last value.

    A training part of no more than SEASONAL_DAYS has not shown that days are alike: then it is the last value too.
    """
    last = last_value(series)
    train_ms = series.times_ms[~series.test]
    if not len(train_ms) or np.ptp(train_ms) <= SEASONAL_DAYS * DAY_MS:
        return last
    held = hold(series.values, np.full_like(series.values[0], np.nan))
    clock = np.maximum.accumulate(series.times_ms)
    before = np.searchsorted(clock, series.times_ms - DAY_MS, side="right") - 1
    return np.where((before >= 0)[:, None], held[before], last)


def principal_components(series: Series) -> Doubles:
    """Each reading projected onto the components that explain EXPLAINED of its stream's training part.

    It is the only expectation that has seen the reading: it is what the other channels say about each channel. A
    channel that does not move in the training part is expected to stay where it is.
    """
    train = series.select(~series.test)
    centre, spread, _ = windows.scale_of(train)
    moves = np.isfinite(evaluation.training_spread(series))
    expected = np.where(np.isfinite(spread), np.broadcast_to(centre, series.values.shape), np.nan)
    if not moves.any():
        return expected
    held = hold(series.values, np.where(np.isfinite(spread), centre, np.nan))
    scaled = ((held - centre) / spread)[:, moves]
    _, strengths, axes = np.linalg.svd(scaled[~series.test], full_matrices=False)
    explained = np.cumsum(strengths**2) / np.sum(strengths**2)
    kept = axes[: int(np.searchsorted(explained, EXPLAINED)) + 1]
    expected[:, moves] = scaled @ kept.T @ kept * spread[moves] + centre[moves]
    return expected


def _build_given(expectation: Expectation) -> Build:
    def build(series: Sequence[Series], config: DetectorConfig) -> Detector:
        return expecting(series, expectation, without(config, "level"))

    return build


def _untrained(series: Sequence[Series], config: DetectorConfig) -> Detector:
    """An untrained forecaster expects no change."""
    parts = usable(series)
    return prime(Forecaster(ForecasterConfig(parts[0].features, hidden=UNTRAINED_HIDDEN)), config, parts)


BASELINES: Mapping[str, Build] = {
    "level + last value": _untrained,
    "level only": lambda series, config: _untrained(series, without(config, "residual")),
    "last value": lambda series, config: _untrained(series, without(config, "level")),
    "seasonal naive": _build_given(seasonal_naive),
    "PCA": _build_given(principal_components),
}


class GivenExpectations(Detector):
    """A detector whose expectation of every reading is given, by offset; its net is not asked."""

    def __init__(
        self, forecaster: Forecaster, config: DetectorConfig, known: Mapping[bytes, int], rows: Rows, expected: Doubles
    ) -> None:
        """expected: (N, F) float64, in the sensors' units; NaN: nothing is expected, and there is no residual."""
        super().__init__(forecaster, config, known, rows)
        self._expected = expected

    def expect(self, stretch: Stretch, rows: RowsInPlace) -> Expected:
        centre, spread = rows.channel("centre"), rows.channel("spread")
        scaled = (stretch.held - centre) / spread
        predicted = (self._expected[stretch.offsets[stretch.readings]] - centre) / spread
        memory = torch.zeros(*scaled.shape[:2], self.forecaster.config.hidden)
        return Expected(np.where(np.isnan(predicted), scaled, predicted), memory)


def expecting(series: Sequence[Series], expectation: Expectation, config: DetectorConfig) -> GivenExpectations:
    """A detector that expects what `expectation` says of `series`; it can judge no others.

    It is primed with their training parts as a trained one is. Offsets are those of evaluation.number().
    """
    expected = np.concatenate([expectation(one) for one in series])
    forecaster = Forecaster(ForecasterConfig(series[0].features, hidden=UNTRAINED_HIDDEN))
    offsets = {one.key: numbers[~one.test] for one, numbers in zip(series, evaluation.number(series), strict=True)}
    parts = usable(series)
    rows = fresh(len(parts), forecaster.config)
    unprimed = GivenExpectations(forecaster, config, {}, fresh(0, forecaster.config), expected)
    evaluation.judge_all(unprimed, parts, [offsets[one.key] for one in parts], rows)
    settle(rows, config.score)
    return GivenExpectations(forecaster, config, {one.key.encode(): n for n, one in enumerate(parts)}, rows, expected)
