"""What a request of remote write says of judged readings."""

import pytest

from service.notify.remote_write import NoScore, sampled, write_letter
from tests.service.notify.scored import samples_of, score_record


def test_a_request_has_each_series_once_with_its_samples_in_the_order_of_time() -> None:
    records = [
        score_record("line-1/pumpe ü", 1_768_986_628_789, 1.25, observed_flow_rate=-3.5, expected_flow_rate=2.0),
        score_record("line-2", 5, 0.0, lower_flow_rate=None),
        score_record("line-1/pumpe ü", 1_768_986_628_000, 0.0, lower_flow_rate=1e-300, upper_flow_rate=1e300),
        score_record("line-1/pumpe ü", -1, 0.5),
    ]
    letter = write_letter([sampled(one) for one in records])
    assert (letter.content_type, letter.notifications) == ("application/x-protobuf", 4)
    pump = "line-1/pumpe ü"
    assert samples_of(letter.body) == {
        ("telltale_reading_score", pump, ""): {-1: 0.5, 1_768_986_628_000: 0.0, 1_768_986_628_789: 1.25},
        ("telltale_reading_observed", pump, "flow_rate"): {1_768_986_628_789: -3.5},
        ("telltale_reading_expected", pump, "flow_rate"): {1_768_986_628_789: 2.0},
        ("telltale_reading_lower", pump, "flow_rate"): {1_768_986_628_000: 1e-300},
        ("telltale_reading_upper", pump, "flow_rate"): {1_768_986_628_000: 1e300},
        ("telltale_reading_score", "line-2", ""): {5: 0.0},
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[1]", "Expected `object`"),
        (b'{"stream": "pump"}', "missing required field"),
        (score_record("pump", 1).replace(b"0.5", b'"high"'), "Expected `float`"),
        (score_record("pump", 1, expected_flow=1.0).replace(b"1.0", b"true"), "Expected `float`"),
        (score_record("pump", 1).replace(b"pump", b"\xff"), "utf-8"),
    ],
)
def test_a_record_that_is_no_judged_reading_is_told_of_with_the_reason(value: bytes, reason: str) -> None:
    with pytest.raises(NoScore, match="expected a judged reading") as told:
        sampled(value)
    assert reason in str(told.value)
