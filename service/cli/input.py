"""`telltale input`: how the records of a topic would be read."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.output.wording import counted
from service.cli.option_checks import split
from service.cli.options import Config, Servers, load_settings, out
from service.errors import RefusedInput, RefusedSetting

if TYPE_CHECKING:
    from service.input.trial import Trial
    from service.log.port import Fetched
    from service.settings.settings import Settings

SHOWN = 10
REFUSED_SHOWN = 3
MAX_FILE_BYTES = 16_777_216
NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")

app = typer.Typer()
input_app = typer.Typer(no_args_is_help=True, help="Find out how the records of a topic are read.")
app.add_typer(input_app, name="input")


@input_app.command("try", epilog="Example: telltale input try --topic telegraf --bootstrap-servers localhost:9092")
def input_try(
    topic: Annotated[str | None, typer.Option("--topic", help="Topic to look into; nothing in it moves.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="File with a record's value a line, or one that is no text, instead of a topic."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Of the file's records; none if it is not given.")] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="The checkpoint's, with commas; else those that are found.")
    ] = None,
    records: Annotated[int, typer.Option("--records", min=1, max=10_000, help="The topic's last ones to read.")] = 100,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Read a few records as the service would, and print the mapping that they need and what comes out of it.

    Where the settings have a mapping for the topic, it is tried; else one is guessed.
    """
    if (topic is None) == (file is None):
        raise RefusedSetting("--topic or --file, expected one of them")
    if key is not None and file is None:
        raise RefusedSetting("--key is of the records of a file, but --file is missing")
    settings = load_settings(config, {"kafka.bootstrap_servers": bootstrap_servers})

    from service.input.trial import try_records
    from service.process.records import record_rules

    fetched, partitions = _of_topic(str(topic), records, settings) if file is None else (_of_file(file, key), 1)
    limits = settings.limits
    bounds_ms = int(limits.max_future_s * 1000), int(limits.max_past_s * 1000)
    trial = try_records(fetched, record_rules(settings), bounds_ms, split(features) if features else ())
    for line in _lines(fetched, trial, partitions):
        out.print(line)
    if not trial.batch.keys:
        topic = fetched.partition.topic
        raise RefusedInput(
            f"{topic}: none of {counted(len(fetched.keys), 'record')} can be read, expected JSON, MessagePack, Arrow, "
            f"Influx's lines or what input.topics.{topic}.format names"
        )


def _of_topic(topic: str, records: int, settings: "Settings") -> tuple["Fetched", int]:
    """The last records of the partition that holds most, and how many partitions there are."""
    from contextlib import closing

    from service.inspect.groupless_log import input_of
    from service.kafka.groupless import KafkaGrouplessLog
    from service.log.port import Partition
    from service.settings.settings import client_options

    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        partitions = [Partition(topic, number) for number in range(log.partitions(topic))]
        sources = {one: log.inspect(one) for one in partitions}
        fullest = max(partitions, key=lambda one: sources[one].end - sources[one].begin)
        source = sources[fullest]
        for fetched in input_of(log, fullest, max(source.begin, source.end - records), source.end):
            return fetched, len(partitions)
    raise RefusedInput(f"{topic}: no records in it")


def _of_file(file: Path, key: str | None) -> "Fetched":
    import numpy as np

    from service.log.port import Fetched, Partition

    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES)
    if _is_text(content):
        values = [line for line in content.splitlines() if line.strip()]
    else:
        values = [content]
        out.print(f"# {file} is no text: read as one record")
    if not values:
        raise RefusedInput(f"{file}: no lines in it")
    count, keys = len(values), [None if key is None else key.encode()] * len(values)
    unknown = np.full(count, -1, np.int64)
    return Fetched(Partition(file.stem, 0), keys, list(values), np.arange(count), unknown, count, count)


def _is_text(content: bytes) -> bool:
    """UTF-8, but for a character that is cut off at the end, without control characters."""
    try:
        text = getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return NOT_IN_TEXT.search(text) is None


def _lines(fetched: "Fetched", trial: "Trial", partitions: int) -> Iterator[str]:
    import math

    from models.data.rfc3339 import rfc3339

    topic, count = fetched.partition.topic, len(fetched.keys)
    read = counted(count - len(trial.rejects), "record")
    yield f"# {topic}: {read} of {count} can be read" + (f" as {trial.what}" if trial.what and trial.batch.keys else "")
    if trial.settings is not None:
        yield "input:"
        yield "  topics:"
        yield f"    {topic}: {trial.settings.yaml}"
    yield f"# features: {', '.join(trial.features)}"
    if trial.left_out:
        named = [f"{name} ({what})" for name, what in islice(trial.left_out.items(), SHOWN)]
        more = len(trial.left_out) - len(named)
        yield f"# left out: {', '.join(named)}" + (f" and {more} more" if more else "")
    if trial.settings is not None and "stream: [$topic]" in trial.settings.yaml:
        yield "# no name of a stream was found: all records are one, called after the topic; stream says where it is"
    if partitions > 1 and None in fetched.keys:
        yield f"# records without a key: each stream lies in all {partitions} partitions, and would be remembered in"
        yield "#     parts; telltale rekey writes the topic again, keyed by stream"
    if trial.joined is not None:
        metrics = ", ".join(trial.metrics)
        yield f"# each metric is a stream; telltale rekey, with rekey.join_window_s, joins {metrics} by"
        yield f"#     {topic}: {trial.joined.yaml}"
    readings = trial.batch.readings
    for key, time_ms, row in zip(
        trial.batch.keys[:SHOWN], readings.times_ms[:SHOWN].tolist(), readings.values[:SHOWN].tolist(), strict=True
    ):
        shown = ["missing" if math.isnan(value) else str(value) for value in row]
        values = ", ".join(f"{name} {value}" for name, value in zip(trial.features, shown, strict=True))
        yield f"# {key.decode()}, {rfc3339(time_ms)}: {values}"
    if trial.batch.skipped:
        yield f"# {counted(trial.batch.skipped, 'reading')} skipped"
    for reject in trial.rejects[:REFUSED_SHOWN]:
        yield f"# offset {fetched.offsets[reject.record]} refused, {reject.reason.value}: {reject.detail}"
