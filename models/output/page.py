"""Reports: one HTML file each, with plots that can be zoomed into, which needs no other file.

The chart library's script is written into the file, so that it opens on a machine without a network.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import plotly.graph_objects as go
import plotly.io
import plotly.offline

from models.output.output_file import write_or_keep

# Distinct for people with red-green colour blindness too (Okabe & Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
PLOT_HEIGHT = 380  # pixels

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --faint: #667085; --line: #d9dee5; --paper: #ffffff; --stripe: #f6f8fa; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p { max-width: 75ch; }
.faint { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(even) { background: var(--stripe); }
"""


@dataclass(slots=True)
class ReportPage:
    """A page that is put together from top to bottom."""

    title: str
    summary: str
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> Self:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")
        return self

    def text(self, text: str) -> Self:
        self._parts.append(f"<p>{html.escape(text)}</p>")
        return self

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> Self:
        """Cells are shown by `str()`; numbers come already rounded."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        captioned = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="wide"><table>{captioned}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
        return self

    def plot(self, figure: go.Figure, caption: str = "") -> Self:
        figure.update_layout(
            template="plotly_white",
            colorway=COLOURS,
            height=figure.layout.height or PLOT_HEIGHT,
            margin={"l": 60, "r": 20, "t": 40, "b": 50},
            font={"family": "system-ui, sans-serif"},
        )
        place = f"plot-{len(self._parts)}"  # a random one would make every run write other bytes
        self._parts.append(plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, div_id=place))
        if caption:
            self._parts.append(f'<p class="faint">{html.escape(caption)}</p>')
        return self

    def write(self, path: Path) -> None:
        title, summary = html.escape(self.title), html.escape(self.summary)
        write_or_keep(
            path,
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
            f"<script>{plotly.offline.get_plotlyjs()}</script></head>\n"
            f'<body><h1>{title}</h1>\n<p class="faint">{summary}</p>\n' + "\n".join(self._parts) + "</body></html>\n",
        )
