"""Rows that need no broker: played by children of the nursery, one a core."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from tests.faults.figures import Cast, Figures
from tests.faults.oracle import Differences
from tests.faults.scene import write_checkpoint

CORES = 2
WITHIN_S = 1_800.0


class _Found(msgspec.Struct):
    differences: Differences
    happened: dict[str, int]


def schedules(cast: Cast, count: int, readings: int, *, many: bool = False) -> Figures:
    """Random batch borders, poll sizes, crashes and rebalances. many: readings a record, in every format."""
    found = _played(cast, "schedules", count, readings=readings, many=many)
    row = "schedules, many readings a record" if many else "random batch borders, polls, schedules"
    figures = Figures(row, count, count * readings, found.differences)
    figures.extra |= found.happened
    return figures


def pages(cast: Cast, count: int) -> Figures:
    """Damaged pages."""
    found = _played(cast, "pages", count)
    figures = Figures("pages damaged, cut, of others", count, 0, found.differences)
    figures.extra |= found.happened
    return figures


def _played(cast: Cast, role: str, count: int, **more: object) -> _Found:
    folder = Path(tempfile.mkdtemp(prefix="telltale-faults-"))
    path = write_checkpoint(folder / "quick.safetensors")
    children = []
    for core in range(CORES):
        numbers = list(range(core, count, CORES))
        orders = {
            "checkpoint": str(path),
            "seed": cast.seed,
            "numbers": numbers,
            "into": str(folder / f"{core}"),
            **more,
        }
        children.append(cast.nursery.start(role, orders, folder / f"{role}-{core}.log"))
    differences, happened = Differences(), Counter[str]()
    for core, child in enumerate(children):
        if code := child.wait(WITHIN_S):
            log = (folder / f"{role}-{core}.log").read_text()[-2_000:]
            differences.other.append(f"{role} ended with {code}: {log}")
            continue
        part = msgspec.json.decode((folder / f"{core}").read_bytes(), type=_Found)
        differences.add(part.differences)
        happened.update(part.happened)
    if differences.none:  # otherwise the logs say why
        shutil.rmtree(folder)
    return _Found(differences, dict(sorted(happened.items())))
