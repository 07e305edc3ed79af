"""How well anomalies are found: a backtest with the detector of the service, and the figures it is judged by.

- AUC-PR: the area under the precision-recall curve over all thresholds, reading by reading, as average precision: the
  sum over thresholds of precision times the recall gained (Davis & Goadrich 2006).
- VUS-PR: the same where a reading near an event counts in part, for every width of what is near up to a largest one
  (Paparrizos et al. 2022; recall as in the authors' TSB-AD, Liu & Paparrizos 2024). See range_auc_pr().
- Recall, precision and F1 of events: an event is a run of labelled readings, an alarm a run of readings with the alarm
  open (it opens at score 1.0). An event is found if an alarm overlaps it; an alarm that overlaps no event is false.
- Delay: readings from an event's first one to the first with the alarm open; the median over the events found.
- Of single readings: F1, false-alarm rate (share of the unlabelled readings with the alarm open) and missed-alarm rate
  (share of the labelled ones without).

Nothing is point-adjusted: with that, random scores look almost perfect (Kim et al. 2022).
Sizes: R readings of a stream, F features, K distinct scores, S streams, D draws of streams.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from models.data.arrays import Bools, Doubles, Int64s
from models.data.data_file import look
from models.data.file_options import AS_USUAL, FileOptions
from models.data.series import Series
from models.data.time_units import DAY_MS
from models.data.windows import scale_of
from models.detection.detector import Detector
from models.detection.judging import judge_series
from models.detection.rows import Rows
from models.detection.sensor_rules import SensorRules
from models.evaluation.steps import one_step_loss, share_in_band
from models.net.forecaster import CLIP

LARGEST_BUFFER = 100  # readings, as in TSB-AD where a series has no period of its own
OF_STREAMS = ("vus_pr", "auc_pr", "loss", "band")  # figures that are means over streams
BATCH_READINGS = 512  # of each stream at once; what comes out does not depend on it


class Judged(NamedTuple):
    """The verdicts on one stream, R readings in order."""

    series: Series
    score: Doubles  # (R,); 0 where a late or duplicate reading was not judged
    alarm: Bools  # (R,) open after this reading
    expected: Doubles  # (R, F); NaN where nothing was
    lower: Doubles  # (R, F) of the expected band
    upper: Doubles  # (R, F)


class EventCounts(NamedTuple):
    """Counts of one stream, from which its figures are computed."""

    readings: int
    days: float  # of event time
    labelled: int
    events: int
    hits: int
    alarms: int
    false: int
    delays: tuple[int, ...]
    open_in_events: int  # readings
    open_outside: int
    vus_pr: float  # NaN without an event
    auc_pr: float
    loss: float = math.nan  # one_step_loss() of the readings without a label; NaN where nothing is expected
    band: float = math.nan  # share_in_band()


class Figures(NamedTuple):
    """The figures of a set of streams; NaN where there is nothing to measure.

    The areas, loss and band are means over the streams that have them; all others are of the events and alarms of all
    streams together.
    """

    vus_pr: float
    auc_pr: float
    recall: float
    precision: float
    f1: float
    false_alarms: float  # alarms that overlap no event, a 10,000 readings
    delay: float  # median, in readings
    events: int
    anomalous: float  # share of the readings that are labelled: the areas of a random score are about as large
    false_alarms_a_day: float = math.nan  # of a stream
    alarms_a_day: float = math.nan
    point_f1: float = math.nan
    false_alarm_rate: float = math.nan
    missed_alarm_rate: float = math.nan
    loss: float = math.nan
    band: float = math.nan
    alarms: float = math.nan


def backtest(detector: Detector, series: Sequence[Series], sensors: SensorRules | None = None) -> list[Judged]:
    """Judge the test part of every series as the service would have; series without one are left out.

    A stream that the detector was trained on continues from the end of its training part; any other one starts with its
    first reading. Offsets are those of number(). sensors: whose limits hold; the values must be clean by them.
    """
    tested = [(one, offsets) for one, offsets in zip(series, number(series), strict=True) if one.test.any()]
    whole = [one.key.encode() not in detector.known for one, _ in tested]
    kept = [one.test | cold for (one, _), cold in zip(tested, whole, strict=True)]
    judged = [one.select(keep) for (one, _), keep in zip(tested, kept, strict=True)]
    offsets = [numbers[keep] for (_, numbers), keep in zip(tested, kept, strict=True)]
    rows = detector.rows_for([one.key.encode() for one in judged])
    return [_test_part(one) for one in judge_all(detector, judged, offsets, rows, sensors)]


def number(series: Sequence[Series]) -> list[Int64s]:
    """An offset for every reading of every series, from 0 on."""
    borders = np.cumsum([0, *(len(one.rows) for one in series)])
    return [np.arange(begin, end) for begin, end in pairwise(borders.tolist())]


def judge_all(
    detector: Detector,
    series: Sequence[Series],
    offsets: Sequence[Int64s],
    rows: Rows,
    sensors: SensorRules | None = None,
) -> list[Judged]:
    """Judge all readings of every series from its row in `rows`, which becomes that after its last reading."""
    results = [_unjudged(one) for one in series]
    seen = [np.zeros(len(one.rows), bool) for one in series]
    for begin in range(0, max((len(one.rows) for one in series), default=0), BATCH_READINGS):
        stretch = slice(begin, begin + BATCH_READINGS)
        busy = [n for n, one in enumerate(series) if begin < len(one.rows)]
        pieces, busy_rows = [series[n].select(stretch) for n in busy], rows.take(torch.tensor(busy))
        verdicts = judge_series(detector, pieces, busy_rows, [offsets[n][stretch] for n in busy], sensors)
        rows.put(torch.tensor(busy), busy_rows)
        borders = np.cumsum([len(one.rows) for one in pieces])[:-1]
        judged = (verdicts.score, verdicts.alarm, verdicts.expected, verdicts.lower, verdicts.upper)
        for of, column in zip(zip(*(one[1:] for one in results), strict=True), judged, strict=True):
            for n, piece in zip(busy, np.split(column.numpy(), borders), strict=True):
                of[n][stretch] = piece
        for n, piece in zip(busy, np.split(verdicts.fate.judged.numpy(), borders), strict=True):
            seen[n][stretch] = piece
    return [one._replace(alarm=_held(one.alarm, known)) for one, known in zip(results, seen, strict=True)]


def _unjudged(series: Series) -> Judged:
    readings = len(series.rows)
    expected, lower, upper = (np.full(series.values.shape, np.nan) for _ in range(3))
    return Judged(series, np.zeros(readings), np.zeros(readings, bool), expected, lower, upper)


def _held(alarm: Bools, judged: Bools) -> Bools:
    """A late or duplicate reading closes no alarm: it is as open as after the reading judged before it."""
    last = np.maximum.accumulate(np.where(judged, np.arange(len(alarm)), -1))
    return alarm[last] & (last >= 0)


def _test_part(judged: Judged) -> Judged:
    series, score, alarm, *bands = judged
    test = series.test
    return Judged(series.select(test), score[test], alarm[test], *(band[test] for band in bands))


def read_labels(series: Sequence[Series], options: FileOptions = AS_USUAL) -> list[Bools | None]:
    """Whether the column `label` of their files marks each reading: (R,) each, or None where a file has no labels."""
    columns: dict[Path, Bools | None] = {}
    for one in series:
        if one.path not in columns:
            columns[one.path] = _label_column(one.path, options)
    found = [columns[one.path] for one in series]
    return [None if label is None else label[one.rows] for one, label in zip(series, found, strict=True)]


def _label_column(path: Path, options: FileOptions) -> Bools | None:
    file = look(path, options, ())
    if "label" not in file.columns:
        return None
    column = pl.concat([frame["label"] for frame in file.frames(file.rows)])
    label: Bools = (column.cast(pl.Float64, strict=False).fill_null(0) > 0).to_numpy()
    return label


def measure(tested: Sequence[Judged], labels: Sequence[Bools], buffer: int = LARGEST_BUFFER) -> Figures:
    """The figures of streams that were judged, against the labels of the same readings."""
    tallies = [tally(one, label, buffer) for one, label in zip(tested, labels, strict=True)]
    figures = weigh(tallies, np.ones((1, len(tallies))))
    return Figures._make(figures[name].item() for name in Figures._fields)._replace(
        events=int(figures["events"].item())
    )


def tally(judged: Judged, label: Bools, buffer: int = LARGEST_BUFFER) -> EventCounts:
    """label: (R,), of the readings that were judged."""
    found = find_events(label, judged.alarm)
    times = judged.series.times_ms
    return EventCounts(
        readings=len(label),
        days=float(np.ptp(times)) / DAY_MS if len(times) else 0.0,
        labelled=int(label.sum()),
        **found._asdict(),
        open_in_events=int((judged.alarm & label).sum()),
        open_outside=int((judged.alarm & ~label).sum()),
        vus_pr=vus_pr(label, judged.score, buffer),
        auc_pr=auc_pr(label, judged.score),
        loss=one_step_loss(judged.series.values, judged.expected, ~label),
        band=share_in_band(judged.series.values, judged.expected, judged.upper, ~label),
    )


def weigh(tallies: Sequence[EventCounts], weights: Doubles) -> dict[str, Doubles]:
    """The figures of streams that count `weights` times each, (D, S): those of Figures by name, each (D,)."""
    counts = {
        name: weights @ np.array([getattr(one, name) for one in tallies], np.float64)
        for name in EventCounts._fields
        if name not in ("delays", *OF_STREAMS)
    }
    means = {name: _weighted_mean([getattr(one, name) for one in tallies], weights) for name in OF_STREAMS}
    calm = counts["readings"] - counts["labelled"]
    recall = _shares(counts["hits"], counts["events"])
    precision = _shares(counts["alarms"] - counts["false"], counts["alarms"])
    right = counts["open_in_events"]
    point_recall, point_precision = (
        _shares(right, counts["labelled"]),
        _shares(right, right + counts["open_outside"]),
    )
    return {
        **means,
        "recall": recall,
        "precision": precision,
        "f1": _f1(recall, precision),
        "false_alarms": 10_000 * _shares(counts["false"], counts["readings"]),
        "delay": _weighted_median([one.delays for one in tallies], weights),
        "events": counts["events"],
        "alarms": counts["alarms"],
        "anomalous": _shares(counts["labelled"], counts["readings"]),
        "false_alarms_a_day": _shares(counts["false"], counts["days"]),
        "alarms_a_day": _shares(counts["alarms"], counts["days"]),
        "point_f1": _f1(point_recall, point_precision),
        "false_alarm_rate": _shares(counts["open_outside"], calm),
        "missed_alarm_rate": 1 - point_recall,
    }


def _weighted_mean(values: Sequence[float], weights: Doubles) -> Doubles:
    """Of those that are not NaN."""
    column = np.array(values, np.float64)
    known = np.isfinite(column)
    return _shares(weights[:, known] @ column[known], weights[:, known].sum(1))


def _weighted_median(delays: Sequence[Sequence[int]], weights: Doubles) -> Doubles:
    lengths = [len(one) for one in delays]
    flat = np.array([delay for one in delays for delay in one], np.float64)
    times = np.repeat(weights, lengths, axis=1).astype(np.int64)
    drawn = (np.repeat(flat, of) for of in times)
    return np.array([np.median(one) if len(one) else math.nan for one in drawn])


def forecast_error(
    expected: Sequence[Doubles], tested: Sequence[Judged], labels: Sequence[Bools | None], spreads: Sequence[Doubles]
) -> float:
    """Mean absolute error in spreads over all readings without a label, each cut at CLIP as in training.

    expected: (R, F) a stream. spreads: (F,) a stream; a channel where it is NaN does not count.
    """
    total, count = 0.0, 0
    for forecast, one, label, spread in zip(expected, tested, labels, spreads, strict=True):
        error = np.abs(one.series.values - forecast) / spread
        counts = np.isfinite(error) if label is None else np.isfinite(error) & ~label[:, None]
        total += float(np.minimum(error[counts], CLIP).sum())
        count += int(counts.sum())
    return total / count if count else math.nan


def training_spread(series: Series) -> Doubles:
    """The spread of every channel over the training part, (F,); NaN where it does not move there."""
    part = series.select(~series.test)
    known = np.where(np.isfinite(part.values), part.values, np.nan)
    moves = np.fmax.reduce(known, initial=-np.inf) > np.fmin.reduce(known, initial=np.inf)
    return np.where(moves, scale_of(part)[1], np.nan)


class Found(NamedTuple):
    """The events and alarms of one stream."""

    events: int
    hits: int  # events that an alarm overlaps
    alarms: int
    false: int  # alarms that overlap no event
    delays: tuple[int, ...]  # of the hits


def find_events(label: Bools, alarm: Bools) -> Found:
    """Which events were found and which alarms were false; both (R,)."""
    events, alarms = runs(label), runs(alarm)
    both = label & alarm
    delays = [int(both[begin:end].argmax()) for begin, end in events if both[begin:end].any()]
    false = sum(not both[begin:end].any() for begin, end in alarms)
    return Found(len(events), len(delays), len(alarms), false, tuple(delays))


def runs(marked: Bools) -> list[tuple[int, int]]:
    """Runs of True: begin and end (exclusive) of each."""
    borders = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    return [(int(begin), int(end)) for begin, end in borders.reshape(-1, 2)]


def openings(judged: Judged) -> Bools:
    """The readings at which an alarm opens, (R,)."""
    opens = np.zeros(len(judged.alarm), np.bool_)
    opens[[begin for begin, _ in runs(judged.alarm)]] = True
    return opens


def auc_pr(label: Bools, score: Doubles) -> float:
    """Average precision, equal scores being one threshold; both (R,). NaN without a labelled reading."""
    if not label.any():
        return math.nan
    rank, predicted = _ranked(score)
    hits = np.cumsum(np.bincount(rank, label, len(predicted)))
    return float(np.diff(hits / label.sum(), prepend=0.0) @ (hits / predicted))


def vus_pr(label: Bools, score: Doubles, buffer: int = LARGEST_BUFFER) -> float:
    """Volume under the surface: the mean of range_auc_pr() over all widths from 0 to `buffer`. NaN without an event."""
    if not label.any():
        return math.nan
    ranked = _ranked(score)
    return float(np.mean([_range_auc_pr(label, *ranked, width) for width in range(buffer + 1)]))


def range_auc_pr(label: Bools, score: Doubles, width: int) -> float:
    """Area under the precision-recall curve of labels with slopes (Paparrizos et al. 2022, section 4).

    Up to width / 2 readings to either side of an event, a reading at distance d has the label sqrt(1 - d / width);
    where slopes meet they add up, to 1 at most. With P labelled readings, TP the sum of the labels of all that a
    threshold marks and S that of those on slopes: precision = TP / marked, recall = TP / (P + S / 2), at most 1, times
    the share of the events (slopes included) in which anything is marked.
    """
    return _range_auc_pr(label, *_ranked(score), width)


def _range_auc_pr(label: Bools, rank: Int64s, predicted: Doubles, width: int) -> float:
    sloped = with_slopes(label, width)
    slope = np.where(label, 0.0, sloped)
    on_slopes = np.cumsum(np.bincount(rank, slope, len(predicted)))
    marked = np.cumsum(np.bincount(rank, label, len(predicted))) + on_slopes
    first = [int(rank[begin:end].min()) for begin, end in runs(sloped > 0)]
    existence = np.cumsum(np.bincount(first, minlength=len(predicted))) / len(first)
    recall = np.minimum(marked / (label.sum() + on_slopes / 2), 1.0) * existence
    return float(np.diff(recall, prepend=0.0) @ (marked / predicted))


def with_slopes(label: Bools, width: int) -> Doubles:
    """Labels that fall off to either side of an event, (R,) from 0 to 1."""
    sloped = label.astype(np.float64)
    distance = np.arange(1, width // 2 + 1)
    slope = np.sqrt(1 - distance / max(width, 1))
    for begin, end in runs(label):
        before, after = slope[:begin], slope[: len(label) - end]
        sloped[begin - len(before) : begin] += before[::-1]
        sloped[end : end + len(after)] += after
    return np.minimum(sloped, 1.0)


def _ranked(score: Doubles) -> tuple[Int64s, Doubles]:
    """The place of every reading's score among the K distinct ones, highest first, and how many reach each of them."""
    distinct, rank = np.unique(-score, return_inverse=True)
    return rank, np.cumsum(np.bincount(rank, minlength=len(distinct))).astype(np.float64)


def _shares(part: Doubles, whole: Doubles) -> Doubles:
    shares: Doubles = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _f1(recall: Doubles, precision: Doubles) -> Doubles:
    """0 where events are missed by never alarming, NaN where there are no events."""
    both = np.where(recall > 0, recall + precision, 1.0)
    return np.where(np.isnan(recall), np.nan, np.where(recall > 0, 2 * recall * precision / both, 0.0))
