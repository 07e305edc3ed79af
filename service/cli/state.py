"""Commands that look at what streams remember: state, replay."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from models.output.wording import counted
from service.cli.options import (
    AsJson,
    CheckpointFile,
    Config,
    Force,
    Group,
    PartitionNumber,
    Servers,
    Topics,
    err,
    load_checkpoint,
    one_thread,
    out,
    quiet_settings,
)
from service.cli.output_files import check_outputs
from service.errors import RefusedInput, RefusedSetting

if TYPE_CHECKING:
    from service.input.reading_batch import StreamKey
    from service.pipeline import Pipeline
    from service.settings.settings import Settings
    from service.state.changelog import Layout

Stream = Annotated[str, typer.Option("--stream", help="Key of the stream.")]

app = typer.Typer()
state_app = typer.Typer(no_args_is_help=True, help="Look at what streams remember, and carry it elsewhere.")
app.add_typer(state_app, name="state")


@state_app.command("show", epilog="Example: telltale state show --stream line-03/pump-012 --topic plant")
def state_show(
    stream: Stream,
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """What a stream remembers, by the newest page in the changelog; the service runs on meanwhile."""
    from service.inspect.inspection import find, shown
    from service.inspect.state_lines import lines_of
    from service.process.groupless import groupless_log, search_of

    settings = quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    pipeline, layout = _judges(settings)
    with groupless_log(settings) as log:
        found = find(log, search_of(settings, partition=partition), _key(stream), layout)
    state = shown(found, _key(stream), pipeline.detector, pipeline.digest)
    _print(state, lines_of(state, settings.state.flush_interval_s), as_json)


@state_app.command("export", epilog="Example: telltale state export --stream pump-012 --topic plant --out pump.state")
def state_export(
    stream: Annotated[list[str], typer.Option(help="Key of the stream; may be given several times.")],
    out_file: Annotated[Path, typer.Option("--out", help="File to write.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    force: Force = False,
    config: Config = None,
) -> None:
    """Write what streams remember to a file, for `telltale state import`; the service runs on meanwhile.

    Every row is brought up to where its partition has been judged, as a worker would do it that takes over.
    """
    settings = quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    check_outputs(out_file, force=force)

    from models.detection.numerics import self_test
    from service.inspect import state_file
    from service.inspect.transfer import export_streams
    from service.process.groupless import groupless_log, search_of

    pipeline, layout = _judges(settings)
    keys = [_key(one) for one in stream]
    with groupless_log(settings) as log:
        numerics = self_test(pipeline.detector)
        exported = export_streams(log, search_of(settings, partition=partition), keys, pipeline, layout, numerics)
    state_file.save(out_file, exported)
    for one in exported.manifest.streams:
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
    """Put exported rows into the state of a group that does not run: its service continues from there.

    A stream that is there already continues with the imported row. One transaction: all of it, or nothing.
    """
    settings = quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _one_topic(settings)

    from models.detection.numerics import self_test
    from service.inspect import state_file
    from service.inspect.transfer import Limits, import_streams
    from service.process.groupless import groupless_log, search_of
    from service.state.writer import StateWriter

    pipeline, layout = _judges(settings)
    exported = state_file.load(path, layout)
    _require_idle(settings)
    with groupless_log(settings, settings.kafka.group) as log:
        numerics = self_test(pipeline.detector)
        writer = StateWriter(settings.kafka.group, layout, numerics, "import", settings.state.flush_interval_s)
        limits = Limits(settings.limits.max_streams, settings.limits.stream_ttl_s)
        commits, put = import_streams(log, search_of(settings, partition=partition), exported, pipeline, writer, limits)
        _require_idle(settings)  # reading may have taken a while
        log.commit(commits)
    for where, streams in put.items():
        out.print(f"{where}: {counted(streams, 'stream')}, for group {settings.kafka.group}")
    if exported.manifest.numerics != numerics:
        err.print(
            f"[yellow]the rows were computed with arithmetic {escape(exported.manifest.numerics)}, this machine's is"
            f" {numerics}: scores may differ in the last bit[/]",
            soft_wrap=True,
        )


@state_app.command(
    "undo",
    epilog="Example: telltale state undo --stream pump-012 --from 2026-01-20T08:00:00Z --until 2026-01-20T12:00:00Z",
)
def state_undo(
    stream: Stream,
    begins: Annotated[str, typer.Option("--from", metavar="TIME", help="Event time: RFC 3339, or milliseconds.")],
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Likewise; a reading at it is kept.")],
    topic: Topics = None,
    partition: PartitionNumber = None,
    group: Group = None,
    checkpoint: CheckpointFile = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Undo what a stream learned from readings of a span: its row is rebuilt from the input without them.

    The group must not run: its service continues with the rebuilt row. Nothing is published again, and an open anomaly
    stays open until its readings are normal by that row.
    """
    settings = quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _one_topic(settings)
    from_ms, until_ms = _time("--from", begins), _time("--until", until)
    if from_ms >= until_ms:
        raise RefusedSetting(f"--until is {until}, expected a time after --from, {begins}")

    from models.detection.numerics import self_test
    from service.inspect.question import Question
    from service.inspect.transfer import Limits
    from service.inspect.undoing import Span, undo
    from service.process.groupless import groupless_log, search_of
    from service.state.writer import StateWriter

    pipeline, layout = _judges(settings)
    _require_idle(settings)
    limits = Limits(settings.limits.max_streams, settings.limits.stream_ttl_s)
    question = Question(_key(stream), from_ms, 0, limits.idle_s, settings.state.prime_readings)
    with groupless_log(settings, settings.kafka.group) as log:
        numerics = self_test(pipeline.detector)
        writer = StateWriter(settings.kafka.group, layout, numerics, "undo", settings.state.flush_interval_s)
        search = search_of(settings, partition=partition)
        done = undo(log, search, question, Span(from_ms, until_ms), pipeline, writer, limits)
        _require_idle(settings)  # reading may have taken a while
        log.commit([done.commit])
    out.print(
        f"{done.partition}: {stream} is as if {counted(done.left_out, 'reading')} had not come; "
        f"{counted(done.judged, 'other')} judged again, from {done.begins_with}"
    )
    for remark in done.remarks:
        err.print(f"[yellow]{escape(remark)}[/]", soft_wrap=True)


@app.command(epilog="Example: telltale replay --topic plant --stream line-03/pump-012 --around 2026-01-20T09:26:00Z")
def replay(
    stream: Stream,
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
    settings = quiet_settings(config, checkpoint, topic, group, bootstrap_servers)
    _one_topic(settings)
    around_ms = _time("--around", around)

    from models.detection.numerics import self_test
    from service.inspect.question import Question
    from service.inspect.replay import replay as judge_again
    from service.inspect.replay_lines import lines_of
    from service.process.groupless import groupless_log, search_of

    pipeline, layout = _judges(settings)
    ttl_s, prime_readings = settings.limits.stream_ttl_s, settings.state.prime_readings
    question = Question(_key(stream), around_ms, readings, ttl_s, prime_readings)
    with groupless_log(settings) as log:
        numerics = self_test(pipeline.detector)
        found = judge_again(log, search_of(settings, partition=partition), question, pipeline, layout, numerics)
    _print(found, lines_of(found), as_json)


def _print(found: object, lines: Iterable[str], as_json: bool) -> None:
    import msgspec

    for line in [msgspec.json.encode(found).decode()] if as_json else lines:
        out.print(line)


def _time(option: str, text: str) -> int:
    from service.cli.moments import time_ms

    try:
        return time_ms(text)
    except ValueError as error:
        raise RefusedSetting(f"{option} is {text!r}, expected RFC 3339 with an offset, or milliseconds") from error


def _one_topic(settings: "Settings") -> None:
    if len(settings.kafka.topics) > 1:
        raise RefusedSetting(f"--topic is missing: kafka.topics names {', '.join(settings.kafka.topics)}, expected one")


def _judges(settings: "Settings") -> "tuple[Pipeline, Layout]":
    from service.process.groupless import judges

    checkpoint, features = settings.checkpoint, settings.features
    if settings.models and settings.origin("checkpoint") != "command line":
        _one_topic(settings)
        own = settings.models.get(settings.kafka.topics[0])
        checkpoint, features = (checkpoint, features) if own is None else (own.checkpoint, own.features)
    loaded = load_checkpoint(checkpoint, features)
    one_thread()
    return judges(settings, loaded)


def _key(stream: str) -> "StreamKey":
    from models.data.stream_key import MAX_KEY_BYTES
    from service.input.reading_batch import StreamKey

    key = stream.encode()
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise RefusedSetting(f"--stream has {len(key)} bytes, expected 1 to {MAX_KEY_BYTES}")
    return StreamKey(key)


def _require_idle(settings: "Settings") -> None:
    from service.kafka.topics import members_of
    from service.settings.settings import client_options

    kafka = settings.kafka
    members = members_of(kafka.bootstrap_servers, kafka.group, client_options(settings))
    if members:
        raise RefusedInput(
            f"group {kafka.group} has active members, which would not see what is written: stop {', '.join(members)}"
        )
