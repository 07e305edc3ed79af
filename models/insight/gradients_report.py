"""Gradients and long memories as they were measured: tables, CSV and pages."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import plotly.graph_objects as go

from models.insight.gradients import Flow
from models.insight.memory_tasks import JUDGED_BATCHES, TASKS, Outcome, TrainingBudget, Trial
from models.net.cells import CELLS
from models.output.output_file import write_or_keep
from models.output.page import COLOURS, ReportPage

SHOWN_LAGS = (1, 10, 50, 100, 200)
MOMENTS = {
    "at first": "At initialisation",
    "chrono": "At initialisation, gated cells with biases for memories as long as the longest lag",
    "trained": "After training",
}
COLOUR = dict(zip(CELLS, COLOURS, strict=False))
LOWEST = 1e-12  # what is drawn of a gradient that has vanished
FLOW_CAPTION = (
    "Solid: along h. Dashed: along the cell state c. Shaded: 10 % to 90 % of the losses. A net without memory is the "
    "point at lag 1."
)
OUTCOME_RULE = (
    "Seeds that learned it, and after how many thousand sequences (median); else the last mean error (median)."
)
RULE = (
    "Norms are relative to that of h at lag 1 of the same loss; what is shown is the median over the losses. "
    "“A reading” is the factor by which one more reading multiplies it (the geometric mean from lag 10 to the last), "
    "and the half-life is the number of readings in which that factor halves it. The verdict: none, if it is exactly 0 "
    "beyond lag 1; explodes, if it is above 10 at some lag; vanishes, if it is below 0.01 at lag 100; else it carries."
)


def flow_table(flows: Sequence[Flow]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, with those lags that have been measured."""
    lags = [lag for lag in SHOWN_LAGS if any(lag <= len(flow.middle) for flow in flows)]
    names = ["cell", "moment", "with respect to", *(f"lag {lag}" for lag in lags), "a reading", "half-life", "verdict"]
    return names, [
        [
            flow.cell,
            flow.moment,
            flow.memory,
            *(_short(flow.at(lag)) for lag in lags),
            f"{flow.factor:.3f}",
            f"{flow.half_life:.1f}",
            flow.verdict,
        ]
        for flow in flows
    ]


def write_flows(path: Path, flows: Sequence[Flow]) -> None:
    """A line a lag: the median, and the tenth and ninetieth percentile."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["cell", "moment", "memory", "lag", "median", "low", "high"])
    for flow in flows:
        for lag, norms in enumerate(zip(flow.middle, flow.low, flow.high, strict=True), 1):
            lines.writerow([flow.cell, flow.moment, flow.memory, lag, *(f"{norm:.6g}" for norm in norms)])
    write_or_keep(path, text.getvalue())


def flow_report(flows: Sequence[Flow], about: str, remarks: Sequence[str] = ()) -> ReportPage:
    report = ReportPage("How far back a gradient reaches", about)
    for moment, heading in MOMENTS.items():
        if of_moment := [flow for flow in flows if flow.moment == moment]:
            report.heading(heading).plot(_flow_figure(of_moment), FLOW_CAPTION)
    report.heading("In numbers").text(RULE).table(*flow_table(flows))
    for remark in remarks:
        report.text(remark)
    return report


def _flow_figure(flows: Sequence[Flow]) -> go.Figure:
    """Norms over the lag; a cell has its colour."""
    figure = go.Figure()
    for flow in flows:
        lags = list(range(1, len(flow.middle) + 1))
        colour, name = COLOUR[flow.cell], f"{flow.cell}, {flow.memory}"
        around = [*flow.high.clip(LOWEST), *flow.low.clip(LOWEST)[::-1]]
        band = {"fill": "toself", "fillcolor": colour, "opacity": 0.1, "line": {"width": 0}, "mode": "lines"}
        figure.add_scatter(x=lags + lags[::-1], y=around, **band, hoverinfo="skip", showlegend=False, legendgroup=name)
        line = {"color": colour, "dash": "solid" if flow.memory == "h" else "dash"}
        mode = "lines" if flow.middle[1:].any() else "markers"  # a single point
        figure.add_scatter(x=lags, y=_drawn(flow), mode=mode, line=line, name=name, legendgroup=name)
    figure.update_xaxes(title="lag, readings")
    figure.update_yaxes(title="norm of the gradient, relative", type="log", exponentformat="power")
    figure.update_layout(height=460)
    return figure


def _drawn(flow: Flow) -> list[float | None]:
    """The curve, with gaps where it is below what is drawn."""
    return [float(norm) if norm >= LOWEST else None for norm in flow.middle]


def memory_report(outcomes: Sequence[Outcome], budget: TrainingBudget) -> ReportPage:
    limit = "" if math.isinf(budget.limit_s) else f" or {budget.limit_s:g} seconds"
    about = (
        f"One layer of {budget.hidden} units, Adam at {budget.learning_rate}, "
        f"gradients clipped to {budget.gradient_norm}, {budget.batch} fresh sequences an update, "
        f"at most {budget.updates:,} updates"
    )
    report = ReportPage("How long a memory can be learned", about)
    for task in TASKS.values():
        of_task = [outcome for outcome in outcomes if outcome.trial.task == task.name]
        if not of_task:
            continue
        report.heading(task.title).text(task.text)
        header, rows = outcome_table(of_task)
        report.table(header[1:], [row[1:] for row in rows], OUTCOME_RULE)
        report.plot(_outcome_figure(of_task), "Median number of sequences until it was learned, where it was.")
    return report.heading("How a trial ends").text(
        f"Learned: the mean error over {JUDGED_BATCHES * budget.batch} unseen sequences in a row is at most what the "
        f"task asks. Hopeless: after {budget.hopeless_after:,} updates it has never been below eight tenths of chance. "
        f"Budget: {budget.updates:,} updates{limit}. A seed that has not learned at a lag is not tried at longer ones. "
        "“Chrono” is the same cell with biases drawn for memories as long as the lag (Tallec & Ollivier 2018)."
    )


def outcome_table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row a task and cell, a column a lag."""
    lags = sorted({outcome.trial.lag for outcome in outcomes})
    by_row: dict[tuple[str, str], dict[int, list[Outcome]]] = {}
    for outcome in sorted(outcomes, key=_order):
        row = by_row.setdefault((outcome.trial.task, _cell(outcome.trial)), {})
        row.setdefault(outcome.trial.lag, []).append(outcome)
    header = ["task", "cell", *(f"lag {lag:,}" for lag in lags)]
    return header, [[*names, *(_result(row.get(lag, [])) for lag in lags)] for names, row in by_row.items()]


def _result(outcomes: Sequence[Outcome]) -> str:
    """Of one cell at one lag, over its seeds."""
    if not outcomes:
        return "-"
    learned = [outcome.sequences for outcome in outcomes if outcome.learned]
    share = f"{len(learned)}/{len(outcomes)}"
    if learned:
        return f"{share} after {_thousands(statistics.median(learned))}"
    return f"{share}, error {statistics.median(outcome.error for outcome in outcomes):.2f}"


def _outcome_figure(outcomes: Sequence[Outcome]) -> go.Figure:
    """Sequences until learned, over the lag; a cell has its colour."""
    figure = go.Figure()
    learned = sorted((outcome for outcome in outcomes if outcome.learned), key=_order)
    for name, some in groupby(learned, key=lambda outcome: _cell(outcome.trial)):
        by_lag = {lag: list(those) for lag, those in groupby(some, key=lambda outcome: outcome.trial.lag)}
        trial = next(iter(by_lag.values()))[0].trial
        figure.add_scatter(
            x=list(by_lag),
            y=[statistics.median(outcome.sequences for outcome in those) for those in by_lag.values()],
            name=name,
            mode="lines+markers",
            line={"color": COLOUR[trial.cell], "dash": "dash" if trial.chrono else "solid"},
        )
    figure.update_xaxes(title="lag, readings", type="log", tickvals=sorted({o.trial.lag for o in outcomes}))
    figure.update_yaxes(title="sequences until learned", type="log")
    return figure


def _order(outcome: Outcome) -> tuple[str, int, bool, int, int]:
    trial = outcome.trial
    return trial.task, list(CELLS).index(trial.cell), trial.chrono, trial.lag, trial.seed


def _cell(trial: Trial) -> str:
    return f"{trial.cell}, chrono" if trial.chrono else trial.cell


def _thousands(sequences: float) -> str:
    return f"{sequences / 1000:.1f}k"


def _short(norm: float) -> str:
    if math.isnan(norm):  # that lag was not measured
        return ""
    return f"{norm:.3f}" if 0.001 <= norm < 1000 or norm == 0 else f"{norm:.0e}"
