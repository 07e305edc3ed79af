"""Runs over sets of series that take long: each is kept in a file of its own as soon as it is done.

A set is what lies in one folder: files with the same features, which one net can learn together.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from models.data.series import UnusableData, find_files
from models.output.output_file import write_or_keep

T = TypeVar("T")


def find_sets(paths: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """The data files by the name of the folder they lie in."""
    sets: dict[str, list[Path]] = {}
    for path in find_files(paths):
        sets.setdefault(path.resolve().parent.name, []).append(path)
    for name, files in sets.items():
        if len(folders := sorted({str(path.resolve().parent) for path in files})) > 1:
            raise UnusableData(f"{folders[0]} and {folders[1]}: two folders named {name}; a set is named by its folder")
    return {name: tuple(files) for name, files in sets.items()}


def side_by_side(do: Callable[..., T], todo: Sequence[tuple[Any, ...]], processes: int) -> Iterator[T]:
    """do(*one) for every one of `todo`, as they are done; with several processes, a thread each."""
    if processes == 1:
        yield from (do(*one) for one in todo)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(do, *one) for one in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def keep(path: Path, settings: object, run: Mapping[str, object]) -> None:
    """settings: what decides how the run comes out."""
    write_json(path, {"settings": settings, "run": run})


def kept(path: Path, settings: object) -> dict[str, Any] | None:
    """What keep() was given, if it was with the same settings; null is NaN again where a number may stand."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return known(found["run"]) if found["settings"] == _nullable(settings) else None


def known(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in run.items()}


def write_json(path: Path, content: object) -> None:
    """All of it or nothing: an interrupted run must not leave half a file for the next one. NaN becomes null."""
    write_or_keep(path, json.dumps(_nullable(content), indent=1) + "\n")


def _nullable(content: object) -> object:
    """JSON knows no NaN, and no infinity."""
    if isinstance(content, Mapping):
        return {name: _nullable(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_nullable(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
