"""`telltale train`: a bar while it learns, a line on how it went, and one file at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from models import checkpoint
from models.detection import Detector, DetectorConfig
from models.forecaster import ForecasterConfig
from models.series import Series
from models.training import Fitted, Progress, TrainingConfig, fit, prime


def train(
    parts: Sequence[Series],
    learn_from: Sequence[Series],
    architecture: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    path: Path,
    out: Console,
) -> None:
    """Fit a forecaster on `learn_from`, warm the memories of all `parts` up with it, and write the checkpoint."""
    err = Console(stderr=True, highlight=False)
    with _progress(training.epochs, err) as tell:
        fitted = fit(learn_from, architecture, training, device, tell)
    _report(fitted, out)
    try:
        with err.status("warming up the streams' memories"):
            detector = prime(fitted.forecaster, DetectorConfig(), parts)
    except KeyboardInterrupt:
        out.print("interrupted: saved without the streams' memories, which will have to warm up in service")
        detector = Detector.cold(fitted.forecaster)
    times = [one.times_ms for one in parts]
    best = fitted.best
    description = checkpoint.describe(
        detector,
        datetime.now(UTC).isoformat(timespec="seconds"),
        {name: value if value != float("inf") else "none" for name, value in asdict(training).items()},
        checkpoint.TrainingData(
            files=len({one.path for one in parts}),
            streams=len(parts),
            readings=sum(map(len, times)),
            first_ms=int(min(time.min() for time in times)),
            last_ms=int(max(time.max() for time in times)),
        ),
        checkpoint.Metrics(
            epochs=len(fitted.epochs),
            best_epoch=best.number if best else 0,
            loss=best.loss if best else None,
            validation_loss=best.validation_loss if best else None,
            persistence_loss=fitted.persistence_loss,
            seconds=round(fitted.seconds, 1),
            ended=fitted.ended,
        ),
    )
    digest = checkpoint.save(path, detector, description)
    out.print(f"{path}  sha256 {digest[:12]}  {path.stat().st_size / 1e6:.1f} MB")


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

        def tell(progress: Progress) -> None:
            epoch = progress.epoch
            if epoch is None:
                begun = bars.tasks[0].completed // 1
                bars.update(bar, completed=begun + min(progress.done, 0.999))
                return
            mark = " [green]best so far[/]" if epoch.best else ""
            said = f"loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}{mark}"
            bars.update(bar, completed=epoch.number, description=said)

        yield tell


def _report(fitted: Fitted, out: Console) -> None:
    """How training ended, in one line; in another what to do when it did not learn."""
    best = fitted.best
    if best is None:
        out.print(f"ended before one epoch was done: {fitted.ended}; the forecaster expects no change")
        return
    gain = 100 * (1 - best.validation_loss / fitted.persistence_loss) if fitted.persistence_loss else 0.0
    out.print(
        f"{len(fitted.epochs)} epochs, {fitted.seconds:.0f} s, ended: {fitted.ended}; best is {best.number}: "
        f"validation loss {best.validation_loss:.4f}, {gain:.0f} % below expecting no change"
    )
    if gain <= 0:
        out.print("it forecasts no better than `the same as before`: try more data, --epochs or --hidden")
