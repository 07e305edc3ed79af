"""The score of the Numenta Anomaly Benchmark (Lavin & Ahmad 2015): early detections earn, false alarms and misses cost.

With A(y) = 2 / (1 + exp(5 y)) - 1, a window (a run of labelled readings, w of them, the last one at e) earns
A(-(e - i + 1) / w) / A(-1) for the earliest detection i in it, which is 1 at its first reading; further ones in it
count for nothing. A window without one costs the profile's weight of a miss. A detection outside costs the weight of a
false alarm times -A((i - e) / (w - 1)), with the last window before it: little right behind a window, all of it from
three widths on and before the first window. What all streams come to is then set between the detector that never
detects (0) and the one that detects the first reading of every window (100).

NAB does not score the first 15 % of a file, 750 readings at most (its probation); here that is the training part, which
the streams come without. It divides by zero behind a window of one reading; here a detection there costs all of it.
Sizes: R readings of a stream, D detections of all streams.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from models.evaluation.evaluation import runs

STEEPNESS = 5.0
FAR = 3.0  # widths of the window before


class Profile(NamedTuple):
    """What an application pays for; a window detected at once earns 1 in each."""

    false_alarm: float
    miss: float


PROFILES: Mapping[str, Profile] = {
    "standard": Profile(false_alarm=0.11, miss=1.0),
    "low_fp": Profile(false_alarm=0.22, miss=1.0),
    "low_fn": Profile(false_alarm=0.11, miss=2.0),
}


class Optimum(NamedTuple):
    threshold: float  # detected is what reaches it; infinite where never to detect is best
    score: float


class _Detections(NamedTuple):
    """Every reading that may be detected, of all streams."""

    score: Doubles  # (D,)
    worth: Doubles  # (D,) what it earns or costs, not weighted
    window: Int64s  # (D,) the window it lies in, counted over all streams; -1 outside
    windows: int


def nab_score(streams: Iterable[tuple[Bools, Bools]], profile: Profile) -> float:
    """NAB's score of a set of streams, each label and detected, both (R,); NaN without a window.

    A detection is a moment: pass the readings at which an alarm opens, not all those it is open at.
    """
    found = _detections([(label, detected.astype(np.float64)) for label, detected in streams])
    return _score(_value(found, profile), found, profile)


def optimised(streams: Iterable[tuple[Bools, Doubles]], profile: Profile) -> Optimum:
    """The threshold, one for all streams, with the best score of NAB, and that score: it has seen the labels.

    streams: label and score, both (R,); readings with score 0 are never detected. Of equally good thresholds, the
    highest.
    """
    found = _detections(streams)
    if not found.windows:
        return Optimum(math.inf, math.nan)
    order = np.argsort(-found.score, kind="stable")
    best = Optimum(math.inf, -found.windows * profile.miss)
    earned = np.full(found.windows, -profile.miss)
    value = best.score
    for place, n in enumerate(order.tolist()):
        window = int(found.window[n])
        if window < 0:
            value += profile.false_alarm * found.worth[n]
        elif found.worth[n] > earned[window]:
            value += found.worth[n] - earned[window]
            earned[window] = found.worth[n]
        last_of_its_score = place + 1 == len(order) or found.score[order[place + 1]] < found.score[n]
        if last_of_its_score and value > best.score:
            best = Optimum(float(found.score[n]), float(value))
    return best._replace(score=_score(best.score, found, profile))


def stream_value(label: Bools, detected: Bools, profile: Profile) -> float:
    """What one stream earns, not normalised; both (R,)."""
    return _value(_detections([(label, detected.astype(np.float64))]), profile)


def normalised(value: Doubles, windows: Doubles, profile: Profile) -> Doubles:
    """Sums of stream_value() on NAB's scale from 0 to 100; NaN without a window. Both of one shape."""
    null, perfect = -windows * profile.miss, windows
    nothing = np.full(np.shape(value), np.nan)
    scores: Doubles = np.divide(100 * (value - null), perfect - null, out=nothing, where=windows > 0)
    return scores


def _detections(streams: Iterable[tuple[Bools, Doubles]]) -> _Detections:
    scores, worths, places = [], [], []
    windows = 0
    for label, score in streams:
        spans = runs(label)
        at = np.flatnonzero(score > 0)
        worth, window = _worths(spans, len(label))
        scores.append(score[at])
        worths.append(worth[at])
        places.append(np.where(window[at] >= 0, window[at] + windows, -1))
        windows += len(spans)
    if not scores:
        return _Detections(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 0)
    return _Detections(np.concatenate(scores), np.concatenate(worths), np.concatenate(places), windows)


def _worths(spans: Sequence[tuple[int, int]], readings: int) -> tuple[Doubles, Int64s]:
    """What a detection of each reading of a stream is worth, and the window it lies in (-1 outside); both (R,)."""
    worth, window = np.full(readings, -1.0), np.full(readings, -1, np.int64)
    number = np.arange(readings)
    for n, (begin, end) in enumerate(spans):
        width, last = end - begin, end - 1
        window[begin:end] = n
        worth[begin:end] = _scaled((number[begin:end] - end) / width) / _scaled(np.array(-1.0))
        if width > 1:
            worth[end:] = _scaled((number[end:] - last) / (width - 1))
        else:
            worth[end:] = -1.0
    return worth, window


def _scaled(position: Doubles) -> Doubles:
    """NAB's scaled sigmoid of a position in widths from a window's end: negative in it, positive behind it."""
    return np.where(position > FAR, -1.0, 2 / (1 + np.exp(STEEPNESS * np.minimum(position, FAR))) - 1)


def _value(found: _Detections, profile: Profile) -> float:
    inside = found.window >= 0
    earned = np.full(found.windows, -profile.miss)
    np.maximum.at(earned, found.window[inside], found.worth[inside])
    return float(earned.sum() + profile.false_alarm * found.worth[~inside].sum())


def _score(value: float, found: _Detections, profile: Profile) -> float:
    return float(normalised(np.array(value), np.array(float(found.windows)), profile))
