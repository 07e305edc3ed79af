"""Files as people have them: what is read of each, or which option the refusal names."""

import gzip
import inspect
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest
import zstandard

from docs.data_files import CASES, FIRST_MS, NAMES, Case, file_table, table, write
from models.data import spool, text_files
from models.data.file_options import FileOptions, Order
from models.data.series import Series, UnusableData, read_series
from service.cli.file_options import file_options


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


def test_each_file_is_in_the_table_of_the_documents_with_options_that_there_are() -> None:
    assert file_table().count("\n") == len(CASES) + 1
    options = inspect.signature(file_options).parameters
    assert {NAMES.get(name, name) for name in FileOptions._fields} == set(options)


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
    assert "1 of 60 readings of a are earlier than one before them, which makes them late" in notes[-1]
    assert "times are milliseconds from 1970 on" in notes[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "timestamp,x\r1,2\r3,4\r", "its lines end in carriage returns alone, expected line feeds"),
        ("a.csv", "timestamp,x,y\n1;2;3\n2;3;4\n", "row 0 has 1 cells, expected 3: '1;2;3'; --separator says what is"),
        ("a.csv", "time  x  y\n1  2  3\n2  3  4\n", "--separator says what is between its cells"),
        (
            "a.csv",
            "Time (UTC+05:30),x\n2026-01-05 00:00,1\n2026-01-05 00:01,2\n",
            "--times-in names a zone that has it",
        ),
        ("a.csv", "Time UTC-3,x\n2026-01-05 00:00,1\n2026-01-05 00:01,2\n", "--times-in Etc/GMT+3 reads them"),
        ("a.csv", "timestamp,x\n639031680000000000,1\n639031680000000001,2\n", "looks like ticks of .NET"),
        ("a.csv", "timestamp;x;y\n1;1.5;2\n2;2;6,5\n", "row 1 is '6,5', expected a number; --decimal , reads it"),
        ("a.json", '{"status":"error","error":"bad query"}', "Prometheus answered with an error, 'bad query'"),
        ("a.json", '{"status":"success","data":{"resultType":"vector","result":[]}}', "expected 'matrix', as"),
        ("a.json", '{"status":"success","data":{"resultType":"matrix","result":[]}}', "has no values"),
        (
            "a.json",
            '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{}]]}]}}',
            "histograms are read as numbers by histogram_quantile()",
        ),
        (
            "a.json",
            (
                '{"status":"success","data":{"resultType":"matrix","result":['
                '{"metric":{"a":"1"},"values":[[1,"1"]]},{"metric":{"a":"1"},"values":[[1,"2"]]}]}}'
            ),
            'the series {a="1"} and {a="1"} are both {a="1"}, expected one; --stream-column names a label',
        ),
    ],
)
def test_what_is_said_of_a_file_that_is_not_read(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text, newline="")
    with pytest.raises(UnusableData) as refused:
        read_series([path])
    assert said in str(refused.value)


def test_of_an_answer_of_prometheus_a_label_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"status":"success","data":{"resultType":"matrix","result":['
        '{"metric":{"__name__":"up","job":"plc"},"values":[[1.5,"1"],[2.5,"NaN"],[3.5,"+Inf"]]}]}}'
    )
    with pytest.raises(
        UnusableData, match="a series has no label instance, as --stream-column says; found __name__, job"
    ):
        read_series([path], options=FileOptions(stream_column="instance"))
    (one,) = read_series([path])
    assert (one.key, one.features, one.times_ms.tolist()) == ('up{job="plc"}', ("value",), [1500, 2500, 3500])
    np.testing.assert_array_equal(one.values[:, 0], [1.0, np.nan, np.nan])


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


@pytest.mark.parametrize(
    ("form", "zone", "times", "expected"),
    [
        ("%d.%m.%Y %H:%M %p", None, "05.01.2026 01:00 PM", "expected %I beside %p: %H takes the hour as one of 24"),
        ("%d.%m.%Y %I:%M", None, "05.01.2026 01:00", "expected %p beside %I, or %H"),
        ("%H:%M:%S", None, "01:00:00", "expected a format with a year"),
        (
            "%d.%m.%Y %H:%M %Z",
            None,
            "05.01.2026 01:00 EST",
            "which is a name that several zones have; --times-in names",
        ),
        ("%d.%m.%Y %H:%M %Z", "Europe/Berlin", "05.01.2026 01:00 EST", "has in Europe/Berlin: CET; --times-in names"),
    ],
)
def test_a_format_by_which_a_part_of_the_time_would_be_lost_is_refused(
    tmp_path: Path, form: str, zone: str | None, times: str, expected: str
) -> None:
    path = tmp_path / "pump.csv"
    path.write_text(table([times] * 3))
    with pytest.raises(UnusableData) as refused:
        read_series([path], options=FileOptions(time_format=form, zone=zone))
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pl.Series("odd", [[1.0], [2.0]]), "is lists, expected numbers; row 0 is [1.0]"),
        (pl.Series("odd", [1, 2], dtype=pl.Duration("ms")), "is durations, expected numbers"),
        (pl.Series("odd", [b"1", b"2"]), "is binary, expected numbers; row 0 is b'1'"),
    ],
)
def test_a_column_of_parquet_that_is_no_number_is_named_and_may_be_left_out(
    tmp_path: Path, column: pl.Series, kind: str
) -> None:
    path = tmp_path / "pump.parquet"
    pl.DataFrame({"timestamp": [FIRST_MS, FIRST_MS + 1000], "temp": [20.5, 20.75], "odd": column}).write_parquet(path)
    with pytest.raises(UnusableData) as refused:
        read_series([path])
    assert f"column odd {kind}" in str(refused.value)
    assert str(refused.value).endswith("--features temp names the channels")
    with pytest.raises(
        UnusableData, match=r"column odd, row 0 is .*, expected a number; --features names other channels"
    ):
        read_series([path], ["temp", "odd"])
    (one,) = read_series([path], ["temp"])
    assert one.values.tolist() == [[20.5], [20.75]]


def test_dates_and_objects_of_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pump.parquet"
    days = pl.Series([date(2024, 1, 2), date(2024, 1, 3)])
    pl.DataFrame({"timestamp": days, "pump": [{"temp": 20.5}, {"temp": 20.75}]}).write_parquet(path)
    (one,) = read_series([path])
    assert (one.features, one.values.tolist()) == (("pump.temp",), [[20.5], [20.75]])
    assert one.times_ms.tolist() == [1_704_153_600_000, 1_704_240_000_000]


def test_flags_that_nobody_asked_about_are_said(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text(table(header="timestamp,temp,press,OPCQuality", more=[",192", ",0", ",192"]))
    notes: list[str] = []
    read_series([path], ["temp", "press"], note=notes.append)
    assert "column OPCQuality is not looked at: --quality-column 'OPCQuality' --good FLAG makes" in notes[0]
    with pytest.raises(UnusableData, match="--quality-column is given, expected --good too"):
        read_series([path], ["temp", "press"], FileOptions(quality_column=("OPCQuality",)))
    for given in ("nothing", "temp=nothing", "nothing=OPCQuality"):
        with pytest.raises(UnusableData, match=r"no column `nothing.*, as --quality-column says"):
            read_series([path], ["temp", "press"], FileOptions(quality_column=(given,), good=("192",)))
    (one,) = read_series([path], None, FileOptions(quality_column=("OPCQuality",), good=("192.0",)))
    assert np.isnan(one.values).tolist() == [[False, False], [True, True], [False, False]]


def test_a_clock_that_was_not_set_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text(table(["0", str(FIRST_MS), str(FIRST_MS + 1000)]))
    notes: list[str] = []
    (one,) = read_series([path], note=notes.append)
    assert "some times are of 1970, as of a clock that was not set, others of today: --leave-out" in notes[0]
    assert one.times_ms[0] == 0
    notes.clear()
    (one,) = read_series([path], None, FileOptions(leave_out=("0,",)), notes.append)
    assert (one.times_ms[0], "of 1970" in notes[0]) == (FIRST_MS, False)
