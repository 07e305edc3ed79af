"""A sheet of an Excel workbook as a table: rows before its header, the header, a row of units, and the rows below.

Cells have types of their own, each for itself: a column of one type keeps it, any other becomes text.
"""

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from models.data.errors import UnusableData
from models.data.text_files import SAMPLE_LINES, check_header, units_in

SUFFIX = ".xlsx"
INSTALL = "pip install 'telltale[excel]'"
# What the library raises of a file that is none, or is damaged.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, SyntaxError, LookupError, ValueError, TypeError, AttributeError),
    *(EOFError, OverflowError, NotImplementedError),
)

Cells = tuple[Any, ...]


class SheetTable(NamedTuple):
    """What is in a sheet. All of it is in memory."""

    frame: pl.DataFrame  # its rows below the header and a row of units
    sheet: str
    before: int  # rows before the header, or before the first row
    units: tuple[str, ...]  # of the columns, where the row below the header has them


def read(
    path: Path, sheet: str | None, columns: Sequence[str], skip_lines: int | None, leave_out: tuple[str, ...] = ()
) -> SheetTable:
    """Read a sheet. Raises UnusableData.

    sheet: its name; None: the only one with cells in it. columns: names of all columns, of a sheet without a header.
    skip_lines: how many of the sheet's rows lie before the header; None: found out. leave_out: text with which rows
    begin that are none.
    """
    sheets = _sheets(path, sheet, skip_lines or 0)
    if sheet is None and len(sheets) > 1:
        raise UnusableData(
            f"{path}: {len(sheets)} sheets have cells in them, {', '.join(sheets)}; --sheet names the one that is meant"
        )
    if not sheets:
        behind = f" behind the {skip_lines} of --skip-lines" if skip_lines else ""
        raise UnusableData(f"{path}: no rows{behind}")
    ((name, rows),) = sheets.items()
    rows = [row for row in rows if not (isinstance(row[0], str) and row[0].startswith(leave_out))]
    if not rows:
        raise UnusableData(f"{path}: no rows but those of --leave-out")
    before = _before_header(rows) if skip_lines is None else 0
    rows = rows[before:]
    header, body = (rows[0], rows[1:]) if _is_header(rows[0]) or not columns else (None, rows)
    names = _names(path, name, header or rows[0], columns)
    units = () if header is None else units_in([[_text(cell) or "" for cell in row] for row in body[:SAMPLE_LINES]])
    if not columns:
        check_header(path, names, units, before + (skip_lines or 0), "row")
    body = body[bool(units) :]
    frame = pl.DataFrame({one: _column(one, [row[n] for row in body]) for n, one in enumerate(names)})
    return SheetTable(frame, name, skip_lines or before, units)


def _before_header(rows: Sequence[Cells]) -> int:
    """How many rows lie before the header: the first in which each cell is a word, if the next is no such row.

    There are some only where a row with a number or a time is below it, and none is above it.
    """
    for k, row in enumerate(rows[:SAMPLE_LINES]):
        if not _is_header(row):
            return 0
        if None not in row and any(not _is_header(below) for below in rows[k + 1 : k + 3]):
            return k
    return 0


def _sheets(path: Path, sheet: str | None, skipped: int) -> dict[str, list[Cells]]:
    """The rows of each sheet that has any, or of the one that is named, from its first cells to its last.

    skipped: how many rows of each to leave out.
    """
    try:
        from openpyxl import load_workbook  # noqa: PLC0415  (an extra)
        from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415
    except ImportError:
        raise UnusableData(f"{path}: Excel files are read by the package openpyxl: {INSTALL}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that it does not know
            book = load_workbook(path, read_only=True, data_only=True)
            try:
                names = [one.title for one in book.worksheets]
                if sheet is not None and sheet not in names:
                    raise UnusableData(f"{path}: no sheet {sheet}, as --sheet says; found {', '.join(names)}")
                wanted = [one for one in book.worksheets if sheet in (None, one.title)]
                found = {
                    one.title: list(_filled(one.iter_rows(min_row=skipped + 1, values_only=True))) for one in wanted
                }
            finally:
                book.close()
    except OSError as error:
        raise UnusableData(f"{path}: cannot be read as xlsx: {error.strerror}") from error
    except UnusableData:
        raise
    except (InvalidFileException, *DAMAGED) as error:
        raise UnusableData(f"{path}: cannot be read as xlsx: it is empty, damaged or something else") from error
    return {name: rows for name, rows in found.items() if rows}


def _filled(rows: Iterator[Cells]) -> Iterator[Cells]:
    """Rows of one width, without empty rows and columns at the edges."""
    table = [tuple(row) for row in rows]
    filled = [n for n, row in enumerate(table) if any(cell is not None for cell in row)]
    if not filled:
        return
    table = table[filled[0] : filled[-1] + 1]
    width = max(map(len, table))
    table = [row + (None,) * (width - len(row)) for row in table]
    used = [n for n in range(width) if any(row[n] is not None for row in table)]
    yield from (row[used[0] : used[-1] + 1] for row in table)


def _is_header(row: Cells) -> bool:
    return all(cell is None or isinstance(cell, str) for cell in row)


def _names(path: Path, sheet: str, header: Cells, columns: Sequence[str]) -> list[str]:
    if columns:
        if len(columns) != len(header):
            raise UnusableData(f"{path}: --columns names {len(columns)} columns, found {len(header)} in sheet {sheet}")
        return list(columns)
    if not _is_header(header):
        shown = ", ".join(_text(cell) or "nothing" for cell in header[:8])
        raise UnusableData(
            f"{path}: the first row of sheet {sheet} is {shown}, expected the names of the columns; "
            "--columns A,B,C names them, --skip-lines N leaves out what lies before them"
        )
    names = [(cell or "").strip() for cell in header]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UnusableData(
                f"{path}: column {name or '(no name)'} of sheet {sheet} is there twice, as columns "
                f"{names.index(name) + 1} and {place + 1}; --columns A,B,C names all {len(names)} by their place"
            )
    return names


def _column(name: str, cells: Sequence[Any]) -> pl.Series:
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int} and max(abs(cell or 0) for cell in cells) < 2**63:
        return pl.Series(name, cells, dtype=pl.Int64)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, [None if cell is None else float(cell) for cell in cells], dtype=pl.Float64)
    if kinds == {datetime}:
        return pl.Series(name, cells, dtype=pl.Datetime("ms"))
    if kinds == {bool}:
        return pl.Series(name, cells, dtype=pl.Boolean)
    return pl.Series(name, [_text(cell) for cell in cells], dtype=pl.String)


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return str(cell).lower()
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)
