"""A simulated fleet of 100,000 streams for days: of what people are notified, and what that costs.

    python -m tests.service.stages.incidents.fleet

The anomalies are simulated, not the readings: some by chance, at a rate that is given; every second day a line of
which all 250 streams fail within a minute; and 50 faults, each of one to eight streams of one machine. A book with the
default settings takes them in by event time.
"""

import heapq
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from models.data.time_units import DAY_MS
from service.process.incidents import new_book
from service.settings.incident_section import IncidentSettings
from service.stages.incidents.changes import AnomalyChange
from service.stages.incidents.quiet import QuietTimes

STREAMS, FAULTS, STORM_EVERY_DAYS = 100_000, 50, 2
LINE, MACHINE = 250, 10  # streams of each: 10 sites, 400 lines
MINUTE_MS = 60_000
BEGINS_MS = 1_700_000_000_000
CHANCE = (0.95, 0.04, 0.01)  # of what comes by chance, how much is minor, major, critical; an assumption
OF_FAULTS = (0, 0, 1, 1, 1, 1, 1, 2, 2, 2)  # the most severe anomaly of ten faults; an assumption
RATES = ((430, 30), (5_500, 30), (82_000, 30))  # anomalies a day by chance, and for how many days


class Anomaly(NamedTuple):
    """cause: empty if by chance; else the storm or the fault that it is of."""

    began_ms: int
    lasts_ms: int
    stream: int
    severity: int
    cause: str = ""


class Outcome(NamedTuple):
    """a_day: anomalies by chance. weeks: notified in each seven days. faults: those sent, by severity, as planted."""

    a_day: int
    incidents: int
    notified: int
    weeks: list[int]
    planted: Counter[int]
    faults: Counter[int]
    storms: int
    delays_ms: list[int]  # from a fault's first anomaly to the notification
    by_severity: Counter[int]  # anomalies
    changes: int
    seconds: float


def stream_name(number: int) -> str:
    site, line = number // 10_000, number // LINE
    return f"site-{site}/line-{line}/machine-{number // MACHINE}/sensor-{number % MACHINE}"


def by_chance(a_day: int, days: int, seed: int) -> Iterator[Anomaly]:
    chance, now_ms = random.Random(seed), float(BEGINS_MS)
    while (now_ms := now_ms + chance.expovariate(a_day / DAY_MS)) < BEGINS_MS + days * DAY_MS:
        lasts_ms = round((5 + chance.expovariate(1 / 15)) * MINUTE_MS)
        severity = chance.choices((0, 1, 2), CHANCE)[0]
        yield Anomaly(round(now_ms), lasts_ms, chance.randrange(STREAMS), severity)


def planted(days: int, seed: int) -> list[Anomaly]:
    """Storms and faults, by their time."""
    chance, found = random.Random(seed), list[Anomaly]()
    for n in range(days // STORM_EVERY_DAYS):
        line, began_ms = chance.randrange(STREAMS // LINE), BEGINS_MS + round(chance.random() * days * DAY_MS)
        for stream in range(line * LINE, (line + 1) * LINE):
            at_ms = began_ms + round(chance.random() * MINUTE_MS)
            found.append(Anomaly(at_ms, 30 * MINUTE_MS, stream, 0, f"storm {n}"))
    for n in range(FAULTS):
        first, severity = chance.randrange(STREAMS // MACHINE) * MACHINE, OF_FAULTS[n % len(OF_FAULTS)]
        began_ms, lasts_ms = BEGINS_MS + round(chance.random() * (days - 1) * DAY_MS), chance.randint(120, 720)
        for of_machine in range(chance.randint(1, 8)):
            at_ms = began_ms + of_machine * chance.randint(1, 4) * MINUTE_MS
            severe = severity if of_machine == 0 else max(0, severity - 1)
            found.append(Anomaly(at_ms, lasts_ms * MINUTE_MS, first + of_machine, severe, f"fault {n}"))
    return sorted(found)


def changes_of(anomalies: Iterator[Anomaly]) -> Iterator[tuple[AnomalyChange, Anomaly]]:
    """What a worker would publish of them, by event time: each begins minor, rises, and closes."""
    waiting: list[tuple[int, int, AnomalyChange, Anomaly]] = []
    for n, one in enumerate(anomalies):
        while waiting and waiting[0][0] <= one.began_ms:
            yield waiting[0][2:]
            heapq.heappop(waiting)
        opened = AnomalyChange(f"a{n}", stream_name(one.stream), True, 0, "prediction", 1.2, one.began_ms, one.began_ms)
        yield opened, one
        if one.severity:
            at_ms = one.began_ms + 2 * MINUTE_MS
            risen = opened._replace(severity=one.severity, peak=1.2 + one.severity, time_ms=at_ms)
            heapq.heappush(waiting, (at_ms, 2 * n, risen, one))
        ends_ms = one.began_ms + one.lasts_ms
        ended = opened._replace(is_open=False, severity=one.severity, peak=1.2 + one.severity, time_ms=ends_ms)
        heapq.heappush(waiting, (ends_ms, 2 * n + 1, ended, one))
    while waiting:
        yield heapq.heappop(waiting)[2:]


def run_fleet(a_day: int, days: int, seed: int = 0) -> Outcome:
    book, changes = new_book(IncidentSettings(), QuietTimes()), 0
    incidents, notified_ms = set[str](), dict[str, int]()
    incidents_of, severities = defaultdict[str, set[str]](set), Counter[int]()
    by_hand = planted(days, seed)
    began_s = time.perf_counter()
    for change, anomaly in changes_of(heapq.merge(by_chance(a_day, days, seed), by_hand)):
        changes += 1
        for event in book.observe(change):
            incidents.add(event.data.incident)
            if event.data.notified:
                notified_ms.setdefault(event.data.incident, book.clock_ms)
        severities[anomaly.severity] += change.time_ms == change.opened_ms
        if anomaly.cause and (member := book.member(change.anomaly)):
            incidents_of[anomaly.cause].add(member.incident)
        if changes % 1_000 == 0:
            book.clean()  # as the stage does when it has written
    seconds = time.perf_counter() - began_s
    begins_ms, worst = dict[str, int](), Counter[str]()
    for one in by_hand:
        begins_ms.setdefault(one.cause, one.began_ms)
        worst[one.cause] = max(worst[one.cause], one.severity)
    sent = {
        cause: min(notified_ms[incident] for incident in of & notified_ms.keys())
        for cause, of in incidents_of.items()
        if of & notified_ms.keys()
    }
    faults = [cause for cause in begins_ms if cause.startswith("fault")]
    weeks = [
        sum(begin <= (at_ms - BEGINS_MS) / DAY_MS < begin + 7 for at_ms in notified_ms.values())
        for begin in range(days - 6)
    ]
    return Outcome(
        a_day,
        len(incidents),
        len(notified_ms),
        weeks,
        Counter(worst[cause] for cause in faults),
        Counter(worst[cause] for cause in faults if cause in sent),
        sum(cause.startswith("storm") for cause in sent),
        [max(0, sent[cause] - begins_ms[cause]) for cause in faults if cause in sent],
        severities,
        changes,
        seconds,
    )


def main() -> None:
    for a_day, days in RATES:
        found = run_fleet(a_day, days)
        fixed = [sum(n for of, n in found.by_severity.items() if of >= least) / days for least in range(3)]
        by_fixed = [sum(n for of, n in found.planted.items() if of >= least) for least in range(3)]
        late, latest = median(found.delays_ms) / MINUTE_MS, max(found.delays_ms) / MINUTE_MS
        print(f"{a_day} a day: {found.incidents / days:,.0f} incidents, {found.notified / days:.1f} sent a day")
        print(f"  a week {min(found.weeks)} to {max(found.weeks)}; storms {found.storms} of {days // STORM_EVERY_DAYS}")
        print(f"  faults {found.faults.total()} of {FAULTS}: {dict(found.faults)} of {dict(found.planted)} by severity")
        print(f"  {late:.1f} min after they began (median), {latest:.1f} at most")
        print(f"  fixed thresholds: {[f'{n:,.0f}' for n in fixed]} alarms a day, faults {by_fixed}")
        print(f"  {found.changes:,} changes in {found.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
