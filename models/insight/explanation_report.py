"""Pages that explain what the memory did, and what a stream is expected to read next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from models.data.arrays import Times
from models.detection.alarm import Change, OpenedBy
from models.detection.detector import Readings
from models.insight.explanation import CAVEAT, Account, Explained, Gate
from models.insight.forecasting import Band, Forecast
from models.output.page import COLOURS, ReportPage
from models.output.wording import counted

CHANNELS_SHOWN = 4  # of many, those that matter most
PAST_SHOWN = 4  # readings before a forecast, for each step of it
EVEN = 0.05  # of the largest weight: no more apart than this, none is the first
PANEL = 190  # pixels
ALARM = "#d55e00"
BAND = "rgba(0, 158, 115, 0.18)"
EXPECTED = COLOURS[2]
GATES = ((COLOURS[3], "solid"), (COLOURS[5], "dash"), (COLOURS[4], "dot"), (COLOURS[1], "dashdot"))
# Of a forecast, the narrowest first: the area, and the line at its edges.
BANDS = (("rgba(0, 114, 178, 0.34)", "solid"), ("rgba(0, 114, 178, 0.20)", "dash"), ("rgba(0, 114, 178, 0.10)", "dot"))
OPENED_BY = {
    OpenedBy.PREDICTION: "",
    OpenedBy.LEVEL: ", off its level",
    OpenedBy.RANGE: ", outside the range seen before",
    OpenedBy.SUDDEN: ", far from what was expected",
    OpenedBy.STUCK: ", unchanged for longer than ever",
    OpenedBy.MISSING: ", absent for longer than ever",
    OpenedBy.SILENT: ", after a silence",
    OpenedBy.RELATION: ", not as the other channels are",
}


class Subject(NamedTuple):
    """The stream that a page is about."""

    stream: str
    features: tuple[str, ...]
    checkpoint: str  # digest


def explanation_report(explained: Explained, subject: Subject) -> ReportPage:
    times, opened = _times(explained.readings), _alarms(explained)
    report = ReportPage(
        f"{subject.stream}: the memory laid open",
        f"{counted(len(times), 'reading')}, {counted(len(opened), 'alarm')}, "
        f"checkpoint {subject.checkpoint[:12]}. {CAVEAT}",
    )
    report.heading("Readings, score and gates")
    report.plot(
        _story(explained, subject.features),
        "Shaded green: the band that was expected. Shaded orange: an alarm is open. Gates: mean over a layer's units, "
        "and where the middle 80 % of them are. Drag to look closer: all panels move together.",
    )
    if explained.accounts:
        report.heading("What led to each alarm")
        for account in explained.accounts:
            _add_account(report, account, explained, subject.features)
    return report


def forecast_report(ahead: Forecast, past: Readings, came: Readings, subject: Subject) -> ReportPage:
    """past: readings up to the forecast. came: those after it, where they are known already; else none."""
    steps, interval_s = len(ahead.times_ms), ahead.interval_ms / 1000
    report = ReportPage(
        f"{subject.stream}: the next {counted(steps, 'reading')}",
        f"One every {interval_s:,.0f} s, checkpoint {subject.checkpoint[:12]}. {width_of(ahead)}",
    )
    shown = Readings(*(column[-PAST_SHOWN * steps :] for column in past))
    for f, name in enumerate(subject.features):
        report.heading(name)
        report.plot(_ahead(ahead, shown, came, f))
    last = [0, *range(max(1, steps // 8) - 1, steps, max(1, steps // 8))]
    for f, name in enumerate(subject.features[:CHANNELS_SHOWN]):
        rows = [
            (_time(int(ahead.times_ms[k])), *map(_short, (ahead.median[k, f], *_ends(ahead.bands, k, f))))
            for k in sorted(set(last))
        ]
        ends = [f"{100 * band.level:g} %: {end}" for band in ahead.bands for end in ("from", "to")]
        report.table(["time (UTC)", "median", *ends], rows, name)
    return report


def width_of(ahead: Forecast) -> str:
    """Where the bands' width comes from, for people."""
    drawn = (
        f"Paths are drawn with {counted(ahead.residuals, 'residual')} of the stream's own past"
        if ahead.residuals
        else "Too few residuals are known, so paths are drawn with normal ones"
    )
    if not ahead.origins:
        return f"{drawn}; too little past to try the bands out on."
    factors = ", ".join(
        f"{100 * band.level:g} % band by {factor:.2f}"
        for band, factor in zip(ahead.bands, ahead.widened.mean(axis=1), strict=True)
    )
    return f"{drawn}; tried out from {ahead.origins} places in the past and widened accordingly: {factors}."


def _story(explained: Explained, features: Sequence[str]) -> go.Figure:
    """One panel under the other along the same time."""
    times, shown = _times(explained.readings), _channels_to_show(explained)
    titles = [
        *(features[f] for f in shown),
        "score; 1 is the threshold",
        *(f"gates, layer {n + 1}" for n in range(len(explained.layers))),
        "memory: mean of its absolute values, and how far a reading moved it",
    ]
    figure = make_subplots(
        len(titles), 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.25 / len(titles)
    )
    for panel, f in enumerate(shown, 1):
        _reading_panel(figure, panel, explained, times, f, legend=panel == 1)
    score = len(shown) + 1
    figure.add_trace(_line(times, explained.verdicts.score.numpy(), "score", COLOURS[6]), score, 1)
    figure.add_hline(1.0, line={"color": ALARM, "dash": "dot", "width": 1}, row=score, col=1)
    for n, layer in enumerate(explained.layers):
        for g, gate in enumerate(layer.gates):
            _gate_lines(figure, score + 1 + n, times, gate, *GATES[g % len(GATES)], legend=n == 0)
        name = f", layer {n + 1}" if len(explained.layers) > 1 else ""
        figure.add_trace(_line(times, layer.memory, f"memory{name}", COLOURS[n]), len(titles), 1)
        figure.add_trace(_line(times, layer.change, f"change{name}", COLOURS[n], "dot"), len(titles), 1)
    for begin, end in _alarms(explained):
        figure.add_vrect(times[begin], times[end], fillcolor=ALARM, opacity=0.12, line_width=0)
    figure.update_layout(height=PANEL * len(titles) + 80, legend={"tracegroupgap": 2}, hovermode="x")
    figure.update_xaxes(showticklabels=True, row=len(titles), col=1)
    figure.update_annotations(font_size=13, x=0, xanchor="left")
    return figure


def _reading_panel(figure: go.Figure, panel: int, explained: Explained, times: Times, f: int, legend: bool) -> None:
    verdicts = explained.verdicts
    for trace in _band(times, verdicts.lower[:, f].numpy(), verdicts.upper[:, f].numpy(), "expected", BAND, legend):
        figure.add_trace(trace, panel, 1)
    expected = _line(times, verdicts.expected[:, f].numpy(), "expected", EXPECTED, "dot")
    observed = _line(times, explained.readings.values[:, f].numpy(), "observed", COLOURS[0])
    figure.add_trace(expected.update(showlegend=False), panel, 1)
    figure.add_trace(observed.update(showlegend=legend), panel, 1)


def _gate_lines(figure: go.Figure, panel: int, times: Times, gate: Gate, colour: str, dash: str, legend: bool) -> None:
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    for trace in _band(times, gate.low, gate.high, gate.name, f"rgba({red}, {green}, {blue}, 0.08)", legend=False):
        figure.add_trace(trace.update(legendgroup=gate.name), panel, 1)
    line = _line(times, gate.mean, gate.name, colour, dash)
    figure.add_trace(line.update(legendgroup=gate.name, showlegend=legend), panel, 1)


def _channels_to_show(explained: Explained) -> list[int]:
    """Those that the alarms' scores came from; without an alarm, those that were least as expected."""
    features = explained.readings.values.shape[1]
    if explained.accounts:
        weight = np.array([np.add(one.transition.share, one.weight) for one in explained.accounts]).sum(axis=0)
    else:
        verdicts = explained.verdicts
        out = ((explained.readings.values - verdicts.expected) / (verdicts.upper - verdicts.lower)).abs()
        weight = np.nan_to_num(out.numpy(), nan=0.0, posinf=0.0).max(axis=0, initial=0.0)
    return sorted(np.argsort(-weight, kind="stable")[: min(features, CHANNELS_SHOWN)].tolist())


def _alarms(explained: Explained) -> list[tuple[int, int]]:
    """From where to where an alarm was open."""
    open_now = explained.verdicts.alarm.numpy().astype(np.int64)
    edges = np.flatnonzero(np.diff(open_now, prepend=0, append=0))
    return [(begin, min(end, len(open_now) - 1)) for begin, end in edges.reshape(-1, 2).tolist()]


def _add_account(report: ReportPage, account: Account, explained: Explained, features: Sequence[str]) -> None:
    change = account.transition
    when = _time(int(explained.readings.times_ms[change.reading]))
    what = "opened" if change.change is Change.OPENED else "became more severe"
    report.text(
        f"{when} UTC: the alarm {what}, {change.severity.name.lower()}, score {change.score:.2f}"
        f"{OPENED_BY[change.opened_by]}. {agreement(account, features)}"
    )
    if len(features) > 1:
        _add_channels(report, account, features)
    report.table(
        ["layer and gate", "usual", "lowest", "highest", "drop, in usual spreads", "rise"],
        [
            (f"{one.layer + 1}, {one.gate}", *map(_short, (one.usual, one.lowest, one.highest, one.drop, one.rise)))
            for one in account.swings
        ],
        "Gates since the episode began, the mean over a layer's units, against the readings before it",
    )


def _add_channels(report: ReportPage, account: Account, features: Sequence[str]) -> None:
    """The channels with the largest weights."""
    columns = (account.weight, account.transition.share, account.without, account.alone)
    order = np.argsort(-np.array(account.weight), kind="stable")[: 2 * CHANNELS_SHOWN].tolist()
    rows = [(features[f], *(f"{column[f]:.2f}" for column in columns)) for f in order]
    header = ["channel", "weight by hiding it", "share of the residual", "score without it", "score with it alone"]
    report.table(header, rows)


def agreement(account: Account, features: Sequence[str]) -> str:
    """Whether hiding channels and the score's own shares name the same, for people."""
    if len(features) == 1:
        return "There is one channel, so it is that one."
    if not sum(account.weight):
        return "No channel's hiding alone changes the score: it comes from several, or from what the memory held."
    if _even(account.weight):
        return "Hiding any one channel changes the score as much: it takes all of them, and none is named first."
    by_hiding, by_share = (features[int(np.argmax(one))] for one in (account.weight, account.transition.share))
    if account.same_first:
        return f"Hiding channels and the score's own shares both name {by_hiding} first."
    return f"Hiding channels names {by_hiding} first, the score's own shares {by_share}: they do not agree."


def _even(weights: Sequence[float]) -> bool:
    return max(weights) - min(weights) < EVEN * max(weights)


def _ahead(ahead: Forecast, past: Readings, came: Readings, f: int) -> go.Figure:
    times = ahead.times_ms.astype("datetime64[ms]")
    figure = go.Figure()
    looks = {band.level: BANDS[min(n, len(BANDS) - 1)] for n, band in enumerate(sorted(ahead.bands, key=_level))}
    for band in sorted(ahead.bands, key=_level, reverse=True):
        fill, dash = looks[band.level]
        edge = {"width": 1, "color": COLOURS[0], "dash": dash}
        for trace in _band(times, band.lower[:, f], band.upper[:, f], f"{100 * band.level:g} %", fill, legend=True):
            figure.add_trace(trace.update(line=edge))
    figure.add_trace(_line(_times(past), past.values[:, f].numpy(), "read", COLOURS[6]))
    figure.add_trace(_line(times, ahead.median[:, f], "median", COLOURS[2]))
    if len(came.offsets):
        figure.add_trace(_line(_times(came), came.values[:, f].numpy(), "what came", COLOURS[1]))
    return figure


def _level(band: Band) -> float:
    return band.level


def _line(times: Times, values: NDArray[np.floating], name: str, colour: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(x=times, y=values, name=name, mode="lines", line={"color": colour, "width": 1.4, "dash": dash})


def _band(
    times: Times, lower: NDArray[np.floating], upper: NDArray[np.floating], name: str, colour: str, legend: bool
) -> tuple[go.Scatter, go.Scatter]:
    """An invisible line, and the area from it up to another."""
    edge = {"x": times, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return (
        go.Scatter(y=lower, showlegend=False, **edge),
        go.Scatter(y=upper, fill="tonexty", fillcolor=colour, name=f"{name} band", showlegend=legend, **edge),
    )


def _ends(bands: Sequence[Band], k: int, f: int) -> list[float]:
    return [float(end[k, f]) for band in bands for end in (band.lower, band.upper)]


def _times(readings: Readings) -> Times:
    return readings.times_ms.numpy().astype("datetime64[ms]")


def _time(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms"))[:19].replace("T", " ")


def _short(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"
