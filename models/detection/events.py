"""What a reading leaves for the head that names kinds (see kinds), and for those who hear of alarms.

Sizes: F features, E symptoms a channel.
"""

from models.data.arrays import Doubles
from models.detection.alarm import Change, OpenedBy
from models.detection.arithmetic import at_least, at_most, logarithm, one_if, within
from models.detection.compiling import compiled
from models.detection.kinds import (
    BASE_READINGS,
    BASELINE_READINGS,
    BASELINE_SIGNALS,
    FARTHEST_SYMPTOM,
    PEAK_SPEEDS,
    SPEEDS,
    SYMPTOMS,
    VOTE_EVERY,
)
from models.detection.records import Events, Look, Rules, Scores, Scratch, Step
from models.detection.residual import FARTHEST_LEVEL
from models.detection.rows import Channels, Scalars
from models.detection.thresholds import return_periods

_RATES = tuple(1 / speed for speed in SPEEDS)
_FADES = tuple(1 - 1 / speed for speed in PEAK_SPEEDS)
_BASE, _BASELINES = SYMPTOMS.places["base"], SYMPTOMS.places["baseline_abs_diff"]
_PEAKS = SYMPTOMS.places[f"peak_{PEAK_SPEEDS[0]}"]


@compiled
def follow_symptoms(symptoms: Doubles, f: int, channel: Channels[float], look: Look, step: Step) -> None:
    """Take a reading into a channel's symptoms (E, F), before it is learned."""
    weight, moved, base = step.learns * look.present, abs(look.value - look.before), symptoms[_BASE, f]
    z = within(look.residual_z, FARTHEST_SYMPTOM)
    signals = (
        z,
        abs(z),
        at_most(moved / channel.spread, FARTHEST_SYMPTOM),
        one_if(moved == 0 and look.present > 0),
        1.0 - look.present,
        one_if(look.value == 0 and look.present > 0),
        within((look.value - base) / channel.spread, FARTHEST_SYMPTOM),
    )
    for speed in range(len(_RATES)):
        for signal in range(len(signals)):
            mean = speed * len(signals) + signal
            symptoms[mean, f] += (signals[signal] - symptoms[mean, f]) * _RATES[speed]
    for speed in range(len(_FADES)):
        symptoms[_PEAKS + speed, f] = at_least(symptoms[_PEAKS + speed, f] * _FADES[speed], signals[1])
    known = at_least(channel.known + weight, 1.0)
    rate = weight / at_most(known, BASELINE_READINGS)
    for n in range(len(BASELINE_SIGNALS)):
        symptoms[_BASELINES + n, f] += (signals[BASELINE_SIGNALS[n]] - symptoms[_BASELINES + n, f]) * rate
    symptoms[_BASE, f] += (look.value - base) * (weight / at_most(known, BASE_READINGS))


@compiled
def asks_for_kind(stream: Scalars[float], step: Step) -> bool:
    """The head is asked at every eighth reading of an alarm, the last one included, and where it rises."""
    in_alarm = stream.alarm > 0 or step.change != Change.NONE
    return in_alarm and (int(stream.length) % VOTE_EVERY == 1 or step.change == Change.UPDATED)


@compiled
def note(
    events: Events,
    count: int,
    stream: Scalars[float],
    relation: Doubles,
    scores: Scores,
    step: Step,
    scratch: Scratch,
    symptoms: Doubles,
    elapsed_ms: float,
    rules: Rules,
) -> None:
    event, looks = events.records[count], scratch.looks
    event.change, event.score = step.change.value, scores.score
    event.severity, event.opened_by, event.peak = step.severity, stream.opened_by, stream.peak
    event.opened_offset, event.opened_ms, event.length = stream.opened_offset, stream.opened_ms, stream.length
    event.began_ms = stream.opened_ms
    if step.change == Change.OPENED:
        event.began_ms -= lasted_ms(stream, scratch, elapsed_ms, rules)
    returns_ms = return_periods(stream, relation, scratch, scores, rules)
    for witness in range(len(returns_ms)):
        events.returns_ms[count, witness] = returns_ms[witness]
    for f in range(len(looks)):
        events.evidence[count, f] = evidence_of(looks[f], int(stream.opened_by))
        for e in range(len(symptoms)):
            events.symptoms[count, e * len(looks) + f] = symptoms[e, f]


@compiled
def lasted_ms(stream: Scalars[float], scratch: Scratch, elapsed_ms: float, rules: Rules) -> float:
    """How long what opens an alarm has lasted by then, as far as can be seen: of a run, since its first reading.

    Of a level that is off, as long as it takes until the smoothed deviation is what it is, if it was always as now.
    """
    witness, furthest, readings = int(stream.opened_by), 0.0, 0.0
    if witness == OpenedBy.SILENT:
        return elapsed_ms
    for f in range(len(scratch.looks)):
        channel, look = scratch.channels[f], scratch.looks[f]
        if abs(evidence_of(look, witness)) <= furthest:
            continue
        furthest = abs(evidence_of(look, witness))
        if witness == OpenedBy.STUCK:
            readings = look.still
        elif witness == OpenedBy.MISSING:
            readings = channel.missing_run - 1
        elif witness == OpenedBy.LEVEL:
            share = channel.level_deviation / within(look.distance, FARTHEST_LEVEL)
            full = at_least(at_most(share, 1 - rules.level_rate), rules.level_rate)
            readings = logarithm(1 - full) / logarithm(1 - rules.level_rate) - 1
    return readings * stream.interval_ms


@compiled
def evidence_of(look: Look, witness: int) -> float:
    """How strange a channel is to the witness that opened the alarm."""
    evidence = look.residual_z * look.counts
    if witness == OpenedBy.LEVEL:
        evidence = look.level_z * look.level_counts
    elif witness == OpenedBy.RANGE:
        evidence = look.outside
    elif witness == OpenedBy.SUDDEN:
        evidence = look.sudden_ratio
    elif witness == OpenedBy.STUCK:
        evidence = look.equal
    elif witness == OpenedBy.MISSING:
        evidence = look.missing
    elif witness == OpenedBy.SILENT:
        evidence = 1.0
    elif witness == OpenedBy.RELATION:
        evidence = at_least(
            abs(look.relation_z) * look.relation_counts, abs(look.relation_lasting) * look.lasting_counts
        )
    return evidence
