"""Formats of times in text: what is parsed is what strptime has, and what is guessed reads the text."""

from datetime import UTC, datetime

import polars as pl
import pytest

from models.data.time_texts import FORMATS, likely_formats, parsed

MOMENT = datetime(2026, 1, 25, 13, 4, 5, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("form", [*FORMATS, "%d.%m.%Y %H:%M:%S.%f", "%H%M%S%f %Y%m%d"])
def test_a_format_means_what_strptime_has(form: str) -> None:
    text = MOMENT.strftime(form)
    expected = datetime.strptime(text, form).replace(tzinfo=None)  # noqa: DTZ007
    (found,) = parsed(pl.Series([text]), form).dt.replace_time_zone(None).to_list()
    assert found == expected
    if form in FORMATS:
        assert text == MOMENT.strftime(next(one for one in likely_formats(text) if MOMENT.strftime(one) == text))


@pytest.mark.parametrize(("text", "milliseconds"), [("5.5", 500), ("5,5", 500), ("5,250", 250), ("5.000250", 0)])
def test_a_fraction_of_any_length_is_one_of_a_second(text: str, milliseconds: int) -> None:
    form = f"%Y-%m-%d %H:%M:%S{text[1]}%f"
    (found,) = parsed(pl.Series([f"2026-01-25 13:04:{text.zfill(3)}".replace(":5", ":05")]), form).to_list()
    assert found == datetime(2026, 1, 25, 13, 4, 5, milliseconds * 1000)  # noqa: DTZ001


def test_a_day_that_may_be_a_month_has_two_formats_and_nonsense_none() -> None:
    assert likely_formats("02/01/26 13:04") == ["%d/%m/%y %H:%M", "%m/%d/%y %H:%M"]
    assert likely_formats("25.01.26 13:04") == ["%d.%m.%y %H:%M"]
    for text in ("", "Total", "2026-13-45", "05.01.0026 00:00"):
        assert likely_formats(text) == []
