"""Files as people have them: what is read of each, or which option the refusal names."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import zstandard

from models.data import spool, text_files
from models.data.file_options import FileOptions, Order
from models.data.series import Series, UnusableData, read_series
from models.data.time_units import TimeUnit

FIRST_MS = 1_704_164_645_000  # 2024-01-02T03:04:05Z
VALUES = [[20.5, 1015.25], [20.75, 1014.5], [21.0, 1014.0]]
TIMES = ["2024-01-02T03:04:05Z", "2024-01-02T03:05:05Z", "2024-01-02T03:06:05Z"]
HOUR_MS = 3_600_000


class Case(NamedTuple):
    """A file; what reads it, and its first time; or what the refusal says."""

    text: str
    options: FileOptions = FileOptions()
    first_ms: int = FIRST_MS
    note: str = ""
    refused: str = ""  # without options
    features: tuple[str, ...] | None = None
    name: str = "pump.csv"
    encoding: str = "utf-8"
    values: list[list[float]] = VALUES


def table(
    times: Sequence[str] = TIMES,
    header: str = "timestamp,temp,press",
    more: Sequence[str] = ("", "", ""),
    values: Sequence[Sequence[object]] = VALUES,
) -> str:
    rows = [f"{time},{a},{b}{rest}" for time, (a, b), rest in zip(times, values, more, strict=True)]
    return "\n".join([header, *rows, ""])


def at(pattern: str) -> list[str]:
    return [pattern.replace("#", str(minute)) for minute in (4, 5, 6)]


DAY_FIRST = FileOptions(time_format="%d/%m/%Y %H:%M:%S")
MONTH_FIRST = FileOptions(time_format="%m/%d/%Y %I:%M:%S %p")
CASES = {
    "as it should be": Case(table()),
    "times in Time": Case(table(header="Time,temp,press"), note="times in column Time"),
    "times in when": Case(table(header="when,temp,press"), note="times in column when"),
    "the index of pandas": Case(table(header=",temp,press"), note="times in column (no name)"),
    "two columns of times": Case(
        "\n".join(["seen,stored,temp,press", *(f"{t},{t},{a},{b}" for t, (a, b) in zip(TIMES, VALUES, strict=True))]),
        FileOptions(time_column="seen"),
        refused="found seen, stored, temp, press, and seen and stored may each be it; --time-column names",
        features=("temp", "press"),
    ),
    "days of a spreadsheet": Case(
        table([f"{45293 + (11_045 + 60 * n) / 86_400:.10f}" for n in range(3)]),
        FileOptions(time_format="excel"),
        refused="looks like a day of Excel, expected milliseconds, a datetime or RFC 3339 text; --time-format excel",
    ),
    "date and time": Case(
        table(header="date,time,press", values=[[a, b] for a, b in VALUES]),
        FileOptions(time_column="date"),
        refused="date and time may each be it; --time-column",
    ),
    "seconds": Case(
        table(["1704164645", "1704164705", "1704164765"]),
        FileOptions(unit=TimeUnit.S),
        refused="--time-unit s reads it",
    ),
    "no zone": Case(table(at("2024-01-02 03:0#:05")), note="times without a zone are read as UTC, --times-in"),
    "no zone, in Berlin": Case(
        table(at("2024-01-02 03:0#:05")), FileOptions(zone="Europe/Berlin"), first_ms=FIRST_MS - HOUR_MS
    ),
    "no seconds": Case(table(at("2024-01-02 03:0#")), first_ms=FIRST_MS - 5000),
    "date only": Case(table(at("2024-01-0#")), first_ms=1_704_326_400_000),
    "offset of hours": Case(table(at("2024-01-02 03:0#:05+02")), first_ms=FIRST_MS - 2 * HOUR_MS),
    "UTC written out": Case(table(at("2024-01-02 03:0#:05 UTC"))),
    "day first, with dots": Case(table(at("02.01.2024 03:0#:05")), note="times are %d.%m.%Y %H:%M:%S"),
    "day first, seen by a day": Case(
        table(at("30/01/2024 03:0#:05")), first_ms=FIRST_MS + 28 * 24 * HOUR_MS, note="times are %d/%m/%Y"
    ),
    "day or month first": Case(
        table(at("02/01/2024 03:0#:05")), DAY_FIRST, refused="may begin with the day or the month; --time-format '%d/%m"
    ),
    "month first, am": Case(table(at("01/02/2024 03:0#:05 AM")), MONTH_FIRST, refused="or '%m/%d/%Y %I:%M:%S %p' says"),
    "semicolons": Case(table().replace(",", ";"), note="separator semicolon"),
    "tabs": Case(table().replace(",", "\t"), note="separator tab", name="pump.tsv"),
    "semicolons, decimal comma": Case(
        table().replace(",", ";").replace(".", ","), note="separator semicolon; decimal comma"
    ),
    "stars": Case(table().replace(",", "*"), FileOptions(separator="*"), refused="found timestamp*temp*press"),
    "spaces": Case(table().replace(",", ", ")),
    "quotes": Case(
        '"timestamp","temp","press"\n'
        + "".join(f'"{t}","{a}","{b}"\n' for t, (a, b) in zip(TIMES, VALUES, strict=True))
    ),
    "byte order mark": Case("\ufeff" + table(), note="encoding utf-8-sig"),
    "UTF-16": Case(table(), note="encoding utf-16", encoding="utf-16"),
    "cp1252": Case(
        table(header="timestamp,temp °C,press"),
        FileOptions(encoding="cp1252"),
        encoding="cp1252",
        refused="has a byte that is no character, expected utf-8; --encoding names another",
    ),
    "line ends of Windows": Case(table().replace("\n", "\r\n")),
    "a separator ends every line": Case(
        table(header="timestamp,temp,press,", more=[",", ",", ","]), note="a separator ends every line"
    ),
    "words for missing": Case(
        table(values=[[20.5, "N/A"], ["null", 1014.5], [21.0, 1014.0]]),
        note="'null', 'N/A' read as missing",
        values=[[20.5, math.nan], [math.nan, 1014.5], [21.0, 1014.0]],
    ),
    "a word of its own for missing": Case(
        table(values=[[20.5, "bad"], *VALUES[1:]]),
        FileOptions(missing=("bad",)),
        refused="column press, row 0 is 'bad', expected a number; --missing='bad' reads it as missing",
        values=[[20.5, math.nan], *VALUES[1:]],
    ),
    "a sentinel": Case(
        table(values=[[20.5, -9999], *VALUES[1:]]),
        note="column press is -9999 in 1 of 3 rows, far from its other values: if that means that there is no value, "
        "--missing=-9999 says so",
        values=[[20.5, -9999.0], *VALUES[1:]],
    ),
    "a sentinel that is named": Case(
        table(values=[[65535.0, 1015.25], *VALUES[1:]]),
        FileOptions(missing=("65535",)),
        values=[[math.nan, 1015.25], *VALUES[1:]],
    ),
    "infinite values": Case(
        table(values=[["inf", 1015.25], [20.75, 1014.5], ["-Infinity", 1014.0]]),
        note="column temp is infinite in 2 of 3 rows, read as missing",
        values=[[math.nan, 1015.25], [20.75, 1014.5], [math.nan, 1014.0]],
    ),
    "a label": Case(
        table(header="timestamp,temp,press,anomaly", more=[",0", ",0.0", ",1"]),
        features=("temp", "press"),
        refused="column anomaly holds 0 and 1 and looks like a label, which a net must not learn; --features temp,p",
    ),
    "an index": Case(
        "\n".join(f"{n - 1 if n else ''},{line}" for n, line in enumerate(table().splitlines())),
        features=("temp", "press"),
        refused="column (no name) counts the rows and looks like an index, which is no sensor; --features temp,press",
    ),
    "text": Case(
        table(header="timestamp,temp,press,status", more=[",IDLE", ",RUN", ",RUN"]),
        features=("temp", "press"),
        refused="column status is text, expected numbers; row 0 is 'IDLE'; --features temp,press names the channels",
    ),
    "switches": Case(
        table(values=[["true", 1.5], ["false", 2.5], ["true", 3.5]]),
        features=("temp", "press"),
        refused="column temp is Boolean, expected numbers; row 0 is 'true'; --features press",
        values=[[1, 1.5], [0, 2.5], [1, 3.5]],
    ),
    "a header twice": Case(
        table(header="timestamp,temp,temp"),
        FileOptions(columns=("timestamp", "a", "b")),
        refused="column temp is there twice, as columns 2 and 3; --columns A,B,C names",
    ),
    "a preamble": Case(
        "Exported by the plant;station 7\nFrom;2024-01-02\n\n"
        + table(values=VALUES).replace(",", ";").replace("Z;", "Z;"),
        note="3 lines before the header left out",
    ),
    "comments": Case("#group,false,false\n#datatype,dateTime,double\n" + table(), note="2 lines before the header"),
    "one comment": Case("# plant 7\n" + table(), note="1 line before the header left out"),
    "lines that are counted": Case(
        "2024,1,2\n" + table(), FileOptions(skip_lines=1), refused="the first line is 2024,1,2, expected the names"
    ),
    "a row of units": Case(
        table().replace("press\n", "press\n,degC,hPa\n"),
        note="the row below the header has units: temp in degC, press in hPa",
    ),
    "units behind values": Case(
        table(values=[[f"{a} °C", f"{b}%"] for a, b in VALUES]), note="values have units: temp in °C, press in %"
    ),
    "another unit": Case(
        table(values=[["20.5 C", 1015.25], ["20.75 C", 1014.5], ["69.8 F", 1014.0]]).replace("69.8 F", "21 C"),
        note="temp in C",
    ),
    "thousands": Case(
        table(values=[[a, f'"1,0{b - 1000:.2f}"'] for a, b in VALUES]),
    ),
    "thousands, decimal comma": Case(
        table(values=[[a, f"1,0{b - 1000:.2f}"] for a, b in VALUES])
        .replace(",0", "|0")
        .replace(",", ";")
        .replace(".", ",")
        .replace("|0", ".0"),
        note="decimal comma",
    ),
    "date and time apart": Case(
        "\n".join(
            ["day,clock,temp,press", *(f"{t[:10]},{t[11:]},{a},{b}" for t, (a, b) in zip(TIMES, VALUES, strict=True))]
        ),
        FileOptions(time_column="day,clock"),
        refused="day and clock may each be it; --time-column names the one with the times, --time-column day,clock",
    ),
    "no header": Case(
        table().partition("\n")[2],
        FileOptions(columns=("timestamp", "a", "b")),
        refused=f"the first line is {TIMES[0]},20.5,1015.25, expected the names of the columns; --columns",
    ),
    "the newest first": Case(
        table(TIMES[::-1], values=VALUES[::-1]),
        FileOptions(order=Order.SORT),
        note="2 of 3 readings of pump are earlier than one before them: sorted",
        refused="--order sort reads them in the order of their times",
    ),
    "one value a row": Case(
        "timestamp,metric,value\n"
        + "".join(f"{t},temp,{a}\n{t},press,{b}\n" for t, (a, b) in zip(TIMES, VALUES, strict=True)),
        FileOptions(name_column="metric"),
        note="one value a row, named by metric: temp, press",
        refused="--name-column metric if it says what each row's value is",
    ),
    "JSON lines": Case(
        "".join(
            json.dumps({"timestamp": t, "temp": a, "press": b}) + "\n" for t, (a, b) in zip(TIMES, VALUES, strict=True)
        ),
        name="pump.jsonl",
    ),
    "objects within JSON lines": Case(
        "".join(
            json.dumps({"at": {"time": t}, "values": {"temp": a, "press": {"value": b}}}) + "\n"
            for t, (a, b) in zip(TIMES, VALUES, strict=True)
        ),
        note="times in column at.time",
        features=("values.temp", "values.press.value"),
        name="pump.jsonl",
    ),
    "an array of objects": Case(
        json.dumps([{"time": t, "temp": a, "press": b} for t, (a, b) in zip(TIMES, VALUES, strict=True)]),
        note="times in column time",
        name="pump.json",
    ),
    "a name with quotes": Case(
        table(header='time,"temp {host=""h1""}",press'),
        FileOptions(columns=("time", "temp", "press")),
        refused="expected a name of a channel without quotes, backslashes and control characters; --columns A,B,C",
    ),
    "quality flags": Case(
        "\n".join(
            [
                table(header="timestamp,temp,press,press_quality").splitlines()[0],
                *(f"{line},{q}" for line, q in zip(table().splitlines()[1:], (192, 0, 192), strict=True)),
            ]
        ),
        refused="press_quality holds 0, 192 alone and looks like a quality flag, which is no sensor; "
        "--features temp,press names the channels",
        features=("temp", "press"),
    ),
    "thousands apart": Case(
        table(values=[[a, f"1 {b - 1000:06.2f}"] for a, b in VALUES]),
    ),
    "two lines of names": Case(
        "time,boiler,\n,temp,press\n" + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=2, columns=("timestamp", "temp", "press")),
        refused="column 3 has no name in the header, but 'press' in the line below it, expected one line of names; "
        "--skip-lines 2 --columns A,B,C names all 3 columns",
    ),
    "names twice in several lines": Case(
        "time,boiler,boiler\n,temp,press\n,C,bar\n" + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=3, columns=("timestamp", "temp", "press")),
        refused="boiler is there twice, as columns 2 and 3; --skip-lines 3 --columns A,B,C names all 3 columns",
    ),
    "a line of names alone": Case(
        '"#NAMES"\n"time","temp","press"\n"#ROWS","3"\n' + "\n".join(table().splitlines()[1:]),
        FileOptions(skip_lines=3, columns=("timestamp", "temp", "press")),
        refused="the line of the columns' names is '\"#NAMES\"', most lines have 3 cells; --skip-lines N",
    ),
    "one value a row, with numbers of each": Case(
        "time,table,name,value\n"
        + "".join(
            f"{t},{n},{name},{row[n]}\n"
            for n, name in enumerate(("temp", "press"))
            for t, row in zip(TIMES, VALUES, strict=True)
        ),
        FileOptions(name_column="name"),
        note="left out, as each value has one of its own: table",
    ),
    "files put together, with empty lines": Case(
        "# export\n" + table().replace("2024-01-02T03:05", "\r\n,,\ntimestamp,temp,press\n# more\n2024-01-02T03:05"),
        note="1 line before the header left out",
    ),
    "plain text": Case(table(), name="pump.txt"),
}


def write(folder: Path, case: Case) -> Path:
    path = folder / case.name
    path.write_bytes(case.text.encode(case.encoding))
    return path


def assert_read(series: Sequence[Series], case: Case) -> None:
    (one,) = series
    assert one.key == "pump"
    assert int(one.times_ms[0]) == case.first_ms
    np.testing.assert_array_equal(one.values, case.values)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_file_is_read_or_refused_with_the_option_that_reads_it(tmp_path: Path, case: Case) -> None:
    path = write(tmp_path, case)
    if case.refused:
        with pytest.raises(UnusableData) as refused:
            read_series([path], options=FileOptions(order=Order.CHECK))
        assert str(path) in str(refused.value)
        assert case.refused in str(refused.value)
    notes: list[str] = []
    assert_read(read_series([path], case.features, case.options, notes.append), case)
    assert case.note in "\n".join(notes)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.options.order is Order.KEEP])
def test_training_reads_a_file_the_same_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.setattr(text_files, "PIECE_BYTES", 70)
    path = write(tmp_path, case)
    assert_read(spool.read(spool.look([path], case.options, case.features)), case)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    case = CASES["semicolons, decimal comma"]
    path = tmp_path / f"pump.csv{suffix}"
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    path.write_bytes(compress(case.text.encode()))
    assert_read(read_series([tmp_path]), case)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnusableData, match="its compression is damaged or cut short"):
        read_series([tmp_path])
    path.write_text(case.text)
    with pytest.raises(UnusableData, match="compress"):
        read_series([tmp_path])


@pytest.mark.parametrize(("row", "cells"), [("1,2", 2), ("1,2,3,4", 4)])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_row_with_more_or_fewer_cells_is_named(tmp_path: Path, row: str, cells: int, quoted: bool) -> None:
    row = f'"{row[0]}"{row[1:]}' if quoted else row
    path = tmp_path / "a.csv"
    path.write_text(f"timestamp,x,y\n1,2,3\n{row}\n3,4,\n")
    with pytest.raises(UnusableData, match=rf"a.csv: row 1 has {cells} cells, expected 3: '1,2"):
        read_series([path])


def test_every_file_of_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, text in (("a.csv", table()), ("b.csv", "x,y\n1,2\n"), ("c.csv", ""), ("d.ods", "")):
        (tmp_path / name).write_text(text)
    notes: list[str] = []
    with pytest.raises(UnusableData) as refused:
        read_series([tmp_path], note=notes.append)
    first, *others = str(refused.value).splitlines()
    assert first == "2 of 3 files cannot be read:"
    assert [Path(line.split(":")[0]).name for line in others] == ["b.csv", "c.csv"]
    assert "d.ods" in notes[-1]


def test_an_hour_that_the_clocks_leave_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,x\n2024-03-31 01:30:00,1\n2024-03-31 02:30:00,2\n")
    with pytest.raises(UnusableData, match=r"row 1: .*clocks of Europe/Berlin leave out.*--times-in"):
        read_series([path], options=FileOptions(zone="Europe/Berlin"))


def test_a_single_time_far_ahead_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    days = [f"2024-01-{n:02}T00:00:00Z,{n}" for n in range(1, 31)]
    path.write_text("\n".join(["timestamp,x", *days[:9], days[9].replace("2024", "2025"), *days[10:]]))
    with pytest.raises(UnusableData, match=r"reading 9 of a is of 2025-01-10T00:00:00.000Z, later than the next"):
        read_series([path], options=FileOptions(order=Order.CHECK))


def test_a_few_late_readings_are_said_and_left_to_the_detector(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["timestamp,x", *(f"{n if n != 40 else 3},{n}" for n in range(60))]))
    notes: list[str] = []
    (one,) = read_series([path], options=FileOptions(order=Order.CHECK), note=notes.append)
    assert one.times_ms[40] == 3
    assert "1 of 60 readings of a are earlier than one before them, which makes them late" in notes[0]


def test_two_values_of_one_name_and_time_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,metric,value\n1,x,1\n1,y,2\n1,x,3\n")
    with pytest.raises(UnusableData, match="row 2: x is there a second time with the same timestamp"):
        read_series([path], options=FileOptions(name_column="metric"))


def test_sentinels_and_labels_of_parquet_are_seen_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"timestamp": [1, 2, 3], "x": [1, 65535, 2]})
    frame.write_parquet(path)
    notes: list[str] = []
    read_series([path], note=notes.append)
    assert "column x is 65535 in 1 of 3 rows" in notes[0]
    (one,) = read_series([path], options=FileOptions(missing=("65535",)))
    assert np.isnan(one.values[:, 0]).tolist() == [False, True, False]
    frame.with_columns(fault=pl.Series([0, 1, 0])).write_parquet(path)
    with pytest.raises(UnusableData, match="column fault holds 0 and 1 and looks like a label"):
        read_series([path])


FRAME = pl.DataFrame(
    {"timestamp": [FIRST_MS + n * 60_000 for n in range(3)], "temp": [20.5, 20.75, 21.0]}
).with_columns(press=pl.Series([1015.25, 1014.5, 1014.0]))
AS_IT_IS = Case("")


def arrow(path: Path, how: str) -> None:
    if how == "stream":
        FRAME.write_ipc_stream(path)
    else:
        FRAME.write_ipc(path, compression="zstd" if how == "compressed" else "uncompressed")


@pytest.mark.parametrize("how", ["file", "compressed", "stream"])
@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc"])
def test_arrow_files_and_streams_are_read(tmp_path: Path, how: str, suffix: str) -> None:
    arrow(tmp_path / f"pump{suffix}", how)
    assert_read(read_series([tmp_path]), AS_IT_IS)
    assert_read(spool.read(spool.look([tmp_path], FileOptions(), None)), AS_IT_IS)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read as arrow: it is empty, damaged or something else"),
        (b"FEA1" + b"\0" * 40, "is Feather of version 1, expected version 2, which is Arrow IPC"),
        (b"ARROW1\0\0" + b"\xff" * 40, "cannot be read as arrow: it is empty, damaged"),
        (b"timestamp,x\n1,2\n", "cannot be read as arrow: it is empty, damaged"),
    ],
)
def test_what_is_no_arrow_is_refused_in_our_words(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(data)
    with pytest.raises(UnusableData, match=said):
        read_series([path])
    path.with_suffix(".arrow.gz").write_bytes(gzip.compress(data))
    with pytest.raises(UnusableData, match=r"found a compressed file, expected \.arrow itself"):
        read_series([path.with_suffix(".arrow.gz")])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "compressed", "stream"])
def test_a_damaged_arrow_file_ends_in_no_words_of_a_library(tmp_path: Path, how: str) -> None:
    path, random, refused = tmp_path / "pump.arrow", Random(17), 0
    arrow(path, how)
    good = path.read_bytes()
    for _ in range(300):
        data = bytearray(good)
        for _ in range(random.randrange(1, 5)):
            data[random.randrange(len(data))] = random.randrange(256)
        path.write_bytes(data[: random.randrange(len(data))] if random.random() < 0.2 else data)
        try:
            read_series([path])
        except UnusableData as error:
            refused += str(path) in str(error)
    assert refused > 50


def test_more_lines_than_are_looked_at_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("a remark, in words\n" * 3 * text_files.SAMPLE_LINES + table())
    assert_read(read_series([path], options=FileOptions(skip_lines=3 * text_files.SAMPLE_LINES)), AS_IT_IS)
