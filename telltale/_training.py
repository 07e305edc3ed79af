"""train(): from a frame to a detector."""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from models.checkpoints import checkpoint_header
from models.data import frames
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.training.architecture import suited_to
from models.training.loop import Progress, fit, usable
from models.training.run import TrainingConfig
from service.cli.trainer import describe_run
from telltale._detector import Detector, Order, Unit
from telltale._judging import torch_settings

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Cell = Literal["feedforward", "rnn-tanh", "rnn-relu", "lstm", "lstm-peephole", "gru", "xlstm"]


class PoorTraining(UserWarning):
    """Training went poorly; says in what way, and what to try."""


def train(
    frame: "pl.DataFrame | pd.DataFrame",
    *,
    values: Sequence[str] | None = None,
    cell: Cell = "lstm",
    hidden: int = 64,
    epochs: int = 100,
    budget_s: float | None = None,
    chunk: int = 256,
    learning_rate: float = 3e-3,
    time_zone: str = "UTC",
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], object] | None = None,
    time: str | None = None,
    stream: str | None = None,
    name: str = "sensor",
    time_unit: Unit | None = None,
    order: Order = "check",
) -> "Detector":
    """Learn what is normal from the readings of a frame. Ctrl-C ends it with the best so far.

    values: the columns to learn, the detector's channels; None: all columns of numbers but those of times and streams,
    `label` and `part` (rows whose `part` is `test` are left out). cell: what remembers. hidden: units of it, a multiple
    of 16. epochs, budget_s: passes over the data at most, and seconds; it ends before when it gains no more. chunk:
    readings that gradients reach back. time_zone: IANA name of the one that the plant works by. seed: two runs with one
    seed on one machine give the same weights. progress: is called with a line after every epoch, such as `print`. The
    others: see the module.

    Warns of PoorTraining. Raises UnusableData, and ValueError at an argument out of range.
    """
    table = frames.read(frame, frames.layout(time, stream, name, time_unit, order), _names(values))
    parts = usable(table.series)
    _require_positive(epochs=epochs, budget_s=budget_s, chunk=chunk, learning_rate=learning_rate)
    architecture = suited_to(parts, cell, hidden, time_zone=time_zone)
    checkpoint_header.require_savable(architecture)
    settings = TrainingConfig(
        epochs=epochs,
        chunk_readings=chunk,
        learning_rate=learning_rate,
        budget_s=math.inf if budget_s is None else budget_s,
        seed=seed,
    )
    with torch_settings(torch.get_num_threads()):
        fitted = fit(parts, architecture, settings, torch.device(device), _teller(progress))
    with torch_settings():
        detector = prime(fitted.forecaster, DetectorConfig(), parts)
    for remark in fitted.remarks:
        warnings.warn(_as_arguments(remark), PoorTraining, stacklevel=2)
    return Detector(detector, describe_run(detector, parts, 0, settings, fitted))


def _teller(progress: Callable[[str], object] | None) -> Callable[[Progress], None]:
    def tell(now: Progress) -> None:
        if progress is not None and now.epoch is not None:
            epoch = now.epoch
            progress(f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}")

    return tell


def _as_arguments(remark: str) -> str:
    """The options of `telltale train` that a remark names, as arguments."""
    return re.sub(r"--([a-z-]+)", lambda option: option[1].replace("-", "_"), remark)


def _names(values: Sequence[str] | None) -> Sequence[str] | None:
    return [values] if isinstance(values, str) else values


def _require_positive(**arguments: float | None) -> None:
    for name, value in arguments.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")
