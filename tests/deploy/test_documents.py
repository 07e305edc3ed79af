"""README and docs/: their commands and links lead to what is there; the reference has everything it is made of."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from docs import generated, input_formats
from service.cli.main import app
from service.input.reasons import Reason
from service.settings.settings import PATHS

ROOT = Path(__file__).parents[2]
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# At the start of a line, behind variables, torchrun or the environment's folder; not a container of that name.
CALL = re.compile(r'^(?:\w+=\S+ )*(?:torchrun .*"\$\(which telltale\)"|(?:\.venv/bin/)?telltale) (.+)$', re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
END = {"|", "&", "&&", ">", "||"}


def calls() -> Iterator[tuple[str, str]]:
    """(document, what stands behind `telltale`) of every call in a block of shell."""
    for document in DOCUMENTS:
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


@pytest.mark.slow
def test_commands_are_found_in_the_tutorial_and_in_the_folders_below() -> None:
    found = {document: {call.split()[0] for name, call in calls() if name == document} for document, _ in calls()}
    assert found["tutorial.md"] >= {"train", "score", "evaluate", "topics", "run", "produce", "replay"}
    assert found["inspect-state.md"] >= {"state", "replay"}


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_version_is_the_same_wherever_it_stands_and_the_changelog_has_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    places = {
        "deploy/Dockerfile": r"^ARG VERSION=(\S+)$",
        "deploy/helm/telltale/Chart.yaml": r"^(?:version|appVersion): (\S+)$",
        "docs/how-to/helm.md": r"telltale:(\d+\.\d+\.\d+)",
    }
    for file, pattern in places.items():
        assert set(re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)) == {version}, file
    released = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version


def links(text: str) -> list[str]:
    """To files of the repository and places in them."""
    found = [markdown or html for markdown, html in LINK.findall(FENCED.sub("", text))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """What the headings of a document are linked by: lower case, without signs, blanks as hyphens."""
    headings = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(document: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = document.parent / path if path else document
    return not file.exists() or (bool(anchor) and anchor not in anchors(file.read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert [target for target in links(document.read_text()) if leads_nowhere(document, target)] == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    here = ROOT / "docs/state.md"
    text = "[a](no-such.md) [b](runbook.md#no-such) [c](#the-changelog) [d](../README.md) [e](https://kafka.apache.org)"
    assert [target for target in links(text) if leads_nowhere(here, target)] == ["no-such.md", "runbook.md#no-such"]


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return generated.pages()


def test_the_reference_has_every_setting(reference: dict[str, str]) -> None:
    assert [path for path in PATHS if f"| `{path}` |" not in reference["reference/settings.md"]] == []


def test_the_reference_has_every_command_with_its_options(reference: dict[str, str]) -> None:
    text = reference["reference/commands.md"]
    commands = {call.split()[0] for _, call in calls()} - {
        "checkpoint",
        "config",
        "control",
        "input",
        "models",
        "state",
        "topics",
    }
    assert [name for name in commands if f"## telltale {name}\n" not in text] == []
    assert "| `--around " in text.partition("## telltale replay\n")[2].partition("\n## ")[0]


def test_the_reference_has_every_metric_by_the_name_that_is_scraped(reference: dict[str, str]) -> None:
    text = reference["reference/metrics.md"]
    for line in (
        "| `telltale_readings_total` | counter |",
        "| `telltale_lag_records` | gauge | `partition`, `topic` |",
        "| `telltale_stage_duration_seconds` | histogram | `stage` |",
    ):
        assert line in text


def test_the_reference_has_the_fields_of_an_event_and_the_paths_of_http(reference: dict[str, str]) -> None:
    assert "| `kind_probability` | number, may be left out |" in reference["reference/events.md"]
    assert '"type": "telltale.anomaly.opened"' in reference["reference/events.md"]
    assert "| `steps` | whole number from 1 to 1,000, default `48` |" in reference["reference/http.md"]


def test_each_reason_for_a_dead_letter_has_an_example_that_the_decoder_refuses_for_it(
    reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [reason for reason in Reason if f"| `{reason}` |" not in reference["reference/input.md"]] == []
    swapped = {**input_formats.REJECTED, Reason.BAD_KEY: input_formats.REJECTED[Reason.MISSING_KEY]}
    monkeypatch.setattr(input_formats, "REJECTED", swapped)
    with pytest.raises(ValueError, match="expected an example of bad_key"):
        input_formats.input_formats()
