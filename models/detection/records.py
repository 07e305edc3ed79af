"""What the judge is given and what it gives: tuples of arrays, and records with a field for every number.

Nothing here is compiled, so that it can be imported without the compiler.
Sizes: N readings of a batch, T waves, S streams, F features, E symptoms a channel, M events.
"""

import math
from dataclasses import asdict
from functools import cache
from typing import NamedTuple, Self

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s, Records
from models.data.time_units import DAY_MS
from models.detection.alarm import AlarmConfig, Change, OpenedBy
from models.detection.rows import CHANNELS, RELATIONS, SCALARS, relation_rows
from models.detection.scoring import BLOCK_DIGIT, ScoreConfig

LATE_LIMIT = 32  # late readings in a row after which a stream's clock was set back, not its readings late
BAND_DEVIATIONS = 3.0  # half the expected band, in standard deviations of the stream's own residual
BAND_REACH = 1.6448536269514722  # standard deviations to either end of a band that holds 90 % of normal residuals
SMALLEST_STD = 0.01  # spreads: what is nearer is never anomalous
SMALLEST_BAND = 1e-6  # spreads: a counter's spread is all that it has counted, its band is of its steps
STRONGEST = 30.0  # standard deviations: a channel further off is no more anomalous, and does not drown the others
SMALLEST_VARIANCE = SMALLEST_STD * SMALLEST_STD
FARTHEST = 1e6  # spreads, or margins of the range: distances are cut there, so that squares stay finite
SMALLEST_DEVIATION = 0.05  # of a strength, which is around 1, beside its standard deviation
LONGER = 2.0  # times the longest run, or gap, is not healthy
LONGEST_RETURN_MS = 100 * 365 * DAY_MS  # no longer return period is told: no one has readings of so long a time


LIMITS = ("up", "down", "minimum_deviation", "minimum_relative_deviation")
"""What is set of a channel: 1 or 0, whether values that are too high, or too low, raise alarms; how far off they must
be at least, in the sensor's unit and as a share of the size of what they deviate from."""
NO_LIMITS = (1.0, 1.0, 0.0, 0.0)
NEVER = np.iinfo(np.int64).max
_WITNESSES = len(OpenedBy)


class Rules(NamedTuple):
    """ScoreConfig and AlarmConfig, as the arithmetic has them."""

    warm_up: float
    residual_weight: float
    level_weight: float
    strength_rate: float  # of one reading in a short mean
    strength_gain: float  # standard deviations of such a mean of independent readings in one of theirs
    level_rate: float
    baseline_share: float
    long_readings: float
    block_readings: float
    blocks: float
    memory_ms: float  # interval that a stream's blocks and long memories are made for, at least
    most_stretched: float  # times as many readings as block_readings: more cannot be counted
    sharp_deviations: float  # above the mean of the peaks: what they exceed once in the wanted period
    smooth_deviations: float
    most_smooth_deviations: float
    lasting_deviations: float
    highest_smooth_peak: float
    opened_factor: float
    factor_fades: float  # at one reading
    lowest_threshold: float
    lowest_sudden: float
    range_share: float
    range_spreads: float
    silent_intervals: float
    close_below: float
    close_after: float
    rest: float
    learn_first: float
    adopt_after: float
    adopt_ms: float
    relearn: float
    major_rarity: float  # logarithms, as those of Scores
    critical_rarity: float
    major_length: float  # times as long as what opens an alarm: see AlarmConfig.times_as_long
    critical_length: float

    @classmethod
    def of(cls, score: ScoreConfig, alarm: AlarmConfig) -> Self:
        numbers = {
            **asdict(score),
            **asdict(alarm),
            "strength_rate": 2 / (score.smooth_readings + 1),
            "strength_gain": math.sqrt(score.smooth_readings),
            "level_rate": 2 / (score.level_readings + 1),
            "baseline_share": score.usual_share,
            "sharp_deviations": score.deviations(score.sharp_period),
            "smooth_deviations": score.deviations(score.smooth_period),
            "most_smooth_deviations": score.deviations(max(score.smooth_period, score.longest_smooth_period)),
            "lasting_deviations": score.deviations(score.lasting_period),
            "memory_ms": 1000 * score.memory_interval_s,
            "most_stretched": (1 / BLOCK_DIGIT - 1) // score.block_readings,
            "factor_fades": 1 / score.opened_readings,
            "adopt_ms": alarm.adopt_days * DAY_MS,
            "major_rarity": math.log(alarm.major_at),
            "critical_rarity": math.log(alarm.critical_at),
            "major_length": alarm.times_as_long[1],
            "critical_length": alarm.times_as_long[2],
        }
        return cls(**{name: float(numbers[name]) for name in cls._fields})


class Look:
    """What one reading looks like in one channel: a record, like those of a row."""

    value: float  # held: the last known one where it is missing
    before: float  # held, of the reading before
    present: float  # 0: the value is missing
    per_spread: float  # 1 over the channel's spread; 0 while that is not known
    daily: float  # the profile of the day, in spreads from the centre
    weekly: float  # what the day of the week adds to it
    profile: float  # both, the second as far as it has proven itself
    hour_level: float  # how far above the mean it lies; 0 while there was no whole day
    season: float  # as much of that as has proven itself
    season_share: float  # which is how much
    clock: float  # corrections in spreads: what the profile's change says, beyond the last value
    clock_share: float  # how much of it has proven itself
    level: float  # what the level says, beyond that
    net: float  # what the net says, beyond both
    after_clock: float  # changes from the last value that are expected, in spreads: after the first correction
    after_level: float  # after the second
    corrected: float  # after all
    change: float  # after all, held back where they have lately been worse than none
    residual: float  # in spreads
    bias: float  # what residuals have been on the mean, as far as that is sure
    residual_std: float
    residual_z: float  # standard deviations from its long mean; 0 where the value is missing
    distance: float  # from the level, in spreads
    level_std: float
    level_z: float  # of the level deviation, likewise
    counts: float  # 1: it is far enough off to raise an alarm; see LIMITS
    level_counts: float  # the same of the level deviation
    sudden: float  # the residual's standard deviations, where it counts
    sudden_ratio: float  # over the channel's threshold; of a rebound, over its own
    rebound: float  # the smaller of two residuals of opposite sign that follow each other, in standard deviations
    beyond: float  # how far outside the range that was learned, raw; 0 inside, and where that does not count
    outside: float  # margins outside the range
    equal: float  # the run in which it stands still, is calm or does not swing, over the longest that is healthy
    still: float  # readings of that run
    missing: float  # the run of missing ones, likewise
    relation: float  # how far the value is from what the other channels say, in spreads
    relation_std: float
    relation_z: float  # standard deviations from its long mean; 0 where the value is missing
    relation_lasting: float  # its short mean, in standard deviations of such a mean where readings are independent
    relation_counts: float  # 1: it is far enough off to raise an alarm, to a side that is asked for
    lasting_counts: float  # 1: the same of what it is lastingly off by
    moved: float  # the value's distance from the mean before, raw; 0 where nothing is learned of it
    shrink: float  # of what is in spreads, when the spread is derived again


class Event:
    """What a reading did that is to be known outside: its alarm changed, or the head is asked what it looks like."""

    wave: float
    place: float  # of the stream
    reading: float  # index into the batch
    asks: float  # 1: the head is asked
    change: float
    severity: float
    opened_by: float
    score: float
    peak: float
    opened_offset: float
    opened_ms: float
    began_ms: float  # since when what opened it has lasted, as far as can be seen; later, opened_ms
    length: float


class Limits(NamedTuple):
    """What is set of S streams and of their channels, in D sets that differ."""

    channels: Doubles  # (D, F, 4), as LIMITS
    false_alarm_ms: Doubles  # (D,) event time in which a healthy stream may raise one; 0: as ScoreConfig has it
    sets: Int64s  # (S,) which of them is a stream's
    clock_changes: Int64s  # (D, K) ms: when the clocks are changed, filled up with NEVER
    clock_offsets: Int64s  # (D, K + 1) ms that they are ahead of UTC before the first change and after each
    holidays: Int64s  # (D, H) days since 1970 by these clocks, rising, filled up with NEVER
    like: Int64s  # (D, H) the day of the week that each is like, Monday is 0

    @classmethod
    def none(cls, streams: int, features: int) -> Self:
        utc = np.zeros((1, 0), np.int64), np.zeros((1, 1), np.int64)
        no_limits = np.tile(np.array(NO_LIMITS), (1, features, 1))
        working = np.zeros((2, 1, 0), np.int64)
        return cls(no_limits, np.zeros(1), np.zeros(streams, np.int64), *utc, *working)

    def take(self, streams: Int64s | slice) -> "Limits":
        """Those of some of the streams."""
        channels, false_alarm_ms, sets, *calendar = self
        return Limits(channels, false_alarm_ms, sets[streams], *calendar)  # _replace() is slow


class Block(NamedTuple):
    """T waves of S streams whose scale does not move before the last of them."""

    readings: Int64s  # (T, S) index into the batch
    slots: Int64s  # (S,) which of the rows is each stream's
    offsets: Int64s  # (N,)
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F)
    held: Doubles  # (T, S, F) values, each missing one replaced by the last known one
    elapsed_ms: Doubles  # (T, S) since the stream's last reading
    predicted: Doubles  # (T, S, F) in spreads
    limits: Doubles  # (D, F, 4), as Limits
    false_alarm_ms: Doubles  # (D,)
    limit_sets: Int64s  # (S,)
    clock_changes: Int64s  # (D, K)
    clock_offsets: Int64s  # (D, K + 1)
    holidays: Int64s  # (D, H)
    like: Int64s  # (D, H)
    paused_until: Doubles  # (N,) ms, as pauses has it; empty: no stream pauses


class Sheet(NamedTuple):
    """Where verdicts are written, in offset order."""

    score: Doubles  # (N,)
    alarm: Bools  # (N,)
    expected: Doubles  # (N, F)
    lower: Doubles  # (N, F)
    upper: Doubles  # (N, F)

    @classmethod
    def empty(cls, readings: int, features: int) -> Self:
        """As of readings that are not judged."""
        bands = np.empty((3, readings, features))
        bands.fill(math.nan)  # full() is slow
        return cls(np.zeros(readings), np.zeros(readings, np.bool_), *bands)


class Events(NamedTuple):
    """What happened at few readings, a row each, and how the channels were then."""

    records: Records  # (M,) of Event
    returns_ms: Doubles  # (M, 8) how rarely each witness sees the like, in the order of OpenedBy; 0: it cannot say
    evidence: Doubles  # (M, F) of each channel, for the witness that opened the alarm
    symptoms: Doubles  # (M, E * F)

    @classmethod
    def room(cls, events: int, features: int, symptoms: int) -> Self:
        shapes = ((events, _WITNESSES), (events, features), (events, symptoms * features))
        return cls(np.empty(events, record_of(Event)), *map(np.empty, shapes))

    def doubled(self) -> "Events":
        """The same with room for as many more."""
        return Events(*(np.concatenate([column, np.empty_like(column)]) for column in self))


class Scratch(NamedTuple):
    """The records that a stream's row is changed in."""

    stream: Records  # (1,) of Scalars
    stream_numbers: Doubles  # (1, K), the same memory
    channels: Records  # (F,) of Channels
    channel_numbers: Doubles  # (F, C), the same memory
    looks: Records  # (F,) of Look
    squares: Doubles  # (F,)
    relation: Records  # (1,) of Relations; nothing reads it where matrix is empty
    relation_numbers: Doubles  # (1, Q), the same memory
    scaled: Doubles  # (F,) values in spreads from their centres
    matrix: Doubles  # (F, F); empty where nothing is remembered of how channels go together
    kept_stream: Doubles  # (1, K), what they were before a reading of which nothing is learned, see pauses
    kept_channels: Doubles  # (F, C)
    kept_relation_numbers: Doubles  # (1, Q)
    kept_relation: Doubles  # (R, F)

    @classmethod
    def of(cls, features: int) -> Self:
        stream, channels = np.empty((1, len(SCALARS))), np.empty((features, len(CHANNELS)))
        relation = RELATIONS.initial().numpy()[None].copy()
        return cls(  # view() is slow
            stream=np.ndarray(1, SCALARS.record, stream),
            stream_numbers=stream,
            channels=np.ndarray(features, CHANNELS.record, channels),
            channel_numbers=channels,
            looks=np.zeros(features, record_of(Look)),
            squares=np.empty(features),
            relation=np.ndarray(1, RELATIONS.record, relation),
            relation_numbers=relation,
            scaled=np.empty(features),
            matrix=np.empty((features, features) if relation_rows(features) else (0, 0)),
            kept_stream=np.empty_like(stream),
            kept_channels=np.empty_like(channels),
            kept_relation_numbers=np.empty_like(relation),
            kept_relation=np.empty((relation_rows(features), features)),
        )


@cache
def record_of(description: type) -> "np.dtype[np.void]":
    """The numpy type of records with these fields, all float64."""
    return np.dtype([(name, np.float64) for name in description.__annotations__])


Peaks = tuple[float, float, float, float, float]  # of prediction, level, range, relation's two, over no threshold
Runs = tuple[float, float, float]  # of stuck, missing and silent, over the longest that is healthy


class Scores(NamedTuple):
    """How anomalous a reading is."""

    score: float  # 1.0 is the threshold; 0 before the warm-up is over
    sharp: float  # of the witnesses that smooth nothing: what they say is over when it is over
    scored: float  # 1 after the warm-up
    strengths: tuple[float, float, float, float]  # residual's less its largest share, level's, relation's two
    peaks: Peaks
    runs: Runs
    furthest: int  # OpenedBy
    rarity: float  # logarithm of how many times as rare as what scores 1.0 it is; 0 where nothing does


class Step(NamedTuple):
    """What a reading did to its stream's alarm."""

    change: Change
    severity: float  # alarm.Severity of the open alarm, also of one that closes here
    learns: float  # 1 where scale, level and range may learn from the reading
    updates_baseline: float  # 1 where the baseline of residual and level deviation may
