"""What a page of series shows: the extremes of a long line, the channels that are off, every event and alarm."""

import re
from pathlib import Path

import numpy as np
import pytest

from models.data.series import Series
from models.evaluation.evaluation import Judged
from models.evaluation.series_report import channels_to_show, extremes, set_reports


def some_judged(readings: int, features: int) -> Judged:
    random = np.random.default_rng(0)
    number = np.arange(readings, dtype=np.int64)
    names = tuple(f"channel-{n}" for n in range(features))
    values = random.normal(size=(readings, features))
    series = Series("pump", Path("pump.csv"), names, number, number * 60_000, values, np.ones(readings, bool))
    nothing = np.zeros_like(values)
    return Judged(series, random.random(readings), number % 500 < 20, nothing, nothing - 3, nothing + 3)


@pytest.mark.parametrize("missing", [0.0, 0.9])
def test_no_extreme_is_lost_when_a_line_is_thinned(missing: float) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=20_011)
    values[random.random(len(values)) < missing] = np.nan
    values[[7, 12_345]] = [-1e6, 1e6]
    values[1_000:1_100] = np.nan
    places = extremes(values, buckets=100)
    assert len(places) <= 200
    assert (np.diff(places) > 0).all()
    assert {7, 12_345} <= set(places.tolist())
    for begin in range(0, len(values), 2_002):
        stretch, shown = values[begin : begin + 2_002], values[places[(places >= begin) & (places < begin + 2_002)]]
        assert np.nanmax(shown) >= np.nanmax(stretch) - 0.5


def test_a_short_line_is_drawn_whole() -> None:
    assert extremes(np.zeros(50), buckets=100).tolist() == list(range(50))


def test_of_many_channels_those_that_are_off_while_an_alarm_is_open_are_shown() -> None:
    judged = some_judged(2_000, 9)
    judged.series.values[judged.alarm, 6] += 90
    judged.series.values[judged.alarm, 2] += 60
    judged.series.values[~judged.alarm, 4] += 900
    shown = channels_to_show(judged)
    assert len(shown) == 3
    assert {2, 6} <= set(shown)
    assert 4 not in shown or not judged.series.values[judged.alarm, 4].max() > 60


def test_a_page_has_every_series_with_its_events_and_alarms(tmp_path: Path) -> None:
    judged = some_judged(3_000, 9)
    label = np.arange(3_000) // 100 == 5
    set_reports("press", [judged], [label])["press"].write(tmp_path / "press.html")
    page = (tmp_path / "press.html").read_text()
    assert ">pump</h2>" in page
    assert "Events: 1, found: 1 (median delay 0 readings). Alarms: 6, false: 5." in page
    assert page.count('"type":"rect"') == 7
    assert "the 3 of 9 channels that are furthest off" in page


@pytest.mark.slow
def test_series_are_listed_by_what_was_missed_and_drawn_some_on_a_page_of_at_most_1_mb(tmp_path: Path) -> None:
    judged = some_judged(3_000, 9)
    found, missed = np.arange(3_000) // 100 == 5, np.zeros(3_000, np.bool_)
    quiet = judged._replace(alarm=missed)
    tested = [judged] * 9 + [quiet]
    pages = set_reports("press", tested, [found] * 10)
    assert list(pages) == ["press", "press-2"]
    for stem, page in pages.items():
        page.write(tmp_path / f"{stem}.html")
        assert (tmp_path / f"{stem}.html").stat().st_size < 1_000_000
    first, second = ((tmp_path / f"{stem}.html").read_text() for stem in pages)
    assert [first.count('class="figure"'), second.count('class="figure"')] == [8, 2]
    rows = re.findall(r'<tr><td><a href="([^"]*)">pump</a></td><td>3,000</td><td>1</td><td>(\d)</td>', first)
    assert rows[0] == ("press.html#series-0", "1")
    assert rows[-1] == ("press-2.html#series-9", "0")
    assert 'id="series-9"' in second
    assert '<a href="press.html">' in second
