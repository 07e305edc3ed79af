"""fit(): learn what is normal by truncated back-propagation through time.

The loop reads top to bottom: for every epoch, for every batch of lanes, for every chunk of readings: expect each
reading from the memory before it, measure how far off that was, follow the gradient, keep the memory.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import windows
from models.cells import CellState
from models.detection import Detector, DetectorConfig, Readings
from models.forecaster import CLIP, Forecaster, ForecasterConfig
from models.packing import pack
from models.rows import FRESH_SCALARS, Channels, Rows, Scalars, fresh
from models.series import Series, UnusableData
from models.windows import Chunk, Lane

SHORTEST_SERIES = 32  # readings; a stream with fewer teaches nothing and is left out
ALARM = ("alarm", "opened_offset", "opened_ms", "opened_by", "peak", "severity", "length", "quiet", "rest", "relearn")
PRIME_READINGS = 512  # of each stream at once, while the trained net goes through the training part


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    epochs: int = 40
    patience: int = 6  # epochs without a better validation loss
    chunk_readings: int = 64  # gradients reach back this far
    lane_readings: int = 2048  # a longer stream lies in several lanes
    side_by_side: int = 64  # lanes in a batch
    learning_rate: float = 3e-3
    gradient_norm: float = 1.0  # longer gradients are cut to this length (Pascanu et al. 2013)
    validation_share: float = 0.15  # of every stream: its last readings
    warm_up: int = 128  # readings before the validation part that only fill the memory
    budget_s: float = math.inf  # wall clock; the epoch in which it runs out is cut short and is the last
    seed: int = 0


class Epoch(NamedTuple):
    """How training stands. Losses: Huber loss of one step ahead, in spreads, the mean over channels and readings."""

    number: int
    loss: float
    validation_loss: float
    gradient_norm: float  # mean, before it is cut
    best: bool


class Progress(NamedTuple):
    """What is told while training: after every group of lanes, and after every epoch."""

    done: float  # 0..1 of the epoch
    epoch: Epoch | None


class Fitted(NamedTuple):
    """The forecaster of the best epoch, and how it came about."""

    forecaster: Forecaster
    epochs: list[Epoch]
    best: Epoch | None
    persistence_loss: float  # validation loss of "the same as before", to compare with
    seconds: float
    ended: str  # converged, epochs, budget, interrupted, diverged


def usable(series: Sequence[Series]) -> list[Series]:
    """The training parts: rows that are not `part` = test, of streams long enough."""
    parts = [one.select(~one.test) for one in series]
    long_enough = [one for one in parts if len(one.times_ms) >= SHORTEST_SERIES]
    if not long_enough:
        longest = max((len(one.times_ms) for one in parts), default=0)
        raise UnusableData(
            f"no stream has {SHORTEST_SERIES} readings to train on; of {len(parts)} streams the longest has {longest}"
        )
    return long_enough


def fit(
    series: Sequence[Series],
    config: ForecasterConfig,
    training: TrainingConfig,
    device: torch.device,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Fitted:
    """Train a forecaster on all of `series` (see usable()). KeyboardInterrupt ends it with the best so far."""
    torch.manual_seed(training.seed)
    shuffle = np.random.default_rng(training.seed)
    forecaster = Forecaster(config).to(device)
    best_weights = _copy(forecaster)
    train, validation = windows.split_by_time(
        [windows.scaled(one) for one in series],
        training.validation_share,
        training.lane_readings,
        training.warm_up,
    )
    optimiser = torch.optim.Adam(forecaster.parameters(), lr=training.learning_rate)
    slower = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)
    persistence_loss = _validate(forecaster, validation, training, device)  # untrained, it expects no change

    started = time.monotonic()
    ends_at = started + training.budget_s
    epochs: list[Epoch] = []
    best: Epoch | None = None
    ended = "epochs"
    try:
        for number in range(1, training.epochs + 1):
            order = shuffle.permutation(len(train)).tolist()
            loss, norm = _epoch(forecaster, optimiser, train, order, training, device, ends_at, tell)
            validation_loss = _validate(forecaster, validation, training, device)
            if math.isnan(validation_loss):  # nothing to validate on
                validation_loss = loss
            slower.step(validation_loss)
            better = validation_loss < (best.validation_loss if best else math.inf)
            epochs.append(Epoch(number, loss, validation_loss, norm, better))
            if better:
                best, best_weights = epochs[-1], _copy(forecaster)
            tell(Progress(1.0, epochs[-1]))
            if best is None or not math.isfinite(loss) or number - best.number >= training.patience:
                ended = "converged" if math.isfinite(loss) else "diverged"
                break
            if time.monotonic() > ends_at:
                ended = "budget"
                break
    except KeyboardInterrupt:
        ended = "interrupted"
    forecaster.load_state_dict(best_weights)
    return Fitted(forecaster.cpu().eval(), epochs, best, persistence_loss, time.monotonic() - started, ended)


def _epoch(
    forecaster: Forecaster,
    optimiser: torch.optim.Optimizer,
    lanes: Sequence[Lane],
    order: Sequence[int],
    training: TrainingConfig,
    device: torch.device,
    ends_at: float,
    tell: Callable[[Progress], None],
) -> tuple[float, float]:
    """Go through all lanes once, or until ends_at (monotonic). Returns the mean loss and the mean gradient norm."""
    forecaster.train()
    groups = windows.batches(lanes, training.side_by_side, order)
    losses, weights, norms = [], [], []
    for done, group in enumerate(groups):
        state = forecaster.fresh(len(group))
        memory = state.hidden[-1]
        for chunk in windows.chunks(group, training.chunk_readings):
            total, count, memory, state = _loss(forecaster, _to(chunk, device), memory, state)
            if not count:
                continue
            optimiser.zero_grad()
            (total / count).backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(forecaster.parameters(), training.gradient_norm)
            if torch.isfinite(norm):
                optimiser.step()
            losses.append(float(total.detach()))
            weights.append(count)
            norms.append(float(norm))
        tell(Progress((done + 1) / len(groups), None))
        if time.monotonic() > ends_at:
            break
    return sum(losses) / max(sum(weights), 1), sum(norms) / max(len(norms), 1)


@torch.no_grad()
def _validate(forecaster: Forecaster, lanes: Sequence[Lane], training: TrainingConfig, device: torch.device) -> float:
    forecaster.eval()
    losses, weights = 0.0, 0
    for group in windows.batches(lanes, training.side_by_side):
        state = forecaster.fresh(len(group))
        memory = state.hidden[-1]
        for chunk in windows.chunks(group, 4 * training.chunk_readings):
            total, count, memory, state = _loss(forecaster, _to(chunk, device), memory, state)
            losses += float(total)
            weights += count
    return losses / weights if weights else math.nan


def _loss(
    forecaster: Forecaster, chunk: Chunk, memory: Tensor, state: CellState
) -> tuple[Tensor, int, Tensor, CellState]:
    """Sum and count of the chunk's losses, and the memory after it, cut off from the gradient."""
    inputs = forecaster.inputs(chunk.values, chunk.before, chunk.elapsed_s, chunk.times_ms)
    spoken, after = forecaster.observe(inputs, state)
    before = torch.cat([chunk.before.unsqueeze(0), chunk.values[:-1]])
    predicted = forecaster.predict(torch.cat([memory.unsqueeze(0), spoken[:-1]]), before.clamp(-CLIP, CLIP))
    loss = nn.functional.smooth_l1_loss(predicted, chunk.values.clamp(-CLIP, CLIP), reduction="none")
    total = torch.where(chunk.judged, loss, 0.0).sum()
    return total, int(chunk.judged.sum()), spoken[-1].detach(), CellState(*(part.detach() for part in after))


def _to(chunk: Chunk, device: torch.device) -> Chunk:
    return Chunk(*(column.to(device) for column in chunk))


def _copy(forecaster: Forecaster) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in forecaster.state_dict().items()}


def prime(forecaster: Forecaster, config: DetectorConfig, series: Sequence[Series]) -> Detector:
    """A detector whose training streams start warm: scale, calibration and last memory after all of `series`.

    The scale is that of the whole part from its first reading on; everything else comes from going through the part
    with the very detector that will go on from there. Alarms that are still open at its end are forgotten.
    """
    detector = Detector.cold(forecaster, config)
    rows = fresh(len(series), forecaster.config)
    for stream, one in enumerate(series):
        centre, spread = map(torch.from_numpy, windows.scale_of(one))
        rows.channels[stream, Channels._fields.index("centre")] = centre
        rows.channels[stream, Channels._fields.index("spread")] = spread
        rows.scalars[stream, Scalars._fields.index("rescale_at")] = 2.0 ** math.ceil(math.log2(2 * len(one.times_ms)))
    for begin in range(0, max(len(one.times_ms) for one in series), PRIME_READINGS):
        _go_through(detector, series, begin, rows)
    _forget_alarms(rows)
    return Detector(forecaster, config, {one.key.encode(): stream for stream, one in enumerate(series)}, rows)


def _go_through(detector: Detector, series: Sequence[Series], begin: int, rows: Rows) -> None:
    stretch = slice(begin, begin + PRIME_READINGS)
    streams = np.concatenate([np.full(len(one.times_ms[stretch]), stream) for stream, one in enumerate(series)])
    times = np.concatenate([one.times_ms[stretch] for one in series])
    values = np.concatenate([one.values[stretch] for one in series])
    waves = pack(torch.from_numpy(streams))
    readings = Readings(torch.arange(len(times)), torch.from_numpy(times), torch.from_numpy(values))
    _, after = detector.observe(readings, waves, rows.take(waves.slots))
    rows.put(waves.slots, after)


def _forget_alarms(rows: Rows) -> None:
    for name in ALARM:
        place = Scalars._fields.index(name)
        rows.scalars[:, place] = FRESH_SCALARS[place]
