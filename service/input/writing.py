"""Readings to the bytes of a record, in any of the formats that are read."""

import io
from collections.abc import Sequence

import msgspec
import numpy as np

from models.data.arrays import Doubles
from service.input.formats import InputFormat


def encode_readings(
    written: InputFormat,
    features: Sequence[str],
    times_ms: Sequence[int],
    values: Doubles,
    streams: Sequence[str] | None = None,
) -> bytes:
    """A record of N >= 1 readings; values: (N, F), NaN where one is missing. streams: N, where not the record's key.

    One reading of the record's key is written by itself, except in Arrow, which has no such form.
    """
    if written is InputFormat.ARROW:
        return _arrow(features, times_ms, values, streams)
    encode = msgspec.msgpack.encode if written is InputFormat.MSGPACK else msgspec.json.encode
    if len(times_ms) == 1 and streams is None:
        return encode({"timestamp": times_ms[0], "values": dict(zip(features, values[0].tolist(), strict=True))})
    named = {} if streams is None else {"stream": streams}
    return encode({**named, "timestamps": times_ms, "values": dict(zip(features, values.T.tolist(), strict=True))})


def _arrow(features: Sequence[str], times_ms: Sequence[int], values: Doubles, streams: Sequence[str] | None) -> bytes:
    import polars as pl  # noqa: PLC0415  (half a second, and only who writes Arrow needs it)

    named = {} if streams is None else {"stream": pl.Series(streams, dtype=pl.String)}
    columns = dict(zip(features, np.asfortranarray(values).T, strict=True))
    table = pl.DataFrame({**named, "timestamp": pl.Series(times_ms, dtype=pl.Int64), **columns})
    into = io.BytesIO()
    table.write_ipc_stream(into, compat_level=pl.CompatLevel.oldest())
    return into.getvalue()
