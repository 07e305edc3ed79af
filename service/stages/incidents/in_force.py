"""The controls in force: whether a stream is quiet by one, which label an anomaly has, and which rule is about it.

Of several that say something of the same anomaly, the first by its id speaks: the order in which they came is not
kept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.data.patterns import Streams
from models.data.rfc3339 import milliseconds_of
from models.data.time_units import DAY_MS
from service.stages.incidents.controls import (
    Acknowledgement,
    Control,
    Dependency,
    Holds,
    Label,
    Quiet,
    quiet_time,
    rules_of,
    span_of,
    type_of,
)
from service.stages.incidents.incident import Member
from service.stages.incidents.label_rules import AskedRarity, LabelRules, Ruled
from service.stages.incidents.quiet import QuietTimes

KEPT_MS = 7 * DAY_MS  # event time, after what they are about: an anomaly may be taken in late


@dataclass(slots=True)
class _Dependency:
    """holding: open anomalies of streams that the others depend on."""

    id: str
    streams: Streams
    on: Streams
    reason: str
    learn: bool
    holding: int = 0


class _Span(NamedTuple):
    streams: Streams
    from_ms: int
    until_ms: int
    label: str


class _View(NamedTuple):
    """The controls as questions are answered by them."""

    quiet: QuietTimes
    dependencies: Sequence[_Dependency]
    said_to_hold: Mapping[str, str]  # dependencies, by the id of the control that says so
    labels: Mapping[str, str]  # by anomaly
    spans: Sequence[_Span]
    rules: LabelRules
    rarity: AskedRarity


class ControlsInForce:
    """By id, all but acknowledgements, which are a part of their incident."""

    def __init__(self, settled: Mapping[str, Dependency] | None = None) -> None:
        """settled: what the settings say beside them; one that people give under its id replaces it."""
        self.held: dict[str, Control] = {}
        self._settled = settled or {}
        self._open: Counter[str] = Counter()  # anomalies by stream
        self._view: _View | None = None  # None: of other controls than there are now

    def put(self, name: str, control: Control) -> None:
        """Take it in; with the same id it replaces another."""
        if isinstance(control, Acknowledgement):
            raise TypeError("an acknowledgement is kept with its incident")
        self.held[name] = control
        self._view = None

    def drop(self, name: str) -> bool:
        """Whether there was one of this id."""
        self._view = None
        return self.held.pop(name, None) is not None

    def over(self, clock_ms: int) -> list[str]:
        """Ids of those that have long been about nothing more."""
        return [name for name, control in self.held.items() if clock_ms > _last_ms(control) + KEPT_MS]

    def note(self, stream: str, opened: int) -> None:
        """That many more of a stream's anomalies are open; fewer, if it is negative."""
        if not opened:
            return
        self._open[stream] += opened
        if not self._open[stream]:
            del self._open[stream]
        for one in self._view.dependencies if self._view is not None else ():
            if stream in one.on:
                one.holding += opened

    def quiet(self, stream: str, time_ms: int) -> str | None:
        """Why no one is notified of the stream at this event time; None: no control says that."""
        if not self.held and not self._settled:
            return None
        view = self._seen()
        found = view.quiet(stream, time_ms)
        if found is not None:
            return found
        for one in view.dependencies:
            if one.holding and stream in one.streams:
                return one.reason
        return None

    def holding_changed(self) -> Mapping[str, bool]:
        """Dependencies without learning of which the topic does not say yet whether they hold, and whether they do."""
        view = self._seen() if self.held or self._settled else None
        if view is None or not (view.dependencies or view.said_to_hold):
            return {}
        holding = {one.id for one in view.dependencies if one.holding and not one.learn}
        said = set(view.said_to_hold.values())
        return {**dict.fromkeys(sorted(said - holding), False), **dict.fromkeys(sorted(holding - said), True)}

    def label(self, anomaly: str, stream: str, opened_ms: int) -> str | None:
        """What people say that it was. What they say of the anomaly itself counts before what they say of a span."""
        if not self.held:
            return None
        view = self._seen()
        found = view.labels.get(anomaly)
        if found is not None:
            return found
        for one in view.spans:
            if one.from_ms <= opened_ms < one.until_ms and stream in one.streams:
                return one.label
        return None

    def ruled(self, one: Member) -> Ruled | None:
        """Why an anomaly is quiet by labels of others; None: it is not."""
        if not self.held:
            return None
        view = self._seen()
        found = view.rules(one.stream, one.kind, one.channel, one.severity, one.opened_ms)
        return found or view.rarity(one.stream, one.severity, one.return_period_s)

    @property
    def label_rules(self) -> int:
        """How many there are, one an example."""
        return len(self._seen().rules) if self.held else 0

    @property
    def rarer_streams(self) -> int:
        """Of how many streams labels ask for rarer anomalies."""
        return self._seen().rarity.streams if self.held else 0

    def counts(self) -> Counter[str]:
        """By type."""
        return Counter(map(type_of, self.held.values()))

    def _seen(self) -> _View:
        if self._view is None:
            named = sorted({**self._settled, **self.held}.items())
            ordered = [one for _, one in named]
            labels = [one for one in ordered if isinstance(one, Label)]
            rules, rarity = LabelRules(), AskedRarity()
            for name, one in named:
                if isinstance(one, Label):
                    rules.add(rules_of(name, one))
                    rarity.add(name, fault=one.label == "fault", examples=one.examples)
            self._view = _View(
                QuietTimes([quiet_time(one) for one in ordered if isinstance(one, Quiet)]),
                [self._dependency(name, one) for name, one in named if isinstance(one, Dependency)],
                {name: one.dependency for name, one in named if isinstance(one, Holds)},
                {one.anomaly: one.label for one in reversed(labels) if one.anomaly is not None},
                [_Span(Streams(one.streams), *span_of(one), one.label) for one in labels if one.streams is not None],
                rules,
                rarity,
            )
        return self._view

    def _dependency(self, name: str, one: Dependency) -> _Dependency:
        on = Streams(one.on)
        holding = sum(count for stream, count in self._open.items() if stream in on)
        return _Dependency(name, Streams(one.streams, but=one.on), on, one.reason, one.learn, holding)


def _last_ms(control: Control) -> int:
    """Event time of the last anomaly that it may be about. A label of an anomaly is given soon after that began."""
    if isinstance(control, Label) and control.examples:
        return 1 << 62
    if isinstance(control, Label) and control.anomaly is not None:
        return milliseconds_of(control.at)
    if isinstance(control, Quiet | Label) and control.until is not None:
        return milliseconds_of(control.until)
    return 1 << 62
