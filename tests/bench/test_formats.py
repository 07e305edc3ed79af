"""The table of formats: a row for each payload, and its share of our own JSON."""

import pytest

from docs.payloads import PAYLOADS
from tests.bench import formats
from tests.bench.formats import Rate, rate, shares


def test_each_payload_has_a_row_and_our_own_json_is_the_measure() -> None:
    rows = formats.table(records=2).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [payload.what for payload in PAYLOADS]
    assert rows[0].startswith("| Telltale's own |")
    assert rows[0].endswith("| 1.00 |")


def test_a_share_is_one_of_readings_and_not_of_records() -> None:
    rates = [Rate("ours", 100.0, 100.0), Rate("batches", 10.0, 200.0)]
    assert [share for _, share in shares(rates)] == [1.0, 2.0]


def test_a_payload_that_cannot_be_read_is_no_rate() -> None:
    with pytest.raises(ValueError, match=r"Telltale's own: .*, expected a payload that is read"):
        rate(PAYLOADS[0]._replace(value=b"{"), 2)
