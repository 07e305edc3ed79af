"""How well the detector finds labelled faults, on sets of series, beside simple baselines.

A net is trained on all training parts of a set with each of several seeds, or taken from a checkpoint; it and every
baseline judge the test parts as the service would. Every run (a set, a detector, a seed) is kept in a file of its own
as soon as it is done, and is not done again. Labels are read for the figures alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from models.checkpoints.checkpoint import load_net
from models.data.arrays import Bools, Doubles
from models.data.file_options import AS_USUAL, FileOptions
from models.data.label_windows import LabelWindows
from models.data.series import Series, UnusableData, read_series
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.detection.sensor_rules import SensorRule, SensorRules, digest_of
from models.evaluation import baselines, evaluation, kept_runs, nab
from models.evaluation.evaluation import EventCounts, Judged
from models.evaluation.grid import Setting, name_of, with_setting
from models.evaluation.kept_runs import fit_timed, run_jobs
from models.evaluation.raw_scores import RAW_SCORES, judge_raw, raw_scores
from models.evaluation.series_report import set_reports
from models.net.forecaster import Forecaster
from models.training.architecture import suited_to
from models.training.loop import usable
from models.training.run import TrainingConfig

WHOLE = "Telltale"
NET_ALONE = "net alone"
KEPT = 4  # what is kept of a run; raised where that changes
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
    trained: tuple[
        Trained, ...
    ] = ()  # instead of training, each for the sets with its features; there is one seed then
    baselines: bool = True
    files: FileOptions = AS_USUAL
    features: tuple[str, ...] | None = None  # of all sets; None: those of their first files
    settings: tuple[Setting, ...] = ()  # with which the nets judge too, beside the detector's own
    rules: tuple[SensorRule, ...] = ()  # of the sensors, for all detectors
    labels: LabelWindows | None = None  # in place of the files' column `label`

    def trained_for(self, features: tuple[str, ...]) -> Trained | None:
        return next((one for one in self.trained if one.forecaster.config.features == features), None)

    def config(self, features: tuple[str, ...]) -> DetectorConfig:
        found = self.trained_for(features)
        return found.config if found else DetectorConfig()


class BenchmarkJob(NamedTuple):
    """What is computed together: the nets of a seed, or one baseline."""

    set: str
    detector: str  # WHOLE: NET_ALONE too, and every setting
    seed: int
    features: tuple[str, ...]


class BenchmarkRun(NamedTuple):
    """The result of one detector on one set."""

    set: str
    detector: str
    seed: int
    features: int
    seconds: float  # of processor time, in training; 0 where nothing was
    ended: str  # how training ended; "" where nothing was
    tallies: tuple[EventCounts, ...]  # a series of the set each, in one order for all detectors
    nab: dict[str, tuple[float, ...]]  # by figure, the value of each series; see nab.stream_value()
    threshold: dict[str, float]  # by profile, NAB's optimum
    families: tuple[str, ...] = ()  # of each series; see family_of()


def evaluate(
    sets: Mapping[str, tuple[Path, ...]],
    plan: BenchmarkPlan,
    folder: Path,
    device: torch.device,
    processes: int = 1,
    report_run: Callable[[BenchmarkRun], None] = lambda _: None,
    made: str = "",
) -> list[BenchmarkRun]:
    """Judge every set with every detector; runs that `folder` holds already are not done again.

    Pages for each set are written there too: SET.html, SET-2.html. report_run: is called with every run, kept ones
    first. made: by what and when, as the pages say.
    """

    def report(runs: Sequence[BenchmarkRun]) -> None:
        for run in runs:
            report_run(run)

    jobs = sorted((job for name, files in sets.items() for job in _jobs(name, files, plan)), key=lambda job: job.seed)
    done = run_jobs(
        jobs,
        load=lambda job: _load(folder, job, plan, sets[job.set]),
        compute=partial(_judge_set, sets=sets, plan=plan, folder=folder, device=device, made=made),
        save=lambda job, runs: _save(folder, job, runs, plan, sets[job.set]),
        report=report,
        processes=processes,
    )
    settings = (setting_name(setting) for setting in plan.settings)
    order = {name: n for n, name in enumerate((WHOLE, *settings, NET_ALONE, *baselines.BASELINES, *RAW_SCORES))}
    places = {name: n for n, name in enumerate(sets)}
    runs = [run for found in done.values() for run in found]
    return sorted(runs, key=lambda run: (places[run.set], order[run.detector], run.seed))


def _jobs(name: str, files: Sequence[Path], plan: BenchmarkPlan) -> Iterator[BenchmarkJob]:
    """The first file of a set decides its features, and with them which baselines make sense."""
    features = read_series(files[:1], plan.features, plan.files)[0].features
    if plan.trained and not plan.trained_for(features):
        found = "; ".join(
            f"{one.path}: its features are {', '.join(one.forecaster.config.features)}" for one in plan.trained
        )
        raise UnusableData(
            f"{found}, those of {name} are {', '.join(features)}; a checkpoint judges the features it was trained on"
        )
    yield from (BenchmarkJob(name, WHOLE, seed, features) for seed in range(1 if plan.trained else plan.seeds))
    if plan.baselines:
        simple = [*baselines.baselines(features), *raw_scores(features)]
        yield from (BenchmarkJob(name, baseline, 0, features) for baseline in simple)


def setting_name(setting: Setting) -> str:
    """Of the detector with it."""
    return f"{WHOLE}, {name_of(setting)}"


def family_of(series: Series) -> str:
    """What a series has in common with others: the part of its key before the first `/`, or before `__`.

    A key without either is a family of its own.
    """
    return series.key.split("/")[0].split("__")[0]


def _judge_set(
    job: BenchmarkJob,
    sets: Mapping[str, Sequence[Path]],
    plan: BenchmarkPlan,
    folder: Path,
    device: torch.device,
    made: str,
) -> tuple[BenchmarkRun, ...]:
    series = read_series(sets[job.set], plan.features, plan.files)
    sensors = SensorRules(plan.rules, series[0].features)
    sensors.clean_series(series)
    labels = _test_labels(job.set, series, plan)
    if job.detector in RAW_SCORES:
        return (_run_of(job, series, labels, judge_raw(series, RAW_SCORES[job.detector])),)
    config = plan.config(job.features)
    if job.detector != WHOLE:
        detector = baselines.BASELINES[job.detector](series, config)
        return (_run_of(job, series, labels, evaluation.backtest(detector, series, sensors)),)
    net, seconds, ended = _net(series, plan, job.seed, device)
    configs = {WHOLE: config, NET_ALONE: baselines.without(config, "level")}
    configs |= {setting_name(setting): with_setting(config, setting) for setting in plan.settings}
    runs = []
    for name, of in configs.items():
        tested = evaluation.backtest(prime(net, of, usable(series), sensors), series, sensors)
        if name == WHOLE and job.seed == 0:
            for stem, page in set_reports(job.set, tested, labels).items():
                page.write(_page(folder, stem), made)
        run = _run_of(job._replace(detector=name), series, labels, tested)
        runs.append(run._replace(seconds=seconds, ended=ended))
    return tuple(runs)


def _run_of(
    job: BenchmarkJob, series: Sequence[Series], labels: Sequence[Bools], tested: Sequence[Judged]
) -> BenchmarkRun:
    tallies = tuple(evaluation.tally(one, label) for one, label in zip(tested, labels, strict=True))
    families = tuple(family_of(one) for one in series if one.test.any())
    return BenchmarkRun(
        job.set, job.detector, job.seed, len(job.features), 0.0, "", tallies, *_nab(tested, labels), families
    )


def _test_labels(name: str, series: Sequence[Series], plan: BenchmarkPlan) -> list[Bools]:
    """Of the test part of every series that has one."""
    tested = [one.select(one.test) for one in series if one.test.any()]
    if not tested:
        raise UnusableData(f"{name}: no rows with part = test; they are what a detector is judged on")
    if plan.labels is not None:
        return [plan.labels.faults(one.key, one.times_ms) for one in tested]
    labels = evaluation.read_labels(tested, plan.files)
    for one, label in zip(tested, labels, strict=True):
        if label is None:
            raise UnusableData(
                f"{one.path}: no column `label`; it says which test rows are anomalies, unless a file does (--labels)"
            )
    return [label for label in labels if label is not None]


def _net(
    series: Sequence[Series], plan: BenchmarkPlan, seed: int, device: torch.device
) -> tuple[Forecaster, float, str]:
    if trained := plan.trained_for(series[0].features):
        return trained.forecaster, 0.0, ""
    parts = usable(series)
    start = load_net(parts[0].features).detector.forecaster
    architecture = suited_to(parts, hidden=plan.hidden, start=start.config)
    fitted, seconds = fit_timed(parts, architecture, replace(plan.training, seed=seed), device, start)
    return fitted.forecaster, seconds, str(fitted.ended)


def _nab(tested: Sequence[Judged], labels: Sequence[Bools]) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    scores = [np.where(evaluation.openings(one), one.score, 0.0) for one in tested]
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


def _load(
    folder: Path, job: BenchmarkJob, plan: BenchmarkPlan, files: Sequence[Path]
) -> tuple[BenchmarkRun, ...] | None:
    """The runs of a job that was done before with the same settings on the same files."""
    names = [job.detector]
    if job.detector == WHOLE:
        names += [NET_ALONE, *map(setting_name, plan.settings)]
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
        families=tuple(kept["families"]),
    )


def _save(
    folder: Path, job: BenchmarkJob, runs: Sequence[BenchmarkRun], plan: BenchmarkPlan, files: Sequence[Path]
) -> None:
    for run in runs:
        kept = run._asdict() | {"tallies": [one._asdict() for one in run.tallies]}
        kept_runs.keep(_path(folder, run.set, run.detector, run.seed), _settings(job, plan, files), kept)


def _path(folder: Path, name: str, detector: str, seed: int) -> Path:
    return folder / "runs" / name / f"{detector.replace(' ', '-')}-{seed}.json"


def _page(folder: Path, name: str) -> Path:
    return folder / f"{name}.html"


def _settings(job: BenchmarkJob, plan: BenchmarkPlan, files: Sequence[Path]) -> dict[str, object]:
    """What decides how a run comes out, beside its job. Not seen: changes within the files, and of the code."""
    settings = {
        "kept": KEPT,
        **kept_runs.data_settings(files, plan.files, plan.features),
        "judgement": asdict(plan.config(job.features)),
    }
    if rules := digest_of(plan.rules):
        settings["rules"] = rules
    if plan.labels is not None:
        settings["labels"] = plan.labels.digest
    if job.detector == WHOLE and (trained := plan.trained_for(job.features)):
        return settings | {"checkpoint": trained.digest}
    if job.detector == WHOLE:
        return settings | {"hidden": plan.hidden, **kept_runs.training_settings(plan.training)}
    return settings
