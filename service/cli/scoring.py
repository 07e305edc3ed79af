"""`telltale score`: files through the service's own pipeline, a verdict for every reading."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from models.data.series import Series
from models.detection.sensor_rules import Excluded
from service.input.file_log import FileLog
from service.pipeline import Pipeline, Processed
from service.state.slab import StateSlab
from service.state.task import PartitionTask


class Scored(NamedTuple):
    """One row a reading, in the order of the files: stream, timestamp, score, alarm, expected_, lower_, upper_."""

    table: pl.DataFrame
    anomalies: int  # opened
    late: int
    duplicate: int
    rejected: int  # could not be read, for a value out of range
    excluded: Mapping[str, int]  # values that count as missing, by reason


def row_bytes(features: int) -> int:
    """About what a row of the table takes in Parquet: score, and a band a feature, which hardly shrink."""
    return 4 * (1 + 3 * features)


def score(
    log: FileLog, series: Sequence[Series], pipeline: Pipeline, progress: Callable[[int], None] = lambda _: None
) -> Scored:
    """Judge everything in `log`, which reads `series`. progress: is called with the number of readings done."""
    tasks = {one: PartitionTask(one, StateSlab(pipeline.detector.rows_for)) for one in log.partitions}
    columns = [_ScoreColumns(len(one.times_ms), len(pipeline.detector.features)) for one in series]
    anomalies = 0
    readings = 0
    while fetched := log.poll(0).fetched:
        for judged in pipeline.process_all([(one, tasks[one.partition]) for one in fetched]):
            log.commit([judged.commit])
            _keep(judged, log, columns)
            anomalies += sum(event.change == "opened" for event in judged.events)
            readings += judged.counts["records"]
            progress(readings)
    counts = sum((task.counts for task in tasks.values()), Counter[str]())
    late, duplicate, rejected = (counts[name] for name in ("late", "duplicate", "rejected"))
    excluded = {str(reason): counts[reason] for reason in Excluded}
    return Scored(_table(series, columns, pipeline.detector.features), anomalies, late, duplicate, rejected, excluded)


class _ScoreColumns:
    """A stream's verdicts, in the order of its readings."""

    def __init__(self, readings: int, features: int) -> None:
        self.score = np.zeros(readings)
        self.alarm = np.zeros(readings, dtype=bool)
        self.band = np.full((3, readings, features), np.nan)  # expected, lower, upper


def _keep(judged: Processed, log: FileLog, columns: Sequence[_ScoreColumns]) -> None:
    verdicts = judged.verdicts
    if verdicts is None:
        return
    offsets = judged.batch.readings.offsets.numpy()
    streams, places = (column[offsets] for column in log.places_in(judged.batch.partition))
    score, alarm = verdicts.score.numpy(), verdicts.alarm.numpy()
    band = np.stack([verdicts.expected.numpy(), verdicts.lower.numpy(), verdicts.upper.numpy()])
    for stream in np.unique(streams):
        mine = streams == stream
        into, place = columns[stream], places[mine]
        into.score[place], into.alarm[place], into.band[:, place] = score[mine], alarm[mine], band[:, mine]


def _table(series: Sequence[Series], columns: Sequence[_ScoreColumns], features: Sequence[str]) -> pl.DataFrame:
    """Files in the order given, rows in the order of each file."""
    parts: dict[object, list[int]] = {}
    for n, one in enumerate(series):
        parts.setdefault(one.path, []).append(n)
    return pl.concat(
        [_file_table([series[n] for n in of], [columns[n] for n in of], features) for of in parts.values()]
    )


def _file_table(series: Sequence[Series], columns: Sequence[_ScoreColumns], features: Sequence[str]) -> pl.DataFrame:
    order = np.argsort(np.concatenate([one.rows for one in series]), kind="stable")
    band = np.concatenate([one.band for one in columns], axis=1)[:, order]
    bands = {
        f"{part}_{name}": band[n, :, f]
        for f, name in enumerate(features)
        for n, part in enumerate(("expected", "lower", "upper"))
    }
    keys = np.repeat([one.key for one in series], [len(one.times_ms) for one in series])
    table = pl.DataFrame(
        {
            "stream": keys[order],
            "timestamp": np.concatenate([one.times_ms for one in series])[order],
            "score": np.concatenate([one.score for one in columns])[order],
            "alarm": np.concatenate([one.alarm for one in columns])[order],
            **bands,
        }
    )
    return table.with_columns(pl.col(list(bands)).fill_nan(None))
