"""`telltale train`: a bar while it learns, a few lines on how it went, and one file at the end, or two."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from models.checkpoints import checkpoint, checkpoint_header
from models.data.series import Series, UnusableData
from models.detection.detector import Detector, DetectorConfig
from models.detection.kinds import KINDS
from models.detection.priming import prime
from models.detection.sensor_rules import SensorRules
from models.net.forecaster import Forecaster, ForecasterConfig
from models.output.output_file import UnwrittenOutput, write_each
from models.output.wording import compared, counted
from models.training.distributed import ALONE, Ranks
from models.training.generic import GenericConfig, fit_generic, generic_architecture
from models.training.kinds_training import KindsConfig, learn_kinds, scores
from models.training.loop import Fitted, Progress, fit
from models.training.run import Ending, TrainingConfig
from service.cli.made import made_now
from service.cli.output_files import PAGE_BYTES, check_room

STATE_PER_WEIGHTS = 4  # a run holds its weights, the best ones, and Adam's two means of their gradients


def train(
    parts: Sequence[Series],
    learn_from: Sequence[Series],
    architecture: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    path: Path,
    out: Console,
    *,
    source: str = "a simulated plant",
    files: int = 1,
    run_file: Path | None = None,
    report: Path | None = None,
    kinds: bool = False,
    ranks: Ranks = ALONE,
    sensors: SensorRules | None = None,
    start: Forecaster | None = None,
) -> None:
    """Fit a forecaster on `learn_from`, warm the memories of all `parts` up with it, and write the checkpoint.

    source, files: where the data is from, for people, and how many files that is. run_file: see fit(). report:
    HTML file to write. kinds: teach a head that names kinds of fault too. Of several processes the first one writes.
    sensors: whose limits hold while memories are warmed up. start: see fit().
    """
    err = Console(stderr=True, highlight=False, quiet=not ranks.first)
    checkpoint_header.require_savable(architecture)
    if ranks.first:
        _require_room(parts, architecture, path, run_file, report, kinds=kinds)
    with _progress(training.epochs, err) as report_progress:
        fitted = fit(learn_from, architecture, training, device, report_progress, run_file, ranks, start=start)
    if not ranks.first:
        return
    _report(fitted, out)
    judged = None
    try:
        with err.status("warming up the streams' memories"):
            detector = prime(fitted.forecaster, DetectorConfig(), parts, sensors)
        if kinds:
            detector, judged = _name_kinds(detector, parts, training.seed, err, out)
    except KeyboardInterrupt:
        out.print("interrupted: saved without the streams' memories, which will have to warm up in service")
        detector = Detector.cold(fitted.forecaster)
    description = describe_run(detector, parts, files, training, fitted, judged)

    def save() -> None:
        digest = checkpoint.save(path, detector, description)
        out.print(f"{path}  sha256 {digest[:12]}  {path.stat().st_size / 1e6:.1f} MB")

    def save_report() -> None:
        from models.training.report import training_report

        with err.status("writing the report"):
            training_report(fitted, learn_from, training, source).write(report or Path(), made_now())
        out.print(f"{report}  the report")

    def report_state() -> None:
        if fitted.unwritten:
            raise UnwrittenOutput(fitted.unwritten)

    write_each(save, *([save_report] if report else []), report_state)


def train_generic(config: GenericConfig, hidden: int, path: Path, out: Console) -> None:
    """Train a net of one channel on simulated series alone, and write it as a net file."""
    architecture = generic_architecture(hidden)
    checkpoint_header.require_savable(architecture)
    check_room({path: checkpoint.expected_bytes(architecture, ())[0]})
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("updates"), TimeElapsedColumn())
    err = Console(stderr=True, highlight=False)
    with Bars(*columns, TextColumn("{task.description}"), console=err) as bars:
        bar = bars.add_task("", total=config.updates)

        def report(update: int, loss: float) -> None:
            bars.update(bar, completed=update, description=f"loss {loss:.4f}")

        fitted = fit_generic(architecture, config, report)
    off = compared(fitted.loss, fitted.persistence_loss, "that of expecting no change")
    readings = counted(fitted.readings, "simulated reading")
    out.print(f"{readings}, {fitted.seconds:.0f} s; loss on others {fitted.loss:.4f}, {off}")
    digest = checkpoint.save_net(
        path,
        fitted.forecaster,
        datetime.now(UTC).isoformat(timespec="seconds"),
        asdict(config),
        checkpoint_header.TrainingData(
            files=0, streams=config.updates * config.series, readings=fitted.readings, first_ms=0, last_ms=0
        ),
        checkpoint_header.TrainingMetrics(
            epochs=config.epochs,
            best_epoch=config.epochs,
            loss=None,
            validation_loss=fitted.loss,
            persistence_loss=fitted.persistence_loss,
            seconds=round(fitted.seconds, 1),
            ended=Ending.EPOCHS,
        ),
    )
    out.print(f"{path}  sha256 {digest[:12]}  {path.stat().st_size / 1e6:.1f} MB")


def describe_run(
    detector: Detector,
    parts: Sequence[Series],
    files: int,
    training: TrainingConfig,
    fitted: Fitted,
    kinds: checkpoint_header.Kinds | None = None,
) -> checkpoint_header.Description:
    """What a checkpoint says of the run that ends now. parts, files: what it learned from."""
    times = [one.times_ms for one in parts]
    best = fitted.best
    return checkpoint_header.describe(
        detector,
        datetime.now(UTC).isoformat(timespec="seconds"),
        {name: value if value != float("inf") else "none" for name, value in asdict(training).items()},
        checkpoint_header.TrainingData(
            files=files,
            streams=len(parts),
            readings=sum(map(len, times)),
            first_ms=int(min(time.min() for time in times)),
            last_ms=int(max(time.max() for time in times)),
        ),
        checkpoint_header.TrainingMetrics(
            epochs=len(fitted.epochs),
            best_epoch=best.number if best else 0,
            loss=best.loss if best else None,
            validation_loss=best.validation_loss if best else None,
            persistence_loss=fitted.persistence_loss,
            seconds=round(fitted.seconds, 1),
            ended=fitted.ended,
        ),
        kinds,
    )


def _require_room(
    parts: Sequence[Series],
    architecture: ForecasterConfig,
    path: Path,
    run_file: Path | None,
    report: Path | None,
    *,
    kinds: bool,
) -> None:
    """Training must not end at a full disk."""
    size, weights = checkpoint.expected_bytes(architecture, (one.key for one in parts), kinds=kinds)
    sizes = {path: size}
    if run_file:
        sizes[run_file] = STATE_PER_WEIGHTS * weights + checkpoint.HEADER_BYTES
    if report:
        sizes[report] = PAGE_BYTES
    check_room(sizes)


def _name_kinds(
    detector: Detector, parts: Sequence[Series], seed: int, err: Console, out: Console
) -> tuple[Detector, checkpoint_header.Kinds | None]:
    """The same detector with a head that names kinds of fault, unless these series cannot teach one."""
    columns = (TextColumn("learning to name kinds of fault"), BarColumn(), TimeElapsedColumn())
    try:
        with Bars(*columns, console=err) as bars:
            bar = bars.add_task("", total=1.0)
            detector, report, streams = learn_kinds(
                detector, parts, KindsConfig(), seed, lambda done: bars.update(bar, completed=done)
            )
    except UnusableData as error:
        out.print(f"saved without a head for kinds of fault: {error}")
        return detector, None
    return detector, checkpoint_header.Kinds(
        names=tuple(KINDS),
        streams=streams,
        at_end=tuple(map(tuple, report.at_end.tolist())),
        at_alarm=tuple(map(tuple, report.at_alarm.tolist())),
        macro_f1_at_end=scores(report.at_end).macro_f1,
        macro_f1_at_alarm=scores(report.at_alarm).macro_f1,
    )


@contextmanager
def _progress(epochs: int, err: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar for every epoch, and behind it the loss so far."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bars(*columns, console=err) as bars:
        bar = bars.add_task("", total=epochs)

        def report(progress: Progress) -> None:
            epoch = progress.epoch
            if epoch is None:
                begun = bars.tasks[0].completed // 1
                bars.update(bar, completed=begun + min(progress.done, 0.999))
                return
            mark = " [green]best so far[/]" if epoch.best else ""
            said = f"loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}{mark}"
            bars.update(bar, completed=epoch.number, description=said)

        yield report


def _report(fitted: Fitted, out: Console) -> None:
    """How training ended, in one line; in others what went poorly, and what to try."""
    best = fitted.best
    if best is None and fitted.start_loss is not None:
        out.print(f"{fitted.ended}; no epoch was better than the net that comes with Telltale, which is kept")
    elif best is None:
        out.print(f"ended before one epoch was good: {fitted.ended}; the forecaster expects no change")
    else:
        off = compared(best.validation_loss, fitted.persistence_loss, "that of expecting no change")
        out.print(
            f"{counted(len(fitted.epochs), 'epoch')}, {fitted.seconds:.0f} s, ended: {fitted.ended}; "
            f"best is {best.number}: validation loss {best.validation_loss:.4f}, {off}"
        )
    if best is not None and fitted.start_loss is not None:
        out.print(f"it began as the net that comes with Telltale, whose validation loss is {fitted.start_loss:.4f}")
    for remark in fitted.remarks:
        out.print(remark)
