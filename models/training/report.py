"""How a run of training went, as a page: its losses and gradients, what it forecasts, whether its bands hold, its data.

Forecasts are those of the detector on the validation part of some streams, after the readings before it, as in service.
Sizes: S streams, F features, N readings of a stretch.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.data.arrays import Doubles
from models.data.series import Series
from models.data.windows import pieces_of, scale_of
from models.detection.detector import DetectorConfig
from models.detection.judging import judge_series
from models.detection.priming import prime
from models.detection.records import BAND_DEVIATIONS
from models.net.forecaster import Forecaster
from models.output.page import COLOURS, ReportPage
from models.output.wording import compared, counted
from models.training.loop import Fitted
from models.training.run import Epoch, TrainingConfig

JUDGED_STREAMS = 24
WARM_READINGS = 2048  # at most, of each of them: those before its validation part
JUDGED_READINGS = 512
SHOWN_READINGS = 240
FARTHEST_SHOWN = 6.0  # standard deviations, in the histogram
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.9973)
BAND = "rgba(86, 180, 233, 0.25)"  # COLOURS[4], seen through


class _JudgedSeries(NamedTuple):
    """A channel of a stretch of validation readings, in the sensor's units, without missing values."""

    stream: str
    feature: str
    times_ms: Doubles  # (N,)
    observed: Doubles
    expected: Doubles
    noise: Doubles  # standard deviation that the detector expects of observed - expected
    spread: float  # of the channel, from the readings before

    @property
    def standardised(self) -> Doubles:
        return (self.observed - self.expected) / self.noise

    @property
    def error(self) -> float:
        """Mean absolute error, in spreads."""
        return float(np.abs(self.observed - self.expected).mean()) / self.spread


def training_report(fitted: Fitted, series: Sequence[Series], training: TrainingConfig, source: str) -> ReportPage:
    """series: what fit() was given. source: where it is from, for people."""
    config, readings = fitted.forecaster.config, sum(len(one.times_ms) for one in series)
    report = ReportPage(
        "A run of training",
        f"{source}: {counted(len(series), 'stream')}, {counted(readings, 'reading')}, "
        f"{counted(len(config.features), 'feature')}; {config.cell}, {config.hidden} hidden units, "
        f"{counted(config.layers, 'layer')}; {counted(len(fitted.epochs), 'epoch')} in {fitted.seconds:.0f} s, "
        f"ended: {fitted.ended}.",
    )
    _verdict(report, fitted)
    if fitted.epochs:
        report.heading("Losses").plot(_losses(fitted), LOSSES)
        report.heading("Gradients").plot(_gradients(fitted.epochs, training), GRADIENTS)
        report.plot(_rates(fitted.epochs))
    judged = _judge(fitted.forecaster, series, training)
    if judged:
        report.heading("Forecasts").plot(_examples(judged), EXAMPLES)
        _calibration(report, judged)
    else:
        report.heading("Forecasts").text("No stream has a validation part long enough to judge forecasts by.")
    _data(report, series)
    return report


LOSSES = (
    "Huber loss of one step ahead, in spreads of each channel; the lower, the better. Validation readings, the last "
    "of every stream, are not learned from. The dashed line expects every reading to be as the one before."
)
GRADIENTS = (
    "Norm of the gradient before clipping: mean and largest of each epoch. Above the dashed line a gradient is clipped "
    "to that norm; if that is most of them, the learning rate no longer means what it says."
)
EXAMPLES = (
    "One step ahead on readings that were not learned from: of all channels judged, the one forecast best, the one in "
    "the middle and the one forecast worst, by mean error in spreads. The band is the detector's: three standard "
    "deviations of its own residual either side."
)
RESIDUALS = (
    "Left: residuals, in standard deviations as the detector expects them, beside a normal distribution; what is "
    "farther out is in the outermost bars. Right: the share of each twentieth of that distribution. Flat: the bands "
    "are right. High in the middle: they are too wide. High at both ends: too narrow. Lopsided: the forecast is biased."
)


def _verdict(report: ReportPage, fitted: Fitted) -> None:
    best = fitted.best
    if best is None and fitted.start_loss is not None:
        report.text("No epoch was better than the net that comes with Telltale: it is kept as it is.")
    elif best is None:
        report.text("No epoch was better than expecting no change: the forecaster does just that.")
    elif fitted.persistence_loss > 0:
        off = compared(best.validation_loss, fitted.persistence_loss, "that of expecting no change")
        report.text(f"The weights are those of epoch {best.number}: validation loss {best.validation_loss:.4f}, {off}.")
    for remark in fitted.remarks or ("Nothing in the course of training stands out.",):
        report.text(remark)


def _losses(fitted: Fitted) -> go.Figure:
    numbers = [epoch.number for epoch in fitted.epochs]
    figure = go.Figure(layout={"xaxis_title": "epoch", "yaxis_title": "loss"})
    for name, losses in (
        ("training", [epoch.loss for epoch in fitted.epochs]),
        ("validation", [epoch.validation_loss for epoch in fitted.epochs]),
    ):
        figure.add_scatter(x=numbers, y=losses, name=name, mode="lines+markers")
    best = fitted.best
    if best is not None:
        ring = {"symbol": "circle-open", "size": 14, "color": COLOURS[1], "line": {"width": 2}}
        figure.add_scatter(x=[best.number], y=[best.validation_loss], name="best", mode="markers", marker=ring)
    losses = [one for epoch in fitted.epochs for one in (epoch.loss, epoch.validation_loss) if math.isfinite(one)]
    log = bool(losses) and max(losses) > 20 * min(losses) > 0
    figure.update_yaxes(type="log" if log else "linear")
    if fitted.persistence_loss > 0:
        _mark(figure, fitted.persistence_loss, "no change", log=log)
    return _few_ticks(figure, len(numbers))


def _gradients(epochs: Sequence[Epoch], training: TrainingConfig) -> go.Figure:
    numbers = [epoch.number for epoch in epochs]
    figure = go.Figure(layout={"xaxis_title": "epoch", "yaxis_title": "gradient norm", "yaxis_type": "log"})
    for name, norms in (
        ("mean", [epoch.gradient_norm for epoch in epochs]),
        ("largest", [epoch.largest_norm for epoch in epochs]),
    ):
        figure.add_scatter(x=numbers, y=norms, name=name, mode="lines+markers")
    _mark(figure, training.gradient_norm, "clipped above", log=True)
    return _few_ticks(figure, len(numbers))


def _rates(epochs: Sequence[Epoch]) -> go.Figure:
    numbers = [epoch.number for epoch in epochs]
    figure = make_subplots(rows=1, cols=2)
    rate, clipped = [epoch.learning_rate for epoch in epochs], [100 * epoch.clipped_share for epoch in epochs]
    figure.add_scatter(x=numbers, y=rate, mode="lines+markers", line_shape="hv", showlegend=False, row=1, col=1)
    figure.add_scatter(x=numbers, y=clipped, mode="lines+markers", showlegend=False, row=1, col=2)
    figure.update_layout(height=280)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(type="log", title_text="learning rate", row=1, col=1)
    figure.update_yaxes(range=[-5, 105], title_text="steps clipped, %", row=1, col=2)
    return _few_ticks(figure, len(numbers))


def _mark(figure: go.Figure, value: float, text: str, *, log: bool) -> None:
    """A dashed line at a value, named at its right end. Where the axis is a logarithm, a text stands at one."""
    figure.add_hline(y=value, line_dash="dash", line_color=COLOURS[6])
    y = math.log10(value) if log else value
    figure.add_annotation(x=1, xref="paper", y=y, text=text, showarrow=False, yshift=9, xanchor="right")


def _few_ticks(figure: go.Figure, epochs: int) -> go.Figure:
    """Whole epochs only."""
    figure.update_xaxes(dtick=max(1, math.ceil(epochs / 20)), range=[0.5, epochs + 0.5])
    return figure


def _judge(forecaster: Forecaster, series: Sequence[Series], training: TrainingConfig) -> list[_JudgedSeries]:
    """Every channel of some streams, judged on the beginning of its validation part."""
    borders = [len(one.times_ms) - int(len(one.times_ms) * training.validation_share) for one in series]
    long_enough = [n for n, one in enumerate(series) if borders[n] < len(one.times_ms)]
    if not long_enough:
        return []
    some = np.linspace(0, len(long_enough) - 1, min(len(long_enough), JUDGED_STREAMS)).astype(int)
    chosen = [long_enough[n] for n in some]
    before = [series[n].select(slice(max(0, borders[n] - WARM_READINGS), borders[n])) for n in chosen]
    after = [series[n].select(slice(borders[n], borders[n] + JUDGED_READINGS)) for n in chosen]
    detector = prime(forecaster, DetectorConfig(), before)
    verdicts = judge_series(detector, after, detector.known_rows)
    values, expected = np.concatenate([one.values for one in after]), verdicts.expected.numpy()
    noise = (verdicts.upper.numpy() - expected) / BAND_DEVIATIONS
    judged = []
    begin = 0
    for one, learned in zip(after, before, strict=True):
        part = slice(begin, begin + len(one.times_ms))
        begin = part.stop
        _, spread, _ = scale_of(learned)
        for channel, feature in enumerate(one.features):
            known = np.isfinite(values[part, channel]) & np.isfinite(expected[part, channel])
            if known.any() and _moves(learned.values[:, channel]):
                observed, middle, deviation = (table[part, channel][known] for table in (values, expected, noise))
                times_ms, unit = one.times_ms[known], float(spread[channel])
                judged.append(_JudgedSeries(one.key, feature, times_ms, observed, middle, deviation, unit))
    return judged


def _moves(column: Doubles) -> bool:
    """A channel that never does is forecast perfectly, and would flatter the bands."""
    known = column[np.isfinite(column)]
    return len(known) > 0 and bool(known.min() < known.max())


def _examples(judged: Sequence[_JudgedSeries]) -> go.Figure:
    ranked = sorted(judged, key=lambda one: one.error)
    shown = {id(one): one for one in (ranked[0], ranked[len(ranked) // 2], ranked[-1])}.values()
    titles = [f"{one.stream}: {one.feature} (error {one.error:.2f} spreads)" for one in shown]
    figure = make_subplots(rows=len(shown), cols=1, subplot_titles=titles, vertical_spacing=0.36 / (len(shown) + 1))
    for row, one in enumerate(shown, 1):
        times, observed, expected, noise = (
            column[:SHOWN_READINGS] for column in (one.times_ms, one.observed, one.expected, one.noise)
        )
        when, half = times.astype("datetime64[ms]"), BAND_DEVIATIONS * noise
        place = {"row": row, "col": 1}
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band", "name": "band"}
        figure.add_scatter(x=when, y=expected - half, showlegend=False, **edge, **place)
        figure.add_scatter(
            x=when, y=expected + half, fill="tonexty", fillcolor=BAND, showlegend=row == 1, **edge, **place
        )
        for name, column, colour in (("observed", observed, COLOURS[6]), ("expected", expected, COLOURS[0])):
            line = {"width": 1.4, "color": colour}
            figure.add_scatter(x=when, y=column, name=name, line=line, legendgroup=name, showlegend=row == 1, **place)
    figure.update_layout(height=90 + 240 * len(shown))
    return figure


def _calibration(report: ReportPage, judged: Sequence[_JudgedSeries]) -> None:
    standardised = np.concatenate([one.standardised for one in judged])
    streams = len({one.stream for one in judged})
    report.heading("Residuals and bands")
    report.text(f"Of {counted(len(standardised), 'validation value')}, of {counted(streams, 'stream')}:")
    rows = []
    for level in LEVELS:
        half = NormalDist().inv_cdf((1 + level) / 2)
        inside = float((np.abs(standardised) <= half).mean())
        rows.append((f"± {half:.2f}", f"{100 * level:.4g} %", f"{100 * inside:.2f} %"))
    report.table(("band, in standard deviations", "a normal distribution has inside", "found inside"), rows)
    report.plot(_residuals(standardised), RESIDUALS)


def _residuals(standardised: Doubles) -> go.Figure:
    normal, edges = NormalDist(), np.linspace(-FARTHEST_SHOWN, FARTHEST_SHOWN, 61)
    counts, _ = np.histogram(standardised.clip(-FARTHEST_SHOWN, FARTHEST_SHOWN), edges)
    width, middles = edges[1] - edges[0], (edges[1:] + edges[:-1]) / 2
    twentieths = np.array([normal.inv_cdf(n / 20) for n in range(1, 20)])
    shares = np.bincount(np.searchsorted(twentieths, standardised), minlength=20) / len(standardised)
    figure = make_subplots(rows=1, cols=2)
    density = counts / (len(standardised) * width)
    figure.add_bar(x=middles, y=density, name="residuals", marker_color=COLOURS[4], row=1, col=1)
    line = {"color": COLOURS[1]}
    figure.add_scatter(x=middles, y=[normal.pdf(x) for x in middles], name="normal", line=line, row=1, col=1)
    places = (np.arange(20) + 0.5) / 20
    figure.add_bar(x=places, y=100 * shares, marker_color=COLOURS[4], showlegend=False, row=1, col=2)
    figure.add_hline(y=5, line_color=COLOURS[1], row=1, col=2)
    figure.update_layout(bargap=0)
    figure.update_xaxes(title_text="standard deviations", row=1, col=1)
    figure.update_xaxes(title_text="place in a normal distribution", row=1, col=2)
    figure.update_yaxes(title_text="density", row=1, col=1)
    figure.update_yaxes(title_text="share of each twentieth, %", row=1, col=2)
    return figure


def _data(report: ReportPage, series: Sequence[Series]) -> None:
    lengths = sorted(len(one.times_ms) for one in series)
    first, last = (int(choose(choose(one.times_ms) for one in series)) for choose in (min, max))
    steps = np.concatenate([np.diff(one.times_ms[:SHOWN_READINGS]) for one in series[:1_000]])
    report.heading("Data")
    report.table(
        ("what", "value"),
        (
            ("streams", f"{len(series):,}"),
            ("readings", f"{sum(lengths):,}"),
            ("of a stream", f"{lengths[0]:,} to {lengths[-1]:,}, median {lengths[len(lengths) // 2]:,}"),
            ("from", _utc(first)),
            ("to", _utc(last)),
            ("between two readings", f"{np.median(steps) / 1000:g} s (median)"),
        ),
    )
    report.table(("feature", "lowest", "mean", "highest", "missing"), _features(series))


def _features(series: Sequence[Series]) -> list[tuple[str, ...]]:
    """Over all streams, piece by piece: the data may be larger than memory."""
    names = series[0].features
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    total, known, count = np.zeros(len(names)), np.zeros(len(names), np.int64), 0
    for one in series:
        for piece in pieces_of(one.values):
            is_known = np.isfinite(piece)
            low = np.minimum(low, np.where(is_known, piece, np.inf).min(0))
            high = np.maximum(high, np.where(is_known, piece, -np.inf).max(0))
            total += np.where(is_known, piece, 0.0).sum(0)
            known += is_known.sum(0)
            count += len(piece)
    return [
        (
            name,
            *((f"{low[n]:.6g}", f"{total[n] / known[n]:.6g}", f"{high[n]:.6g}") if known[n] else ("-", "-", "-")),
            f"{100 * (1 - known[n] / count):.2f} %",
        )
        for n, name in enumerate(names)
    ]


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
