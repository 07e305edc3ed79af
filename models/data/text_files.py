"""CSV and its relatives as columns of text: separator, encoding, header, gzip and zstd.

What can be told from the first rows is found out; what cannot is refused with the option that settles it. Rows are
counted from 0, below the header and a row of units.
"""

import codecs
import csv
import gzip
import io
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import polars as pl
import zstandard

from models.data.column_values import MISSING, TIMES
from models.data.errors import UnusableData
from models.data.file_options import FileOptions

PIECE_BYTES = 16 * 1024 * 1024
ZSTD_BYTES = 64 * 1024
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
TOA5 = "TOA5"  # with which files of Campbell's loggers begin
BLANKS, AROUND_LINES = re.compile(rb"[ \t]+"), re.compile(rb"^ | (?=\r?$)", re.MULTILINE)
SPACES = "spaces"  # in place of a separator: any number of spaces and tabs between two cells
SAMPLE_LINES = 50
COMPRESSED = (".gz", ".zst")
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
TIME = re.compile(TIMES)
SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?\s*$', re.IGNORECASE)  # as Excel has it, above the header
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


DAMAGED = (EOFError, zlib.error, zstandard.ZstdError)  # what a compressed file that is cut short raises


class TextLayout(NamedTuple):
    """How the cells of a file are written."""

    names: tuple[str, ...]  # of the columns
    separator: str
    encoding: str
    header: bool  # whether the first line is one
    remarks: bool  # whether lines that begin with # are left out
    unnamed_last: bool  # a last column without name or values: each line ends in a separator
    before: int  # lines before the header, or before the first row
    units: tuple[str, ...]  # of the columns, where the row below the header has them
    leave_out: tuple[str, ...]  # with which lines begin that are no rows
    by_spaces: bool  # whether any number of spaces and tabs parts two cells


def suffix_of(path: Path) -> str:
    """The suffix that says what is in a file, without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem_of(path: Path) -> str:
    """The name of a file without any suffix that is known."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed."""
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path)  # type: ignore[return-value]
        case ".zst":
            return io.BufferedReader(_Zstd(path))
        case _:
            return path.open("rb")


def layout_of(path: Path, options: FileOptions) -> TextLayout:
    """Find out how a file is written. Raises UnusableData."""
    by_spaces = options.separator == SPACES
    separator, encoding, skip_lines = " " if by_spaces else options.separator, options.encoding, options.skip_lines
    if separator is not None and (len(separator) != 1 or ord(separator) > 127):
        raise UnusableData(f"--separator is {separator!r}, expected one ASCII character, tab or {SPACES}")
    encoding = _encoding_of(path, encoding)
    left_out = _beginning(options.leave_out)
    all_lines = [left_out.sub("\n", line) for line in _first_lines(path, encoding, skip_lines or 0)]
    if by_spaces:
        all_lines = [_with_one_space(line.encode()).decode() for line in all_lines]
    if skip_lines is None and (told := _told_separator(path, all_lines)):
        separator, skip_lines = separator or told, 1
    before = _before_header(all_lines, separator) if skip_lines is None else skip_lines
    remarks = before > 0 and _is_remark(all_lines[0])
    lines = [line for line in all_lines[before:] if line.strip() and not (remarks and _is_remark(line))]
    if not lines:
        skipped = f" behind the {before} lines of --skip-lines" if skip_lines else ""
        raise UnusableData(
            f"{path}: cannot be read as csv: the file is empty{skipped}, expected a line with the columns' names"
        )
    found = separator or _separator(lines, path)
    rows = [row for row in csv.reader(lines, delimiter=found) if row]
    first = [cell.strip() for cell in rows[0]]
    looks_like_values = _has_values(first)
    unnamed_last = len(first) > 1 and not first[-1] and all(not row[-1].strip() for row in rows[1:] if row)
    names = first[:-1] if unnamed_last else first
    width = max(Counter(map(len, rows)).items(), key=lambda one: one[1])[0]
    if len(first) == 1 < width:
        raise UnusableData(
            f"{path}: the line of the columns' names is {lines[0].strip()!r}, most lines have {width} cells; "
            "--skip-lines N leaves out what lies before the names, or before the first row, whose columns --columns "
            "A,B,C names"
        )
    if options.columns:
        if len(options.columns) != len(names):
            raise UnusableData(
                f"{path}: --columns names {len(options.columns)} columns, found {len(names)}: {found.join(rows[0])}"
            )
        names = list(options.columns)
    elif looks_like_values:
        _refuse_first_line(path, found.join(rows[0]))
    _check_characters(path, names, encoding)
    first_row = next((n for n, row in enumerate(rows) if _has_values(row)), 0)
    skip = f"--skip-lines {before + first_row} " if first_row > 1 else ""  # names in several lines
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UnusableData(
                f"{path}: column {name or '(no name)'} is there twice, as columns {names.index(name) + 1} and "
                f"{place + 1}; {skip}--columns A,B,C names all {len(names)} columns by their place"
            )
    units = () if looks_like_values else units_in(rows[1:])[: len(names)]
    check_header(path, names, units, before, "line")
    return TextLayout(
        tuple(names),
        found,
        encoding,
        not looks_like_values,
        remarks,
        unnamed_last,
        before,
        units,
        options.leave_out,
        by_spaces,
    )


def _encoding_of(path: Path, given: str | None) -> str:
    if given is None:
        with opened(path) as file:
            begin = file.read(4)
        return next((name for bom, name in BOMS.items() if begin.startswith(bom)), "utf-8")
    try:
        codecs.lookup(given)
    except LookupError:
        raise UnusableData(f"--encoding is {given!r}, expected one such as utf-8 or cp1252") from None
    return given


def _refuse_first_line(path: Path, line: str) -> NoReturn:
    """Where the names of the columns should be."""
    helps = "--columns A,B,C names them, --skip-lines N leaves out what lies before them"
    if line.startswith(TOA5):
        helps = "--skip-lines 1 --leave-out TS --leave-out '\",' reads what Campbell's loggers write"
    raise UnusableData(f"{path}: the first line is {line}, expected the names of the columns; {helps}")


def read_text(path: Path, layout: TextLayout) -> Iterator[pl.DataFrame]:
    """All columns as text, piece by piece. Raises UnusableData where a row has more or fewer cells than columns."""
    begin = 0
    width = len(layout.names) + layout.unnamed_last
    names = [*layout.names, *([f"column_{width}"] if layout.unnamed_last else [])]
    for piece in _blocks(path, layout):
        block = _with_one_space(piece) if layout.by_spaces else piece
        try:
            frame = pl.read_csv(
                block,
                has_header=False,
                new_columns=names,
                separator=layout.separator,
                infer_schema=False,
                comment_prefix="#" if layout.remarks else None,
            )
        except pl.exceptions.NoDataError:
            continue
        except pl.exceptions.PolarsError as error:
            _refuse_cells(path, layout, block, width, begin, error)
        if frame.width != width or frame[names[-1]].null_count():
            _check_cells(path, layout, block, width, begin, frame)
        yield _without_empty_rows(frame.select(layout.names), layout)
        begin += len(frame)


def _with_one_space(lines: bytes) -> bytes:
    """With one space between two cells, and none around a line."""
    return AROUND_LINES.sub(b"", BLANKS.sub(b" ", lines))


def _without_empty_rows(frame: pl.DataFrame, layout: TextLayout) -> pl.DataFrame:
    """Without rows that have no value, and without headers among the rows, as of files that were put together."""
    empty = frame.select(pl.all_horizontal(pl.all().is_null() | (pl.all() == ""))).to_series()
    named = [pl.col(name).str.strip_chars() == name for name in layout.names if name]
    out = empty | frame.select(pl.all_horizontal(named)).to_series().fill_null(value=False) if layout.header else empty
    return frame.filter(~out) if out.any() else frame


def _first_lines(path: Path, encoding: str, skipped: int) -> list[str]:
    """The lines that are skipped, and those behind them until SAMPLE_LINES are not empty."""
    lines: list[str] = []
    full = 0
    # A byte that is no character is found where the file is read, with its row.
    with io.TextIOWrapper(opened(path), encoding, errors="replace", newline="") as file:
        for line in file:
            full += len(lines) >= skipped and bool(line.strip())
            lines.append(line)
            if full == SAMPLE_LINES:
                break
    return lines


def _check_characters(path: Path, names: Sequence[str], encoding: str) -> None:
    """Refuse names in another encoding than that."""
    if wrong := [name for name in names if "\ufffd" in name]:
        raise UnusableData(
            f"{path}: column {wrong[0]!r} has a byte that is no character, expected {encoding}; "
            "--encoding names another, such as cp1252 or latin-1"
        )
    if any("\0" in name for name in names):
        raise UnusableData(
            f"{path}: the line of the columns' names has bytes that are zero, expected text in {encoding}; --encoding "
            "utf-16-le reads UTF-16 without a mark"
        )


def _beginning(texts: Sequence[str]) -> re.Pattern[str]:
    """Of whole lines that begin with one of these, or with it in quotes; none where there are none."""
    return re.compile(rf'^[ \t]*"?(?:{"|".join(map(re.escape, texts))})[^\n]*\n?' if texts else r"(?!)", re.MULTILINE)


def _told_separator(path: Path, lines: Sequence[str]) -> str:
    """What the first line says that it is, for Excel; empty where it says nothing."""
    first = lines[0] if lines else ""
    if first.endswith("\r"):
        raise UnusableData(f"{path}: its lines end in carriage returns alone, expected line feeds")
    told = SEPARATOR_LINE.match(first)
    return told[1] if told else ""


def _before_header(lines: Sequence[str], separator: str | None) -> int:
    """How many lines lie before the header: comments, or lines that have not as many cells as all below.

    The header is known by having neither numbers nor times, which the row below it has; else there are none.
    """
    full = [n for n, line in enumerate(lines) if line.strip()]
    remarks = next((k for k, n in enumerate(full) if not _is_remark(lines[n])), 0)
    full = [n for k, n in enumerate(full) if k < remarks or not (remarks and _is_remark(lines[n]))]
    for one in separator or SEPARATORS:
        rows = [next(csv.reader([lines[n]], delimiter=one)) for n in full]
        widths = [*map(len, rows)]
        if not widths or widths[-1] < 2:
            continue
        other = [k for k, width in enumerate(widths) if width != widths[-1]]
        for k in {remarks, other[-1] + 1 if other else 0} - {0}:
            below = [*map(_has_values, rows[k : k + 3])]
            fits = all(width == widths[-1] for width in widths[k:])
            strange = k == remarks or widths[-1] not in widths[:k]
            if fits and strange and len(below) > 1 and not below[0] and any(below[1:]):
                return full[k]
    return 0


def _is_remark(line: str) -> bool:
    return line.lstrip().startswith("#")


def _has_values(cells: Sequence[str]) -> bool:
    """Whether one of them is a number or a time."""
    return any(_is_value(cell) for cell in cells)


def _is_value(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell.strip()) or TIME.match(cell.strip()))


def check_header(path: Path, names: Sequence[str], units: Sequence[str], before: int, what: str) -> None:
    """Refuse a row of words that are names where the header has none: no units. before: rows above the header."""
    for n, (name, unit) in enumerate(zip(names, units, strict=False)):
        if unit and not name:
            raise UnusableData(
                f"{path}: column {n + 1} has no name in the header, but {unit!r} in the {what} below it, expected one "
                f"{what} of names; --skip-lines {before + 2} --columns A,B,C names all {len(names)} columns"
            )


def units_in(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first of the rows below a header, if it has words where all others have numbers, and no number or time.

    Else nothing.
    """
    if len(rows) < 3 or _has_values(rows[0]) or len({len(row) for row in rows}) > 1:
        return ()
    words = [word.strip() for word in rows[0]]
    for word, *below in zip(words, *rows[1:], strict=True):
        values = [cell for cell in below if cell.strip().lower() not in MISSING]
        if values and all(map(_is_value, values)) and word.lower() not in MISSING:
            return tuple(words)
    return ()


def _separator(lines: Sequence[str], path: Path) -> str:
    """The one that parts every line into as many cells as the first."""
    fits = []
    for one in SEPARATORS:
        widths = [len(row) for row in csv.reader(lines, delimiter=one) if row]
        if widths[0] > 1 and sum(width == widths[0] for width in widths) > 0.9 * len(widths) - 1:
            fits.append(one)
    if len(fits) > 1:
        # A header parts into words where its separator is; only two that both do are in doubt.
        both = " and ".join(SEPARATORS[one] for one in fits)
        raise UnusableData(f"{path}: {both} both part its lines into cells; --separator names the one that is meant")
    header = lines[0]
    return fits[0] if fits else max(SEPARATORS, key=header.count)


def _blocks(path: Path, layout: TextLayout) -> Iterator[bytes]:
    """Pieces of a file in UTF-8, without what lies before its rows and what is left out, cut between two rows."""
    text = _beginning(layout.leave_out)
    left_out = re.compile(text.pattern.encode(), re.MULTILINE)
    with opened(path) as file:
        if layout.encoding == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        source = file if layout.encoding in ("utf-8", "utf-8-sig") else _Recoded(file, layout.encoding)
        for _ in range(layout.before):
            source.readline()
        for _ in range(layout.header + bool(layout.units)):
            line = b"\n"
            while line and (not line.strip() or line.count(b'"') % 2):
                line = left_out.sub(b"\n", (line if line.strip() else b"") + source.readline())
        rest, row = b"", 0
        while read := source.read(PIECE_BYTES):
            rest += read
            cut = rest.rfind(b"\n") + 1
            while rest.count(b'"', 0, cut) % 2:  # that line break is inside quotes
                cut = rest.rfind(b"\n", 0, cut - 1) + 1
            if cut:
                _check_utf8(path, rest[:cut], row)
                yield left_out.sub(b"", rest[:cut])
                row += rest.count(b"\n", 0, cut)
                rest = rest[cut:]
        if rest.strip():
            _check_utf8(path, rest, row)
            yield left_out.sub(b"", rest)


class _Zstd(io.RawIOBase):
    """What a file of zstd frames holds. Raises EOFError where the last is cut short, which zstandard's own does not."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._file.read(ZSTD_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(packed)
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class _Recoded:
    """A file in UTF-8, whatever it is written in."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._lines = codecs.getreader(encoding)(file, "replace")

    def readline(self) -> bytes:
        return self._lines.readline().encode()

    def read(self, size: int) -> bytes:
        return self._lines.read(size).encode()


def _check_utf8(path: Path, block: bytes, row: int) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = block.count(b"\n", 0, error.start)
        raise UnusableData(
            f"{path}: row {row + line}: byte 0x{block[error.start]:02x} is no character, expected UTF-8; "
            "--encoding names another, such as cp1252 or latin-1"
        ) from error


def _check_cells(path: Path, layout: TextLayout, block: bytes, width: int, begin: int, frame: pl.DataFrame) -> None:
    """Rows that may be short, which are filled up in silence otherwise, are counted."""
    if b'"' not in block and frame.width == width:
        lines = [line for line in block.splitlines() if line.strip()]
        short = frame[frame.columns[-1]].is_null().arg_true().to_list()
        if all(lines[row].count(layout.separator.encode()) == width - 1 for row in short if row < len(lines)):
            return
    _refuse_cells(path, layout, block, width, begin, None)


def _refuse_cells(
    path: Path, layout: TextLayout, block: bytes, width: int, begin: int, cause: Exception | None
) -> None:
    rows = csv.reader(io.StringIO(block.decode(), newline=""), delimiter=layout.separator)
    for row, cells in enumerate(cells for cells in rows if cells):
        if len(cells) != width:
            option = f"--leave-out {shlex.quote(cells[0])} leaves out lines that begin so"
            if not begin + row:
                option = "--separator says what is between its cells"
            raise UnusableData(
                f"{path}: row {begin + row} has {len(cells)} cells, expected {width}: {layout.separator.join(cells)!r}"
                f"; {option}"
            ) from cause
    if cause is not None:
        raise UnusableData(
            f'{path}: cannot be read as csv: a quote is not closed, expected cells such as 1.5 or "1.5"'
        ) from cause
