"""What simulate() found, as tables: the figures that a change is judged by, then those of each set."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from models.evaluation.evidence import FEWEST_EVENTS, share_text
from models.evaluation.simulated import SimulatedRun
from models.evaluation.tables import Table, TitledTable, markdown, write_tables

ALL = "all"
FIGURES = "figures"

Runs = Sequence[SimulatedRun]


def tables(runs: Runs) -> list[TitledTable]:
    """First the figures of all sets, then a set at a time."""
    shown = [TitledTable(FIGURES, (["figure", "value"], [[name, value] for name, value in figures(runs).items()]))]
    for name, make in _TABLES.items():
        if of_set := [run for run in runs if run.set == name]:
            shown += make(of_set)
    return shown


def write(runs: Runs, path: Path) -> None:
    """path.csv, a row a series; path.json, the figures too; path.md, the tables."""
    text = "\n".join(f"## {title}\n\n{markdown(*table)}" for title, table in tables(runs))
    write_tables(path, [run._asdict() for run in runs], [figures(runs)], text)


def figures(runs: Runs) -> dict[str, str]:
    """Of the sets that were judged, by name."""
    shown = {}
    if of := _of_set(runs, "families"):
        by_family = _by(of, "family")
        shown["families: false in 10,000; worst family"] = (
            f"{_false(of):.2f}; {max(_false(one) for one in by_family.values()):.2f}"
        )
        shown |= {f"families: {_words(fault)} found": _share(one) for fault, one in _by_fault(of).items()}
        losses = [_mean(one, "loss") for one in by_family.values()]
        shown["families: loss over as before; worst family"] = f"{np.nanmean(losses):.2f}; {np.nanmax(losses):.2f}"
        shown["families: share in the 90 % band"] = _number(_mean(of, "band"), 3)
    if of := _of_set(runs, "plants"):
        shown["plants: alarms a machine in 14 days"] = _number(_false_each(of), 2)
        shown |= {f"plants: {_words(fault)} work found": _share(one) for fault, one in _by_fault(of).items()}
        clocked, free = _split(of, lambda run: run.family != "batch cycles")
        shown["plants: error at edges over noise; batch cycles"] = f"{_edge(clocked):.1f}; {_edge(free):.1f}"
        shown["plants: share in the 90 % band"] = _number(_mean(of, "band"), 3)
    if of := _of_set(runs, "constants"):
        shown["constants: alarms"] = f"{sum(run.false for run in of)}"
    if of := _of_set(runs, "machines"):
        shown["machines: faults found; worst kind"] = f"{_share(_faulty(of))}; {_worst_kind(of)}"
        shown["machines: false in 10,000"] = _number(_false(of), 2)
    return shown


def _families(runs: Runs) -> list[TitledTable]:
    faults = list(_by_fault(runs))
    header = ["family", "false / 10,000", "loss / as before", "90 % band", *map(_words, faults)]
    rows = []
    for name, of in {**_by(runs, "family"), ALL: runs}.items():
        found = [_percent(_by_fault(of).get(fault, ()), "found") for fault in faults]
        rows.append([name, f"{_false(of):.2f}", _number(_mean(of, "loss"), 2), _number(_mean(of, "band"), 3), *found])
    return [
        TitledTable("plain families: % of the faults found by kind", (header, rows)),
        TitledTable("plain families, by fault", _faults(runs)),
    ]


def _plants(runs: Runs) -> list[TitledTable]:
    header = ["plant", "alarms in 14 days", "loss / as before", "90 % band", "edge / noise", "missed: found", "delay"]
    rows = [
        [
            name,
            _number(_false_each(of), 2),
            _number(_mean(of, "loss"), 2),
            _number(_mean(of, "band"), 3),
            _number(_edge(of), 1),
            _share(_faulty(of)),
            _number(_median(of, "delay"), 0),
        ]
        for name, of in {**_by(runs, "family"), ALL: runs}.items()
    ]
    return [TitledTable("healthy plants, a machine", (header, rows)), TitledTable("plants, by fault", _faults(runs))]


def _constants(runs: Runs) -> list[TitledTable]:
    rows = [[name, f"{len(of)}", f"{sum(run.false for run in of)}"] for name, of in _by(runs, "family").items()]
    return [TitledTable("constants, 20 days", (["interval", "series", "alarms"], rows))]


def _machines(runs: Runs) -> list[TitledTable]:
    return [TitledTable(f"machines with faults: {_false(runs):.2f} false alarms in 10,000 readings", _faults(runs))]


def _asked(runs: Runs) -> list[TitledTable]:
    rows = []
    for name, of in _by(runs, "family").items():
        false, days = sum(run.false for run in of), sum(run.days for run in of)
        counted = f"{days / false:.1f} days" if false >= FEWEST_EVENTS else f"{false} in {days:.0f} days"
        rows.append([name, f"{len(of)}", f"{false}", counted])
    header = ["one false alarm asked for in", "streams", "alarms", "counted: one in"]
    return [TitledTable("false alarms asked for and counted, healthy machines", (header, rows))]


_TABLES: dict[str, Callable[[Runs], list[TitledTable]]] = {
    "families": _families,
    "plants": _plants,
    "constants": _constants,
    "machines": _machines,
    "asked": _asked,
}


def _faults(runs: Runs) -> Table:
    rows = [
        [
            _words(fault),
            f"{len(of)}",
            _share(of),
            _percent(of, "by_chance"),
            _number(_median(of, "delay"), 0),
        ]
        for fault, of in {**_by_fault(runs), ALL: _faulty(runs)}.items()
    ]
    return ["fault", "faults", "found", "by chance, %", "delay, readings"], rows


def _of_set(runs: Runs, name: str) -> Runs:
    return [run for run in runs if run.set == name]


def _by(runs: Runs, field: str) -> dict[str, list[SimulatedRun]]:
    names = dict.fromkeys(getattr(run, field) for run in runs)
    return {name: [run for run in runs if getattr(run, field) == name] for name in names}


def _by_fault(runs: Runs) -> dict[str, list[SimulatedRun]]:
    return _by(_faulty(runs), "fault")


def _faulty(runs: Runs) -> list[SimulatedRun]:
    return _split(runs, lambda run: run.fault != "")[0]


def _split(runs: Runs, where: Callable[[SimulatedRun], bool]) -> tuple[list[SimulatedRun], list[SimulatedRun]]:
    return [run for run in runs if where(run)], [run for run in runs if not where(run)]


def _known(runs: Iterable[SimulatedRun], field: str) -> list[float]:
    return [value for run in runs if not math.isnan(value := getattr(run, field))]


def _mean(runs: Iterable[SimulatedRun], field: str) -> float:
    known = _known(runs, field)
    return float(np.mean(known)) if known else math.nan


def _median(runs: Iterable[SimulatedRun], field: str) -> float:
    known = _known(runs, field)
    return float(np.median(known)) if known else math.nan


def _false(runs: Runs) -> float:
    """In 10,000 readings of those without a fault."""
    readings = sum(run.readings for run in runs)
    return 10_000 * sum(run.false for run in runs) / readings if readings else math.nan


def _false_each(runs: Runs) -> float:
    """Of a series without a fault."""
    healthy = [run.false for run in runs if run.readings]
    return float(np.mean(healthy)) if healthy else math.nan


def _edge(runs: Runs) -> float:
    return _mean(runs, "edge_error") / _mean(runs, "noise")


def _share(runs: Runs) -> str:
    found = _known(runs, "found")
    return f"{100 * np.mean(found):.0f} % of {len(found)}" if len(found) >= FEWEST_EVENTS else _percent(runs, "found")


def _percent(runs: Runs, field: str) -> str:
    """Of few faults the counts; "-" of none."""
    known = _known(runs, field)
    if not known:
        return "-"
    return f"{100 * np.mean(known):.0f}" if len(known) >= FEWEST_EVENTS else share_text(sum(known), len(known))


def _worst_kind(runs: Runs) -> str:
    """The kind of fault of which the smallest share is found, of those of which there are enough to have a share."""
    found = {fault: _mean(of, "found") for fault, of in _by_fault(runs).items() if _enough(of)}
    if not found:
        return "-"
    worst = min(found, key=lambda fault: found[fault])
    return f"{100 * found[worst]:.0f} % ({_words(worst)})"


def _enough(runs: Runs) -> bool:
    return len(_known(runs, "found")) >= FEWEST_EVENTS


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _words(fault: str) -> str:
    return fault.replace("_", " ")
