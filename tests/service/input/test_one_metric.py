"""Records of one metric each: the metric's name says which feature the value is of."""

import json
from typing import Any

import pytest

from service.input.formats import TopicMapping
from service.input.mapping import mapped_names
from service.input.reasons import Reason
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal

METRIC = {"metric": "name", "values": "value"}


def value(name: Any, number: Any, **more: Any) -> dict[str, Any]:
    return {"timestamp": NOW_MS, "name": name, "value": number, **more}


def test_a_reading_has_the_value_of_its_metric_and_misses_the_others() -> None:
    found = readings([value("press", 4.1), value("temp", 61)], METRIC)
    assert found == [("p7", NOW_MS, [None, 4.1]), ("p7", NOW_MS, [61.0, None])]


def test_a_metric_that_is_no_feature_is_skipped_and_counted() -> None:
    batch, rejects = decode([json.dumps([value("bdSeq", 4), value("temp", 61)]).encode()], METRIC)
    assert (batch.skipped, len(batch.keys), rejects) == (1, 1, [])


def test_quality_missing_values_and_text_are_as_in_any_mapping() -> None:
    mapped = {**METRIC, "quality": "q", "good": (192,), "missing": (-9999,), "decimal": ","}
    some = [value("temp", "61,5"), value("temp", -9999), value("temp", 61, q=0), value("press", None, q=192)]
    assert [row for _, _, row in readings(some, mapped)] == [[61.5, None], *[[None, None]] * 3]


@pytest.mark.parametrize(
    ("found", "reason", "said"),
    [
        (value(None, 1), Reason.WRONG_FEATURES, "None at name, expected the name of a metric"),
        (value(7, 1), Reason.WRONG_FEATURES, "7 at name"),
        ({"timestamp": NOW_MS, "name": "temp", "v": 1}, Reason.WRONG_FEATURES, "no values at value"),
        (value("temp", "x"), Reason.NOT_A_NUMBER, "temp is 'x'"),
    ],
)
def test_what_has_no_metric_or_no_value_is_refused(found: Any, reason: Reason, said: str) -> None:
    refused, detail = refusal(found, METRIC)
    assert refused is reason
    assert said in detail


def test_the_metrics_of_a_record_are_the_features_that_it_has() -> None:
    mapping = TopicMapping("", select=("value",), metric="name", values="value")
    several = json.dumps([value("temp", 1), value("press", 2), value("temp", 3), value("off", None)]).encode()
    assert mapped_names(mapping, several) == ("temp", "press")
