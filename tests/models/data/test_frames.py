"""Frames of polars and pandas: what is read from them, what is refused and in which words."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from models.data import frames
from models.data.file_options import Order
from models.data.frames import Layout, Table, layout
from models.data.series import UnusableData
from models.data.time_units import TimeUnit

START_MS = 1_767_571_200_000  # Monday 2026-01-05, 00:00 UTC
START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTES = [START + timedelta(minutes=n) for n in range(4)]
MINUTES_MS = [START_MS + 60_000 * n for n in range(4)]
VALUES = [1.0, 2.0, 3.0, 4.0]
NAIVE = [time.replace(tzinfo=None) for time in MINUTES]


def read(frame: Any, features: list[str] | None = None, **given: Any) -> Table[Any]:
    return frames.read(frame, Layout(**given), features)


TIMES: Mapping[str, Any] = {
    "polars milliseconds": pl.Series(MINUTES_MS),
    "polars UTC": pl.Series(MINUTES),
    "polars without a zone": pl.Series(NAIVE),
    "polars in another zone": pl.Series(MINUTES).dt.convert_time_zone("Asia/Kolkata"),
    "polars nanoseconds": pl.Series(NAIVE).cast(pl.Datetime("ns")),
    "polars text": pl.Series([time.isoformat() for time in MINUTES]),
    "pandas milliseconds": pd.Series(MINUTES_MS),
    "pandas UTC": pd.Series(pd.to_datetime(MINUTES_MS, unit="ms", utc=True)),
    "pandas without a zone": pd.Series(pd.to_datetime(MINUTES_MS, unit="ms")),
    "pandas in another zone": pd.Series(pd.to_datetime(MINUTES_MS, unit="ms", utc=True)).dt.tz_convert("Asia/Kolkata"),
    "pandas seconds": pd.Series(np.array(NAIVE, "datetime64[s]")),
    "pandas nanoseconds": pd.Series(np.array(NAIVE, "datetime64[ns]")),
    "pandas text": pd.Series([time.isoformat() for time in MINUTES]),
    "pandas objects": pd.Series(MINUTES, dtype=object),
    "pandas nullable integers": pd.Series(MINUTES_MS, dtype="Int64"),
}


def frame_of(columns: Mapping[str, Any]) -> Any:
    """Of pandas if one column is."""
    if any(isinstance(column, pd.Series) for column in columns.values()):
        return pd.DataFrame({name: list(c) if isinstance(c, pl.Series) else c for name, c in columns.items()})
    return pl.DataFrame(columns)


@pytest.mark.parametrize("kind", TIMES)
def test_times_are_read_as_people_have_them(kind: str) -> None:
    (one,) = read(frame_of({"timestamp": TIMES[kind], "flow": VALUES})).series
    assert one.times_ms.tolist() == MINUTES_MS
    assert one.values[:, 0].tolist() == VALUES
    assert (one.key, one.features) == ("sensor", ("flow",))


def test_days_are_read() -> None:
    (one,) = read(pl.DataFrame({"timestamp": [date(2026, 1, 5), date(2026, 1, 6)], "flow": [1, 2]})).series
    assert one.times_ms.tolist() == [START_MS, START_MS + 86_400_000]


@pytest.mark.parametrize("time", [None, "when"])
def test_the_index_of_pandas_may_be_the_time(time: str | None) -> None:
    index = pd.to_datetime(MINUTES_MS, unit="ms", utc=True).rename(time)
    frame = pd.DataFrame({"flow": VALUES}, index=index)
    table = read(frame, time=time)
    assert table.series[0].times_ms.tolist() == MINUTES_MS
    told = table.with_rows({"score": pl.Series(VALUES)})
    assert told.index.equals(index)
    assert told.columns.tolist() == ["stream", "score"]
    assert table.pick([1], [2], {})["end"].tolist() == [MINUTES[2]]


def test_levels_of_an_index_may_be_times_and_streams() -> None:
    index = pd.MultiIndex.from_product([["b", "a"], pd.to_datetime(MINUTES_MS[:2], unit="ms")], names=["pump", "when"])
    frame = pd.DataFrame({"flow": VALUES}, index=index)
    table = read(frame, time="when", stream="pump")
    assert [(one.key, one.values[:, 0].tolist()) for one in table.series] == [("b", [1.0, 2.0]), ("a", [3.0, 4.0])]
    told = table.with_rows({"score": pl.Series(VALUES)})
    assert told.index.equals(index)
    assert table.pick([2], [3], {})["stream"].tolist() == ["a"]


@pytest.mark.parametrize("names", [["b", "a", "b", "a"], [2, 1, 2, 1]])
@pytest.mark.parametrize("library", ["polars", "pandas", "pandas categories"])
def test_streams_come_in_the_order_of_their_first_rows_and_keep_their_kind(library: str, names: list[Any]) -> None:
    columns = {"timestamp": [*MINUTES_MS[:2], *MINUTES_MS[:2]], "pump": names, "flow": VALUES}
    columns["timestamp"].sort()
    frame: Any = pl.DataFrame(columns) if library == "polars" else pd.DataFrame(columns)
    if library == "pandas categories":
        frame["pump"] = frame["pump"].astype("category")
    table = read(frame, stream="pump")
    assert [one.key for one in table.series] == [str(name) for name in names[:2]]
    assert [one.rows.tolist() for one in table.series] == [[0, 2], [1, 3]]
    told = table.with_rows({"score": pl.Series(VALUES)})
    assert list(told.columns) == ["pump", "timestamp", "score"]
    assert told["pump"].dtype == frame["pump"].dtype
    assert list(told["pump"]) == names


@pytest.mark.parametrize(
    "flow",
    [
        pl.Series([1.0, None, float("nan"), float("inf")]),
        pd.Series([1.0, None, float("nan"), float("-inf")]),
        pd.Series([1, None, pd.NA, pd.NA], dtype="Int64"),
        pd.Series([1, float("nan"), None, float("inf")], dtype=object),
        pd.Series([1.0, None, None, None], dtype="float32"),
    ],
)
def test_what_is_no_number_is_a_missing_value(flow: Any) -> None:
    (one,) = read(frame_of({"timestamp": pl.Series(MINUTES_MS), "flow": flow})).series
    assert one.values[0, 0] == 1.0
    assert np.isnan(one.values[1:, 0]).all()


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_every_column_of_numbers_is_a_channel_but_those_that_never_are(library: str) -> None:
    columns = {"timestamp": MINUTES_MS, "flow": VALUES, "label": [0] * 4, "part": ["train", "train", "test", None]}
    frame = pl.DataFrame(columns) if library == "polars" else pd.DataFrame(columns)
    (one,) = read(frame).series
    assert one.features == ("flow",)
    assert one.test.tolist() == [False, False, True, False]


def test_channels_come_in_the_order_that_is_asked_for() -> None:
    frame = pl.DataFrame({"timestamp": MINUTES_MS, "note": ["x"] * 4, "flow": VALUES, "heat": VALUES[::-1]})
    (one,) = read(frame, ["heat", "flow"]).series
    assert one.values[0].tolist() == [4.0, 1.0]


def test_sorting_is_by_stream_and_rows_are_those_of_the_frame() -> None:
    frame = pl.DataFrame({"timestamp": MINUTES_MS[::-1], "stream": ["a", "b", "a", "b"], "flow": VALUES})
    series = read(frame, order=Order.SORT).series
    assert [one.rows.tolist() for one in series] == [[2, 0], [3, 1]]
    assert [one.rows.tolist() for one in read(frame, order=Order.KEEP).series] == [[0, 2], [1, 3]]


GOOD: Mapping[str, Any] = {"timestamp": MINUTES_MS, "flow": VALUES}
BAD: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "no column of times": (
        {"when": MINUTES_MS, "flow": VALUES},
        {},
        r"no column `timestamp`, found when, flow; time='…' names the column with the times",
    ),
    "a column of times that is not there": (
        GOOD,
        {"time": "when"},
        r"no column `when`, as time='when' says; found time",
    ),
    "a column of streams that is not there": (GOOD, {"stream": "pump"}, r"no column `pump`, as stream='pump' says"),
    "a row without a time": ({**GOOD, "timestamp": [*MINUTES_MS[:3], None]}, {}, r"frame: row 3 has no timestamp"),
    "a row without a stream": (
        {**GOOD, "pump": ["a", None, "a", "a"]},
        {"stream": "pump"},
        r"frame: row 1 has no pump",
    ),
    "seconds": (
        {"when": [time // 1000 for time in MINUTES_MS], "flow": VALUES},
        {"time": "when"},
        r"row 0: when 1767571200 looks like seconds: expected milliseconds; time_unit='s' reads it",
    ),
    "a time before 1970": ({**GOOD, "timestamp": [-1, 1, 2, 3]}, {}, r"row 0: timestamp -1 is before 1970"),
    "a time that is none": ({**GOOD, "timestamp": ["now"] * 4}, {}, r"row 0: timestamp 'now', expected RFC 3339"),
    "times that are no times": ({**GOOD, "timestamp": [True] * 4}, {}, r"timestamp is Boolean, expected milliseconds"),
    "text": (
        {**GOOD, "note": ["fine"] * 4},
        {},
        r"column note is String, expected numbers; first is 'fine'; values=\[…\] names the columns with values",
    ),
    "a number that no float32 holds": (
        {**GOOD, "flow": [1.0, 2.0, 1e39, 4.0]},
        {},
        r"column flow, row 2 is 1e\+39, expected",
    ),
    "no values": ({"timestamp": MINUTES_MS}, {}, r"no column with values beside timestamp"),
    "a time that goes back": (
        {**GOOD, "timestamp": [*MINUTES_MS[:2], MINUTES_MS[0] + 1, MINUTES_MS[3]]},
        {},
        r"row 2: timestamp 1767571200001 is before that of row 1, 1767571260000, both .* order='sort' sorts them",
    ),
    "a time that is there twice": (
        {**GOOD, "timestamp": [*MINUTES_MS[:2], *MINUTES_MS[1:3]], "stream": ["a"] * 4},
        {},
        r"row 2: timestamp 1767571260000 is that of row 1 too, both of stream a; expected .* a stream; order='sort'",
    ),
    "a stream's name with a line break": ({**GOOD, "stream": ["a\nb"] * 4}, {}, r"row 0: 'a\\nb' cannot be a stream's"),
    "no rows": ({"timestamp": [], "flow": []}, {}, r"frame: no rows"),
}


@pytest.mark.parametrize("library", ["polars", "pandas"])
@pytest.mark.parametrize("why", BAD)
def test_a_frame_that_cannot_be_used_is_refused_with_what_helps(why: str, library: str) -> None:
    columns, given, said = BAD[why]
    frame: Any = pl.DataFrame(dict(columns)) if library == "polars" else pd.DataFrame(dict(columns))
    if library == "pandas" and why == "a row without a time":
        frame["timestamp"] = frame["timestamp"].astype("Int64")
    with pytest.raises(UnusableData, match=said):
        read(frame, **given)


def test_a_channel_that_is_missing_or_can_be_none_is_named() -> None:
    frame = pl.DataFrame({**GOOD, "label": [0] * 4})
    with pytest.raises(UnusableData, match="no column `heat`; expected the channels flow, heat, found timestamp, flow"):
        read(frame, ["flow", "heat"])
    with pytest.raises(UnusableData, match="column label cannot be a channel"):
        read(frame, ["flow", "label"])


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"timestamp": MINUTES_MS, 0: VALUES}), r"column 0 is named by int, expected text; frame.rename"),
        (pd.DataFrame([[1, 2.0, 3.0]], columns=["timestamp", "a", "a"]), "column a is there twice"),
        (
            pd.DataFrame({"timestamp": MINUTES_MS, "a": [1, "x", 2, 3]}),
            "column a holds int and str, expected values of",
        ),
        (pl.LazyFrame({"timestamp": MINUTES_MS}), r"found LazyFrame, expected a DataFrame .*; .collect\(\) makes one"),
        ({"timestamp": MINUTES_MS}, "found dict, expected a DataFrame of polars or pandas"),
    ],
)
def test_what_only_one_library_has_is_refused_too(frame: Any, said: str) -> None:
    with pytest.raises(UnusableData, match=said):
        read(frame)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"unit": "h"}, "time_unit is 'h', expected one of 'ms', 's', 'us', 'ns'"),
        ({"order": "as it is"}, "order is 'as it is', expected one of 'check', 'sort', 'keep'"),
        ({"name": ""}, "name='' cannot be a stream's name: key of 0 bytes"),
    ],
)
def test_an_argument_out_of_range_is_refused(given: Mapping[str, str], said: str) -> None:
    arguments: dict[str, Any] = {
        "time": None,
        "stream": None,
        "name": "sensor",
        "unit": None,
        "order": "check",
        **given,
    }
    with pytest.raises(UnusableData, match=said):
        layout(**arguments)


def test_a_unit_and_an_order_are_taken_by_their_names() -> None:
    assert layout("when", None, "sensor", "us", "sort") == Layout("when", None, "sensor", TimeUnit.US, Order.SORT)


@pytest.mark.parametrize(
    "time",
    [
        START,
        START.replace(tzinfo=None),
        START.astimezone(timezone(timedelta(hours=2))),
        START_MS,
        np.int64(START_MS),
        np.datetime64(START_MS, "ms"),
        pd.Timestamp(START),
        START.isoformat(),
    ],
)
def test_the_time_of_one_reading_is_read_as_people_have_it(time: Any) -> None:
    frame = pl.DataFrame([frames.times_column([time]).alias("timestamp"), pl.Series("flow", [1.0])])
    assert read(frame).series[0].times_ms.tolist() == [START_MS]


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(UnusableData, match="timestamp is Boolean, expected milliseconds, a datetime or RFC 3339 text"):
        read(pl.DataFrame([frames.times_column([True]).alias("timestamp"), pl.Series("flow", [1.0])]))
