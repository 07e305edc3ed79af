"""How a stream's channels go together: what each should be, by what the others are at the same moment.

The other witnesses hold each channel against its own past. A channel that has always followed another can leave it, or
be stuck while the other moves, and stay within all that its own past allows. So each channel is regressed on the
others, with the covariances of the stream's own calm readings. The inverse of these, P, holds all regressions at once:
of scaled values z, channel i is off by (P z)_i / P_ii (Lauritzen 1996, section 5.1.3). A ridge (Hoerl & Kennard 1970)
keeps the regressions small where channels are nearly alike, and where little is known.

A channel whose value is missing stands where it last was, and is not told.
Sizes: F features, from two to rows.MOST_RELATED; else nothing is remembered.
"""

import math

from models.data.arrays import Doubles
from models.detection.arithmetic import at_least, one_if, within
from models.detection.compiling import compiled
from models.detection.records import SMALLEST_VARIANCE, STRONGEST, Look, Rules, Scratch, Step
from models.detection.residual import is_far
from models.detection.rows import RELATION_LASTING, RELATION_MATRIX, RELATION_MEAN, RELATION_VARIANCE

FARTHEST_VALUE = 30.0  # spreads from the centre: of what is further off the other channels' expectations take no more
SMALLEST_PIVOT = 1e-3  # pairs with missing values may make correlations that no readings have
RIDGE = 0.06  # added to the diagonal of the correlations: so much of a variance is taken for the channel's own


@compiled
def relate(relation: Doubles, limits: Doubles, scratch: Scratch, rules: Rules) -> None:
    """How far each channel is from what the others say, in spreads and in standard deviations; and what of it counts.

    relation: (2 + F, F) of a row. limits: (F, 4), as LIMITS.
    """
    looks, scaled = scratch.looks, scratch.scaled
    for f in range(len(looks)):
        channel = scratch.channels[f]
        scaled[f] = 0.0
        if channel.spread < math.inf:
            scaled[f] = within((looks[f].value - channel.centre) / channel.spread, FARTHEST_VALUE)
    for f in range(len(looks)):
        look, own = looks[f], relation[RELATION_MATRIX + f, f]
        total = 0.0
        for g in range(len(looks)):
            total += precision(relation, f, g) * scaled[g]
        look.relation = total / own if own > 0 else 0.0
        look.relation_std = math.sqrt(relation[RELATION_VARIANCE, f] + SMALLEST_VARIANCE)
        look.relation_z = (look.relation - relation[RELATION_MEAN, f]) / look.relation_std * look.present
        near = within(look.relation_z, STRONGEST)
        relation[RELATION_LASTING, f] += (near - relation[RELATION_LASTING, f]) * rules.strength_rate * look.present
        look.relation_lasting = relation[RELATION_LASTING, f] * rules.strength_gain
        look.relation_counts = counts(look, look.relation_z, scratch.channels[f].spread, limits[f])
        look.lasting_counts = counts(look, look.relation_lasting, scratch.channels[f].spread, limits[f])


@compiled
def counts(look: Look, deviation: float, spread: float, limits: Doubles) -> float:
    """1 where a deviation is in a direction that is asked for, and the reading far enough off: see limit().

    deviation: from what the others say, of this reading or lastingly.
    """
    up, down, absolute, relative = limits[0] > 0, limits[1] > 0, limits[2], limits[3]
    apart = look.relation * spread
    is_asked = (up and down) or deviation * (1.0 if up else -1.0) > 0
    return one_if(is_asked and is_far(apart, look.value - apart, absolute, relative))


@compiled
def precision(relation: Doubles, f: int, g: int) -> float:
    """P_fg, which stands above the diagonal and on it."""
    found: float = relation[RELATION_MATRIX + min(f, g), max(f, g)]
    return found


@compiled
def learn_relation(relation: Doubles, scratch: Scratch, step: Step) -> None:
    """Take a reading, whose scale is learned already, into the sums of products of distances from the means.

    They stand below the diagonal; those on it are the channels' own `square` (Welford 1962, for two variables).
    """
    if step.learns == 0:
        return
    looks, channels = scratch.looks, scratch.channels
    for f in range(1, len(looks)):
        if looks[f].present > 0:
            for g in range(f):
                apart = (looks[g].value - channels[g].mean) * looks[g].present
                relation[RELATION_MATRIX + f, g] += looks[f].moved * apart


@compiled
def shrink_relation(relation: Doubles, scratch: Scratch, length: float) -> None:
    """A new level is adopted: what is known counts for `length` readings at most, as the channels' squares do."""
    for f in range(1, len(scratch.channels)):
        for g in range(f):
            shares = kept_share(scratch.channels[f].known, length) * kept_share(scratch.channels[g].known, length)
            relation[RELATION_MATRIX + f, g] *= math.sqrt(shares)


@compiled
def kept_share(known: float, length: float) -> float:
    return length / known if known > length else 1.0


@compiled
def rescale_relation(relation: Doubles, scratch: Scratch) -> None:
    """What is in spreads is expressed in the new ones, and P derived again: each with Look.shrink, from rescale()."""
    for f in range(len(scratch.channels)):
        shrink = scratch.looks[f].shrink
        relation[RELATION_MEAN, f] *= shrink
        relation[RELATION_VARIANCE, f] *= shrink * shrink
    correlate(relation, scratch)
    invert(scratch.matrix)
    for f in range(len(scratch.channels)):
        for g in range(f, len(scratch.channels)):
            relation[RELATION_MATRIX + f, g] = scratch.matrix[f, g]


@compiled
def correlate(relation: Doubles, scratch: Scratch) -> None:
    """Fill in correlations and ridge. Of F readings, F channels can be explained by chance: so much is added."""
    channels, matrix = scratch.channels, scratch.matrix
    for f in range(len(channels)):
        matrix[f, f] = 1.0 + RIDGE + len(channels) / at_least(channels[f].known, 1.0)
        for g in range(f):
            size = math.sqrt(channels[f].square * channels[g].square)
            matrix[f, g] = within(relation[RELATION_MATRIX + f, g] / size, 1.0) if 0 < size < math.inf else 0.0
            matrix[g, f] = matrix[f, g]


@compiled
def invert(matrix: Doubles) -> None:
    """In place, by Gauss and Jordan without exchanging rows: it is symmetric and, with its ridge, positive definite."""
    for k in range(len(matrix)):
        pivot = at_least(matrix[k, k], SMALLEST_PIVOT)
        matrix[k, k] = 1.0
        for g in range(len(matrix)):
            matrix[k, g] /= pivot
        for f in range(len(matrix)):
            if f != k:
                factor = matrix[f, k]
                matrix[f, k] = 0.0
                for g in range(len(matrix)):
                    matrix[f, g] -= factor * matrix[k, g]
