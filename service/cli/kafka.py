"""Commands that work on Kafka topics: run, produce, topics, demo; and the settings they work with."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from models.data.file_options import AS_USUAL, FileOptions
from models.output.wording import counted
from service.cli.file_options import reads_files
from service.cli.option_checks import finite, split
from service.cli.options import (
    MOST_SEED,
    CheckpointFile,
    Config,
    Data,
    FeatureNames,
    MoreData,
    Part,
    Servers,
    Topics,
    data_paths,
    load_settings,
    out,
    read_data,
    sending,
    until_stopped,
)
from service.errors import RefusedSetting

if TYPE_CHECKING:
    from service.settings.settings import Settings

app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True, help="Look at the settings.")
topics_app = typer.Typer(no_args_is_help=True, help="Make and check the topics.")
app.add_typer(config_app, name="config")
app.add_typer(topics_app, name="topics")


@app.command(
    epilog="Example: telltale run --checkpoint plant.safetensors --topic readings --bootstrap-servers kafka:9092"
)
def run(
    checkpoint: CheckpointFile = None,
    features: FeatureNames = None,
    topic: Topics = None,
    bootstrap_servers: Servers = None,
    group: Annotated[str | None, typer.Option(help="Consumer group: its workers share the partitions.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes, each a member of the group; more than one are supervised.")
    ] = None,
    incidents: Annotated[
        bool | None, typer.Option("--incidents", help="Make incidents too, in a process beside the workers.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="Port of health, metrics and API; 0: any.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, text or auto.")] = None,
    config: Config = None,
) -> None:
    """Read sensor readings from Kafka, write anomalies to Kafka, until told to stop (SIGTERM, Ctrl-C).

    Every option is also an environment variable and a line of the YAML file: see `telltale config show`.
    """
    settings = load_settings(
        config,
        {
            "checkpoint": checkpoint,
            "features": features,
            "workers": workers,
            "incidents.in_worker": incidents,
            "kafka.topics": topic or None,
            "kafka.bootstrap_servers": bootstrap_servers,
            "kafka.group": group,
            "http.port": http_port,
            "log.format": log_format,
        },
    )

    from service.process.running import run_service

    run_service(settings)


@app.command(epilog="Example: telltale incidents --bootstrap-servers kafka:9092 --budget 144")
def incidents(
    bootstrap_servers: Servers = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group: one of its members works, the others stand by.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Incidents a day that people are notified of.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; 0: any; none if not given.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, text or auto.")] = None,
    config: Config = None,
) -> None:
    """Make incidents of the anomalies that belong together, until told to stop (SIGTERM, Ctrl-C).

    Reads the topic of anomalies, writes the topic of incidents, each exactly once.
    """
    settings = load_settings(
        config,
        {
            "kafka.bootstrap_servers": bootstrap_servers,
            "incidents.group": group,
            "incidents.budget_per_day": budget,
            "incidents.metrics_port": metrics_port,
            "log.format": log_format,
        },
    )

    from service.process.incidents import run_incidents

    run_incidents(settings)


@app.command("remote-write", epilog="Example: telltale remote-write --to http://prometheus:9090/api/v1/write")
def remote_write(
    to: Annotated[str | None, typer.Option(metavar="URL", help="Where samples are sent.")] = None,
    bootstrap_servers: Servers = None,
    group: Annotated[str | None, typer.Option(help="Consumer group: its members share the partitions.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; 0: any; none if not given.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, text or auto.")] = None,
    config: Config = None,
) -> None:
    """Send scores, expectations and bands to Prometheus by remote write, until told to stop (SIGTERM, Ctrl-C).

    Reads the topic of scores (scores.topic), which has what streams scores.streams chose. At least once.
    """
    settings = load_settings(
        config,
        {
            "kafka.bootstrap_servers": bootstrap_servers,
            "remote_write.url": to,
            "remote_write.group": group,
            "remote_write.metrics_port": metrics_port,
            "log.format": log_format,
        },
    )

    from service.process.remote_write import run_remote_write

    run_remote_write(settings)


@app.command(epilog="Example: telltale rekey --topic telegraf --into telltale.readings --config telltale.yaml")
def rekey(
    checkpoint: CheckpointFile = None,
    features: FeatureNames = None,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", help="Topic whose records are read; may be given more than once.")
    ] = None,
    into: Annotated[str | None, typer.Option(help="Topic that the readings are written to.")] = None,
    bootstrap_servers: Servers = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group: one of its members works, the others stand by.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; 0: any; none if not given.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, text or auto.")] = None,
    config: Config = None,
) -> None:
    """Write the readings of other topics again, keyed by their streams, until told to stop (SIGTERM, Ctrl-C).

    For topics in which a stream's readings are in several partitions. Each is written exactly once, in the order of
    time; the checkpoint, or the features, say which values are meant.
    """
    settings = load_settings(
        config,
        {
            "checkpoint": checkpoint,
            "features": features,
            "kafka.bootstrap_servers": bootstrap_servers,
            "rekey.topics": topic or None,
            "rekey.topic": into,
            "rekey.group": group,
            "rekey.metrics_port": metrics_port,
            "log.format": log_format,
        },
    )

    from service.process.rekey import run_rekey

    run_rekey(settings)


@app.command(
    epilog="Example: telltale produce --data plant/ --topic readings --bootstrap-servers localhost:9092 --rate 1000"
)
@reads_files
def produce(
    topic: Topics = None,
    data: Data = None,
    more: MoreData = None,
    bootstrap_servers: Servers = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, callback=finite, help="Readings a second; as fast as it goes if not given."),
    ] = None,
    part: Part = "all",
    simulate: Annotated[int, typer.Option(min=0, help="Send this many simulated streams instead of files.")] = 0,
    readings: Annotated[int, typer.Option(min=0, help="Of each simulated stream; 0: until stopped.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the simulation.")] = 0,
    written: Annotated[
        Literal["json", "msgpack", "arrow"], typer.Option("--format", help="What the values are written in.")
    ] = "json",
    readings_per_record: Annotated[
        int, typer.Option(min=1, max=2_048, help="Of one stream; they are sent once there are N.")
    ] = 1,
    go_on: Annotated[
        bool,
        typer.Option("--go-on", help="Of the simulation: from the topic's last reading, as if it had never stopped."),
    ] = False,
    features_given: Annotated[
        str | None, typer.Option("--features", metavar="A,B,C", help="Of the files: the columns to send.")
    ] = None,
    config: Config = None,
    files: FileOptions = AS_USUAL,
) -> None:
    """Send readings to a topic: series from files, side by side as if they were live, or a simulated plant."""
    if simulate and (data or more):
        raise RefusedSetting("--simulate: expected no --data beside it")
    if not simulate and (readings or go_on):
        raise RefusedSetting("--readings and --go-on are of the simulation, but --simulate is missing")
    settings = load_settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    paths = [] if simulate else data_paths(data, more)

    from models.data.synthetic import FEATURES
    from service.cli.feeding import feed, file_readings, records_of, select, sent_until_ms, simulated_readings
    from service.input.formats import InputFormat

    with until_stopped() as stop:
        if simulate:
            total = simulate * readings or None  # at most: some are missing, as they are in a plant
            sends = simulated_readings(simulate, readings, seed, sent_until_ms(settings) if go_on else 0)
            features: Sequence[str] = FEATURES
        else:
            series = select(read_data(paths, tuple(split(features_given)) if features_given else None, files), part)
            total, sends = sum(len(one.times_ms) for one in series), file_readings(series)
            features = series[0].features
        as_records = partial(records_of, features=features, written=InputFormat(written), most=readings_per_record)
        with sending(total) as progress:
            sent, seconds = feed(sends, as_records, settings, rate, progress, stop)
    where, speed = settings.kafka.topics[0], sent / max(seconds, 1e-9)
    ended = ", then told to stop" if stop.is_set() else ""
    out.print(f"{counted(sent, 'reading')} to {where} in {seconds:.1f} s, {speed:,.0f} a second{ended}")


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
    """Make the topics that are missing: inputs, anomalies, incidents, controls, dead letters, changelog, and scores
    where `scores.topic` names one.

    Where anomalies, dead letters, scores or changelog have fewer partitions than the widest input, they get the
    missing ones; nothing in them moves.
    """
    from service.kafka import topics as kafka_topics
    from service.settings.settings import client_options

    settings = load_settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    kafka = settings.kafka
    client = client_options(settings)
    inputs = kafka_topics.describe_topics(kafka.bootstrap_servers, kafka.topics, client)
    widest = max([partitions, *(spec.partitions for spec in inputs.values() if spec)])
    specs = {name: kafka_topics.TopicSpec(partitions, replication) for name in kafka.topics}
    outputs = _outputs(settings)
    specs |= {name: kafka_topics.TopicSpec(widest, replication) for name in outputs}
    specs[settings.incidents.topic] = kafka_topics.TopicSpec(1, replication)
    specs[settings.incidents.control_topic] = kafka_topics.TopicSpec(1, replication, kafka_topics.COMPACTED)
    specs[kafka.changelog_topic] = kafka_topics.TopicSpec(widest, replication, kafka_topics.CHANGELOG)
    made = kafka_topics.create_topics(kafka.bootstrap_servers, specs, client)
    widest_input = max(spec.partitions if spec else partitions for spec in inputs.values())
    beside = dict.fromkeys((*outputs, kafka.changelog_topic), widest_input)
    widened = kafka_topics.widen_topics(kafka.bootstrap_servers, beside, client)
    for name, spec in specs.items():
        if name in made:
            out.print(f"{name}: made, {counted(spec.partitions, 'partition')}")
        elif name in widened:
            out.print(f"{name}: widened from {widened[name]} to {counted(beside[name], 'partition')}")
        else:
            out.print(f"{name}: there already")
    kafka_topics.check_topics(kafka.bootstrap_servers, kafka.topics, outputs, client, kafka.changelog_topic)


def _outputs(settings: "Settings") -> tuple[str, ...]:
    """Topics that a worker writes to beside the changelog, each as wide as the widest input."""
    kafka, scores = settings.kafka, settings.scores.topic
    return (kafka.anomalies_topic, kafka.dead_letters_topic, *([scores] if scores else []))


@topics_app.command("check", epilog="Example: telltale topics check --topic readings")
def topics_check(topic: Topics = None, bootstrap_servers: Servers = None, config: Config = None) -> None:
    """Check that all topics are there, the others as wide as the inputs, and the changelog compacted."""
    from service.kafka import topics as kafka_topics
    from service.settings.settings import client_options

    settings = load_settings(config, {"kafka.topics": topic or None, "kafka.bootstrap_servers": bootstrap_servers})
    kafka, client = settings.kafka, client_options(settings)
    outputs = _outputs(settings)
    kafka_topics.check_topics(kafka.bootstrap_servers, kafka.topics, outputs, client, kafka.changelog_topic)
    every = (*kafka.topics, *outputs, kafka.changelog_topic)
    for name, spec in kafka_topics.describe_topics(kafka.bootstrap_servers, every, client).items():
        if spec is not None:
            out.print(f"{name}: {counted(spec.partitions, 'partition')}, {counted(spec.replication, 'copy', 'copies')}")


@config_app.command("show", epilog="Example: telltale config show > telltale.yaml")
def config_show(config: Config = None) -> None:
    """Print the settings in effect, with meaning, unit and origin, as a YAML file that can be used again."""
    from service.settings.settings import shown

    sys.stdout.write(shown(load_settings(config, {})))


@config_app.command("check", epilog="Example: telltale config check --config telltale.yaml")
def config_check(config: Config = None) -> None:
    """Read the settings as the service would, and say what is wrong with them."""
    from service.process.quiet import quiet_times
    from service.process.sensors import rules_in

    settings = load_settings(config, {})
    rules_in(settings)  # they and quiet times read calendars
    quiet_times(settings.incidents)
    out.print("the settings are good")


@app.command(epilog="Example: telltale demo --seconds 120")
def demo(
    seconds: Annotated[float, typer.Option(min=10, callback=finite, help="How long all of it may take.")] = 150.0,
    streams: Annotated[int, typer.Option(min=8, help="Streams of the simulated plant.")] = 200,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Go through this broker, not the log in memory; env: the one that KAFKA_BOOTSTRAP_SERVERS names.",
        ),
    ] = None,
    http_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of health, metrics and API; 0: any.")] = 8080,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the plant and the training.")] = 0,
) -> None:
    """A plant with faults, a model trained on it, and every anomaly beside the fault that caused it."""
    if kafka == "env" and not (kafka := os.environ.get("KAFKA_BOOTSTRAP_SERVERS")):
        raise RefusedSetting("--kafka is env, but KAFKA_BOOTSTRAP_SERVERS is not set")

    from service.cli.demo import run_demo
    from service.host import log_lines

    log_lines.configure("WARNING", "auto")
    run_demo(seconds, streams, kafka, http_port, seed, Console(highlight=False, soft_wrap=True))
