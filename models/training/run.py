"""The state of a run of training between two groups of lanes: settings, net, optimiser, epochs so far."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data import windows
from models.data.windows import Lane
from models.net.chrono import GATED, remember_up_to
from models.net.forecaster import CLIP, Forecaster, ForecasterConfig
from models.net.names import PRECISIONS
from models.net.warm_start import weights_to_begin_with
from models.training.state import SavedRun, UnusableState, require_like

DIVERGED = 10.0  # an epoch's loss, as a multiple of the lowest one, if it is also worse than expecting no change
HOPELESS = CLIP  # an epoch's loss, in spreads: the net's inputs are clipped to this


class Ending(StrEnum):
    """Why a run of training ended."""

    CONVERGED = "converged"  # the patience was used up
    EPOCHS = "epochs"  # all of them are done
    BUDGET = "budget"  # the time was used up
    INTERRUPTED = "interrupted"  # by Ctrl-C or SIGTERM
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    epochs: int = 100
    patience: int = 15  # epochs without a better validation loss
    epoch_steps: int = 24  # of the optimiser, at least: of few readings an epoch is several passes
    chunk_readings: int = 256  # gradients reach back this far
    remembers: int = 256  # readings that a gated cell's longest memory lasts at first; 0: as short as the cell begins
    lane_readings: int = 2048  # a longer stream lies in several lanes
    side_by_side: int = 64  # lanes in a group, over all processes
    learning_rate: float = 3e-3
    gradient_norm: float = 1.0  # longer gradients are clipped to this norm (Pascanu et al. 2013)
    validation_share: float = 0.15  # of every stream: its last readings
    warm_up: int = 256  # readings before the validation part that only fill the memory
    budget_s: float = math.inf  # of training, interruptions apart; the epoch in which it runs out is the last
    precision: str = "auto"  # of the recurrence while it learns; auto: bfloat16 on a GPU that has it, else float32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(PRECISIONS)}")


class Validation(NamedTuple):
    """Losses on what is not learned from."""

    loss: float
    proven: float  # where a channel of a stream counts for at most what "the same as before" would have lost on it


class Epoch(NamedTuple):
    """One epoch. Losses: Huber loss of one step ahead, in spreads, the mean over channels and readings."""

    number: int
    loss: float
    validation_loss: float
    gradient_norm: float  # mean over the steps, before clipping
    best: bool
    largest_norm: float
    clipped_share: float  # of the steps: their gradient was longer than TrainingConfig.gradient_norm
    not_finite: int  # steps that were left out because their gradient was not finite
    learning_rate: float
    reach: float  # see _reach() of the loop; NaN where there is no stretch to measure it on
    proven_loss: float  # see Validation: the lowest one is the best epoch's


@dataclass(slots=True)
class Sums:
    """Sums of the current epoch, over all processes."""

    loss: float = 0.0
    judged: int = 0  # readings times channels
    steps: int = 0
    norms: float = 0.0
    largest_norm: float = 0.0
    clipped: int = 0
    not_finite: int = 0

    def count_step(self, judged: int, norm: float, limit: float) -> None:
        self.judged += judged
        self.steps += 1
        if math.isfinite(norm):
            self.norms += norm
            self.largest_norm = max(self.largest_norm, norm)
            self.clipped += norm > limit
        else:
            self.not_finite += 1


class TrainingRun:
    """The state of a run of training between two groups of lanes: all that it takes to resume there."""

    def __init__(
        self,
        config: ForecasterConfig,
        training: TrainingConfig,
        device: torch.device,
        start: Forecaster | None = None,
    ) -> None:
        """start: the net that this one begins as; None: its weights are random."""
        torch.manual_seed(training.seed)
        self.training = training
        self.device = device
        self.forecaster = Forecaster(config)
        if start is not None:
            self.forecaster.load_state_dict(weights_to_begin_with(start, config))
        elif training.remembers and config.cell in GATED:
            remember_up_to(self.forecaster.get_submodule("recurrence"), training.remembers)
        self.forecaster.to(device)
        self.best_weights = _copy(self.forecaster)
        self.optimiser = torch.optim.Adam(self.forecaster.parameters(), lr=training.learning_rate, fused=True)
        self.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, factor=0.5, patience=5)
        self.shuffle = np.random.default_rng(training.seed)
        self.epochs: list[Epoch] = []
        self.groups_done = 0  # of the current epoch
        self.sums = Sums()
        self.persistence_loss = math.nan
        self.start: Validation | None = None  # of the net that this one began as
        self.seconds = 0.0
        self._shuffle_before: dict[str, Any] = dict(self.shuffle.bit_generator.state)

    @property
    def best(self) -> Epoch | None:
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    @property
    def ending(self) -> Ending | None:
        """Why another epoch would be of no use; None: it may be."""
        if not self.epochs:
            return None
        last, best = self.epochs[-1], self.best
        lowest = min(epoch.loss for epoch in self.epochs)
        risen = last.loss > DIVERGED * lowest and not last.validation_loss < self.persistence_loss
        learned = best is not None or self.start is not None
        if not learned or risen or not max(last.loss, last.validation_loss) < HOPELESS:
            return Ending.DIVERGED
        return Ending.CONVERGED if last.number - (best.number if best else 0) >= self.training.patience else None

    def rest_of_epoch(self, lanes: Sequence[Lane]) -> Iterator[tuple[list[Lane], float]]:
        """The groups of lanes not yet learned from in this epoch, and how much of it is done after each."""
        self._shuffle_before = dict(self.shuffle.bit_generator.state)
        groups: list[list[Lane]] = []
        steps = 0
        while lanes and steps < self.training.epoch_steps:
            order = self.shuffle.permutation(len(lanes)).tolist()
            once = windows.batches(lanes, self.training.side_by_side, order)
            groups += once
            steps += sum(-(-(group[0].end - group[0].begin) // self.training.chunk_readings) for group in once)
        for group in groups[self.groups_done :]:
            self.groups_done += 1
            yield group, self.groups_done / len(groups)

    def end_epoch(self, validation: Validation, reach: float) -> None:
        """The best epoch is that of the lowest proven loss, since a detector gives a net no weight where it does harm.

        By the plain loss machines of which nothing can be learned outweigh others that are being learned: a net learns
        them by heart, and is the worse for it on what it has not seen. Among equals the plain loss decides.
        """
        sums = self.sums
        loss = sums.loss / max(sums.judged, 1)
        if math.isnan(self.persistence_loss):  # nothing to validate on
            validation = Validation(loss, loss)
        rate = float(self.optimiser.param_groups[0]["lr"])
        self.lr_scheduler.step(validation.proven)
        to_beat = self.start or Validation(HOPELESS, HOPELESS)
        if self.best:
            to_beat = Validation(self.best.validation_loss, self.best.proven_loss)
        better = validation.loss < HOPELESS and validation[::-1] < to_beat[::-1]
        if better:
            self.best_weights = _copy(self.forecaster)
        steps = max(sums.steps, 1)
        self.epochs.append(
            Epoch(
                number=len(self.epochs) + 1,
                loss=loss,
                validation_loss=validation.loss,
                gradient_norm=sums.norms / max(sums.steps - sums.not_finite, 1),
                best=better,
                largest_norm=sums.largest_norm,
                clipped_share=sums.clipped / steps,
                not_finite=sums.not_finite,
                learning_rate=rate,
                reach=reach,
                proven_loss=validation.proven,
            )
        )
        self.groups_done, self.sums = 0, Sums()
        self._shuffle_before = dict(self.shuffle.bit_generator.state)

    def state(self) -> SavedRun:
        """A copy of everything, on the CPU."""
        adam = self.optimiser.state_dict()["state"]
        tensors = {f"weights.{name}": weight for name, weight in _copy(self.forecaster).items()}
        tensors |= {f"best.{name}": weight for name, weight in self.best_weights.items()}
        for n, columns in adam.items():
            tensors |= {f"adam.{n}.{name}": column.clone() for name, column in columns.items()}
        tensors["random"] = torch.get_rng_state()
        values = {
            "epochs": [epoch._asdict() for epoch in self.epochs],
            "groups_done": self.groups_done,
            "sums": asdict(self.sums),
            "persistence_loss": self.persistence_loss,
            "seconds": self.seconds,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "shuffle": self._shuffle_before,
        }
        return SavedRun({name: tensor.cpu() for name, tensor in tensors.items()}, values)

    def restore(self, state: SavedRun, path: Path) -> None:
        """path: where the state is from, for messages. Raises UnusableState; the run is unusable then."""
        tensors, values = state
        epoch = dict.fromkeys(Epoch._fields, 0.0) | {"number": 0, "best": False, "not_finite": 0}
        epochs = values.get("epochs")
        require_like(path, values | {"epochs": []}, self.state().values | {"epochs": []})
        for n, one in enumerate(epochs if isinstance(epochs, list) else [None]):
            require_like(path, one, epoch, f"values.epochs[{n}]")
        self._require_tensors(path, tensors)
        try:
            self._restore(tensors, values)
        except (ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
            raise UnusableState(f"{path}: the run in it cannot be resumed: {error}") from error

    def _require_tensors(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Those of this run's net, and no other; Adam has none before the first step."""
        own = self.state().tensors
        adam = {
            f"adam.{n}.{name}": torch.empty(()) if name == "step" else weight
            for n, weight in enumerate(self.forecaster.parameters())
            for name in ("step", "exp_avg", "exp_avg_sq")
        }
        stepped = any(name.startswith("adam.") for name in tensors)
        expected = {name: one for name, one in own.items() if not name.startswith("adam.")} | (adam if stepped else {})
        if unlike := sorted(tensors.keys() ^ expected.keys()):
            raise UnusableState(f"{path}: tensor {unlike[0]} is missing, or is not known")
        for name, one in expected.items():
            found = tensors[name]
            if (found.shape, found.dtype) != (one.shape, one.dtype):
                raise UnusableState(
                    f"{path}: tensor {name} is {found.dtype} {tuple(found.shape)}, "
                    f"expected {one.dtype} {tuple(one.shape)}"
                )

    def _restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.forecaster.load_state_dict(_under("weights.", tensors))
        self.best_weights = {name: weight.to(self.device) for name, weight in _under("best.", tensors).items()}
        adam: dict[int, dict[str, Tensor]] = {}
        for name, column in _under("adam.", tensors).items():
            number, _, quantity = name.partition(".")
            adam.setdefault(int(number), {})[quantity] = column
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": adam})
        self.optimiser.param_groups[0]["lr"] = values["learning_rate"]
        self.lr_scheduler.load_state_dict(values["lr_scheduler"])
        self.shuffle.bit_generator.state = values["shuffle"]
        torch.set_rng_state(tensors["random"])
        self.epochs = [Epoch(**epoch) for epoch in values["epochs"]]
        self.groups_done = values["groups_done"]
        self.sums = Sums(**values["sums"])
        self.persistence_loss = values["persistence_loss"]
        self.seconds = values["seconds"]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copy(forecaster: Forecaster) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in forecaster.state_dict().items()}
