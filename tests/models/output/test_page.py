"""Reports: small, whole without a network, and what comes from data stays text."""

import os
import re
import threading
from pathlib import Path

import plotly.graph_objects as go

from models.output.page import Link, ReportPage

SCRIPT = "<script>alert(1)</script>"


def a_report() -> ReportPage:
    return ReportPage("A run", "40 streams").heading("Loss").plot(go.Figure(go.Scatter(y=[3, 2, 1])), "falls")


def test_a_folder_of_reports_has_the_chart_library_once_and_each_is_small(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        a_report().write(tmp_path / "new" / name)
    scripts = [path for path in (tmp_path / "new").iterdir() if path.suffix == ".js"]
    assert len(scripts) == 1
    page = (tmp_path / "new" / "report.html").with_name("one.html").read_text()
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]*)"', page.replace("\n", "")) == [scripts[0].name]
    assert len(page) < 50_000
    assert page.count('class="figure"') == 1
    assert page.count("</html>") == 1


def test_a_report_that_is_piped_has_the_library_in_it(tmp_path: Path) -> None:
    pipe, page = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: page.append(pipe.read_text()))
    reader.start()
    a_report().write(pipe)
    reader.join()
    assert "src=" not in page[0][:200]
    assert len(page[0]) > 1_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_report_says_by_what_and_when_it_was_made_and_leads_elsewhere(tmp_path: Path) -> None:
    page = ReportPage("A run", "").table(["series"], [[Link("pump <1>", "press-2.html#series-9")]])
    page.write(tmp_path / "report.html", "Telltale 0.2.0, by: telltale evaluate <x>")
    text = (tmp_path / "report.html").read_text()
    assert "<footer>Telltale 0.2.0, by: telltale evaluate &lt;x&gt;</footer>" in text
    assert '<a href="press-2.html#series-9">pump &lt;1&gt;</a>' in text


def test_what_comes_from_data_is_text(tmp_path: Path) -> None:
    report = ReportPage(SCRIPT, SCRIPT).heading(SCRIPT).text(SCRIPT).table([SCRIPT], [[SCRIPT], [1.5]], SCRIPT)
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 9
    assert "<td>1.5</td>" in page


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        ReportPage("A run", "").plot(go.Figure(go.Scatter(y=[1, 2]))).write(tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
