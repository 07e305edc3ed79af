"""An evaluation as one page: a table for each set, and what its figures are."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.evaluation.benchmark import BenchmarkRun
from models.evaluation.evaluation_tables import MARK, OVER_SETS, EvaluationSummary, facts, tables
from models.evaluation.evidence import FEWEST_SEEDS
from models.evaluation.tables import AREAS
from models.output.page import COLOURS, Link, ReportPage
from models.output.wording import counted

DEFINITIONS = {
    "Areas": AREAS,
    "Events": (
        "Event recall is the share of events that an alarm overlaps, precision the share of alarms that overlap an "
        "event; an alarm opens at score 1.0, for which no label was used. Alarms are counted a 10,000 readings and a "
        "stream's day of event time; delay is the median over the events found, in readings."
    ),
    "Readings": (
        "F1, FAR (false-alarm rate) and MAR (missed-alarm rate) of skab are of single readings, with the alarm open "
        "or not: so its published figures are made."
    ),
    "NAB": (
        "The score of Lavin & Ahmad 2015 for alarms as they open: 0 for a detector that never does, 100 for one that "
        "does at the first reading of every window. At score 1.0, then optimised: at the threshold with the best "
        "score, one for all series, which has seen the labels."
    ),
    "Baselines": (
        "They go through the same noise, calibration and alarm stage as the net, and the range rule stays on in all "
        "of them. Telltale is net, level and range together. Net alone is without the level, and so are last value, "
        "seasonal naive and PCA; level only is without any expectation of the next reading. A set with one feature has "
        "no PCA: in the mean over sets the last value stands in for it."
    ),
}


TITLES = {"vus_pr": "VUS-PR", "f1": "event F1", "false_alarms": "false alarms a 10,000 readings"}


def evaluation_report(runs: Sequence[BenchmarkRun], summaries: Sequence[EvaluationSummary]) -> ReportPage:
    """The page with the tables."""
    sets = list(dict.fromkeys(run.set for run in runs))
    seeds = 1 + max(run.seed for run in runs)
    report = ReportPage(
        "How well anomalies are found",
        f"{', '.join(sets)}; {counted(seeds, 'seed')}. Every series of a set can be looked at on pages beside "
        "this one, those of which most was missed first.",
    )
    for name in sets:
        report.link(Link(f"{name}, series by series", f"{name}.html"))
    report.text(MARK)
    for name in [*sorted({one.set for one in summaries} - set(sets)), *sets]:
        report.heading(name)
        if name != OVER_SETS:
            report.text(f"{facts(runs, name)}.")
        for header, rows in tables(summaries, name):
            report.table(header, rows)
        if measures := drawn_measures(summaries, name):
            report.plot(_bars(summaries, name, measures))
    report.heading("What the figures are")
    for name, definition in DEFINITIONS.items():
        report.text(f"{name}: {definition}")
    return report


def drawn_measures(summaries: Sequence[EvaluationSummary], name: str) -> list[str]:
    """Measures of which any detector has a figure."""
    of = [one for one in summaries if one.set == name]
    return [
        measure for measure in TITLES if any(measure not in one.few and not math.isnan(one.mean[measure]) for one in of)
    ]


def _bars(summaries: Sequence[EvaluationSummary], name: str, measures: Sequence[str]) -> go.Figure:
    figure = make_subplots(1, len(measures), subplot_titles=[TITLES[one] for one in measures])
    of = [one for one in summaries if one.set == name]
    for panel, measure in enumerate(measures, 1):
        figure.add_bar(
            y=[one.detector for one in of],
            x=[None if measure in one.few else one.mean[measure] for one in of],
            error_x=_deviations(of, measure),
            orientation="h",
            marker_color=[COLOURS[0] if n == 0 else COLOURS[4] for n in range(len(of))],
            showlegend=False,
            row=1,
            col=panel,
        )
    figure.update_yaxes(autorange="reversed")
    for panel in range(2, len(measures) + 1):
        figure.update_yaxes(showticklabels=False, col=panel)
    figure.update_layout(height=130 + 24 * len(of), modebar={"orientation": "v"})
    return figure


def _deviations(of: Sequence[EvaluationSummary], measure: str) -> dict[str, object] | None:
    """Over seeds, where there are enough."""
    if max(one.seeds for one in of) < FEWEST_SEEDS:
        return None
    shown = (one.seeds >= FEWEST_SEEDS and measure not in one.few for one in of)
    return {
        "array": [one.spread[measure] if told else None for one, told in zip(of, shown, strict=True)],
        "thickness": 1,
    }
