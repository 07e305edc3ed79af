"""The topic of scores on a real broker: every judged reading once, through kills, as `telltale score` judges it."""

import json
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.command_line import Telltale
from tests.integration.test_end_to_end import PARTITIONS, new_names, quick, service, wait_until
from tests.integration.test_incidents import SLOWLY
from tests.kafka import Broker

__all__ = ["quick"]  # a fixture

STREAMS, READINGS = 4, 500  # of each stream
FEATURES = ("f0", "f1")
CHOSEN = ("line-1/*", "line-2/pump-0")
COLUMNS = ("score", "alarm", *(f"{column}_{name}" for name in FEATURES for column in ("expected", "lower", "upper")))


def written_plant(path: Path, first: int, last: int) -> Path:
    """Readings first to last of every stream, a minute apart, with spikes."""
    random = np.random.default_rng(5)
    values = random.normal(size=(STREAMS, READINGS, 2))
    values[:, 150::60] += 40.0
    rows = [(f"line-{s}/pump-0", n, *values[s, n].tolist()) for n in range(first, last) for s in range(STREAMS)]
    frame = pl.DataFrame(rows, ["stream", "timestamp", *FEATURES], orient="row")
    frame.with_columns(pl.col("timestamp") * 60_000 + 1_700_000_000_000).write_csv(path)
    return path


@pytest.mark.thorough
@pytest.mark.slow
def test_scores_of_chosen_streams_are_written_once_through_kills_and_equal_those_of_telltale_score(
    kafka: Broker, quick: Path, telltale: Telltale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = new_names()
    topic = f"{names.group}.scores"
    chosen = {"TELLTALE_SCORES__TOPIC": topic, "TELLTALE_SCORES__STREAMS": ",".join(CHOSEN)}
    for name, value in {**names.environment, **chosen}.items():
        monkeypatch.setenv(name, value)
    servers = ["--bootstrap-servers", kafka.bootstrap_servers]
    telltale.does("topics", "create", *servers, "--partitions", PARTITIONS)
    assert f"{topic}: {PARTITIONS} partitions" in telltale.does("topics", "check", *servers)
    environment = {**SLOWLY, **chosen, "TELLTALE_KAFKA__INSTANCE": "one"}
    parts = [(0, 250), (250, READINGS)]
    for n, (first, last) in enumerate(parts):
        telltale.does("produce", "--data", written_plant(tmp_path / f"part-{n}.csv", first, last), *servers)
        with service(kafka, quick, names, **environment) as running:
            if n < len(parts) - 1:
                running.until_judged(100)
                running.process.signal(signal.SIGKILL)
                running.process.ended()
                continue
            wait_until(lambda: [one["lag"] for one in running.status()["partitions"]] == [0, 0], "all judged")
            running.process.signal(signal.SIGTERM)
            assert running.process.ended() == 0

    plant = written_plant(tmp_path / "plant.csv", 0, READINGS)
    telltale.does("score", "--checkpoint", quick, "--data", plant, "--out", tmp_path / "scores.parquet")
    table = pl.read_parquet(tmp_path / "scores.parquet")
    expected = {
        (row["stream"], row["timestamp"]): [row[column] for column in COLUMNS]
        for row in table.filter(pl.col("stream").str.contains("line-[12]/")).iter_rows(named=True)
    }
    written = kafka.read_committed(topic)
    rows = [json.loads(one.record.value or b"") for one in written]
    found = {(row["stream"], row["timestamp"]): [row[column] for column in COLUMNS] for row in rows}
    assert found == expected
    assert len(rows) == len(found) == 2 * READINGS
    assert any(row["alarm"] for row in rows)
    for one, row in zip(written, rows, strict=True):
        assert ((one.record.key or b"").decode(), one.partition) == (row["stream"], row["partition"])
    sources = {(one.partition, one.offset): one.record.key for one in kafka.read_committed(names.topic)}
    assert all(sources[row["partition"], row["offset"]] == row["stream"].encode() for row in rows)
