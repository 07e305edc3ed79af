"""Tasks that need a long memory: what is drawn, who learns it, and what is tried."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Generator

from models.insight.memory_tasks import (
    TASKS,
    Outcome,
    TrainingBudget,
    Trial,
    attempt,
    attempt_all,
    draw_adding,
    draw_recall,
    read_outcomes,
    trials,
    write_outcome,
)

QUICK = TrainingBudget(hidden=16, updates=400, hopeless_after=60)


def generator() -> Generator:
    return Generator().manual_seed(0)


def test_two_of_the_first_ten_numbers_are_to_be_added() -> None:
    inputs, answers = draw_adding(500, 30, generator())
    assert inputs.shape == (40, 500, 2)
    numbers, marks = inputs.unbind(-1)
    assert (numbers.abs() <= 1).all()
    assert (marks.sum(0) == 2).all()
    assert ((marks == 0) | (marks == 1)).all()
    assert (marks[10:] == 0).all(), "nothing is marked during the lag"
    assert (marks[:10].sum(1) > 0).all(), "every one of the first ten may be marked"
    for stream in range(500):
        first, second = numbers[marks[:, stream] == 1, stream].tolist()
        assert answers[stream].item() == pytest.approx((first + second) / 4, abs=1e-6)


def test_the_symbol_to_recall_comes_first_and_never_again() -> None:
    inputs, answers = draw_recall(500, 30, generator())
    assert inputs.shape == (31, 500, 8)
    assert (inputs.sum(-1) == 1).all()
    symbols = inputs.argmax(-1)
    assert torch.equal(symbols[0], answers)
    assert set(answers.tolist()) == {0, 1, 2, 3}
    assert set(symbols[1:].flatten().tolist()) == {4, 5, 6, 7}


@pytest.mark.parametrize("name", TASKS)
def test_chance_is_the_error_of_one_who_remembers_nothing(name: str) -> None:
    task = TASKS[name]
    _, answers = task.draw(20_000, 3, generator())
    error = task.error(torch.zeros(20_000, task.outputs), answers).mean()
    assert float(error) == pytest.approx(task.chance, rel=0.02)
    assert task.learned_below < task.chance / 4


@pytest.mark.parametrize(("task", "cell"), [("recall", "gru"), ("adding", "lstm")])
def test_a_cell_with_memory_learns_what_lies_a_few_readings_back(task: str, cell: str) -> None:
    outcome = attempt(Trial(task, cell, False, 3, 1), TrainingBudget(hidden=16, learning_rate=0.02))
    assert outcome.learned, outcome
    assert outcome.error <= TASKS[task].learned_below


@pytest.mark.parametrize("task", TASKS)
def test_a_net_without_memory_never_does(task: str) -> None:
    outcome = attempt(Trial(task, "feedforward", False, 3, 1), QUICK)
    assert outcome.ended == "hopeless"
    assert outcome.sequences == 60 * 32
    assert outcome.error == pytest.approx(TASKS[task].chance, rel=0.2)


@pytest.mark.slow
def test_a_seed_is_a_run_and_leaves_others_alone() -> None:
    before = torch.random.get_rng_state()
    budget = TrainingBudget(hidden=16, updates=20, hopeless_after=20)
    one, again, other = (attempt(Trial("adding", "gru", True, 5, seed), budget) for seed in (1, 1, 2))
    assert one._replace(took_s=0) == again._replace(took_s=0)
    assert one.error != other.error
    assert torch.equal(torch.random.get_rng_state(), before)


def test_time_runs_out() -> None:
    outcome = attempt(Trial("adding", "lstm", False, 5, 1), TrainingBudget(hidden=16, limit_s=0.0))
    assert (outcome.ended, outcome.sequences) == ("budget", 32)


def test_gated_cells_are_tried_with_both_kinds_of_biases() -> None:
    asked = trials(["recall"], ["rnn-tanh", "gru"], [9, 5, 9], [1, 2], chrono=True)
    assert len(set(asked)) == len(asked) == 3 * 2 * 2
    assert {(trial.cell, trial.chrono) for trial in asked} == {("rnn-tanh", False), ("gru", False), ("gru", True)}
    assert not any(trial.chrono for trial in trials(["recall"], ["gru"], [5], [1], chrono=False))


def test_who_has_not_learned_at_a_lag_is_not_tried_at_longer_ones() -> None:
    asked = trials(["recall"], ["feedforward"], [3, 4, 5], [1, 2], chrono=False)
    with ThreadPoolExecutor(1) as one_by_one:
        found = list(attempt_all(asked, TrainingBudget(hidden=16, updates=20, hopeless_after=20), [], one_by_one))
    assert [(outcome.trial.lag, outcome.trial.seed) for outcome in found] == [(3, 1), (3, 2)]


def test_what_is_known_is_not_tried_again() -> None:
    asked = trials(["recall"], ["feedforward"], [3, 4, 5], [1, 2], chrono=False)
    first, second = (Trial("recall", "feedforward", False, lag, 1) for lag in (3, 4))
    known = [Outcome(first, "learned", 32, 0.0, 1.0), Outcome(first._replace(seed=2), "hopeless", 32, 0.7, 1.0)]
    with ThreadPoolExecutor(1) as one_by_one:
        found = list(attempt_all(asked, TrainingBudget(hidden=16, updates=20, hopeless_after=20), known, one_by_one))
    assert [outcome.trial for outcome in found] == [second]


def test_outcomes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    assert read_outcomes(path, QUICK) == []
    outcomes = [
        Outcome(Trial("adding", "lstm", True, 50, 1), "learned", 640, 0.0312, 2.5),
        Outcome(Trial("recall", "rnn-relu", False, 100, 2), "diverged", 32, 0.75, 0.1),
    ]
    for outcome in outcomes:
        write_outcome(path, outcome, QUICK)
    assert read_outcomes(path, QUICK) == outcomes
    assert len(path.read_text().splitlines()) == 3


def test_outcomes_of_another_budget_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    write_outcome(path, Outcome(Trial("adding", "lstm", True, 50, 1), "learned", 640, 0.03, 2.5), QUICK)
    with pytest.raises(ValueError, match=r"tasks.csv: line 2: hidden is 16, expected 32: use another folder"):
        read_outcomes(path, TrainingBudget())
