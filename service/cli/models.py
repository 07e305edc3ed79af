"""`telltale models`: which checkpoint judges, and to promote another one while the service runs."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.control import By, Note, said_by, write_given
from service.cli.options import AsJson, Config, Group, Servers, load_checkpoint, out, quiet_settings

app = typer.Typer()
models_app = typer.Typer(
    no_args_is_help=True, help="Promote a trained model while the service runs, and see which judges."
)
app.add_typer(models_app, name="models")

OneTopic = Annotated[
    str | None,
    typer.Option("--topic", help="The topic that it judges; if not given, all that have no model of their own."),
]


@models_app.command("promote", epilog="Example: telltale models promote plant-2.safetensors --note 'trained on May'")
def models_promote(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="File of the trained model.")],
    topic: OneTopic = None,
    seen_as: Annotated[
        str | None, typer.Option("--as", metavar="PATH", help="Where workers find the file, if not at the same path.")
    ] = None,
    note: Note = "",
    by: By = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Let a checkpoint take over from the one that judges, without a restart; a rollback is the same with that one.

    Workers read the file, warm its memory up beside the one that judges, and switch one partition after the other,
    each at an offset. A worker that cannot use the file goes on with what it has, and its status says why.
    """
    from service.stages.incidents.controls import PromotedModel

    checkpoint = load_checkpoint(path)
    where = seen_as or str(path.resolve())
    control = PromotedModel(checkpoint=where, sha256=checkpoint.digest, topic=topic, **said_by(by, note))
    write_given(_id(topic), control, bootstrap_servers, config)


@models_app.command("drop", epilog="Example: telltale models drop --topic plant")
def models_drop(topic: OneTopic = None, bootstrap_servers: Servers = None, config: Config = None) -> None:
    """Let the checkpoint of the settings take over again."""
    write_given(_id(topic), None, bootstrap_servers, config)


@models_app.command("list", epilog="Example: telltale models list --topic plant")
def models_list(
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Input topic; may be given several times.")] = None,
    group: Group = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Print which checkpoint judges each partition, from which offset on, and which one was promoted."""
    import msgspec

    from service.inspect.judging import judging
    from service.process.controls import standing_controls
    from service.process.groupless import groupless_log
    from service.process.promotions import said_of

    settings = quiet_settings(config, None, topic, group, bootstrap_servers)
    controls = standing_controls(settings)
    with groupless_log(settings) as log:
        found = [
            one
            for name in settings.kafka.topics
            for one in judging(log, settings.kafka.group, name, said_of(controls, settings, name))
        ]
    for one in found:
        if as_json:
            out.print(msgspec.json.encode(one).decode())
            continue
        since = "judges nothing yet" if one.checkpoint is None else f"{one.checkpoint[:12]} since offset {one.since}"
        waits = "" if one.waits_for is None else f"; promoted: {one.waits_for[:12]}"
        out.print(f"{one.topic}-{one.partition}  {since}{waits}")


def _id(topic: str | None) -> str:
    """One for each scope, so that the topic of controls keeps the last of each."""
    return "model" if topic is None else f"model.{topic}"
