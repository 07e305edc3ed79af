"""What the eight witnesses say of a reading: strengths, range, runs and silence, each over its threshold.

scoring says what each witness looks at, and what can be set.
"""

import math

from models.data.arrays import Doubles
from models.data.time_units import DAY_MS
from models.detection.arithmetic import add, at_least, at_most, exponential, logarithm, one_if
from models.detection.compiling import compiled
from models.detection.expectation import band_std
from models.detection.records import FARTHEST, LONGER, SMALLEST_DEVIATION, STRONGEST, Look, Rules, Scores, Scratch
from models.detection.rows import LARGEST_RESIDUAL, LASTING_LAW, REBOUND_LAW, Channels, Scalars
from models.detection.thresholds import over_own, rarity_of, repeats

HIGHEST_SCORE = 1e6
EQUAL_READINGS = 20.0  # equal values in a row, or nearly so, that are always healthy
MISSING_READINGS = 3.0  # missing ones in a row that are not, where there were none before
HIGHEST_ECHO = 0.99  # score: what one reading leaves in the smoothed strength holds an alarm open, and opens none
REPEATED_LONGER = 4.0  # in place of LONGER, where a value repeats by nature
MOVES = 0.5  # share of its readings: a value that changes more seldom stands still by nature
REBOUND_SHARE = 0.85  # that is left of a residual at the next reading: what leaps back soon is a rebound
NEARLY = 0.05  # of what nine in ten errors stay below: a value nearer to the one before is as good as equal to it
AGAINST_CALM = 2.164  # times an error's square: 3/2 over ln 2, see calm_evidence()
FARTHEST_AGAINST = 3.0  # standard deviations: one spike does not hide that all else is calm
WIDEST_NOISE = 1.5  # times what the band says: few large errors widen a standard deviation beyond what is usual
DIGIT, PARTS, MOST = 2.0**-20, 64.0, 2.0**20 - 1  # see in_parts()
CALM_DAYS = 2.0  # until nights have been seen: what is calm is not told before
SWING = 1.0  # spreads from the mean: where a value is further off, it is high, or low
HEALTHY_SWING = 10.0  # readings from high to low, or back, that are so in any stream
FEWEST_SWINGS = 24.0  # longest ones, that a value must be known for: else it is not one that swings
SWING_ODDS = 5.545177444479562  # ln 256: of 256 values that turn at random one is told in as long as it is known
SETTLED_READINGS = 512.0  # before them a scale is derived so often that turns are not those of one
TURNS = 16.0  # that the usual turn goes back
REGULAR = 1.4  # usual turns: a value of which one was as long does not turn regularly
FEWEST_TURNS = 48.0  # longest ones, that it must be known for
LATER = 0.25  # of its longest turn, that a late one takes more at least
LATE_FOR = 2.0  # times as long as makes it late
GREW, MOST_GREW = 1 / 1.5, 1 / 6.0  # of a spread, what it was before: see swing_in_new_spread()
FEWEST_CHANGES = 20.0  # of a value, before it can be stuck


@compiled
def score(
    stream: Scalars[float], channel_relations: Doubles, scratch: Scratch, elapsed_ms: float, rules: Rules
) -> Scores:
    """What each witness says, over its threshold; moves `residual_strength` and the runs.

    Of prediction and level it is the strength that is compared with its own long past, as anomaly likelihood compares a
    short memory with a long one (Lavin & Ahmad 2015). Of prediction it is compared without the share of the one reading
    that has the largest, so that it takes two or more.
    """
    strengths, told = strengths_of(scratch)
    stream.residual_strength, stream.residual_largest = smoothed(
        stream.residual_strength, stream.residual_largest, strengths[0], rules.strength_rate
    )
    stream.told_strength, stream.told_largest = smoothed(
        stream.told_strength, stream.told_largest, told[0], rules.strength_rate
    )
    related, together = len(scratch.matrix) > 0, scratch.relation[0]
    relation, lasting, told_relation, told_lasting = relation_strengths(scratch) if related else (0.0, 0.0, 0.0, 0.0)
    sudden, outside, equal, missing = furthest_channels(stream, scratch, rules)
    own_rebound = own_lasting = related_ratio = 0.0
    if related:  # no more is asked of these after alarms: they must prove themselves
        own_rebound, own_lasting = rebound(channel_relations, scratch), leaves(channel_relations, scratch)
    share = rules.baseline_share
    weight, mean, variance = rules.residual_weight, stream.residual_strength_mean, stream.residual_strength_variance
    peaks = (
        above(stream.told_strength - stream.told_largest, weight, mean, variance, share),
        above(told[1], rules.level_weight, stream.level_strength_mean, stream.level_strength_variance, share),
        outside,
        above(told_relation, 1.0, together.strength_mean, together.strength_variance, share) if related else 0.0,
        above(told_lasting, 1.0, together.lasting_mean, together.lasting_variance, share) if related else 0.0,
    )
    if related:
        together_ratio = at_least(peaks[3] / together.threshold, peaks[4] / together.lasting_threshold)
        related_ratio = at_least(together_ratio / together.factor, own_lasting)
    prediction_threshold = stream.residual_threshold * stream.prediction_factor
    echo = above(stream.told_strength, weight, mean, variance, share) / prediction_threshold
    runs = (equal, missing, silence(stream, elapsed_ms, rules))
    ratios = (  # in the order of OpenedBy
        peaks[0] / prediction_threshold,
        peaks[1] / (stream.level_threshold * stream.level_factor),
        peaks[2] / (stream.range_threshold * stream.range_factor),
        at_least(sudden / stream.sudden_factor, own_rebound),
        runs[0],
        runs[1],
        runs[2],
        related_ratio,
    )
    sharp = ratios[2]
    for n in range(3, len(ratios)):
        sharp = at_least(sharp, ratios[n])
    highest = at_least(at_least(at_least(ratios[0], ratios[1]), sharp), at_most(echo, HIGHEST_ECHO))
    scored = one_if(stream.age > rules.warm_up)
    return Scores(
        at_most(highest, HIGHEST_SCORE) * scored,
        at_most(sharp, HIGHEST_SCORE) * scored,
        scored,
        (stream.residual_strength - stream.residual_largest, strengths[1], relation, lasting),
        peaks,
        runs,
        furthest_of(ratios),
        rarity_of(stream, channel_relations, scratch, peaks, runs) * scored if highest >= 1 else 0.0,
    )


@compiled
def smoothed(mean: float, largest: float, strength: float, rate: float) -> tuple[float, float]:
    """The short mean of a strength, and the largest share that one reading has of it: both fade alike."""
    return mean + (strength - mean) * rate, at_least(strength * rate, largest - largest * rate)


@compiled
def strengths_of(scratch: Scratch) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of residual and level deviation: root mean square over the channels present, each cut at STRONGEST.

    First of all channels, then of those that count alone.
    """
    looks, squares = scratch.looks, scratch.squares
    if len(looks) == 1:
        residual, level = at_most(abs(looks[0].residual_z), STRONGEST), at_most(abs(looks[0].level_z), STRONGEST)
        return (residual, level), (residual * looks[0].counts, level * looks[0].level_counts)
    present, counts, level_counts = 0.0, True, True
    for f in range(len(looks)):
        strength = at_most(abs(looks[f].residual_z), STRONGEST)
        squares[f] = strength * strength
        present += looks[f].present
        counts, level_counts = counts and looks[f].counts > 0, level_counts and looks[f].level_counts > 0
    present = at_least(present, 1.0)
    told_residual = residual = math.sqrt(add(squares) / present)
    if not counts:
        for f in range(len(looks)):
            squares[f] *= looks[f].counts
        told_residual = math.sqrt(add(squares) / present)
    for f in range(len(looks)):
        strength = at_most(abs(looks[f].level_z), STRONGEST)
        squares[f] = strength * strength
    told_level = level = math.sqrt(add(squares) / present)
    if not level_counts:
        for f in range(len(looks)):
            squares[f] *= looks[f].level_counts
        told_level = math.sqrt(add(squares) / present)
    return (residual, level), (told_residual, told_level)


@compiled
def relation_strengths(scratch: Scratch) -> tuple[float, float, float, float]:
    """Root mean square, over the channels present, of what each is off by from what the others say, cut likewise.

    Of this reading and lastingly, of all channels; then of those that count alone.
    """
    total, lasting, told, told_lasting, present = 0.0, 0.0, 0.0, 0.0, 0.0
    for f in range(len(scratch.looks)):
        look = scratch.looks[f]
        strength, smoothed = at_most(abs(look.relation_z), STRONGEST), at_most(abs(look.relation_lasting), STRONGEST)
        total += strength * strength
        lasting += smoothed * smoothed
        told += strength * strength * look.relation_counts
        told_lasting += smoothed * smoothed * look.lasting_counts
        present += look.present
    present = at_least(present, 1.0)
    return (
        math.sqrt(total / present),
        math.sqrt(lasting / present),
        math.sqrt(told / present),
        math.sqrt(told_lasting / present),
    )


@compiled
def rebound(relation: Doubles, scratch: Scratch) -> float:
    """Of a channel that leaps and soon leaps back, over its own threshold; moves the largest residual of late.

    The smaller of both leaps counts: an edge, at which a channel stays, is none, however high. So a spike is told
    beside edges that are as high by nature.
    """
    furthest = 0.0
    for f in range(len(scratch.looks)):
        look, before = scratch.looks[f], relation[LARGEST_RESIDUAL, f]
        look.rebound = 0.0
        if before * look.residual_z < 0:
            look.rebound = at_most(abs(before), abs(look.residual_z)) * look.counts
        faded = before * REBOUND_SHARE
        relation[LARGEST_RESIDUAL, f] = look.residual_z if abs(look.residual_z) > abs(faded) else faded
        own = over_own(look.rebound, relation, REBOUND_LAW, f, scratch.channels[f])
        look.sudden_ratio, furthest = at_least(look.sudden_ratio, own), at_least(furthest, own)
    return furthest


@compiled
def leaves(relation: Doubles, scratch: Scratch) -> float:
    """Of the channel that is furthest, lastingly, from what the others say, over its own threshold."""
    furthest = 0.0
    for f in range(len(scratch.looks)):
        lasting = abs(scratch.looks[f].relation_lasting) * scratch.looks[f].lasting_counts
        furthest = at_least(furthest, over_own(lasting, relation, LASTING_LAW, f, scratch.channels[f]))
    return furthest


@compiled
def above(strength: float, weight: float, mean: float, variance: float, share: float) -> float:
    """How far a strength is above its long mean, in standard deviations to which a share of the mean is added."""
    return at_least(strength - mean, 0.0) * weight / (math.sqrt(variance) + mean * share + SMALLEST_DEVIATION)


@compiled
def furthest_channels(stream: Scalars[float], scratch: Scratch, rules: Rules) -> tuple[float, float, float, float]:
    """Of sudden, range, stuck and missing, each that of the channel that is furthest, of those that count.

    Of sudden over its threshold: what is usual of one channel must not hide what another never did.
    """
    sudden, outside, equal, missing = 0.0, 0.0, 0.0, 0.0
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        look.outside = outside_of(channel, look, rules)
        knows_nights = stream.days >= CALM_DAYS
        follow_missing(channel, look, stream.interval_ms)
        follow_equal_and_calm(channel, look, stream.interval_ms, knows_nights)
        follow_swings(channel, look, stream.interval_ms, stream.age, knows_nights)
        look.sudden = at_most(surprise(look), FARTHEST) * look.counts
        look.sudden_ratio = look.sudden / channel.sudden_threshold
        sudden = at_least(look.sudden_ratio, sudden)
        outside, equal, missing = (
            at_least(look.outside, outside),
            at_least(look.equal, equal),
            at_least(look.missing, missing),
        )
    return sudden, outside, equal, missing


@compiled
def surprise(look: Look) -> float:
    """The residual in its standard deviations, but no more than twice the distance from the level at this hour.

    What leaps to where it should be by now only comes back: a machine on Monday morning, a sensor after its spike.
    """
    away = look.distance if look.residual_z > 0 else -look.distance
    return at_most(abs(look.residual_z), at_least(away, 0.0) * 2 / look.residual_std)


@compiled
def outside_of(channel: Channels[float], look: Look, rules: Rules) -> float:
    """1.0 where a value is further outside the learned range than its margin; 0 inside, and of an unknown channel."""
    if not look.beyond > 0:
        return 0.0
    beyond = look.beyond / margin_of(channel, look, rules)
    return at_most(beyond, FARTHEST) if beyond > 0 else 0.0  # NaN, of an unknown channel, is not


@compiled
def margin_of(channel: Channels[float], look: Look, rules: Rules) -> float:
    spread = channel.spread * look.residual_std
    return at_least((channel.high - channel.low) * rules.range_share, spread * rules.range_spreads)


@compiled
def follow_missing(channel: Channels[float], look: Look, interval_ms: float) -> None:
    """Take a reading into the run of missing values; says how long it is over what is healthy.

    A run that is over teaches its whole length if it lasted a day, as a weekend does; else what was healthy at most.
    """
    if look.present == 0:
        channel.missing_run += one_if(channel.known > 0)
    else:
        longest_ever, usual = digits_of(channel.longest_missing_run)
        learned = learned_run(channel.missing_run, longest_ever, MISSING_READINGS, interval_ms)
        channel.longest_missing_run = as_digits(at_least(longest_ever, float(int(learned))), usual)
        channel.missing_run = 0.0
    look.missing = 0.0
    if channel.missing_run > 0:
        longest, _ = digits_of(channel.longest_missing_run)
        look.missing = channel.missing_run / at_least(longest * LONGER, MISSING_READINGS)


@compiled
def follow_equal_and_calm(channel: Channels[float], look: Look, interval_ms: float, knows_nights: bool) -> None:
    """Take a reading into the run of equal values, and into the sum of what speaks for calm; as follow_missing() does.

    What is not equal, or nearly so, ends a run; what speaks against calm takes away from its sum. Of calm it is not
    known in a stream's first days what is healthy: it is not told then, and each sum teaches all of it.
    """
    equal, calm = digits_of(channel.equal_run)
    longest_equal, longest_calm = digits_of(channel.longest_equal_run)
    if look.present > 0:
        channel.changes += one_if(look.value != look.before)
        if abs(look.value - look.before) > usual_error(channel) * NEARLY:
            longest_equal = at_least(longest_equal, learned_run(equal, longest_equal, EQUAL_READINGS, interval_ms))
            equal = 0.0
        else:
            equal += 1
        counts = calm_evidence(channel, look)
        if counts < 0:
            learned = learned_run(calm, longest_calm, EQUAL_READINGS, interval_ms) if knows_nights else calm
            longest_calm = in_parts(at_least(longest_calm, learned))
        calm = in_parts(at_least(calm + counts, 0.0))
        channel.equal_run = as_digits(equal, calm)
        channel.longest_equal_run = as_digits(longest_equal, longest_calm)
    look.equal = look.still = 0.0
    if channel.changes >= FEWEST_CHANGES and channel.changes > channel.known * MOVES:
        longer = REPEATED_LONGER if repeats(channel) else LONGER
        look.equal, look.still = equal / at_least(longest_equal * longer, EQUAL_READINGS), equal
        healthy = at_least(longest_calm * longer, EQUAL_READINGS)
        if knows_nights and calm > look.equal * healthy:
            look.equal, look.still = calm / healthy, calm


@compiled
def digits_of(number: float) -> tuple[float, float]:
    """The two that as_digits() made one."""
    whole = float(int(number))
    return whole, (number - whole) / DIGIT


@compiled
def as_digits(whole: float, part: float) -> float:
    """Two numbers as one: a whole one below 2^27, and one as in_parts() gives it."""
    return whole + part * DIGIT


@compiled
def in_parts(number: float) -> float:
    """A number that is not below 0 in 64ths, cut below 2^20.

    NaN is 0 there: which integer it would be depends on the machine.
    """
    kept = at_most(number, MOST) if number > 0 else 0.0
    return int(kept * PARTS) / PARTS


@compiled
def follow_swings(channel: Channels[float], look: Look, interval_ms: float, age: float, knows_nights: bool) -> None:
    """Take a reading into the run since the value was last low, or high: it ends where the value is the other.

    So a cycle that no longer rises as high is told, which the net knows within a few turns. Only of a value that has
    swung often, as a cycle does and a walk does not; until then each run teaches its whole length. And of one that
    turns regularly, a cycle that has become longer: see is_late().
    """
    rises = channel.swing_run >= 0
    run, turn = digits_of(abs(channel.swing_run))
    longest_ever, longest_turn = digits_of(channel.longest_swing)
    longest, known = at_least(longest_ever, HEALTHY_SWING), age - run
    swings = knows_nights and known > longest * FEWEST_SWINGS
    if look.present > 0 and look.per_spread > 0:
        from_mean = (look.value - channel.mean) * look.per_spread
        run, turn = run + 1, at_most(turn + 1, MOST)
        if (from_mean if rises else -from_mean) > SWING:
            learned = learned_run(run, longest_ever, HEALTHY_SWING, interval_ms) if swings else run
            if rises:
                longest_turn = learn_turn(channel, turn, longest_turn, interval_ms, age, swings)
                turn = 1.0
            channel.longest_swing = as_digits(float(int(at_least(longest_ever, learned))), longest_turn)
            rises, run = not rises, 1.0
        runs = as_digits(run, turn)
        channel.swing_run = runs if rises else -runs
    if swings and run > longest and look.equal < 1 and run >= longest * times_the_longest(known / longest):
        look.equal, look.still = 1.0, run  # and no more, however long it goes on: what else is strange ranks above it
    if knows_nights and look.equal < 1 and is_late(turn, longest_turn, usual_turn(channel), age - turn):
        look.equal, look.still = 1.0, turn


@compiled
def learn_turn(
    channel: Channels[float], turn: float, longest: float, interval_ms: float, age: float, swings: bool
) -> float:
    """Take the time from where a value became high to where it does again into the usual one; returns the longest.

    One that began before the scale was settled is none.
    """
    if turn > age - SETTLED_READINGS:
        return longest
    learned = learned_run(turn, longest, HEALTHY_SWING, interval_ms) if swings and longest > 0 else turn
    missing, usual = digits_of(channel.longest_missing_run)
    usual = usual + (learned - usual) / TURNS if usual > 0 else learned
    channel.longest_missing_run = as_digits(missing, in_parts(usual))
    return at_least(longest, float(int(at_most(learned, MOST))))


@compiled
def usual_turn(channel: Channels[float]) -> float:
    _, usual = digits_of(channel.longest_missing_run)
    return usual


@compiled
def is_late(turn: float, longest: float, usual: float, known: float) -> bool:
    """Whether a value that turns as regularly as a machine's cycle should be high again by now, but is not.

    As of swings, but of what is beyond the usual turn: a longest of 1.1 usual ones leaves little to chance. Of turns of
    a few readings one may be left out. What does not turn at all any more is told for as long again: then it is the
    business of swings.
    """
    if longest <= EQUAL_READINGS or longest >= usual * REGULAR or known <= longest * FEWEST_TURNS:
        return False
    by_chance = (longest - usual) * (times_the_longest(known / longest) - 1)
    late = longest + at_least(by_chance, longest * LATER)
    return bool(late <= turn < late * LATE_FOR)


@compiled
def swing_in_new_spread(longest: float, shrink: float, known: float) -> float:
    """The longest swing by a new spread, of which the one before is `shrink` times as large: longer if it grew by half.

    A channel that has begun to go farther, now and then, swings by the new spread more seldom than it did by the old
    one, and was never seen to: normal noise reaches u of its standard deviations exp(-u²/2) times as often (Rice 1944).
    No longer than what counts as swinging at all.
    """
    if shrink > GREW:
        return longest
    grew = 1 / at_least(shrink, MOST_GREW)
    seldom = (grew * grew - 1) / 2
    return at_least(longest, at_most(longest * exponential(seldom), known / FEWEST_SWINGS))


@compiled
def times_the_longest(swings: float) -> float:
    """How long a swing must be, in longest ones, to be told of a value that was known for `swings` of them.

    Where a value turns at random, whenever it may, swings are exponential: the longest of n is ln n times the mean, and
    any of n more is k times as long with odds of n^(1 - k).
    """
    return 1 + SWING_ODDS / logarithm(swings)


@compiled
def calm_evidence(channel: Channels[float], look: Look) -> float:
    """What a reading counts for calm: 1 where it is exactly as expected, below 0 where it speaks against it.

    The logarithm, to base 2, of how much likelier its error is with half of the noise (Page 1954), where noise is
    normal: ln 2 less 3/2 of its square in standard deviations. The band narrows while calm lasts, the standard
    deviation hardly does.
    """
    error = FARTHEST_AGAINST
    if usual_error(channel) > 0:
        noise = at_most(look.residual_std, band_std(channel) * WIDEST_NOISE)
        error = at_most(abs(look.residual - look.bias) / noise, FARTHEST_AGAINST)
    return 1 - AGAINST_CALM * error * error


@compiled
def usual_error(channel: Channels[float]) -> float:
    """Raw: what nine in ten errors stay below; 0 while the scale is unknown."""
    return channel.band * channel.spread if channel.spread < math.inf else 0.0


@compiled
def learned_run(run: float, longest: float, healthy: float, interval_ms: float) -> float:
    """What a run that is over teaches, in readings. healthy: that are so in any stream."""
    most = LONGER * longest + healthy
    return run if run * interval_ms >= DAY_MS else at_most(run, most)


@compiled
def silence(stream: Scalars[float], elapsed_ms: float, rules: Rules) -> float:
    """1.0 where the time since the last reading is as long as no healthy gap."""
    healthy = healthy_gap(stream.interval_ms, stream.longest_gap_ms, rules)
    return elapsed_ms / healthy if healthy > 0 else 0.0


@compiled
def healthy_gap(interval_ms: float, longest_gap_ms: float, rules: Rules) -> float:
    """Time between two readings (ms) from which on a stream was silent."""
    return at_least(interval_ms * rules.silent_intervals, longest_gap_ms * LONGER)


@compiled
def furthest_of(ratios: tuple[float, ...]) -> int:
    """OpenedBy: the first of the highest; what is no number is higher than all."""
    best = 0
    for n in range(1, len(ratios)):
        if not ratios[n] <= ratios[best] and not math.isnan(ratios[best]):
            best = n
    return best
