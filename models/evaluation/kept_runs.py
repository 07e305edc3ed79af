"""Runs over sets of series that take long: each is kept in a file of its own as soon as it is done.

A set is the files of one folder, which have the same features, so that one net can learn them together.
"""

import json
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from models.data.file_options import AS_USUAL, FileOptions
from models.data.series import Series, UnusableData, find_files
from models.net.forecaster import Forecaster, ForecasterConfig
from models.output.output_file import write_or_keep
from models.training.loop import Fitted, fit
from models.training.run import Ending, TrainingConfig

BUDGET = (
    "epochs",
    "patience",
    "epoch_steps",
    "chunk_readings",
    "remembers",
    "lane_readings",
    "side_by_side",
    "learning_rate",
    "budget_s",
)

J = TypeVar("J", bound=Hashable)  # a job
R = TypeVar("R")  # its result


def find_sets(paths: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """The data files by the name of the folder they lie in."""
    sets: dict[str, list[Path]] = {}
    for path in find_files(paths):
        sets.setdefault(path.resolve().parent.name, []).append(path)
    for name, files in sets.items():
        if len(folders := sorted({str(path.resolve().parent) for path in files})) > 1:
            raise UnusableData(f"{folders[0]} and {folders[1]}: two folders named {name}; a set is named by its folder")
    return {name: tuple(files) for name, files in sets.items()}


def run_jobs(
    jobs: Sequence[J],
    load: Callable[[J], R | None],
    compute: Callable[[J], R],
    save: Callable[[J, R], None],
    report: Callable[[R], None],
    processes: int = 1,
) -> dict[J, R]:
    """The result of every job: those that were kept are loaded, the others are computed, and saved as they are done.

    report: is called with every result, loaded ones first. compute: can be pickled if there are several processes.
    """
    results = {job: result for job in jobs if (result := load(job)) is not None}
    for result in results.values():
        report(result)
    for job, result in _side_by_side(compute, [job for job in jobs if job not in results], processes):
        save(job, result)
        results[job] = result
        report(result)
    return results


def _side_by_side(compute: Callable[[J], R], jobs: Sequence[J], processes: int) -> Iterator[tuple[J, R]]:
    """As they are done; with several processes, each has one thread."""
    if processes == 1:
        yield from ((job, compute(job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(compute, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fit_timed(
    series: Sequence[Series],
    architecture: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    start: Forecaster | None = None,
) -> tuple[Fitted, float]:
    """fit(), and its seconds of processor time. Ctrl-C ends all runs: half a training would be no result."""
    torch.optim.Adam([torch.zeros(1)])  # the first one of a process imports for seconds, which are not training
    began = time.process_time()
    fitted = fit(series, architecture, training, device, start=start)
    seconds = time.process_time() - began
    if fitted.ended is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    return fitted, seconds


def training_settings(training: TrainingConfig) -> dict[str, object]:
    """What of it decides how a run comes out."""
    return {name: getattr(training, name) for name in BUDGET}


def data_settings(
    files: Sequence[Path], options: FileOptions, features: Sequence[str] | None = None
) -> dict[str, object]:
    """The data that a run is about. Changes within the files are not noticed."""
    usual = AS_USUAL._asdict()
    named = {name: value for name, value in options._asdict().items() if value != usual[name]}
    if (unit := named.pop("unit", None)) is not None:
        named["time_unit"] = unit  # as runs of earlier versions have it
    if features is not None:
        named["features"] = list(features)
    named = {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    return {**named, "files": [file.name for file in files]}


def keep(path: Path, settings: object, run: Mapping[str, object]) -> None:
    """settings: what decides how the run comes out."""
    write_json(path, {"settings": settings, "run": run})


def kept(path: Path, settings: object) -> dict[str, Any] | None:
    """What keep() was given, if the settings were the same; null is read as NaN."""
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
