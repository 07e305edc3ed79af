"""Wrong usage is told when the command line is read, and nothing that is there is overwritten unasked."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.core import TyperOption

from models.insight.memory_tasks import TASKS
from models.net.cells import CELLS
from models.net.names import CELL_NAMES, TASK_NAMES
from tests.command_line import Telltale
from tests.service.cli.test_main import COMMANDS

pytestmark = pytest.mark.usefixtures("own_folder")

# Refused from the command line alone. Of the files, x.csv and m.safetensors are there, and so is old.
WRONG = [
    (["train", "--data", "x.csv", "--out", "y", "--cell", "lstn"], "--cell is 'lstn', expected feedforward, rnn-tanh"),
    (["train", "--data", "x.csv", "--out", "y", "--cell", "lstn"], "did you mean lstm?"),
    (["train", "--data", "x.csv", "--out", "y", "--max-seconds", "-5"], "--max-seconds is -5, expected seconds"),
    (["train", "--data", "x.csv", "--out", "y", "--max-seconds", "nan"], "--max-seconds is nan, expected seconds"),
    (["train", "--data", "x.csv", "--out", "y", "--hidden", "24"], "--hidden is 24, expected a multiple of 16"),
    (["train", "--data", "x.csv", "--out", "y", "--learning-rate", "nan"], "--learning-rate"),
    (["train", "--data", "x.csv", "--out", "y", "--seed", "-1"], "--seed"),
    (["train", "--data", "x.csv", "--out", "y", "--device", "cdua"], "expected auto, cpu or cuda; did you mean cuda?"),
    (["train", "--simulate", "3", "--data", "x.csv", "--out", "y"], "--simulate: expected no --data beside it"),
    (["train", "--simulate", "-3", "--out", "y"], "--simulate"),
    (["train", "--from-topic", "t", "--since", "soon", "--out", "y"], "--since is 'soon'"),
    (["train", "--data", "x.csv", "--out", "old"], "old: there already; --force overwrites"),
    (["produce", "--simulate", "3", "--data", "x.csv"], "--simulate: expected no --data beside it"),
    (["produce", "--data", "x.csv", "--readings", "3"], "--readings and --go-on are of the simulation"),
    (["produce", "--data", "x.csv", "--go-on"], "--readings and --go-on are of the simulation"),
    (["produce", "--data", "x.csv", "--rate", "inf"], "--rate is inf, expected a finite number"),
    (["produce", "--simulate", "3", "--readings", "-1"], "--readings"),
    (["score", "--data", "x.csv", "--out", "y.xlsx"], "--out is 'y.xlsx', expected a name that ends in .parquet or"),
    (["score", "--data", "x.csv", "--out", "y"], "expected a name that ends in .parquet or .csv"),
    (["score", "--data", "x.csv", "--out", "y.csv", "--part", "tets"], "--part is 'tets', expected all, train or test"),
    (["score", "--data", "x.csv", "--out", "y.csv", "--anomalies", "old"], "old: there already; --force overwrites"),
    (["inspect", "--data", "x.csv", "--stream", "x", "--out", "y.csv"], "expected a name that ends in .html or .htm"),
    (["inspect", "--data", "x.csv", "--stream", "x", "--around", "noon"], "--around is 'noon', expected RFC 3339"),
    (["forecast", "--data", "x.csv", "--stream", "x", "--after", "noon"], "--after is 'noon', expected RFC 3339"),
    (["compare", "--data", "x.csv", "--out", "y", "--cells", "lstm,gur"], "--cells is 'gur', expected some of"),
    (["gradients", "--data", "x.csv", "--out", "y", "--cell", "gur"], "did you mean gru?"),
    (["memory-tasks", "--out", "y", "--task", "recal"], "--task is 'recal', expected adding or recall; did you mean"),
    (["memory-tasks", "--out", "y", "--max-seconds", "0"], "--max-seconds is 0, expected seconds"),
    (["demo", "--http-port", "70000"], "--http-port"),
    (["state", "export", "--stream", "x", "--out", "old"], "old: there already; --force overwrites"),
    (["replay", "--stream", "x", "--around", "noon"], "--around is 'noon'"),
    (["run", "--http-port", "70000"], "http.port"),
]


@pytest.fixture(autouse=True)
def _files(own_folder: Path) -> None:
    for name in ("x.csv", "m.safetensors", "old"):
        (own_folder / name).write_text("what is there\n")


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_usage_is_told_at_once_and_nothing_is_touched(
    telltale: Telltale, own_folder: Path, arguments: list[str], said: str
) -> None:
    assert said in telltale.refuses(*arguments, code=2)
    assert sorted(path.name for path in own_folder.iterdir()) == ["m.safetensors", "old", "x.csv"]
    assert Path("old").read_text() == "what is there\n"


@pytest.mark.slow
def test_none_of_it_waits_for_anything_heavy() -> None:
    """Imports, not seconds: those are the machine's."""
    program = (
        "import contextlib, io, json, sys\n"
        "from service.cli import main as cli\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['telltale', *arguments]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):\n"
        "        cli.main()\n"
        "    heavy = {'torch', 'kafka', 'polars', 'plotly'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    import json  # noqa: PLC0415

    asked = json.dumps([arguments for arguments, _ in WRONG])
    ran = subprocess.run([sys.executable, "-c", program, asked], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]


def test_the_names_that_may_be_given_are_those_there_are() -> None:
    assert tuple(CELLS) == CELL_NAMES
    assert tuple(TASKS) == TASK_NAMES
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASK_NAMES}


def test_the_version_is_told(telltale: Telltale) -> None:
    assert telltale.does("--version") == f"telltale {version('telltale')}\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_help_is_asked_for_in_two_ways(telltale: Telltale, path: tuple[str, ...]) -> None:
    assert telltale.does(*path, "-h") == telltale.does(*path, "--help")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_wrapped_by_paragraph(path: tuple[str, ...]) -> None:
    text = COMMANDS[path].help or ""
    assert not re.search(r"[^\n]\n[^\n]", text)
    assert "\n\n" in text or len(text) < 120


def test_every_command_that_writes_a_file_can_be_forced() -> None:
    def options(path: tuple[str, ...]) -> set[str]:
        return {opt for one in COMMANDS[path].params if isinstance(one, TyperOption) for opt in one.opts}

    writing = {path for path in COMMANDS if "--out" in options(path)}
    assert len(writing) >= 8
    assert all("--force" in options(path) for path in writing)
