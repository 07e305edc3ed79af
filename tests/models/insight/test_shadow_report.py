"""The page on two checkpoints that judged the same readings."""

import json
import re
from html import unescape
from pathlib import Path

from models.insight.shadow_report import CURRENT, SHADOW, AloneAlarm, ComparedPartition, Comparison, shadow_report

T0 = 1_768_986_000_000
PARTITIONS = [
    ComparedPartition("plant-0", 1_500, 12, 3, 5, 4, 3, 2, 1),
    ComparedPartition("plant-1", 500, 0, 5, 0, 0, 1, 0, 1),
]
ALARMS = [
    AloneAlarm("line <1>/pump", CURRENT, T0, T0 + 60_000, "minor", 1.25, 0.5, 2.0),
    AloneAlarm("line-2/fan", SHADOW, T0 + 120_000, None, "critical", 4.5, 0.25, 6.75),
]


def cells(page: str) -> list[str]:
    """Of all tables, in order."""
    return [unescape(re.sub("<[^>]+>", "", one)) for one in re.findall(r"<td>(.*?)</td>", page)]


def written(found: Comparison, folder: Path) -> str:
    path = folder / "shadow.html"
    shadow_report(found, lambda stream, at_ms: f"http://plant-7/#{len(stream)}&at={at_ms}").write(path)
    return path.read_text()


def test_it_has_each_partition_and_their_sum_and_each_alarm_with_a_link_to_the_page(tmp_path: Path) -> None:
    streams = {"line-2/fan": 12, "line <1>/pump": 8}
    page = written(Comparison("ab" * 32, "cd" * 32, PARTITIONS, streams, ALARMS, 200), tmp_path)
    found = cells(page)
    assert found[:30] == [
        *("plant-0", "1,500", "12", "3", "5"),
        *("plant-1", "500", "0", "5", "0"),
        *("all", "2,000", "12", "8", "5"),
        *("plant-0", "4", "3", "2", "1"),
        *("plant-1", "0", "1", "0", "1"),
        *("all", "4", "4", "2", "2"),
    ]
    assert found[30:34] == ["line-2/fan", "12", "line <1>/pump", "8"]
    assert found[34:] == [  # the latest first
        *("line-2/fan", "the second", "2026-01-21 09:02:00", "open", "critical", "4.50", "0.25", "6.75"),
        *("line <1>/pump", "the one that judges", "2026-01-21 09:00:00", "2026-01-21 09:01:00"),
        *("minor", "1.25", "0.50", "2.00"),
    ]
    assert "20 readings, 1 % of them" in page
    assert f'href="http://plant-7/#10&amp;at={T0 + 120_000}"' in page
    assert "The latest" not in page


def test_a_line_in_the_plot_is_an_alarm_from_its_opening_to_its_close(tmp_path: Path) -> None:
    page = written(Comparison("ab" * 32, "cd" * 32, PARTITIONS, {}, ALARMS, 2), tmp_path)
    (drawn,) = re.findall(r'<script type="application/json" class="figure">(.*?)</script>', page)
    second, current = json.loads(drawn)["data"]
    assert (second["y"], current["y"]) == (["line-2/fan"] * 2 + [None], ["line <1>/pump"] * 2 + [None])
    assert [one[:19] for one in current["x"][:2]] == ["2026-01-21T09:00:00", "2026-01-21T09:01:00"]
    assert [one[:19] for one in second["x"][:2]] == ["2026-01-21T09:02:00"] * 2
    assert "The latest 2; the table by partition counts all." in page


def test_where_nothing_was_compared_or_nothing_differs_it_says_so(tmp_path: Path) -> None:
    for partitions in ([], [ComparedPartition("plant-0", 0, 0, 0, 0, 0, 0, 0, 0)]):
        nothing = written(Comparison("ab" * 32, "cd" * 32, partitions, {}, [], 200), tmp_path)
        assert "Nothing is compared yet" in nothing
        assert "There is none." not in nothing, "of nothing that is no verdict"
    same = [ComparedPartition("plant-0", 100, 0, 0, 4, 1, 1, 0, 0)]
    calm = written(Comparison("ab" * 32, "cd" * 32, same, {}, [], 200), tmp_path)
    assert "They differ at 0 readings, 0 % of them" in calm
    assert "There is none." in calm
