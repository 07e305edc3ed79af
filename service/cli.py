"""The commands. Reads Settings, builds everything, and hands it over: the only place that does.

Exit codes: 0 done, 1 failed, 2 wrong usage or setting. What a command needs is imported when it runs: torch alone
takes two seconds, which `--help` and a typing error should not cost.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from service.errors import RefusedInput, RefusedSetting, TelltaleError

if TYPE_CHECKING:
    import torch

    from models.checkpoint import Checkpoint
    from models.series import Series
    from service.changelog import Layout
    from service.inspection import Search
    from service.kafka_log import UnjoinedLog
    from service.pipeline import Pipeline
    from service.settings import Settings
    from service.wire import StreamKey

app = typer.Typer(
    name="telltale",
    help="Streaming anomaly detection that remembers: an LSTM's state for every Kafka stream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
checkpoint_app = typer.Typer(no_args_is_help=True, help="Look at a trained model's file.")
config_app = typer.Typer(no_args_is_help=True, help="Look at the settings.")
topics_app = typer.Typer(no_args_is_help=True, help="Make and check the topics.")
state_app = typer.Typer(no_args_is_help=True, help="Look at what streams remember, and carry it elsewhere.")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(config_app, name="config")
app.add_typer(topics_app, name="topics")
app.add_typer(state_app, name="state")

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

Data = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="PATH...", help="CSV or Parquet files, or folders of them; several may follow."),
]
MoreData = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More data files.", hidden=True)]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings. [TELLTALE_CONFIG]")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Input topic; may be given several times.")]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT", help="Brokers to ask first.")]
CheckpointFile = Annotated[Path | None, typer.Option("--checkpoint", help="File of the trained model.")]
Group = Annotated[str | None, typer.Option("--group", help="Consumer group whose state it is.")]
PartitionNumber = Annotated[
    int | None, typer.Option("--partition", min=0, help="The one it is in, if producers choose; else by the key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def main() -> NoReturn:
    """Run a command; say what went wrong in one line, without a traceback, when it is something known."""
    try:
        app(standalone_mode=True)
    except RefusedSetting as error:
        _fail(error, 2)
    except TelltaleError as error:
        _fail(error, 1)
    except ValueError as error:
        if type(error).__module__.startswith("models."):  # UnusableData, UnusableCheckpoint
            _fail(error, 1)
        raise
    except OSError as error:
        if error.filename is None:
            raise
        _fail(TelltaleError(f"{error.filename}: {error.strerror}"), 1)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"[bold red]telltale:[/] {escape(line)}", soft_wrap=True)
    sys.exit(code)


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

    series = _simulated(simulate, seed) if simulate else _read(_paths(data, more))
    _make_room(out_file)
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
    train_and_save(parts, parts, architecture, training, _device(device), out_file, out)


@app.command(
    epilog="Example: telltale run --checkpoint plant.safetensors --topic readings --bootstrap-servers kafka:9092"
)
def run(
    checkpoint: CheckpointFile = None,
    topic: Topics = None,
    bootstrap_servers: Servers = None,
    group: Annotated[str | None, typer.Option(help="Consumer group: its workers share the partitions.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port of health, metrics and API; 0: any.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, text or auto.")] = None,
    config: Config = None,
) -> None:
    """Read sensor readings from Kafka, write anomalies to Kafka, until told to stop (SIGTERM, Ctrl-C).

    Every option is also an environment variable and a line of the YAML file: see `telltale config show`.
    """
    from service.running import run_service

    settings = _settings(
        config,
        {
            "checkpoint": checkpoint,
            "kafka.topics": topic or None,
            "kafka.bootstrap_servers": bootstrap_servers,
            "kafka.group": group,
            "http.port": http_port,
            "log.format": log_format,
        },
    )
    run_service(settings)


@app.command(
    epilog="Example: telltale produce --data plant/ --topic readings --bootstrap-servers localhost:9092 --rate 1000"
)
def produce(
    topic: Topics = None,
    data: Data = None,
    more: MoreData = None,
    bootstrap_servers: Servers = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Readings a second; as fast as it goes if not given.")
    ] = None,
    part: Annotated[str, typer.Option(help="all, train or test: which rows of the files.")] = "all",
    simulate: Annotated[int, typer.Option(help="Send this many simulated streams instead of files.")] = 0,
    readings: Annotated[int, typer.Option(help="Of each simulated stream; 0: until stopped.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    config: Config = None,
) -> None:
    """Send readings to a topic: series from files, side by side as if they were live, or a simulated plant."""
    from service.feeding import feed, file_records, simulated_records

    settings = _settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    _check_part(part)
    records = simulated_records(simulate, readings, seed) if simulate else file_records(_read(_paths(data, more)), part)
    sent, seconds = feed(records, settings, rate)
    out.print(
        f"{sent:,} readings to {settings.kafka.topics[0]} in {seconds:.1f} s, {sent / max(seconds, 1e-9):,.0f} a second"
    )


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

    settings = _settings(config, {"checkpoint": checkpoint})
    _check_part(part)
    _make_room(out_file, anomalies)
    loaded = _load(settings.checkpoint)
    _one_thread()
    series = select(_read(_paths(data, more), loaded.detector.features), part)
    pipeline = Pipeline(loaded.detector, loaded.digest, int(settings.limits.max_future_s * 1000))
    with ExitStack() as stack:
        told = stack.enter_context(anomalies.open("w")) if anomalies else None
        log = FileLog(series, told)
        tell = stack.enter_context(_counting("judging", len(log)))
        scored = score_files(log, series, pipeline, tell)
    scored.table.write_parquet(out_file)
    counts = {"late": scored.late, "duplicate": scored.duplicate, "rejected": scored.rejected}
    dropped = "".join(f", {count} {what}" for what, count in counts.items() if count)
    out.print(f"{out_file}  {len(scored.table):,} readings{dropped}, {scored.anomalies:,} anomalies")


@app.command(epilog="Example: telltale demo --seconds 120")
def demo(
    seconds: Annotated[float, typer.Option(min=10, help="How long all of it may take.")] = 150.0,
    streams: Annotated[int, typer.Option(min=8, help="Streams of the simulated plant.")] = 200,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Go through this broker, not the log in memory; env: the one that KAFKA_BOOTSTRAP_SERVERS names.",
        ),
    ] = None,
    http_port: Annotated[int, typer.Option(help="Port of health, metrics and API; 0: any.")] = 8080,
    seed: Annotated[int, typer.Option(help="Of the plant and the training.")] = 0,
) -> None:
    """A plant with faults, a model trained on it, and every anomaly beside the fault that caused it."""
    from service import log_lines
    from service.demo import run_demo

    log_lines.configure("WARNING", "auto")
    if kafka == "env" and not (kafka := os.environ.get("KAFKA_BOOTSTRAP_SERVERS")):
        raise RefusedSetting("--kafka is env, but KAFKA_BOOTSTRAP_SERVERS is not set")
    run_demo(seconds, streams, kafka, http_port, seed, Console(highlight=False, soft_wrap=True))


@checkpoint_app.command("show", epilog="Example: telltale checkpoint show plant.safetensors")
def checkpoint_show(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Print what a checkpoint says of itself, as JSON."""
    import json

    loaded = _load(path)
    described = loaded.description.model_dump()
    del described["row"]
    streams = [key.decode(errors="replace") for key in loaded.detector.known]
    out.print_json(json.dumps({"path": str(path), "sha256": loaded.digest, **described, "streams": streams}))


@checkpoint_app.command("verify", epilog="Example: telltale checkpoint verify plant.safetensors")
def checkpoint_verify(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Load a checkpoint as the service would: whole, of a known version, every tensor as described."""
    loaded = _load(path)
    architecture = loaded.description.architecture
    out.print(
        f"{path}: good. {architecture.cell}, {architecture.hidden} hidden units, {architecture.layers} layers, "
        f"{len(architecture.features)} features, {len(loaded.detector.known)} streams known, "
        f"sha256 {loaded.digest[:12]}"
    )


@config_app.command("show", epilog="Example: telltale config show > telltale.yaml")
def config_show(config: Config = None) -> None:
    """Print the settings in effect, with meaning, unit and origin, as a YAML file that can be used again."""
    from service.settings import shown

    sys.stdout.write(shown(_settings(config, {})))


@config_app.command("check", epilog="Example: telltale config check --config telltale.yaml")
def config_check(config: Config = None) -> None:
    """Read the settings as the service would, and say what is wrong with them."""
    _settings(config, {})
    out.print("the settings are good")


@topics_app.command("create", epilog="Example: telltale topics create --topic readings --partitions 8")
def topics_create(
    topic: Topics = None,
    bootstrap_servers: Servers = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of the input topics that are missing, and of the outputs.")
    ] = 8,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    config: Config = None,
) -> None:
    """Make the topics that are missing: inputs, anomalies, dead letters, changelog. Others stay as they are."""
    from service import kafka_log
    from service.settings import client_options

    settings = _settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    kafka = settings.kafka
    client = client_options(settings)
    inputs = kafka_log.describe_topics(kafka.bootstrap_servers, kafka.topics, client)
    widest = max([partitions, *(spec.partitions for spec in inputs.values() if spec)])
    specs = {name: kafka_log.TopicSpec(partitions, replication) for name in kafka.topics}
    outputs = (kafka.anomalies_topic, kafka.dead_letters_topic)
    specs |= {name: kafka_log.TopicSpec(widest, replication) for name in outputs}
    specs[kafka.changelog_topic] = kafka_log.TopicSpec(widest, replication, kafka_log.CHANGELOG)
    made = kafka_log.create_topics(kafka.bootstrap_servers, specs, client)
    for name, spec in specs.items():
        out.print(f"{name}: {f'made, {spec.partitions} partitions' if name in made else 'there already'}")
    kafka_log.check_topics(kafka.bootstrap_servers, kafka.topics, outputs, client, kafka.changelog_topic)


@topics_app.command("check", epilog="Example: telltale topics check --topic readings")
def topics_check(topic: Topics = None, bootstrap_servers: Servers = None, config: Config = None) -> None:
    """Check that all topics are there, the others as wide as the inputs, and the changelog compacted."""
    from service import kafka_log
    from service.settings import client_options

    settings = _settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    kafka, client = settings.kafka, client_options(settings)
    outputs = (kafka.anomalies_topic, kafka.dead_letters_topic)
    kafka_log.check_topics(kafka.bootstrap_servers, kafka.topics, outputs, client, kafka.changelog_topic)
    every = (*kafka.topics, *outputs, kafka.changelog_topic)
    for name, spec in kafka_log.describe_topics(kafka.bootstrap_servers, every, client).items():
        if spec is not None:
            out.print(f"{name}: {spec.partitions} partitions, {spec.replication} copies")


@state_app.command("show", epilog="Example: telltale state show --stream line-03/pump-012 --topic plant")
def state_show(
    stream: Annotated[str, typer.Option(help="Key of the stream.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """What a stream remembers, by the newest page in the changelog; the service goes on meanwhile."""
    import msgspec

    from service.inspection import find, lines_of, shown

    settings = _quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    pipeline, layout = _judges(settings)
    with _unjoined(settings) as log:
        found = find(log, _search(settings, partition), _key(stream), layout)
    state = shown(found, _key(stream), pipeline.detector, pipeline.digest)
    if as_json:
        out.print(msgspec.json.encode(state).decode())
        return
    for line in lines_of(state, settings.state.flush_interval_s):
        out.print(line)


@state_app.command("export", epilog="Example: telltale state export --stream pump-012 --topic plant --out pump.state")
def state_export(
    stream: Annotated[list[str], typer.Option(help="Key of the stream; may be given several times.")],
    out_file: Annotated[Path, typer.Option("--out", help="File to write.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Write what streams remember to a file, for `telltale state import`; the service goes on meanwhile.

    Every row is brought up to where its partition has been judged, as a worker would do it that takes over.
    """
    from models.numerics import self_test
    from service import state_file
    from service.inspection import pack_up

    settings = _quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _make_room(out_file)
    pipeline, layout = _judges(settings)
    keys = [_key(one) for one in stream]
    with _unjoined(settings) as log:
        numerics = self_test(pipeline.detector)
        luggage = pack_up(log, _search(settings, partition), keys, pipeline, layout, numerics)
    state_file.save(out_file, luggage)
    for one in luggage.carried.streams:
        out.print(f"{out_file}  {one.stream}, from {one.topic}-{one.partition} as of offset {one.next_offset:,}")


@state_app.command("import", epilog="Example: telltale state import pump.state --topic plant-2 --group telltale")
def state_import(
    path: Annotated[Path, typer.Argument(help="File that `telltale state export` wrote.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Put exported rows into the state of a group that does not run: its service goes on from there.

    A stream that is there already goes on with the imported row. One transaction: all of it, or nothing.
    """
    from models.numerics import self_test
    from service import state_file
    from service.inspection import Limits, unpack
    from service.state_writer import StateWriter

    settings = _quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _one_topic(settings)
    pipeline, layout = _judges(settings)
    luggage = state_file.load(path, layout)
    _require_idle(settings)
    with _unjoined(settings, settings.kafka.group) as log:
        numerics = self_test(pipeline.detector)
        writer = StateWriter(settings.kafka.group, layout, numerics, "import", settings.state.flush_interval_s)
        limits = Limits(settings.limits.max_streams, settings.limits.stream_ttl_s)
        commits, put = unpack(log, _search(settings, partition), luggage, pipeline, writer, limits)
        _require_idle(settings)  # reading may have taken a while
        log.commit(commits)
    for where, streams in put.items():
        many = "1 stream" if streams == 1 else f"{streams} streams"
        out.print(f"{where}: {many}, for group {settings.kafka.group}")
    if luggage.carried.numerics != numerics:
        err.print(
            f"[yellow]the rows were computed with arithmetic {escape(luggage.carried.numerics)}, this machine's is"
            f" {numerics}: scores may differ in the last bit[/]",
            soft_wrap=True,
        )


@app.command(epilog="Example: telltale replay --topic plant --stream line-03/pump-012 --around 2026-01-20T09:26:00Z")
def replay(
    stream: Annotated[str, typer.Option(help="Key of the stream.")],
    around: Annotated[str, typer.Option(metavar="TIME", help="Event time: RFC 3339 with an offset, or milliseconds.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    readings: Annotated[int, typer.Option(min=1, max=10_000, help="How many around that time.")] = 20,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Judge a stream's readings around a time again: the same verdicts and the same events, to the last byte.

    With another --checkpoint than the service's: what that one would have said. Nothing is written anywhere.
    """
    import msgspec

    from models.numerics import self_test
    from service.replay import Question, lines_of, time_ms
    from service.replay import replay as judge_again

    settings = _quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _one_topic(settings)
    try:
        around_ms = time_ms(around)
    except ValueError as error:
        raise RefusedSetting(f"--around is {around!r}, expected RFC 3339 with an offset, or milliseconds") from error
    pipeline, layout = _judges(settings)
    ttl_s, prime_readings = settings.limits.stream_ttl_s, settings.state.prime_readings
    question = Question(_key(stream), around_ms, readings, ttl_s, prime_readings)
    with _unjoined(settings) as log:
        numerics = self_test(pipeline.detector)
        found = judge_again(log, _search(settings, partition), question, pipeline, layout, numerics)
    if as_json:
        out.print(msgspec.json.encode(found).decode())
        return
    for line in lines_of(found):
        out.print(line)


def _quiet_settings(
    config: Path | None, checkpoint: Path | None, topics: list[str] | None, group: str | None, servers: str | None
) -> "Settings":
    """Those of a command that looks at the state: what it has to say is its output, not a log."""
    from service import log_lines
    from service.settings import secrets

    settings = _settings(
        config,
        {
            "checkpoint": checkpoint,
            "kafka.topics": topics or None,
            "kafka.group": group,
            "kafka.bootstrap_servers": servers,
        },
    )
    log_lines.configure("ERROR", settings.log.format, secrets(settings))
    return settings


def _one_topic(settings: "Settings") -> None:
    if len(settings.kafka.topics) > 1:
        raise RefusedSetting(f"--topic is missing: kafka.topics names {', '.join(settings.kafka.topics)}, expected one")


def _judges(settings: "Settings") -> "tuple[Pipeline, Layout]":
    """What judges as the service does, but for the limit on streams: it is one stream's, not a partition's."""
    from service.changelog import Layout
    from service.pipeline import Pipeline

    loaded = _load(settings.checkpoint)
    _one_thread()
    pipeline = Pipeline(loaded.detector, loaded.digest, int(settings.limits.max_future_s * 1000))
    return pipeline, Layout.of(loaded.digest, loaded.detector.rows_for([]))


def _key(stream: str) -> "StreamKey":
    from service.wire import MAX_KEY_BYTES, StreamKey

    key = stream.encode()
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise RefusedSetting(f"--stream has {len(key)} bytes, expected 1 to {MAX_KEY_BYTES}")
    return StreamKey(key)


def _search(settings: "Settings", partition: int | None) -> "Search":
    from service.inspection import Search
    from service.kafka_log import partition_of

    return Search(settings.kafka.group, settings.kafka.topics, partition, partition_of)


@contextmanager
def _unjoined(settings: "Settings", group: str | None = None) -> "Iterator[UnjoinedLog]":
    """The log, looked at from outside. group: whose committed offsets count."""
    from service.kafka_log import UnjoinedLog
    from service.settings import client_options

    kafka = settings.kafka
    log = UnjoinedLog(kafka.bootstrap_servers, kafka.changelog_topic, client_options(settings), group)
    try:
        yield log
    finally:
        log.close()


def _require_idle(settings: "Settings") -> None:
    from service.kafka_log import members_of
    from service.settings import client_options

    kafka = settings.kafka
    members = members_of(kafka.bootstrap_servers, kafka.group, client_options(settings))
    if members:
        raise RefusedInput(
            f"group {kafka.group} has active members, which would not see what is written: stop {', '.join(members)}"
        )


def _settings(config: Path | None, overrides: dict[str, object]) -> "Settings":
    from service import log_lines
    from service.settings import load, secrets

    settings = load(config, overrides)
    log_lines.configure(settings.log.level, settings.log.format, secrets(settings))
    return settings


def _paths(data: list[Path] | None, more: list[Path] | None) -> list[Path]:
    """`--data A B C`: the shell makes one option and two arguments of it."""
    paths = [*(data or []), *(more or [])]
    if not paths:
        raise RefusedSetting("--data is missing, expected CSV or Parquet files, or folders of them")
    return paths


def _check_part(part: str) -> None:
    if part not in ("all", "train", "test"):
        raise RefusedSetting(f"--part is {part!r}, expected all, train or test")


def _make_room(*files: Path | None) -> None:
    """Find out before the work, not after it, that a result cannot be written."""
    for file in files:
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RefusedInput(f"{file}: cannot be written: {error.strerror}") from error


def _read(paths: list[Path], features: tuple[str, ...] | None = None) -> "list[Series]":
    from models.series import read_series

    return read_series(paths, features)


def _load(path: Path) -> "Checkpoint":
    from models.checkpoint import load

    return load(path)


def _simulated(streams: int, seed: int) -> "list[Series]":
    from service.feeding import simulated_series

    return simulated_series(streams, seed)


def _device(name: str) -> "torch.device":
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise RefusedSetting(f"--device is {name!r}, expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RefusedSetting("--device is cuda, but torch finds no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _one_thread() -> None:
    """One thread, so that the bits are those of the service; more would not be faster."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def _counting(what: str, total: int) -> "Iterator[Callable[[int], None]]":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.update(bar, completed=done)
