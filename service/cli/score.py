"""`telltale score`: judge files with a trained model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.data.file_options import AS_USUAL, FileOptions
from models.output.wording import counted, listed_counts
from service.cli.file_options import reads_files
from service.cli.option_checks import file_of
from service.cli.options import (
    CHECKPOINT,
    CheckpointFile,
    Config,
    Data,
    FeatureNames,
    Force,
    MoreData,
    Part,
    counting,
    data_paths,
    load_checkpoint,
    load_settings,
    one_thread,
    out,
    read_data,
)
from service.cli.output_files import check_outputs, check_room
from service.errors import RefusedInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.data.series import Series

app = typer.Typer()

TABLES = (".parquet", ".csv")  # what scores are written as


@app.command(epilog="Example: telltale score --checkpoint plant.safetensors --data plant/ --out scores.parquet")
@reads_files
def score(
    out_file: Annotated[
        Path,
        typer.Option(
            "--out", callback=file_of(*TABLES), help="File to write, a row a reading: Parquet or CSV, by its name."
        ),
    ],
    checkpoint: CheckpointFile = None,
    features: FeatureNames = None,
    data: Data = None,
    more: MoreData = None,
    part: Part = "all",
    anomalies: Annotated[Path | None, typer.Option(help="File for the anomalies too, as JSON lines.")] = None,
    partitions: Annotated[
        int,
        typer.Option(min=1, help="As many as the topic has: a silence is told by the other streams of its partition."),
    ] = 1,
    force: Force = False,
    config: Config = None,
    files: FileOptions = AS_USUAL,
) -> None:
    """Judge files with the very code of the service; rows come out in the order of the files.

    Columns: stream, timestamp (ms), score (1.0 is the alarm threshold), alarm, and expected_, lower_ and upper_ for
    every feature. Late and duplicate readings are not judged: score 0 and no band. Files that cannot be read are named
    at the end, and the command ends with status 1; the others are judged. Without a trained model the net
    judges that comes with Telltale, every stream from its first reading on.
    """
    settings = load_settings(config, {"checkpoint": checkpoint, "features": features})
    paths = data_paths(data, more)
    check_outputs(out_file, anomalies, force=force)
    judged: Sequence[str] = settings.features
    unread: list[str] = []
    streams: list[Series] | None = None
    if not (settings.checkpoint or judged or CHECKPOINT.exists()):
        streams = read_data(paths, None, files, unread)
        judged = streams[0].features
    loaded = load_checkpoint(settings.checkpoint, judged)

    import io

    from models.output.output_file import write_each, write_or_keep
    from service.cli.feeding import select
    from service.cli.scoring import row_bytes
    from service.cli.scoring import score as score_files
    from service.input.file_log import FileLog
    from service.kafka.topics import partition_of
    from service.pipeline import Pipeline
    from service.process.quiet import pauses_for_files
    from service.process.sensors import sensor_rules_of_one

    one_thread()
    series = select(streams or read_data(paths, loaded.detector.features, files, unread), part)
    sensors = sensor_rules_of_one(settings, loaded.detector.features)
    future_ms, pauses = int(settings.limits.max_future_s * 1000), pauses_for_files(settings)
    pipeline = Pipeline(loaded.detector, loaded.digest, future_ms, sensors=sensors, pauses=pauses)
    events, table = io.StringIO(), io.BytesIO()
    log = FileLog(series, events if anomalies else None, partition_of=partial(partition_of, partitions=partitions))
    check_room({out_file: row_bytes(len(pipeline.detector.features)) * len(log)})
    with counting("judging", len(log)) as progress:
        scored = score_files(log, series, pipeline, progress)
    if out_file.suffix.lower() == ".csv":
        scored.table.write_csv(table)
    else:
        scored.table.write_parquet(table)
    writes: list[Callable[[], object]] = [lambda: write_or_keep(out_file, table.getvalue())]
    if anomalies:
        writes.append(lambda: write_or_keep(anomalies, events.getvalue()))
    write_each(*writes)
    counts = {"late": scored.late, "duplicate": scored.duplicate, "rejected": scored.rejected}
    dropped = "".join(f", {count} {what}" for what, count in counts.items() if count)
    out.print(
        f"{out_file}  {counted(len(scored.table), 'reading')}{dropped}, "
        f"{counted(scored.anomalies, 'anomaly', 'anomalies')}"
    )
    if found := listed_counts(scored.excluded):
        out.print(f"values that count as missing: {found}")
    if unread:
        raise RefusedInput(
            "\n".join([f"{counted(len(unread), 'file')} cannot be read, the others are judged:", *unread])
        )
