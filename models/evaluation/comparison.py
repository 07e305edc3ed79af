"""Which memory is worth it, on given data: every cell trained with the same budget, with several seeds, side by side.

Every run (a set, a cell, a seed) is kept in a file of its own as soon as it is done, and is not done again.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools
from models.data.file_options import FileOptions
from models.data.series import Series, read_series
from models.data.time_units import TimeUnit
from models.detection.detector import Detector, DetectorConfig, Readings, Verdicts
from models.detection.priming import prime
from models.detection.rows import Rows, fresh
from models.evaluation import evaluation, kept_runs
from models.evaluation.baselines import last_value
from models.evaluation.evaluation import Figures, Judged
from models.evaluation.kept_runs import fit_timed, run_jobs
from models.net.cells import CELLS
from models.net.clock import MINUTE_MS
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from models.training.architecture import suited_to
from models.training.loop import usable
from models.training.run import TrainingConfig

# Speed is measured on a made load, so that it is that of the cell and not of how many streams a set has.
LOAD_STREAMS = 512
LOAD_READINGS = 32  # of each stream, in one batch
LOAD_ROUNDS = 7
LOAD_WARM_UP = 144  # readings: streams are scored then, and their scale does not move for another hundred


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """What is compared. The budget of `training` is the same for every cell; its seed is replaced by 0, 1, 2, …"""

    cells: tuple[str, ...] = tuple(CELLS)
    seeds: int = 3
    hidden: int = 64
    layers: int = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    time_unit: TimeUnit | None = None  # see read_series()


class ComparisonJob(NamedTuple):
    set: str
    cell: str
    seed: int


class ComparisonRun(NamedTuple):
    """One net, trained on the training parts of one set and judged on its test parts."""

    job: ComparisonJob
    architecture: ForecasterConfig
    parameters: int
    bytes_per_stream: int
    seconds: float  # of processor time, in training
    epochs: int
    ended: str
    validation_error: float  # Huber loss of one step ahead, in spreads; of the best epoch
    no_change_validation: float  # the same, had nothing been expected to change
    test_error: float  # mean absolute error of one step ahead, in spreads, over test readings without a label
    no_change_test: float
    figures: Figures


class Comparison(NamedTuple):
    runs: list[ComparisonRun]
    speeds: dict[str, dict[str, float]]  # set, cell: readings judged a second of processor time, one thread


def compare(
    sets: Mapping[str, tuple[Path, ...]],
    plan: ComparisonPlan,
    folder: Path,
    device: torch.device,
    processes: int = 1,
    report_run: Callable[[ComparisonRun], None] = lambda _: None,
) -> Comparison:
    """Train and judge every cell on every set with every seed; runs that `folder` holds already are not done again.

    All cells and sets get their first seed before any gets its second. report_run: is called with every run, kept ones
    first.
    """
    jobs = [ComparisonJob(name, cell, seed) for seed in range(plan.seeds) for name in sets for cell in plan.cells]
    runs = run_jobs(
        jobs,
        load=lambda job: _load(folder, job, plan, sets[job.set]),
        compute=partial(train_and_judge, sets=sets, plan=plan, device=device),
        save=lambda job, run: _save(folder, job, run, plan, sets[job.set]),
        report=report_run,
        processes=processes,
    )
    nets = {job.set: run.architecture for job, run in runs.items()}
    speeds = {name: _speeds(folder / "runs" / name, nets[name], plan) for name in sets}
    return Comparison([runs[job] for job in jobs], speeds)


def train_and_judge(
    job: ComparisonJob, sets: Mapping[str, Sequence[Path]], plan: ComparisonPlan, device: torch.device
) -> ComparisonRun:
    """One run, from the files to the figures; the net is shown as fine a clock as `telltale train` would show it."""
    series = read_series(sets[job.set], options=FileOptions(unit=plan.time_unit))
    parts = usable(series)
    architecture = suited_to(parts, job.cell, plan.hidden, plan.layers)
    fitted, seconds = fit_timed(parts, architecture, replace(plan.training, seed=job.seed), device)
    tested = evaluation.backtest(prime(fitted.forecaster, DetectorConfig(), parts), series)
    labels = evaluation.read_labels([one.series for one in tested])
    labelled = [(one, label) for one, label in zip(tested, labels, strict=True) if label is not None]
    test_error, no_change_test = _test_errors(series, tested, labels)
    return ComparisonRun(
        job,
        architecture=architecture,
        parameters=sum(weight.numel() for weight in fitted.forecaster.parameters()),
        bytes_per_stream=fresh(1, architecture).bytes_per_stream,
        seconds=seconds,
        epochs=len(fitted.epochs),
        ended=str(fitted.ended),
        validation_error=fitted.best.validation_loss if fitted.best else math.nan,
        no_change_validation=fitted.persistence_loss,
        test_error=test_error,
        no_change_test=no_change_test,
        figures=evaluation.measure([one for one, _ in labelled], [label for _, label in labelled]),
    )


def _test_errors(
    series: Sequence[Series], tested: Sequence[Judged], labels: Sequence[Bools | None]
) -> tuple[float, float]:
    """Mean absolute error of the forecasts, and of expecting no change."""
    by_key = {one.key: one for one in series}
    spreads = [evaluation.training_spread(by_key[one.series.key]) for one in tested]
    expected, unchanged = [one.expected for one in tested], [last_value(one.series) for one in tested]
    return (
        evaluation.forecast_error(expected, tested, labels, spreads),
        evaluation.forecast_error(unchanged, tested, labels, spreads),
    )


def _speeds(folder: Path, net: ForecasterConfig, plan: ComparisonPlan) -> dict[str, float]:
    """Measured once for every set: what was measured at another time can not be compared."""
    path, load = folder / "speed.json", [LOAD_STREAMS, LOAD_READINGS, LOAD_ROUNDS, plan.hidden, plan.layers]
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("load") == load and set(plan.cells) <= set(kept["speeds"]):
        return {cell: kept["speeds"][cell] for cell in plan.cells}
    speeds = measure_speeds({cell: replace(net, cell=cell) for cell in plan.cells})
    kept_runs.write_json(path, {"load": load, "speeds": speeds})
    return speeds


def measure_speeds(architectures: Mapping[str, ForecasterConfig], rounds: int = LOAD_ROUNDS) -> dict[str, float]:
    """Readings the whole detector judges in a second of processor time: medians of rounds in which cells take turns."""
    loads = {cell: _Load(architecture) for cell, architecture in architectures.items()}
    seconds: dict[str, list[float]] = {cell: [] for cell in loads}
    for _ in range(rounds):
        for cell, load in loads.items():
            seconds[cell].append(load.judge())
    return {cell: LOAD_STREAMS * LOAD_READINGS / statistics.median(times) for cell, times in seconds.items()}


class _Load:
    """Streams that walk at random, a reading a minute, before the detector of an untrained net."""

    def __init__(self, architecture: ForecasterConfig) -> None:
        torch.manual_seed(0)
        self._detector = Detector.cold(Forecaster(architecture))
        random = np.random.default_rng(0)
        steps = random.normal(size=(LOAD_WARM_UP + LOAD_READINGS, LOAD_STREAMS, len(architecture.features)))
        walks = torch.from_numpy(steps.cumsum(0))
        _, self._rows = self._observe(0, walks[:LOAD_WARM_UP], fresh(LOAD_STREAMS, architecture))
        self._batch = walks[LOAD_WARM_UP:]

    def judge(self) -> float:
        """Seconds of processor time for the batch; the streams stay where they were before it."""
        began = time.process_time()
        self._observe(LOAD_WARM_UP, self._batch, self._rows)
        return time.process_time() - began

    def _observe(self, first: int, walks: Tensor, rows: Rows) -> tuple[Verdicts, Rows]:
        places = torch.arange(len(walks) * LOAD_STREAMS)
        times_ms = (first + places // LOAD_STREAMS) * MINUTE_MS
        readings = Readings(places, times_ms, walks.reshape(len(places), -1))
        return self._detector.observe(readings, pack(places % LOAD_STREAMS), rows)


def _load(folder: Path, job: ComparisonJob, plan: ComparisonPlan, files: Sequence[Path]) -> ComparisonRun | None:
    """A run that was done before with the same settings on the same files."""
    run = kept_runs.kept(_path(folder, job), _settings(plan, files))
    if run is None:
        return None
    figures = Figures(**kept_runs.known(run["figures"]))
    architecture = ForecasterConfig(**run["architecture"] | {"features": tuple(run["architecture"]["features"])})
    return ComparisonRun(job, **run | {"architecture": architecture, "figures": figures})


def _save(folder: Path, job: ComparisonJob, run: ComparisonRun, plan: ComparisonPlan, files: Sequence[Path]) -> None:
    kept = run._asdict() | {"architecture": asdict(run.architecture), "figures": run.figures._asdict()}
    del kept["job"]
    kept_runs.keep(_path(folder, job), _settings(plan, files), kept)


def _path(folder: Path, job: ComparisonJob) -> Path:
    return folder / "runs" / job.set / f"{job.cell}-{job.seed}.json"


def _settings(plan: ComparisonPlan, files: Sequence[Path]) -> dict[str, object]:
    """What decides how a run comes out, beside its job. Not seen: changes within the files, and of the code."""
    data, training = (
        kept_runs.data_settings(files, FileOptions(unit=plan.time_unit)),
        kept_runs.training_settings(plan.training),
    )
    return {"hidden": plan.hidden, "layers": plan.layers, "clock": "suited to the data", **training, **data}
