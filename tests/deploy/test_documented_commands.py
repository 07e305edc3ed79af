"""The commands of the documents that need files alone do what they say; `make` has every target that they name.

A command is run as it is written, in a folder with a small history, but for what makes it long (`SHORTER`). Those that
need a broker, the public sets or much time are only held against the command line, by test_documents.py: `run`,
`produce`, `topics`, `control`, `state`, `replay`, `remote-write`, `demo`, `memory-tasks`, and what reads a topic or
`benchmarks/`.
"""

import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from models.data.synthetic import plant, to_frame
from tests.command_line import Telltale
from tests.deploy.test_documents import BLOCK, DOCUMENTS, END, ROOT, calls

# A command: the last value of an option wins.
SHORTER = {
    "train": ["--epochs", "1", "--hidden", "16", "--device", "cpu"],
    "evaluate": ["--device", "cpu"],
    "compare": ["--cells", "feedforward,gru", "--seeds", "1", "--epochs", "1", "--hidden", "16", "--device", "cpu"],
    "gradients": ["--lags", "8", "--losses", "4"],
    "forecast": ["--steps", "3"],
}
FILES_ALONE = {"train", "score", "evaluate", "compare", "gradients", "inspect", "forecast", "checkpoint", "config"}
# What makes one of them need more: a topic, the public sets.
MORE = ("--from-topic", "benchmarks/")
STREAM = "line-03/pump-033"  # the one that the documents name
OUTPUTS = {"--out", "--report", "--anomalies"}
TARGET = re.compile(r"(?:^|`)make ([a-z0-9]+)")


def words_of(call: str) -> tuple[list[str], Path | None]:
    """The words behind `telltale`, and where the shell would write what it prints."""
    words = shlex.split(call, comments=True)
    end = next((place for place, word in enumerate(words) if word in END), len(words))
    return words[:end], Path(words[end + 1]) if words[end : end + 1] == [">"] else None


def is_of_files(call: str) -> bool:
    return call.split(maxsplit=1)[0] in FILES_ALONE and not any(more in call for more in MORE)


PLAYED = sorted({call for _, call in calls() if is_of_files(call)})
NOT_PLAYED = {call.split()[0] for _, call in calls() if not is_of_files(call)}


@pytest.fixture(scope="module")
def files(telltale: Telltale, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents suppose there to be: a history, and checkpoints trained on it."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "history").mkdir()
    frame = to_frame(plant(34, 700, seed=0, step_s=300, fault_every=120, first_fault_after=400))
    few = [STREAM, *sorted(set(frame["stream"]) - {STREAM})[:2]]
    frame.filter(pl.col("stream").is_in(few)).write_parquet(folder / "history" / "plant.parquet")
    at = "2001-01-01T00:00:00Z,2001-01-02T00:00:00Z"
    (folder / "labels.csv").write_text(f"streams,from,until,label\n{STREAM},{at},fault\n")
    for name in ("plant", "other"):
        out = folder / f"{name}.safetensors"
        telltale.does("train", "--data", folder / "history", "--out", out, *SHORTER["train"])
    telltale_yaml = telltale.does("config", "show")
    (folder / "telltale.yaml").write_text(telltale_yaml)
    return folder


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("call", PLAYED)
def test_a_command_that_needs_files_alone_does_what_it_says(
    call: str, telltale: Telltale, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    words, redirected = words_of(call)
    written = [
        Path(words[place + 1]) for place, word in enumerate(words) if word in {"--out", "--report", "--anomalies"}
    ]
    for path in written:
        path.unlink(missing_ok=True)
    printed = telltale.does(*words, *SHORTER.get(words[0], []))
    assert printed or redirected is None
    assert [path for path in written if not path.exists()] == []


def test_what_is_not_run_here_needs_a_broker_or_much_more() -> None:
    needs_a_broker = {"run", "produce", "topics", "state", "replay", "incidents", "control", "input", "rekey", "models"}
    needs_a_broker |= {"remote-write"}
    assert needs_a_broker | {"demo", "memory-tasks", "train", "evaluate", "compare", "gradients"} == NOT_PLAYED
    assert {call.split()[0] for call in PLAYED} == FILES_ALONE


def test_make_has_every_target_that_a_document_names() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):.* ##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in DOCUMENTS]
    shell = [block for text in texts for block in BLOCK.findall(text)]
    named = {target for text in texts for target in TARGET.findall(text)}
    named |= {target for block in shell for target in re.findall(r"\bmake (\w+)", block)}
    assert named >= {"setup", "demo", "check", "test", "kafka", "docs", "bench"}
    assert named - targets == set()
