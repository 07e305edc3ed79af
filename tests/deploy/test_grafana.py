"""The dashboards as Grafana's own schema has them: its package on npm, asked by TypeScript."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BOARDS = {file.stem: json.loads(file.read_text()) for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
CHECKER = ROOT / "node_modules/.bin/tsc"
RULES = (
    "--ignoreConfig",
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
)

pytestmark = [pytest.mark.programs, pytest.mark.slow]


def complaints(board: dict[str, Any]) -> str:
    """What TypeScript says of a dashboard as a literal: there it names each field that the schema does not have."""
    if not CHECKER.exists():
        pytest.skip("TypeScript is not here: npm was missing when `make setup` ran")
    build = ROOT / "build"  # below the packages, so that they are found
    build.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=build, prefix="grafana-") as place:
        source = Path(place, "board.ts")
        kind = 'import type { Board } from "../../tests/deploy/grafana";\n'
        source.write_text(f"{kind}export const board: Board = {json.dumps(board, indent=1)};\n")
        ran = subprocess.run([CHECKER, *RULES, source], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode == 0) == (ran.stdout == ""), ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_schema_has_nothing_to_say_of_a_dashboard(name: str) -> None:
    assert complaints(BOARDS[name]) == ""


def _without_legend(board: dict[str, Any]) -> None:
    chart = next(panel for panel in board["panels"] if panel["type"] == "timeseries")
    del chart["options"]["legend"]["showLegend"]


def _with_an_option_of_another_panel(board: dict[str, Any]) -> None:
    next(panel for panel in board["panels"] if panel["type"] == "stat")["options"]["cellHeight"] = "sm"


def _with_a_word_that_is_none(board: dict[str, Any]) -> None:
    chart = next(panel for panel in board["panels"] if panel["type"] == "timeseries")
    chart["options"]["legend"]["placement"] = "beside"


@pytest.mark.parametrize("spoil", [_without_legend, _with_an_option_of_another_panel, _with_a_word_that_is_none])
def test_a_dashboard_that_grafana_would_not_write_is_found(spoil: Callable[[dict[str, Any]], None]) -> None:
    board = json.loads(json.dumps(BOARDS["plant"]))
    spoil(board)
    assert re.search(r"board\.ts\(\d+,\d+\): error TS", complaints(board))
