"""How far a stream is from its own level, as it is at this time of the day and of the week.

A net that sees a slow drift follows it, and its residual says nothing; and one step ahead, "as before" is too good a
forecast for a net to learn that the morning's rise is missing. So the distance from the stream's long mean and season
is followed beside the residual, signed and smoothed (the level deviation): noise cancels in it, what lasts does not.
What it is worth is measured as of a residual, by its own long mean and variance: where the level wanders by itself, it
must go further.

The season is a Fourier series with the periods of a day, half a day, a week and half a week, its terms learned by
least mean squares (Widrow & Hoff 1960). A reading counts by the time it stands for: readings of twenty minutes teach
nothing of a day, however many they are. Where there is no season the terms stay near 0.
Sizes: T waves, S streams, F features, P = 8 terms.
"""

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from models.data.time_units import DAY_MS
from models.detection.rows import FARTHEST, Channels, Scalars
from models.net.forecaster import MINUTE_MS, WEEK_MINUTES, phase_table

FARTHEST_LEARNED = 30.0  # spreads: what is further off teaches the season no more
MEMORY_DAYS = 14.0  # that the season goes back; a plain mean over the days before that
LONGEST_DAYS = 1 / 24  # that one reading stands for: after a gap it knows no more than after an hour
PERIODS_A_WEEK = (7, 14, 1, 2)  # of the terms, in the order of rows.SEASON: a day, half of one, a week, half of one
PHASES: Doubles = phase_table(PERIODS_A_WEEK).double().T.contiguous().numpy()  # (P, 10080)


def phases_at(times_ms: Int64s, features: int) -> Doubles:
    """The season's terms at these times (T, S), UTC, the same for every channel: (P, T, S, F).

    Written out for each channel, since numpy goes through a short last axis it has to stretch far more slowly.
    """
    phases: Doubles = PHASES[:, times_ms // MINUTE_MS % WEEK_MINUTES]
    return phases.repeat(features).reshape(*phases.shape, features)


def days_of(elapsed_ms: Doubles) -> Doubles:
    """What readings stand for, in days. elapsed_ms: since the stream's last one, at least 0, of any shape."""
    return np.minimum(elapsed_ms / DAY_MS, LONGEST_DAYS)


def distance_from(values: Doubles, phase: Doubles, season: Doubles, channels: Channels[Doubles]) -> Doubles:
    """Of one wave from its level, (S, F), in spreads; 0 while the spread is not known.

    values: (S, F), held. phase, season: (P, S, F).
    """
    terms = season * phase
    terms = terms[:4] + terms[4:]  # added in pairs: in one order, whatever the sizes are
    terms = terms[:2] + terms[2:]
    distance = (values - channels.mean) / channels.spread
    distance -= terms[0] + terms[1]
    np.maximum(distance, -FARTHEST, out=distance)
    return np.minimum(distance, FARTHEST, out=distance)


def follow_level(distance: Doubles, present: Bools | None, deviation: Doubles, readings: int) -> None:
    """Move the level deviation (S, F) by one wave. readings: length of its memory."""
    step = (distance - deviation) * (2 / (readings + 1))
    if present is not None:
        step *= present
    deviation += step


def learn_season(
    distance: Doubles, weight: Doubles, days: Doubles, phase: Doubles, season: Doubles, scalars: Scalars[Doubles]
) -> None:
    """Take one wave into the season. weight: (S, F), 0 or 1; days: (S,), what its readings stand for, or 0."""
    learned = scalars.days
    learned += days
    rate = 2 * days / np.minimum(np.maximum(learned, 1.0), MEMORY_DAYS)
    near = np.minimum(np.maximum(distance, -FARTHEST_LEARNED), FARTHEST_LEARNED)
    season += phase * (near * weight * rate[:, np.newaxis])
