"""A page on two checkpoints that judged the same readings: where a second one differs from the one that judges."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import plotly.graph_objects as go

from models.output.page import COLOURS, Link, ReportPage
from models.output.wording import counted

SHADOW, CURRENT = "shadow", "current"
OF = {SHADOW: "the second", CURRENT: "the one that judges"}
STREAMS_DRAWN = 40  # those with most alarms
LINE_HEIGHT, MARGIN = 22, 120  # pixels
DEFINITIONS = (
    "Readings of streams that the second has warmed up are compared. An alarm is of one alone if the other had none "
    "open from its opening to its close. A score of 1 is the threshold of each: the scores are those of the reading "
    "at which the alarm opened."
)


class ComparedPartition(NamedTuple):
    """Readings, and alarms, of the second checkpoint and of the one that judges."""

    name: str
    readings: int
    only_shadow: int  # readings at which it alone had an alarm open
    only_current: int
    both: int
    opened: int  # alarms
    opened_current: int
    alone: int
    alone_current: int


class AloneAlarm(NamedTuple):
    """An alarm of one, while the other had none."""

    stream: str
    of: str  # shadow, current
    opened_ms: int
    closed_ms: int | None  # None: it is open
    severity: str
    score: float
    other_score: float
    peak: float


class Comparison(NamedTuple):
    """What a service has found. Digests of the checkpoints; streams: readings that differ, of those with most."""

    shadow: str
    current: str
    partitions: Sequence[ComparedPartition]
    streams: Mapping[str, int]
    alarms: Sequence[AloneAlarm]  # the latest, by the time when they opened
    most_alarms: int  # that it would name


def shadow_report(found: Comparison, link: Callable[[str, int], str] = lambda _stream, _at_ms: "") -> ReportPage:
    """link: where a stream may be looked at around a time; empty: nowhere."""
    whole = _sum_of(found.partitions)
    report = ReportPage(
        "Two checkpoints, the same readings",
        f"{found.shadow[:12]} beside {found.current[:12]}, which judges; {whole.readings:,} readings compared.",
    )
    if not whole.readings:
        return report.text("Nothing is compared yet: its streams warm up first.")
    report.text(_in_words(whole)).text(DEFINITIONS)
    rows = [(name, *(f"{number:,}" for number in numbers)) for name, *numbers in (*found.partitions, whole)]
    report.heading("By partition")
    report.table(
        ("partition", "compared", "the second alone", "the one that judges, alone", "both"),
        [row[:5] for row in rows],
        "Readings: those that were compared, and at which an alarm was open",
    )
    report.table(
        ("partition", "the second", "the one that judges", "the second alone", "the one that judges, alone"),
        [(row[0], *row[5:]) for row in rows],
        "Alarms",
    )
    report.heading("Streams that differ most")
    if found.streams:
        report.table(("stream", "readings at which one alone had an alarm open"), list(found.streams.items()))
    else:
        report.text("None does.")
    report.heading("Alarms of one alone")
    if not found.alarms:
        report.text("There is none.")
        return report
    if len(found.alarms) >= found.most_alarms:
        report.text(f"The latest {found.most_alarms}; the table by partition counts all.")
    report.plot(_when(found.alarms), "Each line is an alarm, from when it opened to when it closed. Times are UTC.")
    report.table(
        ("stream", "alarm of", "opened (UTC)", "closed (UTC)", "severity", "score", "the other's", "peak"),
        [_row(one, link) for one in reversed(found.alarms)],
    )
    return report


def _sum_of(partitions: Sequence[ComparedPartition]) -> ComparedPartition:
    return ComparedPartition("all", *(sum(column) for column in list(zip(*partitions, strict=True))[1:] or [()] * 8))


def _in_words(whole: ComparedPartition) -> str:
    differ = whole.only_shadow + whole.only_current
    return (
        f"They differ at {counted(differ, 'reading')}, {100 * differ / whole.readings:.3g} % of them. The second "
        f"opened {counted(whole.opened, 'alarm')}, {whole.alone} of them alone; the one that judges "
        f"{counted(whole.opened_current, 'alarm')}, {whole.alone_current} of them alone."
    )


def _row(alarm: AloneAlarm, link: Callable[[str, int], str]) -> tuple[object, ...]:
    where = link(alarm.stream, alarm.opened_ms)
    return (
        Link(alarm.stream, where) if where else alarm.stream,
        OF[alarm.of],
        _time(alarm.opened_ms),
        "open" if alarm.closed_ms is None else _time(alarm.closed_ms),
        alarm.severity,
        f"{alarm.score:.2f}",
        f"{alarm.other_score:.2f}",
        f"{alarm.peak:.2f}",
    )


def _when(alarms: Sequence[AloneAlarm]) -> go.Figure:
    """A line a stream, in the order of their first alarm; those with most alarms, where there are many."""
    counts: dict[str, int] = {}
    for one in alarms:
        counts[one.stream] = counts.get(one.stream, 0) + 1
    most = set(sorted(counts, key=lambda stream: -counts[stream])[:STREAMS_DRAWN])
    latest_ms = max(one.opened_ms if one.closed_ms is None else one.closed_ms for one in alarms)
    streams = [stream for stream in counts if stream in most]
    figure = go.Figure()
    for of, colour in ((SHADOW, COLOURS[1]), (CURRENT, COLOURS[0])):
        x: list[datetime | None] = []
        y: list[str | None] = []
        for one in alarms:
            if one.of == of and one.stream in most:
                closed_ms = latest_ms if one.closed_ms is None else one.closed_ms
                x += [_moment(one.opened_ms), _moment(closed_ms), None]
                y += [one.stream, one.stream, None]
        figure.add_trace(
            go.Scatter(
                x=x, y=y, name=OF[of], mode="lines+markers", line={"color": colour, "width": 4}, connectgaps=False
            )
        )
    figure.update_yaxes(automargin=True, categoryorder="array", categoryarray=streams[::-1])
    figure.update_layout(
        height=MARGIN + LINE_HEIGHT * len(streams), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    return figure


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _time(time_ms: int) -> str:
    return f"{_moment(time_ms):%Y-%m-%d %H:%M:%S}"
