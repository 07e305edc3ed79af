"""How long a cell can remember: two tasks whose answer lies `lag` readings back, each learned from nothing.

After Hochreiter & Schmidhuber 1997, experiments 2 and 4, arranged so that the lag is the same for every sequence: what
matters comes first, then `lag` readings that mean nothing, then the answer is due. Every update
draws new sequences, so each is judged before anything is learned from it, and a score is one on unseen sequences.
Sizes: T readings a sequence, S sequences, I inputs, H hidden units.
"""

import csv
import io
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from models.data.series import UnusableData
from models.net.cells import CELLS, CellState
from models.net.chrono import GATED, remember_for
from models.net.names import TASK_NAMES
from models.output.output_file import write_or_keep

SYMBOLS = 4  # that may have to be recalled, and as many that mean nothing
MARKED_WITHIN = 10  # readings; the two numbers to add are among the first 10
JUDGED_BATCHES = 16  # a cell is judged by the last 16
HOPE = 0.8  # of the error by chance: a cell that has been below it has begun to learn


class Sequences(NamedTuple):
    """S sequences and what should be answered after their last reading."""

    inputs: Tensor  # (T, S, I)
    answers: Tensor  # (S,)


@dataclass(frozen=True, slots=True)
class Task:
    """One task. An error is a number a sequence; a cell has learned when the mean error is at most `learned_below`."""

    name: str
    title: str
    text: str
    inputs: int
    outputs: int
    draw: Callable[[int, int, Generator], Sequences]
    loss: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    learned_below: float
    chance: float  # the mean error without any memory


def draw_adding(sequences: int, lag: int, generator: Generator) -> Sequences:
    """Numbers in -1..1, two of the first ten marked; the answer is a quarter of their sum. T = lag + 10."""
    numbers = torch.rand(lag + MARKED_WITHIN, sequences, generator=generator) * 2 - 1
    marks = torch.zeros_like(numbers)
    marked = torch.rand(MARKED_WITHIN, sequences, generator=generator).argsort(0)[:2]
    marks.scatter_(0, marked, 1.0)
    return Sequences(torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(0) / 4)


def draw_recall(sequences: int, lag: int, generator: Generator) -> Sequences:
    """One of four symbols, then `lag` of four others; the answer is which it was. T = lag + 1."""
    first = torch.randint(SYMBOLS, (1, sequences), generator=generator)
    others = torch.randint(SYMBOLS, 2 * SYMBOLS, (lag, sequences), generator=generator)
    shown = nn.functional.one_hot(torch.cat([first, others]), 2 * SYMBOLS)
    return Sequences(shown.float(), first[0])


def _far_off(answered: Tensor, answers: Tensor) -> Tensor:
    return (answered.squeeze(-1) - answers).abs()


def _wrong(answered: Tensor, answers: Tensor) -> Tensor:
    return (answered.argmax(-1) != answers).float()


_TASKS = (
    Task(
        name="adding",
        title="The adding problem",
        text="Two of the first ten numbers are marked; after the lag, filled with numbers that are not, a quarter of "
        "their sum is due. Learned: a mean error of at most 0.04; always answering 0 has 0.167.",
        inputs=2,
        outputs=1,
        draw=draw_adding,
        loss=lambda answered, answers: nn.functional.mse_loss(answered.squeeze(-1), answers),
        error=_far_off,
        learned_below=0.04,
        chance=1 / 6,  # the mean distance from 0 of a quarter of the sum of two numbers in -1..1
    ),
    Task(
        name="recall",
        title="Delayed recall",
        text="One of four symbols is shown; after the lag, filled with four other symbols at random, it is due. "
        "Learned: at most 1 % wrong; guessing has 75 %.",
        inputs=2 * SYMBOLS,
        outputs=SYMBOLS,
        draw=draw_recall,
        loss=nn.functional.cross_entropy,
        error=_wrong,
        learned_below=0.01,
        chance=1 - 1 / SYMBOLS,
    ),
)
TASKS = dict(zip(TASK_NAMES, _TASKS, strict=True))


@dataclass(frozen=True, slots=True)
class TrainingBudget:
    """The budget for one task at one lag; the same for every cell."""

    hidden: int = 32
    batch: int = 32  # sequences an update
    updates: int = 3_000
    hopeless_after: int = 1_500  # updates without ever a mean error below eight tenths of chance
    limit_s: float = math.inf
    learning_rate: float = 3e-3  # of Adam
    gradient_norm: float = 1.0  # longer gradients are clipped to this norm


class Trial(NamedTuple):
    """What is to be tried: a cell, with its usual biases or with those for long memories, at one lag."""

    task: str
    cell: str
    chrono: bool  # biases for memories as long as the lag: see chrono.py
    lag: int
    seed: int


class Outcome(NamedTuple):
    """How a trial went."""

    trial: Trial
    ended: str  # learned, hopeless, budget, diverged
    sequences: int  # seen until then
    error: float  # mean over the last ones
    took_s: float

    @property
    def learned(self) -> bool:
        return self.ended == "learned"


class Answerer(nn.Module):
    """A cell that reads a sequence, and what is answered from its memory after the last reading."""

    def __init__(self, cell: str, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.recurrence = CELLS[cell](inputs, hidden, 1)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: (T, S, I). Returns the answers, (S, outputs)."""
        hidden = inputs.new_zeros(1, inputs.shape[1], self.head.in_features)
        cell = hidden.repeat(1, 1, self.recurrence.cell_numbers)
        memory, _ = self.recurrence(inputs, CellState(hidden, cell))
        answered: Tensor = self.head(memory[-1])
        return answered


def trials(
    tasks: Sequence[str], cells: Sequence[str], lags: Sequence[int], seeds: Sequence[int], *, chrono: bool
) -> list[Trial]:
    """Each with each; gated cells a second time with biases for long memories, if `chrono`."""
    starts = [(cell, long) for cell in cells for long in (False, True) if not long or (chrono and cell in GATED)]
    return [
        Trial(task, cell, long, lag, seed)
        for task in tasks
        for cell, long in starts
        for lag in sorted(set(lags))
        for seed in seeds
    ]


def attempt(trial: Trial, budget: TrainingBudget) -> Outcome:
    """Learn one task at one lag, until it is learned or given up."""
    started = time.monotonic()
    task = TASKS[trial.task]
    generator = Generator().manual_seed(trial.seed)
    answerer = _new_answerer(trial, budget)
    optimiser = torch.optim.Adam(answerer.parameters(), lr=budget.learning_rate)
    errors: deque[float] = deque(maxlen=JUDGED_BATCHES)
    lowest, update, ended = math.inf, 0, None
    while ended is None:
        update += 1
        sequences = task.draw(budget.batch, trial.lag, generator)
        loss, error = _update(answerer, optimiser, task, sequences, budget.gradient_norm)
        errors.append(error)
        if len(errors) == JUDGED_BATCHES:
            lowest = min(lowest, sum(errors) / JUDGED_BATCHES)
        ended = _ending(task, budget, loss, lowest, update, time.monotonic() - started)
    took_s = time.monotonic() - started
    return Outcome(trial, ended, update * budget.batch, sum(errors) / len(errors), took_s)


def _update(
    answerer: Answerer, optimiser: torch.optim.Optimizer, task: Task, sequences: Sequences, gradient_norm: float
) -> tuple[float, float]:
    """One step of the optimiser. Returns the loss, and the mean error before the step."""
    answered = answerer(sequences.inputs)
    loss = task.loss(answered, sequences.answers)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(answerer.parameters(), gradient_norm)
    if torch.isfinite(norm):
        optimiser.step()
    return float(loss.detach()), float(task.error(answered.detach(), sequences.answers).mean())


def _ending(task: Task, budget: TrainingBudget, loss: float, lowest: float, update: int, seconds: float) -> str | None:
    """Why the trial ends after this update; None: it does not. lowest: mean error so far."""
    if not math.isfinite(loss):
        return "diverged"
    if lowest <= task.learned_below:
        return "learned"
    if update >= budget.hopeless_after and lowest > HOPE * task.chance:
        return "hopeless"
    return "budget" if update >= budget.updates or seconds > budget.limit_s else None


def _new_answerer(trial: Trial, budget: TrainingBudget) -> Answerer:
    task = TASKS[trial.task]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        answerer = Answerer(trial.cell, task.inputs, budget.hidden, task.outputs)
        if trial.chrono:
            remember_for(answerer.recurrence, trial.lag)
    return answerer


def attempt_all(
    trials: Sequence[Trial], budget: TrainingBudget, known: Sequence[Outcome], executor: Executor
) -> Iterator[Outcome]:
    """Outcomes as they come. A cell that has not learned at a lag is not tried at longer ones with the same seed.

    known: outcomes of earlier runs, which are not tried again.
    """
    ladders: dict[Trial, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.lag):
        ladders.setdefault(trial._replace(lag=0), []).append(trial)
    learned = {outcome.trial: outcome.learned for outcome in known}
    running = {}
    for ladder in sorted(ladders.values(), key=lambda ladder: ladder[0].seed):
        while ladder and learned.get(ladder[0], False):
            ladder.pop(0)
        if ladder and ladder[0] not in learned:
            running[executor.submit(attempt, ladder[0], budget)] = ladder[1:]
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            ladder = running.pop(future)
            outcome = future.result()
            yield outcome
            if ladder and outcome.learned:
                running[executor.submit(attempt, ladder[0], budget)] = ladder[1:]


def write_outcome(path: Path, outcome: Outcome, budget: TrainingBudget) -> None:
    """Add a line to a CSV file, which is made if it is not there: the trial, how it went, and the budget it had."""
    how = {
        "ended": outcome.ended,
        "sequences": outcome.sequences,
        "error": round(outcome.error, 4),
        "took_s": round(outcome.took_s, 1),
    }
    line = {**outcome.trial._asdict(), **how, **asdict(budget)}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(line))
    before = path.read_bytes() if path.exists() else b""
    if not before:
        writer.writeheader()
    writer.writerow(line)
    write_or_keep(path, before + text.getvalue().encode())


def read_outcomes(path: Path, budget: TrainingBudget) -> list[Outcome]:
    """Those of earlier runs; none if there is no file. Raises UnusableData where the budget was another."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for number, line in enumerate(lines, 2):
        for name, value in asdict(budget).items():
            if line.get(name) != str(value):
                raise UnusableData(
                    f"{path}: line {number}: {name} is {line.get(name)}, expected {value}: use another folder"
                )
    return [
        Outcome(
            Trial(line["task"], line["cell"], line["chrono"] == "True", int(line["lag"]), int(line["seed"])),
            line["ended"],
            int(line["sequences"]),
            float(line["error"]),
            float(line["took_s"]),
        )
        for line in lines
    ]
