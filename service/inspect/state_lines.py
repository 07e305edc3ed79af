"""What is remembered of a stream, in lines for a terminal."""

from collections.abc import Iterator

from models.output.wording import counted
from service.inspect.inspection import Shown
from service.inspect.text_table import aligned


def lines_of(state: Shown, flush_interval_s: float) -> Iterator[str]:
    """For a terminal. flush_interval_s: how old a row may be."""
    behind = (
        "and the row with it"
        if state.through >= state.next_offset
        else f"the row holds all before {state.through:,}: rows are at most {flush_interval_s:g} s old"
    )
    given = "the one given" if state.is_given_checkpoint else "NOT the one given"
    judged = f"{counted(state.readings, 'reading')} judged, " + (
        f"scored, thresholds: residual {state.residual_threshold:.4g}, level {state.level_threshold:.4g} deviations"
        if state.scored
        else f"warming up: not scored before the {state.warm_up + 1}th"
    )
    alarm = state.alarm
    yield state.stream
    yield f"  place       topic {state.topic}, partition {state.partition}, page {state.page}, group {state.group}"
    yield f"  last        offset {state.applied:,}" + (f", {state.time}" if state.time else ", no reading yet")
    yield f"  partition   judged up to offset {state.next_offset:,}, {behind}"
    yield f"              after a crash it would be judged again from offset {state.replay_from:,}"
    yield f"  checkpoint  {state.checkpoint[:12]}, {given}; arithmetic {state.numerics}"
    yield f"  life        {judged}"
    yield "  alarm       " + (
        f"open since {alarm.since} (offset {alarm.opened_offset:,}), peak {alarm.peak:.4g}, {alarm.severity}"
        if alarm
        else "none"
    )
    yield f"  memory      |h| {state.hidden_norm:.4g}, |c| {state.cell_norm:.4g}"
    columns = ["last", "centre", "spread", "low", "high"]
    table = [["channel", *columns]]
    table += [[channel.name, *(_number(getattr(channel, name)) for name in columns)] for channel in state.channels]
    yield from (f"  {line}" for line in aligned(table))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
