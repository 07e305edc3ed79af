"""Pages on which every series of a set can be looked at as it was judged, sorted by what was missed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.data.arrays import Bools, Doubles, Int64s
from models.evaluation.evaluation import Found, Judged, find_events, runs
from models.output.page import COLOURS, Link, ReportPage
from models.output.wording import counted

SERIES_A_PAGE = 8  # at most 1 MB, with three channels each
BUCKETS = 400  # of a line; each keeps its lowest and its highest reading
CHANNELS_SHOWN = 3  # of many, those with the largest share of the residual
PANEL = 150  # pixels
BAND = "rgba(0, 114, 178, 0.18)"
EVENT, ALARM = COLOURS[2], COLOURS[1]


class _Missed(NamedTuple):
    """A series of a set, and what was missed of it."""

    judged: Judged
    label: Bools
    found: Found

    @property
    def rank(self) -> tuple[int, int, str]:
        """What has most to be looked at comes first."""
        return self.found.hits - self.found.events, -self.found.false, self.judged.series.key


def set_reports(name: str, tested: Sequence[Judged], labels: Sequence[Bools]) -> dict[str, ReportPage]:
    """Pages by their file's name without its ending, the first that of the set: a list, and what was missed most.

    The other series are on pages behind it, some on each: one page with all of them would be too large to open.
    """
    rows = (_Missed(one, label, find_events(label, one.alarm)) for one, label in zip(tested, labels, strict=True))
    ranked = sorted(rows, key=lambda one: one.rank)
    stems = [name if n == 0 else f"{name}-{n + 1}" for n in range(-(-len(ranked) // SERIES_A_PAGE))]
    pages = {stem: ReportPage(f"{name}, series by series", _about(len(tested))) for stem in stems or [name]}
    pages[name].table(
        ["series", "readings", "events", "missed", "median delay", "alarms", "false"],
        [_row(one, f"{stems[n // SERIES_A_PAGE]}.html#series-{n}") for n, one in enumerate(ranked)],
        "Those of which most events were missed first, then those with most false alarms. Delays are in readings.",
    )
    for n, one in enumerate(ranked):
        page = pages[stems[n // SERIES_A_PAGE]]
        page.heading(one.judged.series.key, f"series-{n}").text(_facts(one)).plot(_story(one.judged, one.label))
    for stem in stems[1:]:
        pages[stem].link(Link("all series of the set", f"{name}.html"))
    return pages


def _about(series: int) -> str:
    return (
        f"{series} series: the test parts, as the first net judged them. Shaded blue: the band that was expected. "
        "Shaded green: a labelled event. Shaded orange: an alarm is open. Drag to look closer. Of many readings only "
        f"the lowest and the highest of each of {BUCKETS} stretches are drawn."
    )


def _row(one: _Missed, href: str) -> tuple[object, ...]:
    found = one.found
    delay = f"{np.median(found.delays):g}" if found.delays else "-"
    missed = found.events - found.hits
    key = Link(one.judged.series.key, href)
    return key, f"{len(one.label):,}", found.events, missed, delay, found.alarms, found.false


def _facts(one: _Missed) -> str:
    found = one.found
    delay = f" (median delay {np.median(found.delays):g} readings)" if found.delays else ""
    return (
        f"{counted(len(one.label), 'reading')}. Events: {found.events}, found: {found.hits}{delay}. "
        f"Alarms: {found.alarms}, false: {found.false}."
    )


def _story(judged: Judged, label: Bools) -> go.Figure:
    """Channels and score, one under the other along the same time."""
    shown = channels_to_show(judged)
    features = judged.series.features
    rest = (
        f" (the {len(shown)} of {len(features)} channels that are furthest off)" if len(shown) < len(features) else ""
    )
    titles = [f"{features[f]}{rest if n == 0 else ''}" for n, f in enumerate(shown)] + ["score; 1 is the threshold"]
    figure = make_subplots(len(titles), 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.2 / len(titles))
    times = judged.series.times_ms.astype(np.float64)  # half as long as dates in the page
    for panel, f in enumerate(shown, 1):
        _add_channel(figure, panel, judged, times, f)
    line = {"width": 1, "color": COLOURS[6]}
    figure.add_trace(_line(times, judged.score, extremes(judged.score), line, name="score"), len(titles), 1)
    figure.add_hline(1.0, line={"color": ALARM, "dash": "dot", "width": 1}, row=len(titles), col=1)
    spans = [*_spans(times, label, EVENT, 0.25), *_spans(times, judged.alarm, ALARM, 0.3)]
    figure.update_layout(
        shapes=[*figure.layout.shapes, *spans], height=PANEL * len(titles) + 90, showlegend=False, hovermode="x"
    )
    figure.update_xaxes(type="date")
    figure.update_annotations(font_size=13, x=0, xanchor="left")
    return figure


def _add_channel(figure: go.Figure, panel: int, judged: Judged, times: Doubles, f: int) -> None:
    """The expected band of a channel, and its values on top."""
    for edge, find, fill in ((judged.lower, np.fmin, None), (judged.upper, np.fmax, "tonexty")):
        line, place = {"width": 0, "color": BAND}, _bucketed(edge[:, f], find)
        trace = _line(times, edge[:, f], place, line, fill=fill, fillcolor=BAND, hoverinfo="skip")
        figure.add_trace(trace, panel, 1)
    values, line = judged.series.values[:, f], {"width": 1, "color": COLOURS[0]}
    figure.add_trace(_line(times, values, extremes(values), line, name=judged.series.features[f]), panel, 1)


def _line(times: Doubles, values: Doubles, place: Int64s, line: dict[str, Any], **options: Any) -> go.Scatter:
    return go.Scatter(x=times[place], y=values[place].astype(np.float32), line=line, **options)


def channels_to_show(judged: Judged) -> list[int]:
    """Those with the largest share of the residual where alarms are open, or anywhere if none is; as they come."""
    features = len(judged.series.features)
    if features <= CHANNELS_SHOWN:
        return list(range(features))
    half = np.maximum((judged.upper - judged.lower) / 2, 1e-300)
    squares = np.nan_to_num(((judged.series.values - judged.expected) / half) ** 2)
    squares = squares[judged.alarm] if judged.alarm.any() else squares
    shares = squares / np.maximum(squares.sum(1, keepdims=True), 1e-300)
    return sorted(np.argsort(-shares.sum(0), kind="stable")[:CHANNELS_SHOWN].tolist())


def extremes(values: Doubles, buckets: int = BUCKETS) -> Int64s:
    """Places of the lowest and the highest value of each bucket, rising; all of them if there are few. values: (R,)."""
    if len(values) <= 2 * buckets:
        return np.arange(len(values))
    return np.union1d(_bucketed(values, np.fmin, buckets), _bucketed(values, np.fmax, buckets))


def _bucketed(values: Doubles, find: np.ufunc, buckets: int = BUCKETS) -> Int64s:
    """The place of the lowest (fmin) or highest (fmax) value of each bucket; NaN only where there is no other."""
    begins = np.unique(np.linspace(0, len(values), min(buckets, len(values)), endpoint=False).astype(np.int64))
    best = np.repeat(find.reduceat(values, begins), np.diff(begins, append=len(values)))
    hit = np.flatnonzero((values == best) | (np.isnan(best)))
    bucket = np.searchsorted(begins, hit, side="right")
    place: Int64s = hit[np.unique(bucket, return_index=True)[1]]
    return place


def _spans(times: Doubles, marked: Bools, colour: str, opacity: float) -> list[dict[str, Any]]:
    """Over all panels; the thin border keeps a short one visible on a long axis."""
    shape = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "fillcolor": colour}
    border = {"width": 0.5, "color": colour}
    return [
        {**shape, "x0": times[begin], "x1": times[end - 1], "opacity": opacity, "line": border}
        for begin, end in runs(marked)
    ]
