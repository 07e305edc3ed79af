"""Reports: an HTML file each, with plots that can be zoomed into, in the live page's look and both of its themes.

The chart library's script is a file beside it, once for all reports of a folder: both open without a network.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import plotly.graph_objects as go
import plotly.io
import plotly.offline

from models.output.output_file import is_special, write_each, write_or_keep
from models.output.palette import PALETTE

# Distinct for people with red-green colour blindness too (Okabe & Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
PLOT_HEIGHT = 380  # pixels
FOLDER = Path(__file__).parent

NO_CHARTS = "The plots need the chart library, which belongs beside this file: {}"


class Link(NamedTuple):
    """A cell of a table that leads elsewhere."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class ReportPage:
    """A page that is put together from top to bottom."""

    title: str
    summary: str
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str, name: str = "") -> Self:
        """name: by which a link leads here."""
        place = f' id="{html.escape(name)}"' if name else ""
        self._parts.append(f"<h2{place}>{html.escape(text)}</h2>")
        return self

    def link(self, link: Link) -> Self:
        self._parts.append(f"<p>{_cell(link)}</p>")
        return self

    def text(self, text: str) -> Self:
        self._parts.append(f"<p>{html.escape(text)}</p>")
        return self

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> Self:
        """Cells are links, or are shown by `str()`; numbers come already rounded."""
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
        body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        captioned = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="wide" tabindex="0" role="group" aria-label="{html.escape(caption or "table")}">'
            f"<table>{captioned}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
        return self

    def plot(self, figure: go.Figure, caption: str = "") -> Self:
        figure.update_layout(
            template="none",
            colorway=COLOURS,
            height=figure.layout.height or PLOT_HEIGHT,
            margin={"l": 60, "r": 20, "t": 40, "b": 50},
        )
        drawn = plotly.io.to_json(figure).replace("<", "\\u003c")
        height = f"{figure.layout.height:g}"
        self._parts.append(
            f'<div class="wide chart" tabindex="0" role="group" aria-label="{html.escape(caption or "chart")}">'
            f'<div class="plot" style="height:{height}px"></div>'
            f'<script type="application/json" class="figure">{drawn}</script></div>'
        )
        if caption:
            self._parts.append(f'<p class="faint">{html.escape(caption)}</p>')
        return self

    def write(self, path: Path, made: str = "") -> None:
        """made: by what and when, for people. A pipe has nothing beside it: the library is written into the page."""
        if is_special(path):
            write_or_keep(path, self._whole(f"<script>{plotly.offline.get_plotlyjs()}</script>", made))
            return
        script = path.with_name(f"plotly-{plotly.offline.get_plotlyjs_version()}.min.js")
        page = self._whole(f'<script src="{script.name}"></script>', made, NO_CHARTS.format(script.name))
        write_each(lambda: write_or_keep(path, page), lambda: _write_library(script))

    def _whole(self, library: str, made: str, no_charts: str = "") -> str:
        title, summary = html.escape(self.title), html.escape(self.summary)
        style = "\n".join(one.read_text() for one in (PALETTE, FOLDER / "report.css"))
        made = f"<footer>{html.escape(made)}</footer>" if made else ""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
            f"<style>{style}</style>{library}</head>\n"
            f'<body><main><h1>{title}</h1>\n<p class="faint">{summary}</p>\n'
            f'<p id="no-charts" hidden>{html.escape(no_charts)}</p>\n'
            + "\n".join(self._parts)
            + f"</main>{made}<script>{(FOLDER / 'report.js').read_text()}</script></body></html>\n"
        )


def _cell(cell: object) -> str:
    text = html.escape(str(cell))
    return f'<a href="{html.escape(cell.href)}">{text}</a>' if isinstance(cell, Link) else text


def _write_library(path: Path) -> None:
    """Once for a folder."""
    script = plotly.offline.get_plotlyjs()
    if not (path.is_file() and path.stat().st_size == len(script.encode())):
        write_or_keep(path, script)
