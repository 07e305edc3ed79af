"""A comparison of cells as one page: over all sets, then set by set, every seed a dot."""

import math
from collections.abc import Collection, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.evaluation.comparison import Comparison, ComparisonPlan, ComparisonRun
from models.evaluation.comparison_tables import (
    MARK,
    MEASURES,
    MEASURES_OVER_SETS,
    OVER_SETS,
    ComparisonSummary,
    cost_table,
    rank_table,
    summarise,
    table,
)
from models.evaluation.tables import AREAS, Measure
from models.output.page import COLOURS, ReportPage
from models.output.wording import counted

DRAWN = ("validation_error", "test_error", "vus_pr", "f1")
LEAST_RANGE = 0.1  # of an axis, as a share of its middle
DRAWN_OVER_SETS = ("validation_share", "test_share", "vus_pr", "f1")
DEFINITIONS = {
    "Errors": (
        "Validation error is the Huber loss of one step ahead, in spreads, on the last part of every training "
        "series, at the best epoch. Test error is the mean absolute error of one step ahead on test readings "
        "without a label, in spreads of the training part, each cut at 10; channels that do not move in the "
        "training part do not count."
    ),
    "Areas": AREAS,
    "Events": (
        "Recall is the share of events that an alarm overlaps, precision the share of alarms that overlap an event; "
        "no label was used to set the threshold. False alarms are counted a 10,000 readings; delay is the median, "
        "in readings."
    ),
    "Costs": (
        "Training is in seconds of processor time. Readings a second are those that the whole detector judges in a "
        "second of processor time with one thread and 512 streams side by side; medians of rounds in which the "
        "cells took turns."
    ),
}


def comparison_report(comparison: Comparison, plan: ComparisonPlan) -> ReportPage:
    summaries = summarise(comparison)
    sets = list(dict.fromkeys(run.job.set for run in comparison.runs))
    report = ReportPage("Which memory is worth it", _about(sets, plan))
    report.text(MARK)
    if len(sets) > 1:
        report.heading("Over all sets").text(
            "Errors are shares of the error of expecting no change: 1 is no better than that. "
            "The mean over sets of every figure, then its mean and deviation over seeds."
        )
        report.table(*table(summaries, OVER_SETS))
        if places := rank_table(summaries):
            report.table(*places, "Mean place over the sets, by the mean over seeds; 1 is the best.")
        report.plot(_over_sets(summaries, sets, comparison, plan), "A dot a set: its mean over seeds.")
    for name in sets:
        runs = [run for run in comparison.runs if run.job.set == name]
        report.heading(name).text(_facts(runs))
        report.table(*table(summaries, name)).table(*cost_table(summaries, name))
        few = {measure for one in summaries if one.set == name for measure in one.few}
        report.plot(_of_set(runs, plan, few), "A dot a seed; the line is their mean.")
    report.heading("What the figures are")
    for name, definition in DEFINITIONS.items():
        report.text(f"{name}: {definition}")
    return report


def _about(sets: Sequence[str], plan: ComparisonPlan) -> str:
    budget = plan.training
    return (
        f"{', '.join(plan.cells)}, trained on {', '.join(sets)} with the same budget. Seeds: {plan.seeds}, "
        f"hidden units: {plan.hidden}, layers: {plan.layers}, epochs: {budget.epochs} at most and {budget.patience} "
        f"without a better one, readings that gradients reach back: {budget.chunk_readings}."
    )


def _facts(runs: Sequence[ComparisonRun]) -> str:
    first = runs[0]
    facts = [counted(len(first.architecture.features), "feature")]
    if first.figures.events:
        facts.append(
            f"{counted(first.figures.events, 'event')} in {100 * first.figures.anomalous:.1f} % of the test readings"
        )
    facts.append(f"expecting no change: validation error {first.no_change_validation:.4f}")
    if not math.isnan(first.no_change_test):
        facts.append(f"test error {first.no_change_test:.4f}")
    diverged = [f"{run.job.cell} with seed {run.job.seed}" for run in runs if run.ended == "diverged"]
    listed = f" Diverged: {', '.join(diverged)}." if diverged else ""
    return f"{'; '.join(facts)}.{listed}"


def _of_set(runs: Sequence[ComparisonRun], plan: ComparisonPlan, few: Collection[str]) -> go.Figure:
    """few: measures of too few events, which are not drawn."""
    values = {
        name: {cell: [_value(run, name) for run in runs if run.job.cell == cell] for cell in plan.cells}
        for name in DRAWN
        if name not in few
    }
    drawn = [measure for measure in MEASURES if measure.name in values and _known(values[measure.name])]
    figure = _panels(drawn)
    for panel, measure in enumerate(drawn, start=1):
        cells = values[measure.name]
        dots = [(cell, value) for cell, found in cells.items() for value in found]
        _dots(figure, panel, "seeds", COLOURS[0], dots)
        means = [sum(found) / len(found) for found in cells.values()]
        mark = {"symbol": "line-ew", "size": 24, "line": {"width": 2, "color": COLOURS[1]}}
        figure.add_scatter(x=list(cells), y=means, mode="markers", marker=mark, showlegend=False, row=1, col=panel)
        figure.update_yaxes(range=_range([value for _, value in dots]), row=1, col=panel)
    return figure


def _range(values: Sequence[float]) -> list[float] | None:
    """Of an axis: at least a tenth of what is shown, so that a difference looks as small as it is."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    middle, half = (max(known) + min(known)) / 2, (max(known) - min(known)) / 2
    reach = max(1.1 * half, LEAST_RANGE * abs(middle) / 2)
    return [middle - reach, middle + reach]


def _over_sets(
    summaries: Sequence[ComparisonSummary], sets: Sequence[str], comparison: Comparison, plan: ComparisonPlan
) -> go.Figure:
    titles = {measure.name: measure for measure in MEASURES_OVER_SETS}
    of = {(one.set, one.cell): one for one in summaries}
    figure = _panels([titles[name] for name in DRAWN_OVER_SETS])
    for panel, name in enumerate(DRAWN_OVER_SETS, start=1):
        for number, one in enumerate(sets):
            dots = [(cell, _of_summary(of[one, cell], name, comparison)) for cell in plan.cells]
            _dots(figure, panel, one, COLOURS[number % len(COLOURS)], dots, legend=panel == 1)
    return figure


def _of_summary(summary: ComparisonSummary, name: str, comparison: Comparison) -> float:
    """Errors of a set, as shares of the error of expecting no change."""
    run = next(run for run in comparison.runs if run.job.set == summary.set)
    if name == "validation_share":
        return summary.mean["validation_error"] / run.no_change_validation
    if name == "test_share":
        return summary.mean["test_error"] / run.no_change_test
    return summary.mean[name]


def _value(run: ComparisonRun, name: str) -> float:
    value: float = getattr(run.figures if name in run.figures._fields else run, name)
    return value


def _known(cells: dict[str, list[float]]) -> bool:
    return any(not math.isnan(value) for found in cells.values() for value in found)


def _panels(measures: Sequence[Measure]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(measures), horizontal_spacing=0.08)
    for panel, measure in enumerate(measures, start=1):
        figure.update_yaxes(title={"text": measure.title, "standoff": 4}, row=1, col=panel)
    return figure


def _dots(
    figure: go.Figure,
    panel: int,
    name: str,
    colour: str,
    dots: Sequence[tuple[str, float]],
    *,
    legend: bool = False,
) -> None:
    figure.add_scatter(
        x=[cell for cell, _ in dots],
        y=[value for _, value in dots],
        mode="markers",
        marker={"size": 8, "color": colour, "opacity": 0.7},
        name=name,
        legendgroup=name,
        showlegend=legend,
        row=1,
        col=panel,
    )
