"""Reports: whole without a network, and what comes from data stays text."""

import re
from pathlib import Path

import plotly.graph_objects as go

from models.output.page import ReportPage

SCRIPT = "<script>alert(1)</script>"


def test_a_report_needs_nothing_beside_it(tmp_path: Path) -> None:
    report = ReportPage("A run", "40 streams").heading("Loss").plot(go.Figure(go.Scatter(y=[3, 2, 1])), "falls")
    report.write(tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text()
    assert "Plotly.newPlot" in page
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="[^"]*"', page.replace("\n", "")) == []
    assert page.count("</html>") == 1


def test_what_comes_from_data_is_text(tmp_path: Path) -> None:
    report = ReportPage(SCRIPT, SCRIPT).heading(SCRIPT).text(SCRIPT).table([SCRIPT], [[SCRIPT], [1.5]], SCRIPT)
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 8
    assert "<td>1.5</td>" in page


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        ReportPage("A run", "").plot(go.Figure(go.Scatter(y=[1, 2]))).write(tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
