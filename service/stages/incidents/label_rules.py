"""What labels say of other anomalies: those like one that was called normal, and those that are not rare enough.

Alike are two anomalies of one stream, of the same kind and with the same channel foremost, of which the later is not
more severe, and that opened around the same hour: of each day, of the same day each week, or whenever. Around it is an
hour on each side, by the clock on the wall of a time zone.

A stream of which two labels or more say that it was nothing is asked for more: an anomaly that is no more severe than
these has to be rarer. Labels that say that it was a fault count against them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from models.data.time_units import DAY_MS
from service.stages.incidents.changes import SEVERITIES

AROUND_MS = 3_600_000
PERIODS = {"day": DAY_MS, "week": 7 * DAY_MS, "always": None}  # after which it may come again; None: whenever


MOST_FACTOR = 10.0  # so much rarer than what was called normal, at most


class Ruled(NamedTuple):
    """Why an anomaly is quiet."""

    control: str  # id of a label that says so
    reason: str  # as held_back gives it


class LabelRule(NamedTuple):
    """What one example says. opened_ms: event time; severity: its place in SEVERITIES, the highest that it reached."""

    control: str  # id of the label
    stream: str
    kind: str
    channel: str
    severity: int
    opened_ms: int
    period_ms: int | None  # one of PERIODS
    zone: ZoneInfo

    def fits(self, kind: str, channel: str, severity: int, opened_ms: int) -> bool:
        """Of an anomaly of its stream."""
        if (kind, channel) != (self.kind, self.channel) or severity > self.severity:
            return False
        if self.period_ms is None:
            return True
        apart = (_in_week_ms(opened_ms, self.zone) - _in_week_ms(self.opened_ms, self.zone)) % self.period_ms
        return min(apart, self.period_ms - apart) <= AROUND_MS


class LabelRules:
    """All that are in force; of several that fit, the first speaks."""

    def __init__(self) -> None:
        self._by_stream: dict[str, list[LabelRule]] = {}

    def add(self, rules: Iterable[LabelRule]) -> None:
        for one in rules:
            self._by_stream.setdefault(one.stream, []).append(one)

    def __len__(self) -> int:
        return sum(map(len, self._by_stream.values()))

    def __call__(self, stream: str, kind: str, channel: str, severity: int, opened_ms: int) -> Ruled | None:
        for one in self._by_stream.get(stream, ()):
            if one.fits(kind, channel, severity, opened_ms):
                return Ruled(one.control, f"rule of {one.control}")
        return None


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An anomaly that a label is about, as its events describe it."""

    stream: str  # its whole name
    kind: str  # as in its events
    channel: str  # with the largest share when it opened
    severity: str  # minor, major, critical: the highest that it reached
    opened_at: str  # RFC 3339
    return_period_s: float = 0.0  # how rarely its stream is as strange, the longest of its events; 0: not known


@dataclass(slots=True)
class _Said:
    """Of one stream. normal: ids of the labels that called it normal or known."""

    normal: list[str] = field(default_factory=list)
    faults: int = 0
    severity: int = 0  # the highest of those that were called normal
    longest_s: float = 0.0  # return period of those that were called normal
    shortest_fault_s: float = math.inf

    @property
    def asked_s(self) -> float:
        """The return period that is asked for; 0: any will do."""
        more = len(self.normal) - self.faults
        factor = min(MOST_FACTOR, 2.0 ** min(more - 1, 10)) if more > 1 else 0.0
        return min(self.longest_s * factor, self.shortest_fault_s)


class AskedRarity:
    """The return period that anomalies of a stream must have for people to be notified.

    It is twice the longest of those that were called normal once there are two such labels more than labels of faults,
    four times with three, up to MOST_FACTOR; never longer than that of an anomaly that was called a fault.
    """

    def __init__(self) -> None:
        self._by_stream: dict[str, _Said] = {}

    def add(self, control: str, *, fault: bool, examples: Sequence[Example]) -> None:
        """A label counts once a stream, however many examples of it there are. control: its id, later ones later."""
        for stream in dict.fromkeys(one.stream for one in examples):
            said = self._by_stream.setdefault(stream, _Said())
            periods = [one.return_period_s for one in examples if one.stream == stream and one.return_period_s > 0]
            if fault:
                said.faults += 1
                said.shortest_fault_s = min(said.shortest_fault_s, *periods, math.inf)
            else:
                said.normal.append(control)
                said.longest_s = max(said.longest_s, *periods, 0.0)
                severities = (SEVERITIES.index(one.severity) for one in examples if one.stream == stream)
                said.severity = max(said.severity, *severities)

    @property
    def streams(self) -> int:
        """Of how many streams something is asked."""
        return sum(one.asked_s > 0 for one in self._by_stream.values())

    def __call__(self, stream: str, severity: int, return_period_s: float) -> Ruled | None:
        """return_period_s: 0: not known, and rare enough."""
        said = self._by_stream.get(stream)
        if said is None or severity > said.severity or not 0 < return_period_s < said.asked_s:
            return None
        asked = f"once in {said.asked_s / 86_400:.2f} days"
        return Ruled(said.normal[0], f"less rare than {asked}, as {len(said.normal)} labels ask")


def _in_week_ms(time_ms: int, zone: ZoneInfo) -> int:
    """Time since Monday 0:00 as the clock on the wall shows it."""
    local = datetime.fromtimestamp(time_ms // 1000, zone)
    return ((local.weekday() * 24 + local.hour) * 60 + local.minute) * 60_000 + local.second * 1000
