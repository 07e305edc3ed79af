"""`telltale inspect` and `telltale forecast` on files: what they print, write and refuse."""

import re
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from service.live.insights import ExplanationSeen, ForecastSeen
from tests.command_line import Telltale
from tests.service.cli.test_main import waves

READINGS = 400


pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of a stream each, with a jump at three quarters."""
    folder = tmp_path_factory.mktemp("plant")
    for n, name in enumerate(("boiler", "mill")):
        waves(READINGS, float(n), jump=9.0).write_csv(folder / f"{name}.csv")
    return folder


def time_of(plant: Path, row: int) -> int:
    return int(pl.read_csv(plant / "mill.csv")["timestamp"][row])


def test_inspect_prints_the_anomalies_and_says_what_it_is_not(
    telltale: Telltale, plant: Path, checkpoint: Path
) -> None:
    output = telltale.does("inspect", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--part", "test")
    assert "A diagnostic, not a cause" in output
    _, heading, first, *_ = output.splitlines()
    names = ["opened", "closed", "severity", "peak", "channel", "share", "by hiding", "agree", "forget gate"]
    assert re.split(r"\s{2,}", heading) == names
    assert re.search(r"^2023-11-15T.*(minor|major|critical).*\b(flow|pressure)\b.* (yes|no) .*spreads", first)


def test_inspect_judges_as_score_does_to_the_bit(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    telltale.does("score", "--checkpoint", checkpoint, "--data", plant, "--part", "test", "--out", "scores.parquet")
    printed = telltale.does(
        "inspect", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--part", "test", "--json"
    )
    seen = msgspec.json.decode(printed, type=ExplanationSeen)
    scored = pl.read_parquet("scores.parquet").filter(pl.col("stream") == "mill")
    assert [one.score for one in seen.readings] == scored["score"].to_list()
    assert [one.alarm for one in seen.readings] == scored["alarm"].to_list()
    assert [one.expected[0] for one in seen.readings] == scored["expected_flow"].to_list()
    assert seen.alarms[0].channels[0].name == "flow"
    assert "units" not in printed


def test_inspect_shows_the_readings_around_a_time(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    around = time_of(plant, 250)
    printed = telltale.does(
        *("inspect", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--part", "test"),
        *("--around", around, "--readings", 20, "--json", "--units"),
    )
    seen = msgspec.json.decode(printed, type=ExplanationSeen)
    assert len(seen.readings) == 20
    assert [one.offset for one in seen.readings] == list(range(40, 60))  # in the test part, which begins at 200
    units = seen.layers[0].gates[0].units
    assert isinstance(units, list)
    assert np.array(units).shape == (20, 16)


def test_inspect_writes_a_page(telltale: Telltale, plant: Path, checkpoint: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "mill.html"
    output = telltale.does(
        *("inspect", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--part", "test", "--out", page)
    )
    assert "accounted for" in output
    text = page.read_text()
    assert "mill: the memory laid open" in text
    assert "A diagnostic, not a cause" in text
    for what in ("flow", "score; 1 is the threshold", "gates, layer 1", "weight by hiding it", "1, forget"):
        assert what in text


def test_forecast_prints_every_step_of_every_feature(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    output = telltale.does("forecast", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--steps", 3)
    first, heading, *rows = output.splitlines()
    assert first.startswith("mill  3 readings, one every 60 s. Paths are drawn with ")
    assert re.split(r"\s{2,}", heading) == ["time", "feature", "median", "50 % band", "80 % band", "95 % band"]
    assert [re.split(r"\s{2,}", row)[1] for row in rows] == ["flow", "pressure"] * 3


def test_a_forecast_begins_after_the_time_that_is_given(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    after = time_of(plant, 280)
    printed = telltale.does(
        *("forecast", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--part", "test"),
        *("--steps", 5, "--after", after, "--json"),
    )
    seen = msgspec.json.decode(printed, type=ForecastSeen)
    began = np.datetime64(after, "ms")
    times = [np.datetime64(step.time.removesuffix("Z"), "ms") for step in seen.steps]
    assert [(time - began) / np.timedelta64(1, "m") for time in times] == [1, 2, 3, 4, 5]
    assert seen.interval_s == 60


@pytest.mark.slow
def test_a_forecast_is_the_same_again_and_another_with_another_seed(
    telltale: Telltale, plant: Path, checkpoint: Path
) -> None:
    common = ("forecast", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--steps", 3, "--json")
    one, again, other = telltale.does(*common), telltale.does(*common), telltale.does(*common, "--seed", 1)
    assert one == again
    assert one != other


@pytest.mark.slow
def test_forecast_writes_a_page_with_what_came(
    telltale: Telltale, plant: Path, checkpoint: Path, tmp_path: Path
) -> None:
    common = ("forecast", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill", "--steps", 8)
    telltale.does(*common, "--after", time_of(plant, 250), "--out", tmp_path / "known.html")
    telltale.does(*common, "--out", tmp_path / "unknown.html")
    known, unknown = ((tmp_path / f"{name}.html").read_text() for name in ("known", "unknown"))
    assert "mill: the next 8 readings" in known
    assert '"what came"' in known
    assert '"what came"' not in unknown


@pytest.mark.parametrize("command", ["inspect", "forecast"])
def test_a_stream_that_is_not_in_the_files_is_refused(
    telltale: Telltale, plant: Path, checkpoint: Path, command: str
) -> None:
    said = telltale.refuses(command, "--checkpoint", checkpoint, "--data", plant, "--stream", "pump", code=1)
    assert "no stream 'pump' in the files, which have boiler, mill" in said


@pytest.mark.parametrize(("command", "option"), [("inspect", "--around"), ("forecast", "--after")])
def test_a_time_that_is_none_is_refused(
    telltale: Telltale, plant: Path, checkpoint: Path, command: str, option: str
) -> None:
    common = (command, "--checkpoint", checkpoint, "--data", plant, "--stream", "mill")
    assert f"{option} is 'noon', expected RFC 3339" in telltale.refuses(*common, option, "noon", code=2)


def test_a_forecast_from_before_the_first_reading_is_refused(telltale: Telltale, plant: Path, checkpoint: Path) -> None:
    common = ("forecast", "--checkpoint", checkpoint, "--data", plant, "--stream", "mill")
    assert "no reading at or before the time of --after" in telltale.refuses(*common, "--after", 5, code=1)
