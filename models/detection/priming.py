"""Streams that start warm: what a detector knows of them after their training parts."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from models.data import windows
from models.data.arrays import Doubles
from models.data.series import Series
from models.detection.detector import Detector, DetectorConfig
from models.detection.judging import judge_series
from models.detection.relation import RIDGE
from models.detection.rows import RELATION_MATRIX, SCALARS, Rows, fresh
from models.detection.scoring import ScoreConfig
from models.detection.sensor_rules import SensorRules
from models.net.forecaster import Forecaster, ForecasterConfig

ALARM = ("alarm", "opened_offset", "opened_ms", "opened_by", "peak", "length", "rest")
PRIME_READINGS = 512  # of each stream at once, while the trained net goes through the training part


def prime(
    forecaster: Forecaster, config: DetectorConfig, series: Sequence[Series], sensors: SensorRules | None = None
) -> Detector:
    """A detector whose training streams start warm: scale, calibration and last memory after all of `series`.

    The scale is that of the whole part from its first reading on; everything else comes from going through the part
    with the very detector that will go on from there. sensors: whose limits hold.
    """
    detector = Detector.cold(forecaster, config)
    rows = starting_rows(series, forecaster.config)
    for begin in range(0, max(len(one.times_ms) for one in series), PRIME_READINGS):
        stretch = slice(begin, begin + PRIME_READINGS)
        judge_series(detector, [one.select(stretch) for one in series], rows, sensors=sensors)
    settle(rows, config.score)
    return Detector(forecaster, config, {one.key.encode(): stream for stream, one in enumerate(series)}, rows)


def starting_rows(series: Sequence[Series], config: ForecasterConfig) -> Rows:
    """Rows that know the scale of the training parts, and nothing else yet."""
    rows = fresh(len(series), config)
    for stream, one in enumerate(series):
        centre, spread, step = windows.scale_of(one)
        # The first reading replaces the mean, and is judged by this one.
        for name, column in (("centre", centre), ("mean", centre), ("spread", spread), ("step", step)):
            rows.channel(name)[stream] = torch.from_numpy(column)
        if rows.relation.numel():
            rows.relation[stream, RELATION_MATRIX:] = torch.from_numpy(precision_of(one, centre, spread))
        rows.scalar("rescale_at")[stream] = 2.0 ** math.ceil(math.log2(2 * len(one.times_ms)))
    return rows


def precision_of(series: Series, centre: Doubles, spread: Doubles) -> Doubles:
    """(F, F), above the diagonal and on it: what relation.rescale_relation() would derive from the whole series."""
    features = len(centre)
    products, known = np.zeros((features, features)), np.zeros(features)
    for piece in windows.pieces_of(series.values):
        is_known = np.isfinite(piece) & np.isfinite(spread)
        scaled = np.where(is_known, (piece - centre) / spread, 0.0)
        products += scaled.T @ scaled
        known += is_known.sum(0)
    known = np.maximum(known, 1.0)
    correlations = np.clip(products / np.sqrt(np.outer(known, known)), -1.0, 1.0)
    np.fill_diagonal(correlations, 1.0 + RIDGE + features / known)
    return np.triu(np.linalg.inv(correlations))


def settle(rows: Rows, config: ScoreConfig) -> None:
    """The training part is over: alarms still open are forgotten, and what it taught weighs as much as is due to it.

    A training part is known to be normal, readings to come are not: so means and variances learned from it count as if
    it had been `training_readings` long, where it was shorter.
    """
    for name in ALARM:
        rows.scalar(name)[:] = SCALARS.field(name).initial
    least = float(config.training_readings)
    rows.scalar("learned").clamp_(min=least)
    known = rows.channel("known")
    weight = torch.where(known > 0, least / known, 1.0).clamp(min=1.0)
    for name in ("square", "step_square", "known"):
        column = rows.channel(name)
        column *= weight
    if rows.relation.numel():
        products = rows.relation[:, RELATION_MATRIX:]
        products *= (weight[:, :, None] * weight[:, None, :]).sqrt().tril(-1) + torch.ones_like(products).triu()
