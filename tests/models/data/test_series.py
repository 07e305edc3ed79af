import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.file_options import FileOptions
from models.data.series import Series, UnusableData, find_files, read_series
from models.data.time_units import TimeUnit
from tests.data import data_folder

Columns = Mapping[str, Sequence[object]]


def write(path: Path, columns: Columns) -> Path:
    frame = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    return path


def read_one(path: Path) -> Series:
    (series,) = read_series([path])
    return series


@pytest.fixture(params=[".csv", ".parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"pump{request.param}"


def test_a_file_is_one_stream_named_after_it(file: Path) -> None:
    write(file, {"timestamp": [1_000, 2_000, 5_000], "heat": [1.5, 2.5, -3.0], "load": [1, 2, 3]})
    series = read_one(file)
    assert (series.key, series.path, series.features) == ("pump", file, ("heat", "load"))
    assert series.rows.tolist() == [0, 1, 2]
    assert series.times_ms.tolist() == [1_000, 2_000, 5_000]
    assert series.values.tolist() == [[1.5, 1], [2.5, 2], [-3, 3]]
    assert not series.test.any()
    assert [column.dtype.name for column in series[3:6]] == ["int64", "int64", "float64"]


def test_a_file_may_hold_many_streams_each_in_its_own_order(file: Path) -> None:
    streams = ["b", "a", "b", "c", "a", "b"]
    write(file, {"timestamp": [10, 20, 5, 40, 50, 10], "x": [0, 1, 2, 3, 4, 5], "stream": streams})
    found = {series.key: series for series in read_series([file])}
    assert list(found) == ["b", "a", "c"], "in the order in which they first come"
    assert found["b"].rows.tolist() == [0, 2, 5]
    assert found["b"].times_ms.tolist() == [10, 5, 10], "neither sorted nor made distinct"
    assert found["a"].values.tolist() == [[1], [4]]
    assert found["c"].rows.tolist() == [3]


def test_streams_may_be_numbered(file: Path) -> None:
    write(file, {"timestamp": [1, 2], "x": [0.0, 1.0], "stream": [12, 7]})
    assert [series.key for series in read_series([file])] == ["12", "7"]


def test_parts_are_told_apart_and_labels_are_never_features(file: Path) -> None:
    part = ["train", "test", None, "test"]
    write(file, {"timestamp": [1, 2, 3, 4], "x": [0.0, 1, 2, 3], "label": [0, 0, 1, 1], "part": part})
    series = read_one(file)
    assert series.features == ("x",)
    assert series.test.tolist() == [False, True, False, True]


def test_some_readings_can_be_selected_by_mask_or_place(file: Path) -> None:
    write(file, {"timestamp": [1, 2, 3], "x": [5.0, 6, 7], "part": ["train", "test", "train"]})
    series = read_one(file)
    for keep in (~series.test, np.array([0, 2])):
        some = series.select(keep)
        assert (some.rows.tolist(), some.times_ms.tolist()) == ([0, 2], [1, 3])
        assert (some.values.tolist(), some.test.tolist()) == ([[5], [7]], [False, False])
        assert (some.key, some.features) == (series.key, series.features)


def test_what_is_empty_or_not_a_finite_number_is_missing(file: Path) -> None:
    values = [1.0, None, math.nan, math.inf, -math.inf, 3.4e38]
    write(file, {"timestamp": [1, 2, 3, 4, 5, 6], "x": values, "y": [0.0] * 6})
    series = read_one(file)
    assert np.isnan(series.values[:, 0]).tolist() == [False, True, True, True, True, False]
    assert series.values[5, 0] == 3.4e38
    assert not np.isnan(series.values[:, 1]).any()


def test_a_channel_without_any_value_is_a_feature_all_the_same(file: Path) -> None:
    write(file, {"timestamp": [1, 2], "x": [None, None], "y": [1.0, 2.0]})
    series = read_one(file)
    assert series.features == ("x", "y")
    assert np.isnan(series.values[:, 0]).all()


WHEN = datetime(2026, 1, 31, 23, 59, 0, 250_000, tzinfo=UTC)
WHEN_MS = 1_769_903_940_250


def test_the_example_time_is_what_python_says() -> None:
    assert round(WHEN.timestamp() * 1_000) == WHEN_MS


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T23:59:00.250Z",
        "2026-01-31T23:59:00.250+00:00",
        "2026-02-01T01:59:00.250+02:00",
        "2026-01-31T18:29:00.250-05:30",
        "2026-01-31T23:59:00.250",
        "2026-01-31 23:59:00.250",
        "2026-01-31T23:59:00.250000Z",
    ],
)
def test_times_may_be_text_with_or_without_a_zone(file: Path, text: str) -> None:
    write(file, {"timestamp": [text, text], "x": [1.0, 2.0]})
    assert read_one(file).times_ms.tolist() == [WHEN_MS, WHEN_MS]


@pytest.mark.parametrize(
    ("texts", "times_ms"),
    [
        (["2026-01-31T23:59:00Z", "2026-01-31T23:59:00.250Z"], [WHEN_MS - 250, WHEN_MS]),
        (["2026-01-31T23:59:00Z", "2026-02-01T01:59:00+02:00"], [WHEN_MS - 250] * 2),
        (["2026-01-31 23:59:00", "2026-01-31T23:59:00"], [WHEN_MS - 250] * 2),
    ],
)
def test_times_may_be_written_differently_from_row_to_row(file: Path, texts: list[str], times_ms: list[int]) -> None:
    write(file, {"timestamp": texts, "x": [1.0, 2.0]})
    assert read_one(file).times_ms.tolist() == times_ms


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_may_be_datetimes_of_any_unit_and_zone(tmp_path: Path, unit: str, zone: str | None) -> None:
    column = pl.Series([WHEN.replace(tzinfo=None)]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    column = column.dt.convert_time_zone(zone) if zone else column.dt.replace_time_zone(None)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"timestamp": column.cast(pl.Datetime(unit, zone)), "x": [1.0]}).write_parquet(path)  # type: ignore[arg-type]
    assert read_one(path).times_ms.tolist() == [WHEN_MS]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"when": [1], "x": [1.0]}, "no column `timestamp`, found when, x; --time-column names"),
        (
            {"timestamp": [1, 2], "x": ["warm", "cold"]},
            "column x is text, expected numbers; row 0 is 'warm'; --features A,B,C",
        ),
        ({"timestamp": [1, 2], "x": [True, False]}, "column x is Boolean, expected numbers"),
        ({"timestamp": [1, 2], "label": [0, 1]}, "no feature columns beside timestamp, label"),
        ({"timestamp": [1, None, None], "x": [1.0, 2, 3]}, "row 1 has no timestamp"),
        (
            {"timestamp": [1.5, 2.5], "x": [1.0, 2]},
            "timestamp is Float64, expected milliseconds, a datetime or RFC 3339",
        ),
        ({"timestamp": [5, -7, -9], "x": [1.0, 2, 3]}, "row 1: timestamp -7 is before 1970"),
        (
            {"timestamp": ["2026-01-31T23:59:00Z", "yesterday"], "x": [1.0, 2]},
            "row 1: timestamp 'yesterday', expected RFC 3339 such as 2026-01-31T23:59:00Z",
        ),
        (
            {"timestamp": ["2026-01-31T23:59:00Z", "2026-01-31T23:59:00"], "x": [1.0, 2]},
            "row 1: timestamp '2026-01-31T23:59:00', expected RFC 3339",
        ),
        ({"timestamp": [1, 2], "x": [1.0, 2], "stream": ["a", None]}, "row 1 has no stream"),
        (
            {"timestamp": [1, 2, 3], "x": [1.0, 2, 3], "stream": ["a", '"b"', '"b"']},
            'row 1: \'"b"\' cannot be a stream\'s name: the key "b" is in JSON quotes',
        ),
        ({"timestamp": [1], "x": [1.0], "stream": ["a" * 257]}, "key of 257 bytes, expected 1 to 256"),
        (
            {"timestamp": [1.5], "x": [1.0]},
            "timestamp is Float64, expected milliseconds, a datetime or RFC 3339 text; ",
        ),
    ],
)
def test_what_cannot_be_used_is_named(file: Path, columns: Columns, message: str) -> None:
    write(file, columns)
    with pytest.raises(UnusableData) as refused:
        read_series([file])
    assert str(file) in str(refused.value)
    assert message in str(refused.value)


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,x\n")
    with pytest.raises(UnusableData, match="no rows"):
        read_series([path])


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("a.parquet", b""), ("a.parquet", b"PAR1 not really")])
def test_a_file_that_is_not_what_its_name_says_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnusableData, match=rf"{name}: cannot be read as {path.suffix[1:]}: .*is empty"):
        read_series([path])


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    for name, found in (("a.xml", ".xml"), ("a", "no suffix")):
        (tmp_path / name).write_text("{}")
        with pytest.raises(UnusableData, match=f"found {found}, expected .csv, .parquet, .tsv, .jsonl, "):
            read_series([tmp_path / name])


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match=r"nowhere.csv: no such file or folder"):
        read_series([tmp_path / "nowhere.csv"])


def test_a_folder_without_data_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UnusableData, match=r"no .csv, .parquet, .tsv, .* or .ndjson file in this folder"):
        read_series([tmp_path])


def test_nothing_given_is_refused() -> None:
    with pytest.raises(UnusableData, match="no data files were given"):
        read_series([])


def test_a_folders_files_are_found_below_it_sorted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [tmp_path / name for name in ("z.csv", "b/a.parquet", "a.csv")]
    for path in paths:
        write(path, {"timestamp": [1], "x": [1.0]})
    (tmp_path / "notes.txt").write_text("nothing")
    single = write(tmp_path / "b" / "other.csv", {"timestamp": [1], "x": [1.0]})
    assert find_files([single, tmp_path]) == [single, *sorted([*paths, single])]


def test_all_files_have_the_features_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", {"timestamp": [1], "x": [1.0], "y": [2.0]})
    second = write(tmp_path / "b.csv", {"y": [4.0], "x": [3.0], "timestamp": [1]})
    other = write(tmp_path / "c.csv", {"timestamp": [1], "x": [1.0], "z": [2.0]})
    found = read_series([first, second])
    assert [series.features for series in found] == [("x", "y")] * 2
    assert found[1].values.tolist() == [[3, 4]], "by name, not by place"
    with pytest.raises(UnusableData, match=r"c.csv: found features x, z; expected y as well"):
        read_series([first, other])
    with pytest.raises(UnusableData, match="expected w as well"):
        read_series([first], features=("x", "w"))


def test_a_feature_that_is_text_in_another_file_is_missing_there(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", {"timestamp": [1], "x": [1.0]})
    second = write(tmp_path / "b.csv", {"timestamp": [1], "x": ["warm"]})
    with pytest.raises(UnusableData, match=r"b.csv: column x, row 0 is 'warm', expected a number"):
        read_series([first, second])


def test_a_stream_in_two_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a.csv", tmp_path / "b" / "a.csv"):
        write(path, {"timestamp": [1], "x": [1.0]})
    with pytest.raises(UnusableData, match=r"b/a.csv: stream a is in .*a.csv already"):
        read_series([tmp_path])


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    columns = {
        "timestamp": random.integers(10**11, 10**12, 50).tolist(),
        "x": random.normal(size=50).tolist(),
        "stream": random.choice(["a", "b"], 50).tolist(),
        "part": random.choice(["train", "test"], 50).tolist(),
    }
    (tmp_path / "csv").mkdir()
    one = read_series([write(tmp_path / "csv" / "s.csv", columns)])
    other = read_series([write(tmp_path / "s.parquet", columns)])
    for found, expected in zip(one, other, strict=True):
        assert found.key == expected.key
        for name in ("rows", "times_ms", "values", "test"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.slow
def test_real_series_are_what_their_list_says() -> None:
    folder = data_folder()
    for entry in json.loads((folder / "series.json").read_text()):
        if entry["set"] not in {"nab", "skab", "asd"}:
            continue
        series = read_one(folder / entry["file"])
        assert series.features == tuple(entry["features"])
        assert len(series.times_ms) == entry["rows"]
        assert (~series.test).sum() == entry["train_rows"]
        assert np.isfinite(series.values).all(axis=1).mean() > 0.9


SECONDS = 1_767_571_200


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            [SECONDS, SECONDS + 60],
            f"row 0: timestamp {SECONDS} looks like seconds: expected milliseconds; --time-unit s",
        ),
        ([SECONDS + 0.25], f"row 0: timestamp {SECONDS}.25 looks like seconds: expected milliseconds; --time-unit s"),
        ([SECONDS * 1000, SECONDS], f"row 1: timestamp {SECONDS} looks like seconds"),
        ([0, SECONDS], f"row 1: timestamp {SECONDS} looks like seconds"),
        (
            [SECONDS * 10**6],
            f"timestamp {SECONDS}000000 looks like microseconds: expected milliseconds; --time-unit us",
        ),
        ([1, SECONDS * 10**9], f"row 1: timestamp {SECONDS}000000000 looks like nanoseconds: expected milliseconds; -"),
        ([300 * 10**12], "row 0: timestamp 300000000000000 is after the year 9999 in milliseconds"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_in_another_unit_are_refused_and_the_option_named(
    tmp_path: Path, suffix: str, times: list[float], message: str
) -> None:
    file = write(tmp_path / f"a{suffix}", {"timestamp": times, "x": [1.0] * len(times)})
    with pytest.raises(UnusableData) as refused:
        read_series([file])
    assert f"{file}: " in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        (TimeUnit.S, [SECONDS, SECONDS + 60]),
        (TimeUnit.S, [SECONDS + 0.0, SECONDS + 60.0004]),
        (TimeUnit.MS, [SECONDS * 1000, SECONDS * 1000 + 60_000]),
        (TimeUnit.MS, [SECONDS * 1000 + 0.25, SECONDS * 1000 + 59_999.75]),
        (TimeUnit.US, [SECONDS * 10**6, SECONDS * 10**6 + 60_000_000]),
        (TimeUnit.NS, [SECONDS * 10**9 + 999_999, SECONDS * 10**9 + 60 * 10**9]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_unit_that_is_named_reads_them(tmp_path: Path, suffix: str, unit: TimeUnit, times: list[float]) -> None:
    file = write(tmp_path / f"a{suffix}", {"timestamp": times, "x": [1.0, 2.0]})
    (one,) = read_series([file], options=FileOptions(unit=unit))
    assert one.times_ms.tolist() == [SECONDS * 1000, SECONDS * 1000 + 60_000]


@pytest.mark.parametrize(
    ("unit", "time", "message"),
    [
        (TimeUnit.S, SECONDS * 1000, "looks like milliseconds: expected seconds; --time-unit ms reads it"),
        (TimeUnit.US, SECONDS * 1000, "looks like milliseconds: expected microseconds; --time-unit ms reads it"),
        (TimeUnit.NS, SECONDS, "looks like seconds: expected nanoseconds; --time-unit s reads it"),
    ],
)
def test_a_unit_that_is_named_wrongly_is_refused(file: Path, unit: TimeUnit, time: int, message: str) -> None:
    write(file, {"timestamp": [time], "x": [1.0]})
    with pytest.raises(UnusableData, match=message):
        read_series([file], options=FileOptions(unit=unit))


def test_a_clock_that_begins_at_zero_is_read(file: Path) -> None:
    days = [n * 3_600_000 for n in range(24 * 60)]
    write(file, {"timestamp": days, "x": [1.0] * len(days)})
    (one,) = read_series([file])
    assert one.times_ms.tolist() == days
    write(file, {"timestamp": [SECONDS], "x": [1.0]})
    (one,) = read_series([file], options=FileOptions(unit=TimeUnit.MS))
    assert one.times_ms.tolist() == [SECONDS]


def test_datetimes_and_text_need_no_unit(file: Path) -> None:
    write(file, {"timestamp": ["1970-01-21T10:59:31.200Z"], "x": [1.0]})
    assert read_series([file], options=FileOptions(unit=TimeUnit.S))[0].times_ms.tolist() == [SECONDS]


def test_a_file_whose_name_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / '"pump-1".csv', {"timestamp": [1], "x": [1.0]})
    with pytest.raises(UnusableData, match=r"its name cannot be that of its stream: the key .* is in JSON quotes"):
        read_series([file])
