"""`telltale gradients` and `telltale memory-tasks`: what they write, what they print, what they refuse."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.command_line import Telltale

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_folder")]


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    place = np.arange(200)
    flow = np.sin(place / 9) + np.random.default_rng(0).normal(0, 0.2, 200)
    path = tmp_path / "pump.csv"
    pl.DataFrame({"timestamp": 1_700_000_000_000 + place * 60_000, "flow": flow}).write_csv(path)
    return path


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_gradients_of_cells_and_of_a_checkpoint(telltale: Telltale, pump: Path, tmp_path: Path) -> None:
    asked = ("--data", pump, "--lags", 30, "--losses", 8)
    cells = ("--cell", "rnn-tanh", "--cell", "lstm", "--hidden", 16, "--epochs", 1)
    said = telltale.does("gradients", *asked, *cells, "--out", "flow")
    assert "…" not in said, "no figure is cut to fit the terminal"
    assert said.count("lstm") == 6, "at first, with chrono biases and trained; along h and along c"
    assert said.count("rnn-tanh") == 2
    lines = lines_of(tmp_path / "flow" / "gradients.csv")
    assert len(lines) == (2 + 6) * 30
    assert {line["median"] for line in lines if line["lag"] == "1" and line["memory"] == "h"} == {"1"}
    assert "rnn-tanh, h" in (tmp_path / "flow" / "gradients.html").read_text()

    telltale.does("train", "--data", pump, "--out", "model.safetensors", "--hidden", 16, "--epochs", 1)
    telltale.does("gradients", "--checkpoint", "model.safetensors", *asked, "--out", "ready")
    ready = lines_of(tmp_path / "ready" / "gradients.csv")
    assert ready == [line for line in lines if line["cell"] == "lstm"], "one epoch of the same training"


@pytest.mark.thorough
def test_memory_tasks_go_on_where_they_were(telltale: Telltale, tmp_path: Path) -> None:
    asked = ("--task", "recall", "--cell", "feedforward", "--hidden", 16, "--updates", 40, "--hopeless-after", 20)
    few = ("--lag", 3, "--out", "memory")
    said = telltale.does("memory-tasks", *asked, *few, "--seeds", 1, "--processes", 1)
    assert "0/1, error 0.7" in said
    first = lines_of(tmp_path / "memory" / "memory-tasks.csv")
    assert [(line["lag"], line["seed"], line["ended"]) for line in first] == [("3", "1", "hopeless")]

    said = telltale.does("memory-tasks", *asked, *few, "--seeds", 2, "--processes", 2)
    assert "0/2, error 0.7" in said
    assert lines_of(tmp_path / "memory" / "memory-tasks.csv")[0] == first[0]
    assert "Delayed recall" in (tmp_path / "memory" / "memory-tasks.html").read_text()
    assert "use another folder" in telltale.refuses("memory-tasks", "--hidden", 32, *few, code=1)


def test_what_is_not_known_is_refused(telltale: Telltale, pump: Path) -> None:
    assert "--cell is 'lsmt', expected feedforward" in telltale.refuses(
        "gradients", "--cell", "lsmt", "--data", pump, "--out", "x", code=2
    )
    assert "--task is 'adding up', expected adding or recall" in telltale.refuses(
        "memory-tasks", "--task", "adding up", "--out", "x", code=2
    )
    assert "expected one of them" in telltale.refuses(
        "gradients", "--cell", "lstm", "--checkpoint", "m.safetensors", "--out", "x", code=2
    )
    assert "200 lags take at least 265" in telltale.refuses("gradients", "--data", pump, "--out", "x", code=1)
