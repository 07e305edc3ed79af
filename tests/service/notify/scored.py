"""Records of the topic of scores, and what a request of remote write says when protobuf's own library reads it."""

import json
import math
from collections.abc import Mapping
from typing import Any

import snappy
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Samples = dict[tuple[str, str, str], dict[int, float]]  # of a metric, a stream and a channel, by time


def score_record(stream: str, time_ms: int, score: float = 0.5, **channels: float | None) -> bytes:
    row: dict[str, Any] = {"stream": stream, "timestamp": time_ms, "score": score, "alarm": score > 1, "topic": "plant"}
    return json.dumps({**row, "partition": 0, "offset": 7, "index": 0, **channels}).encode()


def samples_of(body: bytes) -> Samples:
    """By the messages as the specification of remote write 1.0 has them."""
    request = _class().FromString(snappy.uncompress(body))
    found: Samples = {}
    for series in request.timeseries:
        names = [one.name for one in series.labels]
        assert names == sorted(set(names)), "labels are sorted by their names"
        labels = {one.name: one.value for one in series.labels}
        assert labels.pop("topic") == "plant"
        where = labels["__name__"], labels["stream"], labels.get("channel", "")
        assert where not in found, "a series is there once"
        times = [one.timestamp for one in series.samples]
        assert times == sorted(set(times))
        found[where] = {one.timestamp: one.value for one in series.samples}
        assert all(math.isfinite(value) for value in found[where].values())
    return found


def _class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    messages: Mapping[str, list[tuple[str, int, int, str | None]]] = {
        "Label": [("name", 1, 9, None), ("value", 2, 9, None)],
        "Sample": [("value", 1, 1, None), ("timestamp", 2, 3, None)],
        "TimeSeries": [("labels", 1, 11, "Label"), ("samples", 2, 11, "Sample")],
        "WriteRequest": [("timeseries", 1, 11, "TimeSeries")],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind, other in fields:
            made = message.field.add(name=field, number=number, type=kind, label=3 if other else 1)
            if other is not None:
                made.type_name = f".prometheus.{other}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))
