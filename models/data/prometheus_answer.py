"""What Prometheus answers to `/api/v1/query_range`, a matrix of series, as a table with a row for each value.

A series is a stream, named by all its labels; an option may name one label for the streams, and one for the names of
values. Source: the HTTP API of Prometheus, "Range queries" and "Expression query result formats".
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from models.data.errors import UnusableData
from models.data.file_options import FileOptions

NAME = "__name__"
SHOWN_LABELS = 8
MOST_S = 1e12


def is_answer(found: Mapping[str, Any]) -> bool:
    """Whether an object is one, of whatever kind."""
    return found.get("status") in ("success", "error") and ("data" in found or "error" in found)


def table_of(path: Path, answer: Mapping[str, Any], options: FileOptions) -> pl.DataFrame:
    """Columns: timestamp, the stream's name (as `stream` or as the option has it), the value's if asked for, value.

    Raises UnusableData of anything but a matrix of numbers, and where two series would be one.
    """
    series = _matrix(path, answer)
    names = [_named(path, one["metric"], options) for one in series]
    for n, name in enumerate(names):
        if name in names[:n]:
            other = _text(series[names.index(name)]["metric"])
            raise UnusableData(
                f"{path}: the series {other} and {_text(series[n]['metric'])} are both {' '.join(name)}, expected one; "
                "--stream-column names a label that tells them apart, --name-column one that says what a value is"
            )
    columns = [options.stream_column or "stream", *([options.name_column] if options.name_column else [])]
    points = [(n, point) for n, one in enumerate(series) for point in one["values"]]
    return pl.DataFrame(
        {
            "timestamp": pl.Series([round(time * 1000) for _, (time, _) in points], dtype=pl.Int64).cast(
                pl.Datetime("ms", "UTC")
            ),
            **{column: [names[n][k] for n, _ in points] for k, column in enumerate(columns)},
            options.value_column: pl.Series([float(value) for _, (_, value) in points], dtype=pl.Float64),
        }
    )


def _matrix(path: Path, answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if answer["status"] == "error":
        raise UnusableData(
            f"{path}: Prometheus answered with an error, {answer.get('error')!r}, expected the answer to query_range"
        )
    kind = answer["data"].get("resultType") if isinstance(answer["data"], dict) else None
    if kind != "matrix":
        raise UnusableData(
            f"{path}: an answer of Prometheus with the resultType {kind!r}, expected 'matrix', as "
            "/api/v1/query_range answers"
        )
    result = answer["data"].get("result")
    series = result if isinstance(result, list) else []
    for one in series:
        if not _is_series(one):
            raise UnusableData(
                f"{path}: a series of Prometheus is {json.dumps(one)[:80]}, expected labels in `metric`, and in "
                "`values` times with a number in text; histograms are read as numbers by histogram_quantile()"
            )
    if not any(one["values"] for one in series):
        raise UnusableData(f"{path}: no rows: the answer of Prometheus has no values")
    return series


def _is_series(one: Any) -> bool:
    try:
        return isinstance(one["metric"], dict) and all(
            type(time) in (int, float)
            and abs(time) < MOST_S
            and isinstance(value, str)
            and isinstance(float(value), float)
            for time, value in one["values"]
        )
    except (TypeError, KeyError, ValueError):
        return False


def _named(path: Path, labels: Mapping[str, str], options: FileOptions) -> tuple[str, ...]:
    """The stream's name and, where that is asked for, the value's."""
    for label, option in ((options.stream_column, "--stream-column"), (options.name_column, "--name-column")):
        if label is not None and label not in labels:
            found = ", ".join(list(labels)[:SHOWN_LABELS]) or "none"
            raise UnusableData(f"{path}: a series has no label {label}, as {option} says; found {found}")
    names = () if options.name_column is None else (labels[options.name_column],)
    if options.stream_column is not None:
        return labels[options.stream_column], *names
    return _text({label: value for label, value in labels.items() if label != options.name_column}), *names


def _text(labels: Mapping[str, str]) -> str:
    """As Prometheus writes it: `up{instance="p7"}`."""
    rest = ",".join(f'{label}="{value}"' for label, value in labels.items() if label != NAME)
    return labels.get(NAME, "") + (f"{{{rest}}}" if rest or NAME not in labels else "")
