"""`telltale train`: make a model of files, of what a topic holds, or of simulated streams."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console

from models.data.file_options import AS_USUAL, FileOptions
from models.net.names import CELL_NAMES, PRECISIONS
from models.output.wording import counted, listed_counts
from service.cli.file_options import reads_files
from service.cli.option_checks import listed, one_of, seconds, split
from service.cli.option_checks import time_zone as known_time_zone
from service.cli.options import (
    MOST_SEED,
    Chunk,
    Config,
    Data,
    Device,
    Epochs,
    Force,
    Hidden,
    LearningRate,
    MoreData,
    Patience,
    Servers,
    counting,
    data_paths,
    device_of,
    note_file,
    one_thread,
    out,
    quiet_settings,
    simulated,
)
from service.cli.output_files import check_outputs
from service.errors import RefusedSetting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from models.data.label_windows import LabelWindows
    from models.data.series import Series
    from models.detection.sensor_rules import SensorRules
    from service.settings.settings import Settings

app = typer.Typer()


class _Learned(NamedTuple):
    """Streams to learn from, without test rows, and where they are from, for people."""

    series: "list[Series]"
    source: str
    files: int
    sensors: "SensorRules | None" = None


class _TopicRange(NamedTuple):
    """What of a topic is learned from, as the options say it; no topic: learn from files or simulated streams."""

    topic: str | None
    since: str | None
    until: str | None
    features: str | None


@app.command(epilog="Example: telltale train --data plant/*.parquet --out plant.safetensors --report plant.html")
@reads_files
def train(
    out_file: Annotated[Path, typer.Option("--out", help="Checkpoint file to write.")],
    data: Data = None,
    more: MoreData = None,
    from_topic: Annotated[str | None, typer.Option(help="Train on what this topic holds instead of files.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Of the topic: from this record time on; 7d, 12h, 90m ago, or RFC 3339.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Of the topic: up to this record time; now if not given.")] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="The channels; those of the first file or readings if not given."),
    ] = None,
    bootstrap_servers: Servers = None,
    simulate: Annotated[int, typer.Option(min=0, help="Train on this many simulated streams instead of files.")] = 0,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Leave out the stretches that this file calls a fault, as telltale control labels writes it.",
        ),
    ] = None,
    generic: Annotated[
        bool,
        typer.Option(
            "--generic",
            help="Train a net on simulated series, for streams that nothing was learned from.",
        ),
    ] = False,
    cell: Annotated[
        str, typer.Option(callback=one_of(*CELL_NAMES), help=f"{listed(CELL_NAMES)}: what remembers.")
    ] = "lstm",
    hidden: Hidden = 64,
    layers: Annotated[int, typer.Option(min=1, max=4, help="Layers of the recurrent net.")] = 1,
    epochs: Epochs = 100,
    patience: Patience = 15,
    chunk: Chunk = 256,
    learning_rate: LearningRate = 3e-3,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Begin with random weights, even if the net that comes with Telltale fits."
        ),
    ] = False,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            metavar="NAME",
            callback=known_time_zone,
            help="Where the clock hangs that the plant works by, such as Europe/Berlin; if not given, where "
            "detection.rules say that of all streams it does, else UTC.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(callback=one_of(*PRECISIONS), help=f"{listed(PRECISIONS)}; auto: bfloat16 on a GPU that has it."),
    ] = "auto",
    max_seconds: Annotated[
        float | None, typer.Option(callback=seconds, help="Stop training when this runs out.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Keep the run in this file, and go on from there if there is one in it.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write, on how training went.")] = None,
    kinds: Annotated[bool, typer.Option("--kinds", help="Learn to name kinds of fault too.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Two runs with one seed on one machine give the same weights.")
    ] = 0,
    device: Device = "auto",
    force: Force = False,
    config: Config = None,
    files: FileOptions = AS_USUAL,
) -> None:
    """Learn what is normal from sensor series, and write a checkpoint.

    Rows with `part` = test are never trained on, a column `label` is never read. Ctrl-C saves the best so far. The data
    may be larger than memory: it is laid out on disk, where TMPDIR says. Under torchrun several processes train
    together.
    """
    import math

    if generic:
        _train_generic(
            out_file, bool(data or more or from_topic or simulate or labels), hidden, epochs, seed, force=force
        )
        return
    wanted = _TopicRange(from_topic, since, until, features)
    _check_sources(wanted, bool(data or more), simulate)
    paths = [] if from_topic or simulate else data_paths(data, more)
    resumed = resume is not None and resume.exists()  # then its results are those of the same run
    check_outputs(out_file, report, force=force or resumed)
    check_outputs(resume, force=True)

    from models.checkpoints.checkpoint import load_net
    from models.data.label_windows import read_label_windows
    from models.training.architecture import suited_to
    from models.training.distributed import joined
    from models.training.loop import usable
    from models.training.run import TrainingConfig
    from service.cli.trainer import train as train_and_save

    windows = None if labels is None else read_label_windows(labels)
    with joined(device_of(device)) as ranks:
        say = out if ranks.first else Console(quiet=True)
        settings = quiet_settings(config, None, [from_topic] if from_topic else None, None, bootstrap_servers)
        if from_topic:
            learned = _from_topic(from_topic, wanted, settings, say)
        elif simulate:
            learned = _Learned(simulated(simulate, seed), counted(simulate, "simulated stream"), 1)
        else:
            learned = _from_files(paths, _names(features), files, settings, say)
        series = learned.series if windows is None else _without_faults(learned.series, windows, say)
        parts = usable(series)
        start = None if from_scratch else load_net(parts[0].features).detector.forecaster
        zone = time_zone or _zone_in_rules(learned.sensors, parts)
        architecture = suited_to(parts, cell, hidden, layers, zone, start.config if start else None)
        training = TrainingConfig(
            epochs=epochs,
            patience=patience,
            chunk_readings=chunk,
            learning_rate=learning_rate,
            budget_s=math.inf if max_seconds is None else max_seconds,
            precision=precision,
            seed=seed,
        )
        say.print(_amounts(parts, len(learned.series) - len(parts)))
        train_and_save(
            parts,
            parts,
            architecture,
            training,
            ranks.device,
            out_file,
            say,
            source=learned.source,
            files=learned.files,
            run_file=resume,
            report=report,
            kinds=kinds,
            ranks=ranks,
            sensors=learned.sensors,
            start=start,
        )


def _without_faults(series: "list[Series]", windows: "LabelWindows", say: Console) -> "list[Series]":
    kept = windows.without_faults(series)
    left = [len(one.times_ms) - len(rest.times_ms) for one, rest in zip(series, kept, strict=True)]
    streams = counted(sum(map(bool, left)), "stream")
    say.print(f"called a fault and left out: {counted(sum(left), 'reading')} of {streams}")
    return kept


def _zone_in_rules(sensors: "SensorRules | None", parts: "list[Series]") -> str:
    """Where all streams have the same, that one; the net has one clock."""
    zones = {"UTC" if sensors is None else sensors.of(one.key.encode()).time_zone for one in parts}
    return zones.pop() if len(zones) == 1 else "UTC"


def _train_generic(out_file: Path, has_data: bool, hidden: int, epochs: int, seed: int, *, force: bool) -> None:
    if has_data:
        raise RefusedSetting(
            "--generic makes its own data: expected no --data, --from-topic, --simulate or --labels beside it"
        )
    check_outputs(out_file, force=force)
    from models.training.generic import GenericConfig
    from service.cli.trainer import train_generic

    one_thread()  # the same weights on any number of processors
    train_generic(GenericConfig(epochs=epochs, seed=seed), hidden, out_file, out)


def _check_sources(wanted: _TopicRange, files: bool, simulate: int) -> None:
    if wanted.topic and (files or simulate):
        raise RefusedSetting("--from-topic: expected no --data and no --simulate beside it")
    if not wanted.topic and (wanted.since or wanted.until):
        raise RefusedSetting("--since and --until are of a topic, but --from-topic is missing")
    if simulate and files:
        raise RefusedSetting("--simulate: expected no --data beside it")
    for option, text in (("--since", wanted.since), ("--until", wanted.until)):
        if text is not None:
            _moment(option, text, 0)


def _amounts(parts: "Sequence[Series]", short: int) -> str:
    readings = sum(len(one.times_ms) for one in parts)
    return (
        f"{counted(len(parts), 'stream')}{f', {short} too short' if short else ''}, "
        f"{counted(readings, 'reading')} to train on, {counted(len(parts[0].features), 'feature')}"
    )


def _names(features: str | None) -> tuple[str, ...] | None:
    return tuple(split(features)) if features else None


def _from_files(
    paths: list[Path], features: tuple[str, ...] | None, options: FileOptions, settings: "Settings", say: Console
) -> _Learned:
    from models.data import spool
    from models.data.series import in_order
    from service.process.sensors import sensor_rules_of_one

    note = (lambda _: None) if say.quiet else note_file
    tables = spool.look(paths, options, features, note)
    with _reading(sum(table.file.rows for table in tables), say) as progress:
        series = spool.read(tables, progress)
    series = in_order(series, options.order, note)
    sensors = sensor_rules_of_one(settings, series[0].features)
    if sensors is not None and (found := listed_counts(sensors.clean_series(series))):
        say.print(f"values that count as missing: {found}")
    return _Learned(series, ", ".join(map(str, paths)), len(tables), sensors)


def _from_topic(topic: str, wanted: _TopicRange, settings: "Settings", say: Console) -> _Learned:
    import time
    from contextlib import closing

    from service.cli import history
    from service.input.wire import Decoder
    from service.kafka.groupless import KafkaGrouplessLog
    from service.process.records import record_rules
    from service.process.sensors import sensor_rules_of_one
    from service.settings.settings import client_options

    now_ms = round(time.time() * 1000)
    begin, end = _moment("--since", wanted.since, now_ms), _moment("--until", wanted.until, now_ms)
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        stretches = history.stretches(log, topic, begin, end)
        records = sum(stretch.end - stretch.begin for stretch in stretches)
        rules = record_rules(settings)
        names = tuple(wanted.features.split(",")) if wanted.features else ()
        names = names or history.features_in(log, stretches, rules.mappings.get(topic))
        limits = settings.limits
        future_ms, past_ms = int(limits.max_future_s * 1000), int(limits.max_past_s * 1000)
        sensors = sensor_rules_of_one(settings, names)
        decoder = Decoder(names, future_ms, past_ms, rules, sensors)
        with _reading(records, say) as progress:
            found = history.read(log, stretches, decoder, progress)
    dropped = {**found.rejected, "late": found.late, "duplicate": found.duplicate}
    dropped["not selected"] = found.skipped
    dropped["of streams in another partition"] = found.elsewhere
    left_out = listed_counts(dropped) or "nothing"
    excluded = (
        f"; values that count as missing: {found_values}" if (found_values := listed_counts(found.excluded)) else ""
    )
    where = f"{topic}: {counted(records, 'record')} of {counted(len(stretches), 'partition')}"
    say.print(f"{where}; left out: {left_out}{excluded}")
    return _Learned(found.series, f"topic {topic}", 0, sensors)


def _reading(total: int, say: Console) -> "AbstractContextManager[Callable[[int], None]]":
    """A bar, of the process that reports."""
    from contextlib import nullcontext

    return nullcontext(lambda _: None) if say.quiet else counting("reading", total)


def _moment(option: str, text: str | None, now_ms: int) -> int | None:
    from service.cli.moments import moment_ms

    try:
        return None if text is None else moment_ms(text, now_ms)
    except ValueError as error:
        raise RefusedSetting(
            f"{option} is {text!r}, expected so long ago as 7d, 12h or 90m, or RFC 3339 with an offset"
        ) from error
