"""What few series, events or seeds cannot tell: no winner, no share and no deviation is made of them.

- FEWEST_SERIES: that one detector does better on each of five series happens by chance once in 16 (two-sided sign
  test), on each of six once in 32. So with fewer than six, no two can be told apart at TIE percent.
- FEWEST_EVENTS: of fewer than ten, one event is more than ten points of a share. The counts say as much, and no more.
- FEWEST_DAYS: a rate a day that is made of minutes says what a day would have if it were all like them.
- FEWEST_SEEDS: the middle 95 % of a standard deviation reach up to 32 times that of two values, 6 times that of three.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from models.evaluation.evaluation import OF_STREAMS, EventCounts
from models.evaluation.nab import PROFILES

TIE = 95  # percent
FEWEST_SERIES = 6
FEWEST_EVENTS = 10
FEWEST_SEEDS = 3
FEWEST_DAYS = 1.0  # of all series together, in event time
TOO_FEW, TOO_SHORT = "too few", "too short"
FEW_EVENTS = f"Of fewer than {FEWEST_EVENTS} events or alarms the counts are shown, not a share, and no F1."
FEW_DAYS = "Of less than a day of readings there is no rate a day."
FEW_SEEDS = f"Fewer than {FEWEST_SEEDS} seeds have none."


class Evidence(NamedTuple):
    """What a figure of a detector on a set is made of; means where there are several seeds."""

    series: float  # those that have something to measure
    whole: float = math.nan  # their events or alarms; NaN where a figure is of neither
    part: float = math.nan  # of a share
    days: float = math.inf  # of event time, where a figure is a rate a day

    @property
    def share(self) -> str | None:
        """What is shown in place of a share of too few, or of a rate a day of too short; None where there is enough."""
        if self.days < FEWEST_DAYS:
            return TOO_SHORT
        if not self.whole < FEWEST_EVENTS:
            return None
        return TOO_FEW if math.isnan(self.part) else share_text(self.part, self.whole)

    @property
    def comparable(self) -> bool:
        return self.series >= FEWEST_SERIES and not self.whole < FEWEST_EVENTS and self.days >= FEWEST_DAYS


class SetEvidence(NamedTuple):
    """Of all figures of a detector on a set."""

    all_series: Evidence
    by_name: dict[str, Evidence]

    def of(self, name: str) -> Evidence:
        return self.by_name.get(name, self.all_series)


def share_text(part: float, whole: float) -> str:
    """2 of 3; in the mean over seeds 1.7 of 3."""
    return f"{round(part, 1):g} of {round(whole, 1):g}"


def evidence_of(seeds: Sequence[Sequence[EventCounts]]) -> SetEvidence:
    """seeds: the counts of every series of the set, for each seed."""
    events, hits, alarms, false, days = (
        sum(getattr(one, name) for of in seeds for one in of) / len(seeds)
        for name in ("events", "hits", "alarms", "false", "days")
    )
    with_event, with_hit, with_alarm = (
        sum(getattr(one, name) > 0 for of in seeds for one in of) / len(seeds) for name in ("events", "hits", "alarms")
    )
    of_streams = {
        name: Evidence(sum(math.isfinite(getattr(one, name)) for of in seeds for one in of) / len(seeds))
        for name in OF_STREAMS
    }
    nab = {f"nab_{profile}{how}": Evidence(with_event) for profile in PROFILES for how in ("", "_optimised")}
    events_found = {
        "recall": Evidence(with_event, events, hits),
        "precision": Evidence(with_alarm, alarms, alarms - false),
        "f1": Evidence(with_event, events),
        "delay": Evidence(with_hit, hits),
        "point_f1": Evidence(with_event),
        "missed_alarm_rate": Evidence(with_event),
    }
    series = float(len(seeds[0]))
    a_day = dict.fromkeys(("false_alarms_a_day", "alarms_a_day"), Evidence(series, days=days))
    return SetEvidence(Evidence(series), {**of_streams, **nab, **events_found, **a_day})


def evidence_over_sets(sets: Sequence[SetEvidence]) -> SetEvidence:
    """The series of all sets decide together."""
    names = sets[0].by_name
    return SetEvidence(
        _together([one.all_series for one in sets]),
        {name: _together([one.of(name) for one in sets]) for name in names},
    )


def _together(sets: Sequence[Evidence]) -> Evidence:
    """A set with a single series is the same in every draw, as if it were certain: with it nothing can be compared.

    A mean of shares is no count: of a share it is kept only whether there is enough.
    """
    known = [one for one in sets if one.series]
    single = any(one.series < 2 for one in known)
    series = 0.0 if single else sum(one.series for one in known)
    return Evidence(series, sum(one.whole for one in known), days=sum(one.days for one in known))


def comparable(detectors: Mapping[str, Evidence]) -> set[str]:
    """Those that can be compared with each other; none if there is only one."""
    known = {name for name, one in detectors.items() if one.comparable}
    return known if len(known) > 1 else set()
