"""Mappings of records as well-known producers write them: settings of `input.topics`, by the preset's name."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # {"fields": {…}, "name": …, "tags": {…}, "timestamp": s}, or {"metrics": [those]}
    "telegraf": {"readings": "metrics", "time_unit": "s", "values": "fields"},
    # opcua,id=p7 temp=61 1767571200000000000
    "influx": {"format": "influx", "time": "time", "time_unit": "ns", "values": "fields"},
    # [{"bn": "p7/", "bt": s, "n": "temp", "v": 61}, …]; a metric a record, and those of text and booleans left out
    "senml": {
        "format": "senml",
        "select": "v != `null`",
        "stream": "n",
        "time": "t",
        "time_unit": "s",
        "values": "v",
    },
    # A point of a metric is a stream's reading; those of histograms and summaries are left out.
    "otlp": {
        "format": "otlp",
        "select": "scalar",
        "stream": ("source", "series"),
        "time": "time",
        "time_unit": "ns",
        "values": "value",
    },
    # The key is the topic of MQTT; numbers of births and data are read.
    "sparkplug": {
        "format": "sparkplug",
        "key_format": "sparkplug",
        "select": ("scalar", "$key.measures"),
        "stream": ("$key.source", "name"),
        "values": "value",
        "quality": "quality",
        "good": 192,
    },
    # {"schema": …, "payload": {…}}, as its JSON converter writes it
    "connect": {"readings": "payload", "values": "@"},
    # {"before": …, "after": {…}, "op": …, "ts_ms": ms}, with or without Connect's envelope
    "debezium": {"readings": "payload", "select": "after", "time": "ts_ms", "values": "after", "tombstones": "ignore"},
    # The event's subject is the stream, its data holds the values; binary: what is of the event is in the headers.
    "cloudevents": {"stream": "subject || source", "time": "time", "values": "data"},
    "cloudevents-binary": {"stream": "$header.ce_subject", "time": "$header.ce_time", "values": "@"},
}
