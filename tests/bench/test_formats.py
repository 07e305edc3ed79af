"""The table of formats: a row for each payload, and its share of our own JSON."""

import pytest

from docs.payloads import PAYLOADS
from tests.bench import formats
from tests.bench.formats import rate


@pytest.mark.slow
def test_each_payload_has_a_row_and_our_own_json_is_the_measure() -> None:
    rows = formats.table(records=2).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [payload.what for payload in PAYLOADS]
    assert rows[0].startswith("| Telltale's own |")


def test_a_share_is_one_of_readings_and_not_of_records() -> None:
    (batches,) = (payload for payload in PAYLOADS if payload.what == "Telegraf, `json` in batches")
    found = rate(batches, 2)
    assert found.readings == pytest.approx(2 * found.records)


def test_a_payload_that_cannot_be_read_is_no_rate() -> None:
    with pytest.raises(ValueError, match=r"Telltale's own: .*, expected a payload that is read"):
        rate(PAYLOADS[0]._replace(value=b"{"), 2)
