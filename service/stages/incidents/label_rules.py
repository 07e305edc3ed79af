"""Rules that labels make: an anomaly like one that people called normal or known is nothing to notify anyone of.

Alike are two anomalies of one stream, of the same kind and with the same channel foremost, of which the later is not
more severe, and that opened around the same hour: of each day, of the same day each week, or whenever. Around it is an
hour on each side, by the clock on the wall of a time zone.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from models.data.time_units import DAY_MS

AROUND_MS = 3_600_000
PERIODS = {"day": DAY_MS, "week": 7 * DAY_MS, "always": None}  # after which it may come again; None: whenever


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

    def __call__(self, stream: str, kind: str, channel: str, severity: int, opened_ms: int) -> str | None:
        """Id of the label whose rule is about such an anomaly; None: there is none."""
        mine = self._by_stream.get(stream, ())
        return next((one.control for one in mine if one.fits(kind, channel, severity, opened_ms)), None)


def _in_week_ms(time_ms: int, zone: ZoneInfo) -> int:
    """Time since Monday 0:00 as the clock on the wall shows it."""
    local = datetime.fromtimestamp(time_ms // 1000, zone)
    return ((local.weekday() * 24 + local.hour) * 60 + local.minute) * 60_000 + local.second * 1000
