"""Options that several commands take, what is made of them, and where commands print."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from models.data.file_options import AS_USUAL, FileOptions
from models.data.time_units import TimeUnit
from service.cli.option_checks import finite, multiple_of_16, one_of
from service.errors import RefusedInput, RefusedSetting

if TYPE_CHECKING:
    import torch

    from models.checkpoints.checkpoint import Checkpoint
    from models.data.series import Series
    from service.settings.settings import Settings

MOST_SEED = 2**32 - 1
CHECKPOINT = Path(
    "telltale.safetensors"
)  # where none is given: as in models.checkpoints.checkpoint, without its imports
LINE_EVERY_S = 10.0  # on progress, where there is no terminal to draw a bar on

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="PATH...",
        help="CSV, JSON lines, Parquet, Arrow or Excel files, or folders of them; several may follow.",
    ),
]
MoreData = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More data files.", hidden=True)]
Unit = Annotated[
    TimeUnit | None,
    typer.Option(
        "--time-unit",
        help="Unit of timestamps that are numbers. Default: ms, and an error where they look like another unit.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")]
Part = Annotated[
    str, typer.Option(callback=one_of("all", "train", "test"), help="all, train or test: which rows of the files.")
]
Device = Annotated[str, typer.Option(callback=one_of("auto", "cpu", "cuda"), help="auto, cpu or cuda.")]
Hidden = Annotated[int, typer.Option(min=16, callback=multiple_of_16, help="Hidden units a layer, a multiple of 16.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the data at most.")]
Patience = Annotated[int, typer.Option(min=1, help="Epochs without a better one after which it stops.")]
Chunk = Annotated[int, typer.Option("--chunk", min=2, help="Readings that gradients reach back.")]
LearningRate = Annotated[float, typer.Option(min=1e-6, max=1.0, callback=finite, help="Of Adam, at the start.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings. [TELLTALE_CONFIG]")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Input topic; may be given several times.")]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT", help="Brokers to ask first.")]
FeatureNames = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="A,B,C",
        help="Without a trained model: the channels that the net which comes with Telltale judges.",
    ),
]
CheckpointFile = Annotated[Path | None, typer.Option("--checkpoint", help="File of the trained model.")]
Group = Annotated[str | None, typer.Option("--group", help="Consumer group whose state it is.")]
PartitionNumber = Annotated[
    int | None, typer.Option("--partition", min=0, help="The one it is in, if producers choose; else by the key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def load_settings(config: Path | None, overrides: dict[str, object]) -> "Settings":
    from service.host import log_lines
    from service.settings.loading import load
    from service.settings.settings import secrets

    settings = load(config, overrides)
    log_lines.configure(settings.log.level, settings.log.format, secrets(settings))
    return settings


def quiet_settings(
    config: Path | None, checkpoint: Path | None, topics: list[str] | None, group: str | None, servers: str | None
) -> "Settings":
    """Those of a command that looks at the state: what it has to say is its output, not a log."""
    from service.host import log_lines
    from service.settings.settings import secrets

    settings = load_settings(
        config,
        {
            "checkpoint": checkpoint,
            "kafka.topics": topics or None,
            "kafka.group": group,
            "kafka.bootstrap_servers": servers,
        },
    )
    log_lines.configure("ERROR", settings.log.format, secrets(settings))
    return settings


def data_paths(data: list[Path] | None, more: list[Path] | None) -> list[Path]:
    """`--data A B C`: the shell makes one option and two arguments of it."""
    paths = [*(data or []), *(more or [])]
    if not paths:
        raise RefusedSetting(
            "--data is missing, expected CSV, JSON lines, Parquet, Arrow or Excel files, or folders of them"
        )
    for path in paths:
        if not path.exists():
            raise RefusedInput(f"{path}: no such file or folder")
    return paths


def read_data(
    paths: list[Path],
    features: tuple[str, ...] | None = None,
    options: FileOptions = AS_USUAL,
    unread: list[str] | None = None,
) -> "list[Series]":
    """unread: what is wrong with files that cannot be read is added to it; None: it is raised."""
    from models.data.series import read_series

    return read_series(paths, features, options, note_file, unread)


def note_file(text: str) -> None:
    """What was found out of a data file."""
    err.print(text, soft_wrap=True, markup=False)


def load_checkpoint(path: Path | None, features: Sequence[str] = ()) -> "Checkpoint":
    """features: those of a net that was trained on no plant; see the settings."""
    file = path or (None if features else CHECKPOINT)
    if file is not None and not file.exists():  # reported before torch is imported
        hint = "" if path else "; without a trained model, --features names the channels to judge"
        raise RefusedInput(f"{file}: cannot be read: No such file or directory{hint}")
    from models.checkpoints.checkpoint import open_checkpoint

    return open_checkpoint(path, features)


def simulated(streams: int, seed: int) -> "list[Series]":
    from service.cli.feeding import simulated_series

    return simulated_series(streams, seed)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Lines as wide as they must be: a table that is fitted into a terminal cuts figures short."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in [header, ["-" * width for width in widths], *rows]:
        name, *figures = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        out.print("  ".join([name.strip().ljust(widths[0]), *figures]))


def device_of(name: str) -> "torch.device":
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise RefusedSetting("--device is cuda, but torch finds no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def one_thread() -> None:
    """One thread, so that the bits are those of the service; more would not be faster."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def counting(what: str, total: int) -> "Iterator[Callable[[int], None]]":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)


@contextmanager
def sending(total: int | None) -> "Iterator[Callable[[int], None]]":
    """Report how many readings were sent: as a bar on a terminal, else as a line now and then. total: None: no end."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    began = time.monotonic()
    if not err.is_terminal:
        yield _Lines(total, began).report
        return
    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bars(TextColumn("sent"), *columns, console=err) as bars:
        bar = bars.add_task("", total=total)

        def progress(sent: int) -> None:
            rate = sent / max(time.monotonic() - began, 1e-9)
            bars.update(bar, completed=sent, description=f"{rate:,.0f} a second")

        yield progress


class _Lines:
    def __init__(self, total: int | None, began: float) -> None:
        self._total = total
        self._began = self._reported = began

    def report(self, sent: int) -> None:
        now = time.monotonic()
        if now - self._reported < LINE_EVERY_S:
            return
        self._reported = now
        of = f" of {self._total:,} readings ({100 * sent / self._total:.0f} %)" if self._total else " readings"
        err.print(f"sent {sent:,}{of}, {sent / (now - self._began):,.0f} a second", soft_wrap=True)


@contextmanager
def until_stopped() -> "Iterator[threading.Event]":
    """An event that Ctrl-C and SIGTERM set, the first time; a second one ends the process as always."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
