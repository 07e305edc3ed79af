"""How well the detector finds labelled faults, on sets of series, beside simple baselines.

A net is trained on all training parts of a set with each of several seeds, or taken from a checkpoint; it and every
baseline judge the test parts as the service would. Every run (a set, a detector, a seed) is kept in a file of its own
as soon as it is done; what is there already is not done again. Labels are read for the figures alone.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from models.data.arrays import Bools, Doubles
from models.data.series import Series, UnusableData, read_series
from models.data.time_units import TimeUnit
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.evaluation import baselines, evaluation, kept_runs, nab
from models.evaluation.evaluation import EventCounts, Judged
from models.evaluation.kept_runs import side_by_side
from models.evaluation.series_report import set_report
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.loop import fit, usable
from models.training.run import Ending, TrainingConfig

WHOLE = "Telltale"
NET_ALONE = "net alone"
BUDGET = ("epochs", "patience", "chunk_readings", "lane_readings", "side_by_side", "learning_rate", "budget_s")
FIXED = 1.0  # the score at which alarms open
NAB_FIGURES = tuple((f"nab_{name}", f"nab_{name}_optimised") for name in nab.PROFILES)


class Trained(NamedTuple):
    """A net from a checkpoint, and how its residuals are judged."""

    forecaster: Forecaster
    config: DetectorConfig
    digest: str  # of the checkpoint
    path: Path


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """What is measured. The seed of `training` is replaced by 0, 1, 2, …"""

    seeds: int = 5
    hidden: int = 64
    training: TrainingConfig = field(default_factory=TrainingConfig)
    trained: Trained | None = None  # instead of training; there is one seed then
    baselines: bool = True
    time_unit: TimeUnit | None = None  # see read_series()

    @property
    def config(self) -> DetectorConfig:
        return self.trained.config if self.trained else DetectorConfig()


class BenchmarkJob(NamedTuple):
    """What is computed at one go: the nets of a seed, or one baseline."""

    set: str
    detector: str  # WHOLE stands for NET_ALONE too
    seed: int


class BenchmarkRun(NamedTuple):
    """What one detector made of one set."""

    set: str
    detector: str
    seed: int
    features: int
    seconds: float  # of processor time, in training; 0 where nothing was
    ended: str  # how training ended; "" where nothing was
    tallies: tuple[EventCounts, ...]  # a series of the set each, in one order for all detectors
    nab: dict[str, tuple[float, ...]]  # by figure, what each series earns; see nab.stream_value()
    threshold: dict[str, float]  # by profile, NAB's optimum


def evaluate(
    sets: Mapping[str, tuple[Path, ...]],
    plan: BenchmarkPlan,
    folder: Path,
    device: torch.device,
    processes: int = 1,
    tell: Callable[[BenchmarkRun], None] = lambda _: None,
) -> list[BenchmarkRun]:
    """Judge every set with every detector; runs that `folder` holds already are taken as they are.

    Beside the runs, a page for each set is written there: SET.html. tell: is called with every run, old ones first.
    """
    jobs = [job for name, files in sets.items() for job in _jobs(name, files, plan)]
    jobs.sort(key=lambda job: job.seed)
    done = {job: found for job in jobs if (found := _kept(folder, job, plan, sets[job.set]))}
    for found in done.values():
        for run in found:
            tell(run)
    todo = [(job, sets[job.set], plan, folder, device) for job in jobs if job not in done]
    for job, found in side_by_side(_do, todo, processes):
        for run in found:
            _keep(folder, run, plan, sets[job.set])
            tell(run)
        done[job] = found
    order = {name: n for n, name in enumerate((WHOLE, NET_ALONE, *baselines.BASELINES))}
    places = {name: n for n, name in enumerate(sets)}
    runs = [run for found in done.values() for run in found]
    return sorted(runs, key=lambda run: (places[run.set], order[run.detector], run.seed))


def _jobs(name: str, files: Sequence[Path], plan: BenchmarkPlan) -> Iterator[BenchmarkJob]:
    """The first file of a set says which features it has, and with that which baselines there are."""
    features = read_series(files[:1], unit=plan.time_unit)[0].features
    if plan.trained and features != plan.trained.forecaster.config.features:
        raise UnusableData(
            f"{plan.trained.path}: its features are {', '.join(plan.trained.forecaster.config.features)}, "
            f"those of {name} are {', '.join(features)}; a checkpoint judges the features it was trained on"
        )
    yield from (BenchmarkJob(name, WHOLE, seed) for seed in range(1 if plan.trained else plan.seeds))
    if plan.baselines:
        yield from (BenchmarkJob(name, baseline, 0) for baseline in baselines.baselines(features))


def _do(
    job: BenchmarkJob, files: Sequence[Path], plan: BenchmarkPlan, folder: Path, device: torch.device
) -> tuple[BenchmarkJob, tuple[BenchmarkRun, ...]]:
    series = read_series(files, unit=plan.time_unit)
    labels = _test_labels(job.set, series)
    if job.detector == WHOLE:
        net, seconds, ended = _net(series, plan, job.seed, device)
        alone = baselines.without(plan.config, "level")
        detectors = {name: prime(net, of, usable(series)) for name, of in ((WHOLE, plan.config), (NET_ALONE, alone))}
    else:
        seconds, ended = 0.0, ""
        detectors = {job.detector: baselines.BASELINES[job.detector](series, plan.config)}
    runs = []
    for name, detector in detectors.items():
        tested = evaluation.backtest(detector, series)
        if name == WHOLE and job.seed == 0:
            set_report(job.set, tested, labels).write(_page(folder, job.set))
        tallies = tuple(evaluation.tally(one, label) for one, label in zip(tested, labels, strict=True))
        earned, threshold = _nab(tested, labels)
        runs.append(
            BenchmarkRun(job.set, name, job.seed, len(series[0].features), seconds, ended, tallies, earned, threshold)
        )
    return job, tuple(runs)


def _test_labels(name: str, series: Sequence[Series]) -> list[Bools]:
    """Of the test part of every series that has one."""
    tested = [one.select(one.test) for one in series if one.test.any()]
    if not tested:
        raise UnusableData(f"{name}: no rows with part = test; they are what a detector is judged on")
    labels = evaluation.read_labels(tested)
    for one, label in zip(tested, labels, strict=True):
        if label is None:
            raise UnusableData(f"{one.path}: no column `label`; it says which test rows are anomalies")
    return [label for label in labels if label is not None]


def _net(
    series: Sequence[Series], plan: BenchmarkPlan, seed: int, device: torch.device
) -> tuple[Forecaster, float, str]:
    if plan.trained:
        return plan.trained.forecaster, 0.0, ""
    parts = usable(series)
    torch.optim.Adam([torch.zeros(1)])  # the first one of a process imports for seconds, which are not training
    began = time.process_time()
    architecture = ForecasterConfig(parts[0].features, hidden=plan.hidden)
    fitted = fit(parts, architecture, replace(plan.training, seed=seed), device)
    if fitted.ended is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    return fitted.forecaster, time.process_time() - began, str(fitted.ended)


def openings(judged: Judged) -> Bools:
    """The readings at which an alarm opens, (R,): to NAB an alarm is a moment."""
    opens = np.zeros(len(judged.alarm), bool)
    opens[[begin for begin, _ in evaluation.runs(judged.alarm)]] = True
    return opens


def _nab(tested: Sequence[Judged], labels: Sequence[Bools]) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    scores = [np.where(openings(one), one.score, 0.0) for one in tested]
    streams = list(zip(labels, scores, strict=True))
    earned, thresholds = {}, {}
    for (fixed, optimised), (name, profile) in zip(NAB_FIGURES, nab.PROFILES.items(), strict=True):
        thresholds[name] = nab.optimised(streams, profile).threshold
        for figure, threshold in ((fixed, FIXED), (optimised, thresholds[name])):
            detected = [(label, score >= threshold) for label, score in streams]
            earned[figure] = tuple(nab.stream_value(label, of, profile) for label, of in detected)
    return earned, thresholds


def weigh(run: BenchmarkRun, weights: Doubles) -> dict[str, Doubles]:
    """All figures of a run by name, (D,) each, with its series counted `weights` times, (D, S).

    NAB's optimised threshold stays that of all series.
    """
    figures = evaluation.weigh(run.tallies, weights)
    for names, profile in zip(NAB_FIGURES, nab.PROFILES.values(), strict=True):
        for name in names:
            figures[name] = nab.normalised(weights @ np.array(run.nab[name]), figures["events"], profile)
    return figures


def _kept(
    folder: Path, job: BenchmarkJob, plan: BenchmarkPlan, files: Sequence[Path]
) -> tuple[BenchmarkRun, ...] | None:
    """The runs of a job that was done before with the same settings on the same files."""
    names = (WHOLE, NET_ALONE) if job.detector == WHOLE else (job.detector,)
    if job.detector == WHOLE and job.seed == 0 and not _page(folder, job.set).exists():
        return None
    settings = _settings(job, plan, files)
    found = [kept_runs.kept(_path(folder, job.set, name, job.seed), settings) for name in names]
    return tuple(_run(one) for one in found if one) if all(found) else None


def _run(kept: Mapping[str, Any]) -> BenchmarkRun:
    """JSON knows neither tuples nor infinity."""
    tallies = [kept_runs.known(one) | {"delays": tuple(one["delays"])} for one in kept["tallies"]]
    thresholds = {name: math.inf if value is None else value for name, value in kept["threshold"].items()}
    return BenchmarkRun(**kept)._replace(
        tallies=tuple(EventCounts(**one) for one in tallies),
        nab={name: tuple(values) for name, values in kept["nab"].items()},
        threshold=thresholds,
    )


def _keep(folder: Path, run: BenchmarkRun, plan: BenchmarkPlan, files: Sequence[Path]) -> None:
    job = BenchmarkJob(run.set, WHOLE if run.detector == NET_ALONE else run.detector, run.seed)
    kept = run._asdict() | {"tallies": [one._asdict() for one in run.tallies]}
    kept_runs.keep(_path(folder, run.set, run.detector, run.seed), _settings(job, plan, files), kept)


def _path(folder: Path, name: str, detector: str, seed: int) -> Path:
    return folder / "runs" / name / f"{detector.replace(' ', '-')}-{seed}.json"


def _page(folder: Path, name: str) -> Path:
    return folder / f"{name}.html"


def _settings(job: BenchmarkJob, plan: BenchmarkPlan, files: Sequence[Path]) -> dict[str, object]:
    """What decides how a run comes out, beside its job. Not seen: changes within the files, and of the code."""
    settings: dict[str, object] = {"files": [file.name for file in files], "judgement": asdict(plan.config)}
    settings |= {"time_unit": plan.time_unit} if plan.time_unit else {}  # runs of earlier versions know of none
    if job.detector == WHOLE and plan.trained:
        return settings | {"checkpoint": plan.trained.digest}
    if job.detector == WHOLE:
        budget = {name: getattr(plan.training, name) for name in BUDGET}
        return settings | {"hidden": plan.hidden, **budget}
    return settings
