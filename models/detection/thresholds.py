"""The thresholds of a stream's witnesses: calibrated by the peaks of its blocks, and raised by alarms.

What a peak comes to by the same law is its return period. How far it is beyond the threshold is its rarity.
"""

import math

from models.data.arrays import Doubles
from models.detection.alarm import OpenedBy
from models.detection.arithmetic import at_least, at_most, exponential, follow, logarithm, one_if, within
from models.detection.compiling import compiled
from models.detection.records import (
    FARTHEST,
    LONGEST_RETURN_MS,
    SMALLEST_DEVIATION,
    Peaks,
    Rules,
    Runs,
    Scores,
    Scratch,
)
from models.detection.rows import (
    LASTING_LAW,
    LAW_FAILED,
    LAW_MEAN,
    LAW_PEAK,
    LAW_THRESHOLD,
    LAW_VARIANCE,
    REBOUND_LAW,
    Channels,
    Relations,
    Scalars,
)
from models.detection.scoring import SHAPE, SHAPE_MEAN, SHAPE_STD

KNOWN_BLOCKS = 16.0  # that a stream is known for, at least, where one of them takes more than block_readings
PRIOR_BLOCKS = 2.0  # that what is known of peaks before the first block counts for
MOST_BLOCKS = 1e12  # of a period; also where the interval is not known
LOWEST_IF_ASKED = 0.5  # threshold of prediction and level where it is said how many false alarms there may be
LOWEST_SUDDEN_IF_ASKED = 3.0  # the same of sudden
LOWEST_REBOUND = 3.0  # deviations: of two readings that are off, to either side
FARTHEST_BLOCKS = 60.0  # logarithm of them
TAIL = 1.2825498301618641  # π / √6: of a peak's standard deviation, in units of the scale of a law without an end
REPEATS = 0.1  # share of a channel's readings: a value that is repeated more often repeats by nature
SMALLEST_PEAK_STD = 1e-9  # of the logarithm of peaks
RARITY_OF_LENGTHS = 3.321928094887362  # exponent, log2(10): what lasts twice as long is ten times as rare
MOST_FAILED = 0.2  # share of a channel's blocks: where more of them passed its own threshold, it is not heeded
# Standard deviations above the mean of the peaks: of a higher one no more is learned.
HIGHEST_PEAK = 8.0  # of all but prediction and level, which have their own among the rules
HIGHEST_OWN_PEAK = 3.0  # of a threshold that must prove itself


@compiled
def stretched(stream: Scalars[float], rules: Rules) -> float:
    """How many times as many readings this stream's blocks and long memories take as ScoreConfig says; 1 at least.

    256 readings a minute apart are four hours, and 8,192 of them five days: long enough to know that something comes
    every day. Of a stream that sends more often the same time is remembered, as far as it is known for that long: a
    block is a sixteenth of its readings at most.
    """
    if stream.interval_ms <= 0:
        return 1.0
    known = stream.age / (rules.block_readings * KNOWN_BLOCKS)
    times = at_most(at_most(known, rules.memory_ms / stream.interval_ms), rules.most_stretched)
    return at_least(times, 1.0)


@compiled
def block_ms_of(stream: Scalars[float], rules: Rules) -> float:
    """The event time that a block of this stream takes."""
    return rules.block_readings * stretched(stream, rules) * stream.interval_ms


@compiled
def calibrate(stream: Scalars[float], relation: Doubles, scratch: Scratch, rules: Rules, false_alarm_ms: float) -> None:
    """A block is full: what its peaks, on a logarithmic scale, exceed once in the wanted period scores 1.0.

    false_alarm_ms: event time in which the stream may raise one false alarm; 0: as the rules have it.
    Block maxima: Coles 2001, ch. 3; parameters of the law by the method of moments.
    """
    stream.blocks = int(stream.blocks) + 1.0
    rate = 1 / at_most(stream.blocks + PRIOR_BLOCKS, rules.blocks)
    sharp, lasting = rules.sharp_deviations, rules.lasting_deviations
    smooth = smooth_deviations(stream.blocks, rules)
    lowest, lowest_sudden = rules.lowest_threshold, rules.lowest_sudden
    if false_alarm_ms > 0:
        sharp = smooth = lasting = deviations_of(false_alarm_ms / block_ms_of(stream, rules))
        lowest, lowest_sudden = LOWEST_IF_ASKED, LOWEST_SUDDEN_IF_ASKED
    highest = at_least(rules.highest_smooth_peak, smooth)
    stream.residual_peak_mean, stream.residual_peak_variance = learn_peak(
        stream.residual_peak_mean, stream.residual_peak_variance, stream.residual_block_peak, rate, highest
    )
    stream.level_peak_mean, stream.level_peak_variance = learn_peak(
        stream.level_peak_mean, stream.level_peak_variance, stream.level_block_peak, rate, highest
    )
    stream.range_peak_mean, stream.range_peak_variance = learn_peak(
        stream.range_peak_mean, stream.range_peak_variance, stream.range_block_peak, rate, HIGHEST_PEAK
    )
    stream.residual_threshold = exceeded(stream.residual_peak_mean, stream.residual_peak_variance, smooth, lowest)
    stream.level_threshold = exceeded(stream.level_peak_mean, stream.level_peak_variance, smooth, lowest)
    stream.range_threshold = exceeded(stream.range_peak_mean, stream.range_peak_variance, sharp, 1.0)
    if len(scratch.matrix) > 0:
        calibrate_relation(scratch.relation[0], rate, sharp, lasting, lowest, lowest_sudden)
        of_one = of_one_channel(lasting, len(scratch.channels)), of_one_channel(sharp, len(scratch.channels))
        for f in range(len(scratch.channels)):
            learn_law(relation, LASTING_LAW, f, rate, of_one[0], lowest)
            learn_law(relation, REBOUND_LAW, f, rate, of_one[1], LOWEST_REBOUND)
    calibrate_sudden(scratch, rate, sharp, lowest_sudden)
    stream.residual_block_peak = stream.level_block_peak = stream.range_block_peak = 0.0


@compiled
def calibrate_relation(
    relation: Relations[float], rate: float, sharp: float, lasting: float, lowest: float, lowest_sudden: float
) -> None:
    relation.peak_mean, relation.peak_variance = learn_peak(
        relation.peak_mean, relation.peak_variance, relation.block_peak, rate, HIGHEST_PEAK
    )
    relation.lasting_peak_mean, relation.lasting_peak_variance = learn_peak(
        relation.lasting_peak_mean, relation.lasting_peak_variance, relation.lasting_block_peak, rate, HIGHEST_PEAK
    )
    relation.threshold = exceeded(relation.peak_mean, relation.peak_variance, sharp, lowest_sudden)
    relation.lasting_threshold = exceeded(relation.lasting_peak_mean, relation.lasting_peak_variance, lasting, lowest)
    relation.block_peak = relation.lasting_block_peak = 0.0


@compiled
def learn_law(relation: Doubles, law: int, f: int, rate: float, deviations: float, lowest: float) -> None:
    """A channel's own threshold, and how often its blocks passed the one that was set before them.

    Of a peak that is far beyond the others little is learned: a fault that was told must not hide the next one. What
    passes the threshold time and again makes it unheeded instead.
    """
    peak = relation[law + LAW_PEAK, f]
    failed = one_if(peak > relation[law + LAW_THRESHOLD, f])
    relation[law + LAW_FAILED, f] += (failed - relation[law + LAW_FAILED, f]) * rate
    mean, variance = relation[law + LAW_MEAN, f], relation[law + LAW_VARIANCE, f]
    mean, variance = learn_peak(mean, variance, peak, rate, HIGHEST_OWN_PEAK)
    relation[law + LAW_MEAN, f], relation[law + LAW_VARIANCE, f] = mean, variance
    relation[law + LAW_THRESHOLD, f] = exceeded(mean, variance, deviations, lowest)
    relation[law + LAW_PEAK, f] = 0.0


@compiled
def over_own(value: float, relation: Doubles, law: int, f: int, channel: Channels[float]) -> float:
    """A value over the channel's own threshold; 0 where that is not heeded.

    It must have foretold the channel's blocks: peaks that wander pass it time and again, and the first eight blocks say
    too little. A channel that repeats by nature jumps so rarely that its blocks say little of it.
    """
    if relation[law + LAW_FAILED, f] > MOST_FAILED or repeats(channel):
        return 0.0
    times: float = float(value / relation[law + LAW_THRESHOLD, f])
    return times


@compiled
def calibrate_sudden(scratch: Scratch, rate: float, sharp: float, lowest: float) -> None:
    """Of several channels, one that is calm need not be as far off as one that is not: each has a threshold of its own.

    All channels have the threshold of the peaks of all; one's own, which F of them exceed no more often than one would,
    is heeded where it is lower. A channel that repeats by nature jumps so rarely that its blocks say little of it.
    """
    channels, several, of_all = scratch.channels, len(scratch.matrix) > 0, math.inf
    if several:
        together, highest = scratch.relation[0], 0.0
        for f in range(len(channels)):
            highest = at_least(highest, channels[f].sudden_block_peak)
        together.sudden_peak_mean, together.sudden_peak_variance = learn_peak(
            together.sudden_peak_mean, together.sudden_peak_variance, highest, rate, HIGHEST_PEAK
        )
        of_all = exceeded(together.sudden_peak_mean, together.sudden_peak_variance, sharp, lowest)
    of_one = of_one_channel(sharp, len(channels))
    for f in range(len(channels)):
        channel = channels[f]
        channel.sudden_peak_mean, channel.sudden_peak_variance = learn_peak(
            channel.sudden_peak_mean, channel.sudden_peak_variance, channel.sudden_block_peak, rate, HIGHEST_PEAK
        )
        own = exceeded(channel.sudden_peak_mean, channel.sudden_peak_variance, of_one, lowest)
        channel.sudden_threshold = of_all if several and repeats(channel) else at_most(own, of_all)
        channel.sudden_block_peak = 0.0


@compiled
def repeats(channel: Channels[float]) -> bool:
    """Whether its values repeat by nature: equal ones mean little then, and a change may be rare."""
    return channel.known - channel.changes > channel.known * REPEATS


@compiled
def deviations_of(blocks: float) -> float:
    """ScoreConfig.deviations, of a period in blocks: two at least, since peaks say nothing of what is more frequent."""
    return exceeded_in(logarithm(within(at_least(blocks, 2.0), MOST_BLOCKS)))


@compiled
def of_one_channel(deviations: float, channels: int) -> float:
    """Those that any one of several channels exceeds once in as many times the period."""
    return exceeded_in(blocks_of(deviations) + logarithm(float(channels))) if channels > 1 else deviations


@compiled
def exceeded_in(log_blocks: float) -> float:
    """Deviations above the mean of the peaks that one in exp(log_blocks) blocks exceeds, by the law of scoring."""
    return (SHAPE_MEAN - exponential(-SHAPE * log_blocks)) / SHAPE_STD


@compiled
def blocks_of(deviations: float) -> float:
    """The inverse: the logarithm of how many; FARTHEST_BLOCKS where the law ends."""
    rest = SHAPE_MEAN - deviations * SHAPE_STD
    if rest <= 0:
        return FARTHEST_BLOCKS
    return within(-logarithm(rest) / SHAPE, FARTHEST_BLOCKS)


@compiled
def smooth_deviations(blocks: float, rules: Rules) -> float:
    """Deviations that are exceeded once in as many blocks as the stream was judged for, within the bounds.

    So the false alarms of a stream that is known for long become rarer.
    """
    return at_most(at_least(deviations_of(blocks), rules.smooth_deviations), rules.most_smooth_deviations)


@compiled
def learn_peak(mean: float, variance: float, peak: float, rate: float, deviations: float) -> tuple[float, float]:
    """On a logarithmic scale; however high it is, one glitch does not lift the threshold out of reach.

    deviations: standard deviations above the mean of the peaks; of a higher one no more is learned.
    """
    highest = mean + math.sqrt(variance) * deviations + SMALLEST_DEVIATION
    return follow(mean, variance, at_most(logarithm(1 + peak), highest), rate)


@compiled
def exceeded(mean: float, variance: float, deviations: float, lowest: float) -> float:
    highest = logarithm(FARTHEST)
    return at_least(exponential(at_most(mean + math.sqrt(variance) * deviations, highest)) - 1, lowest)


@compiled
def ask_more(stream: Scalars[float], relation: Relations[float], witness: int, factor: float) -> None:
    """Raise the threshold of the witness that opens an alarm: what comes again and again becomes less of one.

    Those that measure lengths learn the length itself: see learned_run() in witnesses, and learn_gap().
    """
    if witness == OpenedBy.PREDICTION:
        stream.prediction_factor *= factor
    elif witness == OpenedBy.LEVEL:
        stream.level_factor *= factor
    elif witness == OpenedBy.RANGE:
        stream.range_factor *= factor
    elif witness == OpenedBy.SUDDEN:
        stream.sudden_factor *= factor
    elif witness == OpenedBy.RELATION:
        relation.factor *= factor


@compiled
def ask_less(stream: Scalars[float], relation: Relations[float], fades: float) -> None:
    """Let what ask_more did fade by one reading."""
    stream.prediction_factor -= (stream.prediction_factor - 1) * fades
    stream.level_factor -= (stream.level_factor - 1) * fades
    stream.range_factor -= (stream.range_factor - 1) * fades
    stream.sudden_factor -= (stream.sudden_factor - 1) * fades
    relation.factor -= (relation.factor - 1) * fades


@compiled
def rarity_of(stream: Scalars[float], relation: Doubles, scratch: Scratch, peaks: Peaks, runs: Runs) -> float:
    """How many times as rare as what would just open an alarm a reading is, by the rarest witness; the logarithm.

    Of peaks by how much more often one just reaches the threshold, of runs and gaps by rarity_of_length().
    """
    level, outside = stream.level_threshold * stream.level_factor, stream.range_threshold * stream.range_factor
    rarity = at_least(
        rarer(peaks[0], stream.residual_threshold * stream.prediction_factor, stream.residual_peak_variance),
        rarer(peaks[1], level, stream.level_peak_variance),
    )
    rarity = at_least(rarity, rarer(peaks[2], outside, stream.range_peak_variance))
    for n in range(len(runs)):
        rarity = at_least(rarity, rarity_of_length(runs[n]))
    several, together = len(scratch.matrix) > 0, scratch.relation[0]
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        variance = channel.sudden_peak_variance
        if several and repeats(channel):
            variance = together.sudden_peak_variance
        rarity = at_least(rarity, rarer(look.sudden, channel.sudden_threshold * stream.sudden_factor, variance))
        if several:
            lasting = abs(look.relation_lasting) * look.lasting_counts
            rarity = at_least(rarity, rarer_than_own(lasting, relation, LASTING_LAW, f, channel))
            rarity = at_least(rarity, rarer_than_own(look.rebound, relation, REBOUND_LAW, f, channel))
    if several:
        lasting_threshold = together.lasting_threshold * together.factor
        rarity = at_least(rarity, rarer(peaks[3], together.threshold * together.factor, together.peak_variance))
        rarity = at_least(rarity, rarer(peaks[4], lasting_threshold, together.lasting_peak_variance))
    return rarity


@compiled
def rarer(peak: float, threshold: float, variance: float) -> float:
    """Logarithm of how many times as rare a peak is as one at the threshold; 0 of a lower one.

    Beyond the threshold the tail, on the logarithmic scale, is taken to be exponential: the law's end lies where
    nothing has been seen, in calm streams below the lowest threshold.
    """
    if not peak > threshold:
        return 0.0
    further = logarithm(1 + peak) - logarithm(1 + threshold)
    return at_most(further / (math.sqrt(variance) + SMALLEST_PEAK_STD) * TAIL, FARTHEST_BLOCKS)


@compiled
def rarer_than_own(value: float, relation: Doubles, law: int, f: int, channel: Channels[float]) -> float:
    if over_own(value, relation, law, f, channel) <= 1:
        return 0.0
    rarity: float = rarer(value, relation[law + LAW_THRESHOLD, f], relation[law + LAW_VARIANCE, f])
    return rarity


@compiled
def rarity_of_length(times: float) -> float:
    """Of a run, or a gap, that is `times` as long as what opens an alarm."""
    return logarithm(at_least(times, 1.0)) * RARITY_OF_LENGTHS


@compiled
def return_periods(
    stream: Scalars[float], relation: Doubles, scratch: Scratch, scores: Scores, rules: Rules
) -> tuple[float, float, float, float, float, float, float, float]:
    """How rarely each witness sees what it sees in this stream, in event time (ms), in the order of OpenedBy.

    For those with peaks it is what the law through them says, the inverse of exceeded(). For runs and gaps there is no
    law: of one that is longer than healthy it is known that there was none in all the time judged, and one that is
    longer by far is rarer; else 0.
    """
    block_ms, judged_ms = block_ms_of(stream, rules), stream.age * stream.interval_ms
    peaks, runs = scores.peaks, scores.runs
    sudden_ms = relation_ms = 0.0
    for f in range(len(scratch.looks)):
        sudden_ms = at_least(sudden_ms, sudden_return_period(scratch, f, block_ms, rules))
    if len(scratch.matrix) > 0:
        together = scratch.relation[0]
        relation_ms = at_least(
            return_period(peaks[3], together.peak_mean, together.peak_variance, block_ms, rules),
            return_period(peaks[4], together.lasting_peak_mean, together.lasting_peak_variance, block_ms, rules),
        )
        for f in range(len(scratch.looks)):
            look = scratch.looks[f]
            lasting = abs(look.relation_lasting) * look.lasting_counts
            relation_ms = at_least(
                relation_ms, own_return_period(lasting, relation, LASTING_LAW, scratch, f, block_ms, rules)
            )
            sudden_ms = at_least(
                sudden_ms, own_return_period(look.rebound, relation, REBOUND_LAW, scratch, f, block_ms, rules)
            )
    return (
        return_period(peaks[0], stream.residual_peak_mean, stream.residual_peak_variance, block_ms, rules),
        return_period(peaks[1], stream.level_peak_mean, stream.level_peak_variance, block_ms, rules),
        return_period(peaks[2], stream.range_peak_mean, stream.range_peak_variance, block_ms, rules),
        sudden_ms,
        return_period_of_length(runs[0], judged_ms),
        return_period_of_length(runs[1], judged_ms),
        return_period_of_length(runs[2], judged_ms),
        relation_ms,
    )


@compiled
def return_period_of_length(times: float, judged_ms: float) -> float:
    """Event time (ms) in which one run, or gap, is `times` as long as what opens an alarm; 0 where it is shorter."""
    if times < 1:
        return 0.0
    return at_most(judged_ms * exponential(at_most(rarity_of_length(times), FARTHEST_BLOCKS)), LONGEST_RETURN_MS)


@compiled
def sudden_return_period(scratch: Scratch, f: int, block_ms: float, rules: Rules) -> float:
    """By the law that the channel's threshold is of, see calibrate_sudden()."""
    channel, together, sudden = scratch.channels[f], scratch.relation[0], scratch.looks[f].sudden
    if len(scratch.matrix) > 0 and repeats(channel):
        return return_period(sudden, together.sudden_peak_mean, together.sudden_peak_variance, block_ms, rules)
    own_ms: float = return_period(sudden, channel.sudden_peak_mean, channel.sudden_peak_variance, block_ms, rules)
    return own_ms / len(scratch.looks)


@compiled
def own_return_period(
    value: float, relation: Doubles, law: int, scratch: Scratch, f: int, block_ms: float, rules: Rules
) -> float:
    """By the law of the channel's own peaks, for as many looks as there are channels; 0 where it is not heeded."""
    if over_own(value, relation, law, f, scratch.channels[f]) == 0:
        return 0.0
    mean, variance = relation[law + LAW_MEAN, f], relation[law + LAW_VARIANCE, f]
    own_ms: float = return_period(value, mean, variance, block_ms, rules)
    return own_ms / len(scratch.looks)


@compiled
def return_period(peak: float, mean: float, variance: float, block_ms: float, rules: Rules) -> float:
    """Event time (ms) in which a block's peak is once as high; of the law's far end no more is said than LONGEST."""
    deviations = (logarithm(1 + peak) - mean) / (math.sqrt(variance) + SMALLEST_PEAK_STD)
    blocks = exponential(blocks_of(deviations))
    return at_most(at_least(blocks, 1 / rules.block_readings) * block_ms, LONGEST_RETURN_MS)
