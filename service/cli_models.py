"""Commands that make models and judge files with them: train, score, checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from service.errors import RefusedSetting
from service.options import (
    CheckpointFile,
    Config,
    Data,
    MoreData,
    check_part,
    counting,
    data_paths,
    device_of,
    load_checkpoint,
    load_settings,
    make_room,
    one_thread,
    out,
    read_data,
    simulated,
)

app = typer.Typer()
checkpoint_app = typer.Typer(no_args_is_help=True, help="Look at a trained model's file.")
app.add_typer(checkpoint_app, name="checkpoint")


@app.command(epilog="Example: telltale train --data plant/*.parquet --out plant.safetensors")
def train(
    out_file: Annotated[Path, typer.Option("--out", help="Checkpoint file to write.")],
    data: Data = None,
    more: MoreData = None,
    simulate: Annotated[int, typer.Option(help="Train on this many simulated streams instead of files.")] = 0,
    hidden: Annotated[int, typer.Option(min=16, help="Hidden units a layer, a multiple of 16.")] = 64,
    layers: Annotated[int, typer.Option(min=1, max=4, help="Layers of the LSTM.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many passes over the data.")] = 40,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many epochs without a better one.")] = 6,
    chunk: Annotated[int, typer.Option(min=2, help="Readings that gradients reach back.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Of Adam, at the start.")] = 3e-3,
    max_seconds: Annotated[float | None, typer.Option(help="Stop training when this runs out.")] = None,
    seed: Annotated[int, typer.Option(help="Two runs with one seed on one machine give the same weights.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Learn what is normal from sensor series, and write a checkpoint.

    Rows with `part` = test are never trained on, labels are never read. Ctrl-C saves the best so far.
    """
    import math

    from models.forecaster import ForecasterConfig
    from models.training import TrainingConfig, usable
    from service.trainer import train as train_and_save

    series = simulated(simulate, seed) if simulate else read_data(data_paths(data, more))
    make_room(out_file)
    parts = usable(series)
    if hidden % 16:
        raise RefusedSetting(f"--hidden is {hidden}, expected a multiple of 16")
    architecture = ForecasterConfig(parts[0].features, hidden=hidden, layers=layers)
    training = TrainingConfig(
        epochs=epochs,
        patience=patience,
        chunk_readings=chunk,
        learning_rate=learning_rate,
        budget_s=math.inf if max_seconds is None else max_seconds,
        seed=seed,
    )
    readings = sum(len(one.times_ms) for one in parts)
    left_out = f", {len(series) - len(parts)} too short" if len(parts) < len(series) else ""
    out.print(f"{len(parts)} streams{left_out}, {readings:,} readings to train on, {len(parts[0].features)} features")
    train_and_save(parts, parts, architecture, training, device_of(device), out_file, out)


@app.command(epilog="Example: telltale score --checkpoint plant.safetensors --data plant/ --out scores.parquet")
def score(
    out_file: Annotated[Path, typer.Option("--out", help="Parquet file to write, a row a reading.")],
    checkpoint: CheckpointFile = None,
    data: Data = None,
    more: MoreData = None,
    part: Annotated[str, typer.Option(help="all, train or test: which rows of the files.")] = "all",
    anomalies: Annotated[Path | None, typer.Option(help="File for the anomalies too, as JSON lines.")] = None,
    config: Config = None,
) -> None:
    """Judge files with the very code of the service; rows come out in the order of the files.

    Columns: stream, timestamp (ms), score (1.0 is the alarm threshold), alarm, and expected_, lower_ and upper_ for
    every feature. Late and duplicate readings are not judged: score 0 and no band.
    """
    from contextlib import ExitStack

    from service.feeding import select
    from service.file_log import FileLog
    from service.pipeline import Pipeline
    from service.scoring import score as score_files

    settings = load_settings(config, {"checkpoint": checkpoint})
    check_part(part)
    make_room(out_file, anomalies)
    loaded = load_checkpoint(settings.checkpoint)
    one_thread()
    series = select(read_data(data_paths(data, more), loaded.detector.features), part)
    pipeline = Pipeline(loaded.detector, loaded.digest, int(settings.limits.max_future_s * 1000))
    with ExitStack() as stack:
        told = stack.enter_context(anomalies.open("w")) if anomalies else None
        log = FileLog(series, told)
        tell = stack.enter_context(counting("judging", len(log)))
        scored = score_files(log, series, pipeline, tell)
    scored.table.write_parquet(out_file)
    counts = {"late": scored.late, "duplicate": scored.duplicate, "rejected": scored.rejected}
    dropped = "".join(f", {count} {what}" for what, count in counts.items() if count)
    out.print(f"{out_file}  {len(scored.table):,} readings{dropped}, {scored.anomalies:,} anomalies")


@checkpoint_app.command("show", epilog="Example: telltale checkpoint show plant.safetensors")
def checkpoint_show(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Print what a checkpoint says of itself, as JSON."""
    import json

    loaded = load_checkpoint(path)
    described = loaded.description.model_dump()
    del described["row"]
    streams = [key.decode(errors="replace") for key in loaded.detector.known]
    out.print_json(json.dumps({"path": str(path), "sha256": loaded.digest, **described, "streams": streams}))


@checkpoint_app.command("verify", epilog="Example: telltale checkpoint verify plant.safetensors")
def checkpoint_verify(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Load a checkpoint as the service would: whole, of a known version, every tensor as described."""
    loaded = load_checkpoint(path)
    architecture = loaded.description.architecture
    out.print(
        f"{path}: good. {architecture.cell}, {architecture.hidden} hidden units, {architecture.layers} layers, "
        f"{len(architecture.features)} features, {len(loaded.detector.known)} streams known, "
        f"sha256 {loaded.digest[:12]}"
    )
