"""fit(): learn what is normal by truncated back-propagation through time.

The loop reads top to bottom: for every epoch, for every group of lanes, for every chunk of readings: predict each
reading from the memory before it, measure the error, follow the gradient, keep the memory.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.data import windows
from models.data.series import Series, UnusableData
from models.data.windows import Chunk, Lane
from models.net.cells import CellState
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.warm_start import can_begin_as
from models.output.wording import counted
from models.training import diagnosis
from models.training.distributed import ALONE, Ranks, interrupts
from models.training.run import Ending, Epoch, TrainingConfig, TrainingRun, Validation
from models.training.state import Identity, Keeper, digest_of, fingerprint, unpack

SHORTEST_SERIES = 32  # readings; a stream with fewer is left out
SPREAD_WEIGHT = 0.3  # of the unlikelihood in what is minimised: the memory is for the expectation first
MAY_DIFFER = ("epochs", "budget_s")  # a run may be resumed with more of these: they do not change its course


class Progress(NamedTuple):
    """What is reported while training: after every group of lanes, and after every epoch."""

    done: float  # 0..1 of the epoch
    epoch: Epoch | None


class Fitted(NamedTuple):
    """The forecaster of the best epoch, and how training went."""

    forecaster: Forecaster
    epochs: list[Epoch]
    best: Epoch | None
    persistence_loss: float  # validation loss of "the same as before", to compare with
    seconds: float
    ended: Ending
    remarks: tuple[str, ...]  # what went wrong or poorly and what to try: a sentence or two each
    unwritten: str | None = None  # why the run's state could not be written at the end, and where it is instead
    start_loss: float | None = None  # validation loss of the net that it began as; None: with random weights


def usable(series: Sequence[Series]) -> list[Series]:
    """The training parts: rows that are not `part` = test, of streams long enough."""
    parts = [one.select(~one.test) if one.test.any() else one for one in series]
    long_enough = [one for one in parts if len(one.times_ms) >= SHORTEST_SERIES]
    if not long_enough:
        longest = max((len(one.times_ms) for one in parts), default=0)
        raise UnusableData(
            f"no stream has {SHORTEST_SERIES} readings to train on; of {counted(len(parts), 'stream')} "
            f"the longest has {longest}"
        )
    return long_enough


def fit(
    series: Sequence[Series],
    config: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    report_progress: Callable[[Progress], None] = lambda _: None,
    run_file: Path | None = None,
    ranks: Ranks = ALONE,
    save_every_s: float = 60.0,
    start: Forecaster | None = None,
) -> Fitted:
    """Train a forecaster on all of `series` (see usable()). Ctrl-C and SIGTERM end it with the best so far.

    run_file: what holds the run, written after every epoch, at most every `save_every_s` within one, and at the end.
    If it is there, its run is resumed: weights and losses come out, to the bit, as if nothing had interrupted it.
    ranks: the processes that train together (distributed.joined()). Each gets the same series, which may be on disk;
    all return the same forecaster; only the first one reports progress, and only its run file is read and written.
    start: the net that this one begins as (see can_begin_as); it is what comes out unless an epoch is better.
    Raises UnusableState.
    """
    if start is not None and not can_begin_as(start.config, config):
        start = None
    train, validation = windows.split_by_time(
        [windows.scaled(one) for one in series],
        training.validation_share,
        training.lane_readings,
        training.warm_up,
    )
    run = TrainingRun(config, training, device, start)
    identity = _identity(series, config, training, device, ranks, start) if run_file or ranks.world > 1 else {}
    if ranks.world > 1:
        ranks.require_same(repr(identity).encode(), "the data or the settings")
    keeper = Keeper(run_file if ranks.first else None, identity, save_every_s)
    if start and validation:
        run.start = _validate(run.forecaster, validation, training, device, ranks)
    if saved := ranks.from_first(run_file.read_bytes() if run_file and ranks.first and run_file.is_file() else b""):
        run.restore(unpack(run_file or Path(), saved, identity), run_file or Path())
    else:  # untrained, a net expects no change
        untrained = run.forecaster if start is None else Forecaster(config).to(device)
        run.persistence_loss = _validate(untrained, validation, training, device, ranks).loss

    started = time.monotonic() - run.seconds
    loop = _Loop(run, train, validation, ranks, keeper, report_progress if ranks.first else lambda _: None, started)
    with interrupts(ranks) as interrupted:
        try:
            ended = loop.train(interrupted)
        except KeyboardInterrupt:
            ended = Ending.INTERRUPTED
    unwritten = keeper.finish()
    run.forecaster.load_state_dict(run.best_weights)
    remarks = diagnosis.remarks(run.epochs, run.persistence_loss, ended, training, config)
    forecaster = run.forecaster.cpu().eval()
    seconds = time.monotonic() - started
    seen = run.epochs, run.best, run.persistence_loss
    return Fitted(forecaster, *seen, seconds, ended, remarks, unwritten, run.start.loss if run.start else None)


@dataclass(frozen=True, slots=True)
class _Loop:
    """The loop over epochs and groups of lanes, with what it needs at hand."""

    run: TrainingRun
    train_lanes: Sequence[Lane]
    validation_lanes: Sequence[Lane]
    ranks: Ranks
    keeper: Keeper
    report_progress: Callable[[Progress], None]
    started: float  # by the monotonic clock, as if the run had never been interrupted

    def train(self, interrupted: Callable[[], bool]) -> Ending:
        """Epoch after epoch until the run ends. interrupted: whether this process has been asked to stop."""
        run, training = self.run, self.run.training
        train_step = self.ranks.together(TrainStep(run.forecaster, _precision(training, run.device)))
        ending = run.ending
        while ending is None and len(run.epochs) < training.epochs:
            ending = self._train_epoch(train_step, interrupted)
            if ending is Ending.INTERRUPTED:
                return ending
            validation = _validate(run.forecaster, self.validation_lanes, training, run.device, self.ranks)
            run.end_epoch(validation, _reach(run.forecaster, self.train_lanes, training, run.device))
            if ending is None:  # an epoch that the budget cut short is kept as it was, to be resumed with a larger one
                ending = run.ending
                self.keeper.note(run.state)
                self.keeper.write()
            self.report_progress(Progress(1.0, run.epochs[-1]))
        return ending or Ending.EPOCHS

    def _train_epoch(self, train_step: nn.Module, interrupted: Callable[[], bool]) -> Ending | None:
        """Learn from the groups of lanes that are left of this epoch; returns why it was cut short, if it was."""
        run = self.run
        for group, done in run.rest_of_epoch(self.train_lanes):
            _learn(train_step, run, group, self.ranks)
            run.seconds = time.monotonic() - self.started
            self.keeper.note(run.state)
            self.report_progress(Progress(done, None))
            if self.ranks.any(interrupted()):
                return Ending.INTERRUPTED
            if self.ranks.any(time.monotonic() - self.started > run.training.budget_s):
                return Ending.BUDGET
        return None


def _identity(
    series: Sequence[Series],
    config: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    ranks: Ranks,
    start: Forecaster | None = None,
) -> Identity:
    """What two runs must have in common for the one to resume the other."""
    settings = {name: value for name, value in asdict(training).items() if name not in MAY_DIFFER}
    net = {**asdict(config), "features": ", ".join(config.features)}
    precision = str(_precision(training, device))
    where = {"device": device.type, "processes": ranks.world, "precision": precision.removeprefix("torch.")}
    begins_as = {} if start is None else {"start": digest_of(start.state_dict())}
    return {**net, **settings, **where, **begins_as, **fingerprint(series)}


def _precision(training: TrainingConfig, device: torch.device) -> torch.dtype:
    """What the recurrence computes in while it learns; weights, head, loss and optimiser are float32 always."""
    if training.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if training.precision == "bfloat16" else torch.float32


class Walked(NamedTuple):
    """A chunk as the net has read it."""

    residuals: Tensor  # (T, S, F), see Forecaster.residuals()
    changes: Tensor  # (T, S, F): those of "the same as before"
    memories: Tensor  # (T, S, M * H) before each reading
    memory: Tensor  # (S, M * H) after the last
    state: CellState


class ChunkLoss(NamedTuple):
    """Sums over what counts of a chunk, and the memory after it, cut off from the gradient."""

    error: Tensor  # Huber's, of the expectation: what is reported
    unlikelihood: Tensor  # of the spreads, given the residuals; 0 of a net that has none
    memory: Tensor  # (S, M * H)
    state: CellState


class TrainStep(nn.Module):
    """A chunk's loss as a module, so that DistributedDataParallel can add up the gradients of several processes."""

    def __init__(self, forecaster: Forecaster, precision: torch.dtype) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.precision = precision

    def forward(self, chunk: Chunk, memory: Tensor, state: CellState) -> ChunkLoss:
        return _loss(self.forecaster, chunk, memory, state, self.precision)


def _learn(train_step: nn.Module, run: TrainingRun, group: Sequence[Lane], ranks: Ranks) -> None:
    """Learn from a group of lanes, each process from its own, chunk by chunk, with a step of the optimiser each."""
    training, forecaster = run.training, run.forecaster
    forecaster.train()
    own = ranks.share(group)
    chunks = math.ceil(max(lane.end - lane.begin for lane in group) / training.chunk_readings)
    state = forecaster.fresh(len(own))
    memory = state.hidden[-1]
    loss = 0.0
    for chunk in _in_step(own, chunks, training, forecaster):
        if chunk.values.shape[1] != len(memory):  # an idle chunk: this process has no lanes left
            state = forecaster.fresh(1)
            memory = state.hidden[-1]
        off, memory, state = _step(train_step, run, chunk, memory, state, ranks)
        loss += off
    run.sums.loss += ranks.sum(loss)[0]


def _step(
    train_step: nn.Module, run: TrainingRun, chunk: Chunk, memory: Tensor, state: CellState, ranks: Ranks
) -> tuple[float, Tensor, CellState]:
    """Returns the sum of the chunk's losses in this process, and the memory after it.

    The gradient is that of the mean loss over the whole group. Each process has the sum over its own lanes, divided by
    the count over all of them, and multiplies it by W, because gradients are then averaged over W processes.
    """
    count = int(ranks.sum(int(chunk.judged.sum()))[0])
    error, unlikelihood, memory, state = train_step(_to(chunk, run.device), memory, state)
    if not count:
        return 0.0, memory, state
    run.optimiser.zero_grad()
    ((error + SPREAD_WEIGHT * unlikelihood) * ranks.world / count).backward()
    limit = run.training.gradient_norm
    norm = nn.utils.clip_grad_norm_(run.forecaster.parameters(), limit)
    off, length = torch.stack([error.detach(), norm]).tolist()  # one wait for the GPU
    if math.isfinite(length):
        run.optimiser.step()
    run.sums.count_step(count, length, limit)
    return off, memory, state


def _in_step(lanes: Sequence[Lane], chunks: int, training: TrainingConfig, forecaster: Forecaster) -> Iterator[Chunk]:
    """The chunks of this process, filled up with idle ones (one unjudged reading) to the number of the longest lane."""
    features = len(forecaster.config.features)
    nothing = torch.zeros(1, 1, features)
    no_time = torch.zeros(1, 1)
    idle = Chunk(nothing, nothing[0], torch.ones(1, features), no_time, no_time.long(), nothing.bool())
    own = windows.chunks(lanes, training.chunk_readings) if lanes else ()
    return islice(chain(own, repeat(idle)), chunks)


@torch.no_grad()
def _validate(
    forecaster: Forecaster, lanes: Sequence[Lane], training: TrainingConfig, device: torch.device, ranks: Ranks
) -> Validation:
    """In float32, as the service will run it. NaN where there is nothing to validate on."""
    forecaster.eval()
    loss, proven, count = 0.0, 0.0, 0
    for group in windows.batches(ranks.share(lanes), training.side_by_side):
        state = forecaster.fresh(len(group))
        memory = state.hidden[-1]
        own, unchanged = (torch.zeros(len(group), len(forecaster.config.features), device=device) for _ in range(2))
        for chunk in windows.chunks(group, 4 * training.chunk_readings):
            count += int(chunk.judged.sum())
            here = _to(chunk, device)
            walked = _walk(forecaster, here, memory, state, torch.float32)
            own += torch.where(here.judged, huber(walked.residuals), 0.0).sum(0)
            unchanged += torch.where(here.judged, huber(walked.changes), 0.0).sum(0)
            memory, state = walked.memory, walked.state
        loss += float(own.sum())
        proven += float(torch.minimum(own, unchanged).sum())
    loss, proven, judged = ranks.sum(loss, proven, count)
    return Validation(loss / judged, proven / judged) if judged else Validation(math.nan, math.nan)


def _loss(forecaster: Forecaster, chunk: Chunk, memory: Tensor, state: CellState, precision: torch.dtype) -> ChunkLoss:
    """An expectation learns from its error alone, a spread from the likelihood of the residual there was.

    So a spread never excuses an expectation.
    """
    walked = _walk(forecaster, chunk, memory, state, precision)
    error = _sum(huber(walked.residuals), chunk.judged)
    unlikelihood = torch.zeros_like(error)
    if forecaster.config.spreads:
        unlikelihood = _sum(forecaster.unlikelihoods(walked.memories, walked.residuals.detach()), chunk.judged)
    return ChunkLoss(error, unlikelihood, walked.memory, walked.state)


def _walk(forecaster: Forecaster, chunk: Chunk, memory: Tensor, state: CellState, precision: torch.dtype) -> Walked:
    """The memory after it is cut off from the gradient."""
    inputs = forecaster.inputs(*chunk[:5])
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        outputs, after = forecaster.observe(inputs, state)
    outputs = outputs.float()
    before = torch.cat([chunk.before.unsqueeze(0), chunk.values[:-1]])
    memories = torch.cat([memory.unsqueeze(0), outputs[:-1]])
    residuals = forecaster.residuals(memories, before, chunk.values, chunk.step)
    changes = forecaster.changes(before, chunk.values, chunk.step)
    kept = CellState(*(part.detach().float() for part in after))
    return Walked(residuals, changes, memories, outputs[-1].detach(), kept)


def huber(residuals: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(residuals, torch.zeros_like(residuals), reduction="none")


def _sum(losses: Tensor, judged: Tensor) -> Tensor:
    return torch.where(judged, losses, 0.0).sum()


def _reach(forecaster: Forecaster, lanes: Sequence[Lane], training: TrainingConfig, device: torch.device) -> float:
    """How much of a gradient passes through a chunk: |dL / d memory| at its oldest reading, over that at its newest.

    L: the loss of one step ahead from the newest. Memory: h and c together, since a gate lets a gradient pass from the
    one to the other. Near 0 it vanishes on the way, far above 1 it explodes (Bengio, Simard & Frasconi 1994).
    """
    group = windows.batches(lanes, training.side_by_side)[0]
    first, *more = islice(windows.chunks(group, training.chunk_readings), 2)
    state = forecaster.fresh(len(group))
    chunk = first
    if more and len(more[0].values) == len(first.values):
        chunk = more[0]
        with torch.no_grad():  # the first one fills the memory
            state = _loss(forecaster, _to(first, device), state.hidden[-1], state, torch.float32).state
    chunk = _to(chunk, device)
    inputs = forecaster.inputs(*chunk[:5])
    if len(inputs) < 2 or not chunk.judged[-1].any():
        return math.nan
    oldest = CellState(*(part.detach().requires_grad_() for part in state))
    with training_mode(forecaster):
        _, newest = forecaster.observe(inputs[:-1], oldest)
        residuals = forecaster.residuals(newest.hidden[-1], chunk.values[-2], chunk.values[-1], chunk.step)
        loss = _sum(huber(residuals), chunk.judged[-1])
        gradients = torch.autograd.grad(loss, [*newest, *oldest], allow_unused=True)
    lengths = [0.0 if gradient is None else float(gradient.norm()) for gradient in gradients]
    now, then = math.hypot(*lengths[:2]), math.hypot(*lengths[2:])
    return then / now if now else math.nan


@contextmanager
def training_mode(net: nn.Module) -> Iterator[None]:
    """Put the net into training mode: in evaluation mode cuDNN keeps nothing for a backward pass."""
    before = net.training
    net.train()
    try:
        yield
    finally:
        net.train(before)


def _to(chunk: Chunk, device: torch.device) -> Chunk:
    return Chunk(*(column.to(device) for column in chunk))
