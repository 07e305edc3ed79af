"""What producers write to Kafka is read as a person reads it: the table of the documents, against what is meant."""

import math

import pytest

from docs.payloads import NOW_MS, PAYLOADS, Payload, payload_table, readings

NAN = math.nan
USUAL = [("p7", NOW_MS, [61.0, 4.1])]
TWO = [("p7", NOW_MS, [61.0, 4.1]), ("p7", NOW_MS + 500, [62.0, 4.1])]
OF_S1 = [("s1", NOW_MS, [40.2])]
OF_P7 = [("p7/temp", NOW_MS, [61.0]), ("p7/press", NOW_MS, [4.1])]
# Those that do not say that temp of p7 is 61 and press 4.1.
MEANT = {
    "a value of a sensor, its name in it too": OF_S1,
    "the same without a key": OF_S1,
    "time by another name": OF_S1,
    "seconds": [("p7", NOW_MS + 500, [61.0, 4.1])],
    "Telegraf, `json`": [("h1/p7", NOW_MS, [61.0, 4.1])],
    "Telegraf, `json` in batches": [*USUAL, ("p8", NOW_MS, [20.0, 1.2])],
    "Influx's line protocol, as Telegraf writes it": [*USUAL, ("p8", NOW_MS, [20.0, 1.2])],
    "OpenTSDB's JSON": [("p7/2/temp", NOW_MS, [61.0])],
    "Prometheus' Kafka adapter": [("p7/temp", NOW_MS, [61.2])],
    "a key that is an object": [("7", NOW_MS, [61.0, 4.1])],
    "a key that is an integer": [("7", NOW_MS, [61.0, 4.1])],
    "a message a metric, with a quality": [("edge-1/POWER_FACTOR", NOW_MS, [NAN])],
    "Sparkplug's JSON": [("edge-1/temp", NOW_MS, [61.0]), ("edge-1/press", NOW_MS, [4.1])],
    "an array of readings": TWO,
    "JSON lines": TWO,
    "Sparkplug B, its topic of MQTT as the key": [
        ("plant/edge-1/p7/temp", NOW_MS, [61.0]),
        ("plant/edge-1/p7/press", NOW_MS, [4.1]),
    ],
    "OpenTelemetry's metrics, `otlp_proto` of the Collector": OF_P7,
    "OpenTelemetry's metrics, `otlp_json`": OF_P7,
    "SenML": OF_P7,
    "NGSI-LD, FIWARE": [("urn:p7", NOW_MS, [61.0, 4.1])],
    "Kepware's IoT Gateway: one of its values is bad": [("p7.temp", NOW_MS, [61.0]), ("p7.press", NOW_MS, [NAN])],
    "OPC DA's quality": [("p7", NOW_MS, [61.0])],
    "OPC UA": [("ns=2;s=p7", NOW_MS, [20.1])],
    "some of several features": [("p7", NOW_MS, [61.0, NAN])],
    "NaN": [("p7", NOW_MS, [NAN, 4.1])],
    "decimal comma": [("p7", NOW_MS, [61.2, 4.1])],
    "thousands apart": [("p7", NOW_MS, [1061.5, 4.1])],
    "switches": [("p7", NOW_MS, [61.0, 1.0])],
    "a word or a number for a missing value": [("p7", NOW_MS, [NAN, NAN])],
}


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.what)
def test_a_payload_is_read_as_it_is_meant(payload: Payload) -> None:
    assert repr(readings(payload)) == repr(MEANT.get(payload.what, USUAL))


def test_each_payload_is_in_the_table_once() -> None:
    names = [payload.what for payload in PAYLOADS]
    assert len(set(names)) == len(names)
    assert set(MEANT) <= set(names)
    assert payload_table().count("\n") == len(names) + 1
