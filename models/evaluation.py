"""How well anomalies are found: a backtest with the detector of the service, and the figures it is judged by.

- AUC-PR: the area under the precision-recall curve over all thresholds, reading by reading, as average precision: the
  sum over thresholds of precision times the recall gained (Davis & Goadrich 2006).
- VUS-PR: the same where a reading near an event counts in part, for every width of what is near up to a largest one
  (Paparrizos et al. 2022; recall as in the authors' TSB-AD, Liu & Paparrizos 2024). See range_auc_pr().
- Recall, precision and F1 of events: an event is a run of labelled readings, an alarm a run of readings with the alarm
  open (it opens at score 1.0). An event is found if an alarm overlaps it; an alarm that overlaps no event is false.
- Delay: readings from an event's first one to the first with the alarm open; the median over the events found.

Nothing is point-adjusted: with that, random scores look almost perfect (Kim et al. 2022).
Sizes: R readings of a stream, K distinct scores.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from models.detection import Detector, Readings
from models.forecaster import CLIP
from models.packing import pack
from models.series import Series
from models.windows import scale_of

LARGEST_BUFFER = 100  # readings, as in TSB-AD where a series has no period of its own
BATCH_READINGS = 512  # of each stream at once; what comes out does not depend on it

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]


class Judged(NamedTuple):
    """What a detector said of one stream's test part, R readings in order."""

    series: Series  # that part alone
    score: Doubles  # (R,); 0 where a late or duplicate reading was not judged
    alarm: Bools  # (R,) open after this reading
    expected: Doubles  # (R, F); NaN where nothing was


class Figures(NamedTuple):
    """What a set of streams comes to; NaN where there is nothing to measure.

    The areas are means over the streams with an event; all others are of the events and alarms of all streams together.
    """

    vus_pr: float
    auc_pr: float
    recall: float
    precision: float
    f1: float
    false_alarms: float  # alarms that overlap no event, a 10,000 readings
    delay: float  # median, in readings
    events: int
    anomalous: float  # share of the readings that are labelled: what the areas of a random score come to


def backtest(detector: Detector, series: Sequence[Series]) -> list[Judged]:
    """Judge the test part of every series as the service would have; series without one are left out.

    A stream that the detector was trained on goes on from where its training part ended; any other one starts with its
    first reading.
    """
    tested = [one for one in series if one.test.any()]
    known = [one.key.encode() in detector.known for one in tested]
    judged = [one.select(one.test) if warm else one for one, warm in zip(tested, known, strict=True)]
    rows = detector.rows_for([one.key.encode() for one in judged])
    results = [_unjudged(one) for one in judged]
    for begin in range(0, max((len(one.rows) for one in judged), default=0), BATCH_READINGS):
        stretch = slice(begin, begin + BATCH_READINGS)
        busy = [n for n, one in enumerate(judged) if begin < len(one.rows)]
        times = np.concatenate([judged[n].times_ms[stretch] for n in busy])
        values = np.concatenate([judged[n].values[stretch] for n in busy])
        lengths = [len(judged[n].times_ms[stretch]) for n in busy]
        waves = pack(torch.from_numpy(np.repeat(busy, lengths)))
        readings = Readings(torch.arange(len(times)), torch.from_numpy(times), torch.from_numpy(values))
        verdicts, after = detector.observe(readings, waves, rows.take(waves.slots))
        rows.put(waves.slots, after)
        borders = np.cumsum(lengths)[:-1]
        pieces = (np.split(column.numpy(), borders) for column in (verdicts.score, verdicts.alarm, verdicts.expected))
        for n, score, alarm, expected in zip(busy, *pieces, strict=True):
            into = results[n]
            into.score[stretch], into.alarm[stretch], into.expected[stretch] = score, alarm, expected
    return [_test_part(one) for one in results]


def _unjudged(series: Series) -> Judged:
    readings = len(series.rows)
    return Judged(series, np.zeros(readings), np.zeros(readings, bool), np.full(series.values.shape, np.nan))


def _test_part(judged: Judged) -> Judged:
    test = judged.series.test
    return Judged(judged.series.select(test), judged.score[test], judged.alarm[test], judged.expected[test])


def read_labels(series: Sequence[Series]) -> list[Bools | None]:
    """What the column `label` of their files says of every reading: (R,) each, or None where a file has no labels."""
    columns: dict[Path, Bools | None] = {}
    for one in series:
        if one.path not in columns:
            columns[one.path] = _label_column(one.path)
    found = [columns[one.path] for one in series]
    return [None if label is None else label[one.rows] for one, label in zip(series, found, strict=True)]


def _label_column(path: Path) -> Bools | None:
    frame = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, infer_schema_length=None)
    if "label" not in frame.collect_schema():
        return None
    label: Bools = frame.select(pl.col("label").cast(pl.Float64).fill_null(0) > 0).collect()["label"].to_numpy()
    return label


def measure(tested: Sequence[Judged], labels: Sequence[Bools], buffer: int = LARGEST_BUFFER) -> Figures:
    """The figures of streams that were judged, against the labels of the same readings."""
    pairs = list(zip(tested, labels, strict=True))
    areas = [(vus_pr(label, one.score, buffer), auc_pr(label, one.score)) for one, label in pairs if label.any()]
    found = [find_events(label, one.alarm) for one, label in pairs]
    readings = sum(map(len, labels))
    events, hits = sum(one.events for one in found), sum(one.hits for one in found)
    alarms, false = sum(one.alarms for one in found), sum(one.false for one in found)
    recall, precision = _share(hits, events), _share(alarms - false, alarms)
    delays = [delay for one in found for delay in one.delays]
    return Figures(
        vus_pr=mean(area[0] for area in areas),
        auc_pr=mean(area[1] for area in areas),
        recall=recall,
        precision=precision,
        f1=_f1(recall, precision),
        false_alarms=10_000 * _share(false, readings),
        delay=float(np.median(delays)) if delays else math.nan,
        events=events,
        anomalous=_share(sum(int(label.sum()) for label in labels), readings),
    )


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
    """Where True stands in a row: begin and end (exclusive) of each."""
    borders = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    return [(int(begin), int(end)) for begin, end in borders.reshape(-1, 2)]


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


def _range_auc_pr(label: Bools, rank: NDArray[np.int64], predicted: Doubles, width: int) -> float:
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


def _ranked(score: Doubles) -> tuple[NDArray[np.int64], Doubles]:
    """The place of every reading's score among the K distinct ones, highest first, and how many reach each of them."""
    distinct, rank = np.unique(-score, return_inverse=True)
    return rank, np.cumsum(np.bincount(rank, minlength=len(distinct))).astype(np.float64)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _f1(recall: float, precision: float) -> float:
    """0 where events are missed by never alarming, NaN where there are no events."""
    if math.isnan(recall):
        return math.nan
    return 2 * recall * precision / (recall + precision) if recall > 0 else 0.0


def mean(values: Iterable[float]) -> float:
    """Of those that are not NaN; NaN if none is left."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan
