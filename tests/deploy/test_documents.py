"""README and docs/: that every command in them is one there is, with options that it takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from service.cli.main import app

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# At the start of a line, behind variables or torchrun; not a folder or a container of that name.
CALL = re.compile(r'^(?:\w+=\S+ )*(?:torchrun .*"\$\(which telltale\)"|telltale) (.+)$', re.MULTILINE)
END = {"|", "&", "&&", ">", "||"}


def calls() -> Iterator[tuple[str, str]]:
    """(document, what stands behind `telltale`) of every call in a block of shell."""
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in BLOCK.findall(document.read_text()):
            for call in CALL.findall(block.replace("\\\n", " ")):
                yield document.name, call


def unknown(words: list[str]) -> list[str]:
    """The command's name if there is none such, else the options that it does not take."""
    command = typer.main.get_command(app)
    while (inner := getattr(command, "commands", None)) is not None:
        if not words or words[0] not in inner:
            return words[:1] or ["a group without a command"]
        command, words = inner[words[0]], words[1:]
    taken = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in taken]


@pytest.mark.parametrize(("document", "call"), list(calls()))
def test_a_command_in_a_document_is_one_there_is(document: str, call: str) -> None:
    words = shlex.split(call, comments=True)
    ends = [place for place, word in enumerate(words) if word in END]
    assert unknown(words[: min(ends, default=len(words))]) == [], document


def test_an_option_and_a_command_that_are_not_there_are_noticed() -> None:
    assert unknown(["run", "--topics", "plant"]) == ["--topics"]
    assert unknown(["state", "look"]) == ["look"]
    assert unknown(["train", "--data", "history/", "--kinds"]) == []


def test_commands_are_found_in_the_readme() -> None:
    found = {call.split()[0] for document, call in calls() if document == "README.md"}
    assert found >= {"train", "score", "run", "produce", "replay", "state"}
