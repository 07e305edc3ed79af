"""`telltale score`: a verdict for every reading, in the order of the files."""

import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.data.series import Series, read_series
from models.detection.detector import Detector
from models.net.forecaster import Forecaster, ForecasterConfig
from service.cli.scoring import Scored, score
from service.input.file_log import FileLog
from service.pipeline import Pipeline
from tests.data import QUICK, Batch, batch_of, faulty, judge

FEATURES = ("flow", "pressure")
BANDS = [f"{part}_{name}" for name in FEATURES for part in ("expected", "lower", "upper")]
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def detector() -> Detector:
    forecaster = Forecaster(ForecasterConfig(FEATURES, hidden=16))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return Detector.cold(forecaster, QUICK)


def waves(readings: int, phase: float) -> pl.DataFrame:
    """A stream of two features with one jump in it."""
    place = np.arange(readings)
    flow = np.sin(place / 5 + phase) + np.random.default_rng(int(phase * 10)).normal(0, 0.1, readings)
    flow[readings // 2 : readings // 2 + 10] += 8
    times = START_MS + place * 60_000
    return pl.DataFrame({"timestamp": times, "flow": flow, "pressure": np.cos(place / 7 + phase) + flow / 4})


def scored(detector: Detector, series: Sequence[Series], max_poll_records: int = 20_000) -> Scored:
    log = FileLog(series, max_poll_records=max_poll_records)
    return score(log, series, Pipeline(detector, "d" * 64, 86_400_000))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, pl.DataFrame], Path]:
    def to(name: str, frame: pl.DataFrame) -> Path:
        path = tmp_path / name
        if path.suffix == ".csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path)
        return path

    return to


Write = Callable[[str, pl.DataFrame], Path]


def alone(detector: Detector, frame: pl.DataFrame) -> tuple[list[float], list[bool], pl.DataFrame]:
    """Score, alarm and band of one stream by the detector itself."""
    one = batch_of(frame.select(FEATURES).to_numpy(), 60_000, START_MS)
    judged = judge(detector, one, detector.rows_for([b"any"]))
    band = torch.stack([judged.expected, judged.lower, judged.upper], dim=1)  # (N, 3, F)
    columns = {
        f"{part}_{name}": band[:, n, f].numpy()
        for f, name in enumerate(FEATURES)
        for n, part in enumerate(("expected", "lower", "upper"))
    }
    return judged.score.tolist(), judged.alarm.tolist(), pl.DataFrame(columns).fill_nan(None)


def test_the_columns_are_those_that_are_promised_in_their_order(detector: Detector, write: Write) -> None:
    table = scored(detector, read_series([write("pump.csv", waves(100, 0.0))])).table
    assert table.columns == ["stream", "timestamp", "score", "alarm", *BANDS]
    assert table.columns[4:] == [
        "expected_flow",
        "lower_flow",
        "upper_flow",
        "expected_pressure",
        "lower_pressure",
        "upper_pressure",
    ]
    assert table.dtypes == [pl.String, pl.Int64, pl.Float64, pl.Boolean, *[pl.Float64] * 6]
    assert table.select(pl.exclude(BANDS).null_count()).sum_horizontal().item() == 0


def test_a_file_without_a_stream_column_is_one_stream_named_after_it(detector: Detector, write: Write) -> None:
    frame = waves(300, 0.5)
    table = scored(detector, read_series([write("pump n°1.parquet", frame)])).table
    assert table["stream"].unique().to_list() == ["pump n°1"]
    assert table["timestamp"].to_list() == frame["timestamp"].to_list()
    expected_score, expected_alarm, expected_band = alone(detector, frame)
    assert table["score"].to_list() == expected_score
    assert table["alarm"].to_list() == expected_alarm
    assert table.select(BANDS).equals(expected_band)
    assert max(expected_score) > 1.0
    assert any(expected_alarm)


def test_rows_come_in_the_order_of_the_files_and_of_their_interleaved_streams(detector: Detector, write: Write) -> None:
    """Three streams in one file in random order, one stream in each of two other files."""
    parts = {name: waves(count, phase) for name, count, phase in (("c", 200, 1.0), ("a", 150, 2.0), ("b", 90, 3.0))}
    random = np.random.default_rng(1)
    whose = random.permutation(np.repeat(list(parts), [len(part) for part in parts.values()]))
    turn = {name: iter(part.iter_rows()) for name, part in parts.items()}
    mixed = pl.DataFrame(
        [(name, *next(turn[str(name)])) for name in whose.tolist()],
        schema=["stream", "timestamp", *FEATURES],
        orient="row",
    )
    single = {"z": waves(170, 4.0), "y": waves(80, 5.0)}
    paths = [write("z.csv", single["z"]), write("mixed.parquet", mixed), write("y.csv", single["y"])]
    table = scored(detector, read_series(paths)).table

    assert table["stream"].to_list() == ["z"] * 170 + whose.tolist() + ["y"] * 80
    assert table["timestamp"].to_list() == [
        *single["z"]["timestamp"].to_list(),
        *mixed["timestamp"].to_list(),
        *single["y"]["timestamp"].to_list(),
    ]
    for name, frame in {**parts, **single}.items():
        mine = table.filter(pl.col("stream") == name)
        expected_score, expected_alarm, expected_band = alone(detector, frame)
        assert mine["score"].to_list() == expected_score, name
        assert mine["alarm"].to_list() == expected_alarm, name
        assert mine.select(BANDS).equals(expected_band), name


@pytest.mark.slow
@pytest.mark.parametrize("max_poll_records", [1, 7, 64])
def test_the_size_of_the_polls_changes_nothing(detector: Detector, write: Write, max_poll_records: int) -> None:
    series = read_series([write("a.csv", waves(150, 1.0)), write("b.csv", waves(90, 2.0))])
    assert scored(detector, series, max_poll_records).table.equals(scored(detector, series).table)


def history_series(history: Batch, stream: int) -> tuple[Batch, Series]:
    mine = history.part(history.streams == stream)
    count = len(mine.streams)
    series = Series(
        f"stream-{stream}",
        Path("plant.csv"),
        FEATURES,
        np.arange(count),
        mine.readings.times_ms.numpy(),
        mine.readings.values.numpy(),
        np.zeros(count, bool),
    )
    alone_in_order = mine.readings._replace(offsets=torch.arange(count))
    return Batch(torch.zeros(count, dtype=torch.int64), alone_in_order), series


def test_late_and_duplicate_rows_score_0_and_have_no_band(detector: Detector) -> None:
    one, series = history_series(faulty(2, seed=5, streams=2, readings=900), 0)
    expected = judge(detector, one, detector.rows_for([b"any"]))
    found = scored(detector, [series])
    assert (found.late, found.duplicate) == (int(expected.late.sum()), int(expected.duplicate.sum()))
    assert found.late > 0
    assert found.duplicate > 0
    dropped = found.table.filter(pl.Series((expected.late | expected.duplicate).numpy()))
    assert set(dropped["score"]) == {0.0}
    assert dropped.select(BANDS).null_count().row(0) == (len(dropped),) * len(BANDS)
    assert found.table["score"].to_list() == expected.score.tolist()


def test_a_repeated_row_is_a_duplicate_and_an_older_one_is_late(detector: Detector, write: Write) -> None:
    frame = waves(80, 1.0)
    repeated = pl.concat([frame[:60], frame[59:60], frame[30:31], frame[60:]])
    found = scored(detector, read_series([write("pump.csv", repeated)]))
    assert (found.late, found.duplicate) == (1, 1)
    clean = scored(detector, read_series([write("pump.csv", frame)])).table
    assert found.table[60:62]["score"].to_list() == [0.0, 0.0]
    assert pl.concat([found.table[:60], found.table[62:]]).equals(clean)


def test_missing_values_are_judged_without_them(detector: Detector, write: Write) -> None:
    frame = waves(120, 1.0).with_columns(pl.when(pl.int_range(pl.len()) % 9 != 4).then("pressure").alias("pressure"))
    table = scored(detector, read_series([write("pump.csv", frame)])).table
    assert len(table) == 120
    assert table["score"].is_finite().all()
    assert table["expected_pressure"][60:].null_count() == 0


def test_before_a_scale_is_known_there_is_no_band(detector: Detector, write: Write) -> None:
    table = scored(detector, read_series([write("pump.csv", waves(50, 1.0))])).table
    assert table[:2].select(BANDS).null_count().row(0) == (2,) * len(BANDS)
    assert table[2:].select(BANDS).null_count().row(0) == (0,) * len(BANDS)
    assert (table["lower_flow"][2:] <= table["upper_flow"][2:]).all()


def test_the_anomalies_counted_are_those_written(detector: Detector, write: Write) -> None:
    series = read_series([write("a.csv", waves(200, 1.0)), write("b.csv", waves(200, 2.0))])
    out = io.StringIO()
    judged: list[int] = []
    log = FileLog(series, out, max_poll_records=150)
    found = score(log, series, Pipeline(detector, "d" * 64, 86_400_000), judged.append)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    opened = [event for event in events if event["type"] == "telltale.anomaly.opened"]
    assert found.anomalies == len(opened) > 0
    assert judged == [150, 300, 400]
    for event in opened:
        time_ms = round(datetime.fromisoformat(event["time"]).timestamp() * 1_000)
        row = found.table.filter(stream=event["subject"], timestamp=time_ms)
        assert row["score"].to_list() == [event["data"]["score"]]
        assert row["alarm"].to_list() == [True]
        channel = event["data"]["channels"][0]
        assert row["expected_flow"].to_list() == [channel["expected"]]
        assert row["lower_flow"].to_list() == [channel["lower"]]
        assert row["upper_flow"].to_list() == [channel["upper"]]


def test_a_row_that_cannot_be_read_scores_0_and_has_no_band(detector: Detector, write: Write) -> None:
    """A value that float32 does not hold is a dead letter in the service."""
    frame = waves(60, 1.0).with_columns(
        pl.when(pl.int_range(pl.len()) == 40).then(1e39).otherwise("flow").alias("flow")
    )
    found = scored(detector, read_series([write("pump.csv", frame)]))
    assert len(found.table) == 60
    assert found.table["score"][40] == 0.0
    assert found.table[40].select(BANDS).null_count().row(0) == (1,) * len(BANDS)
