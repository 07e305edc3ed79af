"""`python -m tests.bench.training`: a step of training against the same step of a bare torch.nn.LSTM, in one run.

Both take the same shapes: T = 64 waves of S = 64 lanes, H = 64 hidden units, one layer; forward, loss, backward, the
gradient cut, Adam. The bare one is nn.LSTM and nn.Linear with torch's defaults on ready tensors. Ours is measured on a
ready chunk, and through a group of lanes of 2,048 readings as fit() goes, chunks made of series and all. The three take
turns of 32 steps.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.data import windows
from models.data.series import Series
from models.data.windows import Lane
from models.net.forecaster import ForecasterConfig
from models.training.distributed import ALONE
from models.training.loop import TrainStep, _learn, _step
from models.training.run import TrainingConfig, TrainingRun

T, S, H = 64, 64, 64
STEPS = 32  # a turn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.training", description=__doc__)
    parser.add_argument("--features", type=int, nargs="*", default=[1, 38])
    parser.add_argument("--turns", type=int, default=15, help="of 32 steps, of each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {platform.processor() or platform.machine()}, torch {torch.__version__}, one thread", flush=True)
    for features in args.features:
        bare, ready, whole = medians([bare_turn(features), ready_turn(features), whole_turn(features)], args.turns)
        print(
            f"{features:>3} features, {2 * features + 5} inputs\n"
            f"  bare torch.nn.LSTM     {T * S / bare:>9,.0f} readings a second\n"
            f"  a step on a ready chunk{T * S / ready:>9,.0f}, {bare / ready:.2f} of it\n"
            f"  with chunks from series{T * S / whole:>9,.0f}, {bare / whole:.2f} of it",
            flush=True,
        )


def medians(turns: list[Callable[[], None]], times: int) -> list[float]:
    """Seconds a step of each, the median over turns; what else the machine does meanwhile meets all alike."""
    seconds: list[list[float]] = [[] for _ in turns]
    for number in range(-1, times):
        for turn, mine in zip(turns, seconds, strict=True):
            began = time.perf_counter()
            turn()
            if number >= 0:  # the first turn only warms up
                mine.append((time.perf_counter() - began) / STEPS)
    return [statistics.median(mine) for mine in seconds]


def bare_turn(features: int) -> Callable[[], None]:
    recurrence, head = nn.LSTM(2 * features + 5, H), nn.Linear(H, features)
    parameters = [*recurrence.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    inputs, targets = torch.randn(T, S, 2 * features + 5), torch.randn(T, S, features)
    state = torch.zeros(1, S, H), torch.zeros(1, S, H)

    def turn() -> None:
        for _ in range(STEPS):
            memory, _ = recurrence(inputs, state)
            loss = nn.functional.smooth_l1_loss(head(memory), targets)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()

    return turn


def ready_turn(features: int) -> Callable[[], None]:
    run, train_step = _new_run(features)
    chunk = next(windows.chunks(_lanes(features), T))
    state = run.forecaster.fresh(S)

    def turn() -> None:
        for _ in range(STEPS):
            _step(train_step, run, chunk, state.hidden[-1], state, ALONE)

    return turn


def whole_turn(features: int) -> Callable[[], None]:
    run, train_step = _new_run(features)
    lanes = _lanes(features)
    return lambda: _learn(train_step, run, lanes, ALONE)


def _new_run(features: int) -> tuple[TrainingRun, TrainStep]:
    config = ForecasterConfig(tuple(f"f{n}" for n in range(features)), hidden=H)
    run = TrainingRun(config, TrainingConfig(chunk_readings=T), torch.device("cpu"))
    return run, TrainStep(run.forecaster, torch.float32)


def _lanes(features: int) -> list[Lane]:
    """A random walk a stream."""
    random, readings, names = np.random.default_rng(0), STEPS * T, tuple(f"f{n}" for n in range(features))
    row, missing = np.arange(readings), np.zeros(readings, bool)
    values = random.normal(size=(S, readings, features)).cumsum(1)
    series = [Series(f"s{s}", Path("made"), names, row, row * 60_000, values[s], missing) for s in range(S)]
    return [Lane(windows.scaled(one), 0, readings, 0) for one in series]


if __name__ == "__main__":
    main()
