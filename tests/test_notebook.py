"""The notebook of a first look: it is the one that tests/notebook.py makes, and it runs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebook import PATH, executed, written


def shown(notebook: Any) -> list[list[str]]:
    """What kinds of output each cell has."""
    return [
        [kind for output in cell.outputs for kind in sorted(output.get("data", {output.output_type: ""}))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_in_docs_is_the_one_that_is_made_here() -> None:
    kept = nbformat.read(PATH, as_version=4)
    nbformat.validate(kept)
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.cell_type, cell.source) for cell in written().cells
    ]
    assert PATH.stat().st_size < 200_000


@pytest.mark.thorough
@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_shows_in_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    kept, now = nbformat.read(PATH, as_version=4), executed()
    assert shown(now) == shown(kept)
    assert shown(now)[-1] == ["application/vnd.plotly.v1+json"]
    figure = now.cells[-1].outputs[0].data["application/vnd.plotly.v1+json"]
    assert [trace["name"] for trace in figure["data"]] == ["lower_temperature", "upper_temperature", "temperature"]
    assert len(figure["layout"]["shapes"]) > 0, "an anomaly is marked"
