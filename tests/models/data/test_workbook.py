"""Excel: what openpyxl writes is read, whatever its cells are, and what is in doubt is refused with an option."""

import builtins
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from openpyxl import Workbook

from models.data.file_options import AS_USUAL, FileOptions
from models.data.series import UnusableData, read_series

FIRST_MS = 1_704_164_645_000  # 2024-01-02T03:04:05Z
FIRST = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001  (cells have no zone)
HEADER = ("time", "temp", "press")
ROWS = [(FIRST + timedelta(minutes=n), 20.5 + n, 1015) for n in range(3)]
VALUES = [[20.5 + n, 1015.0] for n in range(3)]


def written(path: Path, sheets: dict[str, Sequence[Sequence[Any]]]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def read(path: Path, options: FileOptions = AS_USUAL, **more: Any) -> tuple[list[int], list[list[float]]]:
    (one,) = read_series([path], options=options, **more)
    return one.times_ms.tolist(), one.values.tolist()


TIMES = [FIRST_MS + n * 60_000 for n in range(3)]


@pytest.mark.slow
def test_a_sheet_is_read_with_the_types_of_its_cells(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [HEADER, *ROWS], "Empty": []})
    notes: list[str] = []
    assert read(path, note=notes.append) == (TIMES, VALUES)
    assert "times in column time; times without a zone are read as UTC" in notes[0]
    (one,) = read_series([tmp_path], options=FileOptions(zone="Europe/Berlin"))
    assert (one.key, one.times_ms[0]) == ("pump", FIRST_MS - 3_600_000)


def test_text_gaps_and_empty_edges_are_read_as_in_other_files(tmp_path: Path) -> None:
    moment = datetime.fromtimestamp(FIRST_MS / 1000, UTC).isoformat()
    rows: list[list[Any]] = [[], [None, *HEADER], [None, moment, "n/a", 1015], [], [None, 1, 2, 3]]
    rows[3] = [None, "2024-01-02T03:05:05+00:00", 21.5, None]
    rows[4] = [None, "2024-01-02T03:06:05Z", "22.5", 1015.5]
    path = written(tmp_path / "pump.xlsx", {"plant": [*rows, [None, None]]})
    notes: list[str] = []
    times, values = read(path, note=notes.append)
    assert times == TIMES
    assert str(values) == str([[math.nan, 1015.0], [21.5, math.nan], [22.5, 1015.5]])
    assert "sheet plant" in notes[0]
    assert "'n/a' read as missing" in notes[0]


def test_of_several_sheets_the_option_says_which(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.xlsx", {"Notes": [["by hand"]], "Data": [HEADER, *ROWS]})
    with pytest.raises(UnusableData, match=r"2 sheets have cells in them, Notes, Data; --sheet names the one"):
        read(path)
    assert read(path, FileOptions(sheet="Data")) == (TIMES, VALUES)
    with pytest.raises(UnusableData, match=r"no sheet data, as --sheet says; found Notes, Data"):
        read(path, FileOptions(sheet="data"))


def test_a_header_that_is_missing_or_there_twice_is_settled_by_columns(tmp_path: Path) -> None:
    bare = written(tmp_path / "bare.xlsx", {"Sheet1": ROWS})
    with pytest.raises(UnusableData, match=r"first row of sheet Sheet1 is 2024-01-02T03:04:05, 20.5, 1015, .*--col"):
        read(bare)
    twice = written(tmp_path / "twice.xlsx", {"Sheet1": [("time", "temp", "temp"), *ROWS]})
    with pytest.raises(
        UnusableData, match=r"column temp of sheet Sheet1 is there twice, as columns 2 and 3; --columns"
    ):
        read(twice)
    for path in (bare, twice):
        assert read(path, FileOptions(columns=HEADER)) == (TIMES, VALUES)
        with pytest.raises(UnusableData, match="--columns names 2 columns, found 3 in sheet Sheet1"):
            read(path, FileOptions(columns=HEADER[:2]))


def test_what_is_around_the_header_is_found_out_or_skipped(tmp_path: Path) -> None:
    above: list[list[Any]] = [["Export of the historian"], ["Server:", "plant"], [], [None, "2024"]]
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [*above[:3], HEADER, [None, "C", "mbar"], *ROWS]})
    notes: list[str] = []
    assert read(path, note=notes.append) == (TIMES, VALUES)
    assert "3 rows before the header left out; the row below the header has units: temp in C, press in mbar" in notes[0]
    assert read(path, FileOptions(skip_lines=3)) == (TIMES, VALUES)
    assert read(path, FileOptions(skip_lines=5, columns=HEADER)) == (TIMES, VALUES)
    with pytest.raises(UnusableData, match="no rows behind the 99 of --skip-lines"):
        read(path, FileOptions(skip_lines=99))
    numbered = written(tmp_path / "numbered.xlsx", {"Sheet1": [[1, 2, 3], HEADER, *ROWS]})
    with pytest.raises(UnusableData, match=r"is 1, 2, 3, expected the names .* --skip-lines N leaves out what lies"):
        read(numbered)
    assert read(numbered, FileOptions(skip_lines=1)) == (TIMES, VALUES)


def test_two_rows_of_names_are_refused_with_the_options_that_read_them(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [["time", "boiler", None], [None, "temp", "press"], *ROWS]})
    with pytest.raises(UnusableData, match=r"column 3 has no name in the header, but 'press' in the row below it, .* "):
        read(path)
    assert read(path, FileOptions(skip_lines=2, columns=HEADER)) == (TIMES, VALUES)


def test_days_and_clocks_of_a_spreadsheet_are_times(tmp_path: Path) -> None:
    apart = [(one.replace(hour=0, minute=0, second=0), one.time(), *values) for one, *values in ROWS]
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [("day", "clock", "temp", "press"), *apart]})
    with pytest.raises(UnusableData, match=r"day and clock may each be it; .* --time-column day,clock joins them"):
        read(path)
    assert read(path, FileOptions(time_column="day,clock")) == (TIMES, VALUES)
    days = [((one - datetime(1899, 12, 30)) / timedelta(days=1), *values) for one, *values in ROWS]  # noqa: DTZ001
    path = written(tmp_path / "days.xlsx", {"Sheet1": [HEADER, *days]})
    with pytest.raises(
        UnusableData, match=r"looks like days since 1899-12-30, as Excel counts, .* --time-format excel reads it"
    ):
        read(path)
    notes: list[str] = []
    assert read(path, FileOptions(time_format="excel"), note=notes.append) == (TIMES, VALUES)
    assert "times without a zone are read as UTC" in notes[0]
    with pytest.raises(
        UnusableData, match=r"row 0: timestamp -1, expected days since 1899-12-30, as Excel counts, as --time-f"
    ):
        read(written(tmp_path / "b.xlsx", {"Sheet1": [HEADER, (-1.0, 1, 1)]}), FileOptions(time_format="excel"))


@pytest.mark.slow
def test_no_bytes_end_in_the_words_of_a_library(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [HEADER, *ROWS]})
    good, random, refused = path.read_bytes(), Random(17), 0
    for data in (b"", b"PK", good[:-30], *(_changed(good, random) for _ in range(150))):
        path.write_bytes(data)
        try:
            read(path)
        except UnusableData as error:
            refused += str(path) in str(error)
    assert refused > 30


def _changed(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randrange(1, 9)):
        changed[random.randrange(len(data))] = random.randrange(256)
    return bytes(changed)


def test_without_the_library_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "pump.xlsx", {"Sheet1": [HEADER, *ROWS]})
    imported = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("openpyxl"):
            raise ModuleNotFoundError(name=name)
        return imported(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnusableData, match=r"read by the package openpyxl: pip install 'telltale\[excel\]'"):
        read(path)
