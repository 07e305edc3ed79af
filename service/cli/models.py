"""`telltale models`: which checkpoint judges, and to promote another one while the service runs."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from service.cli.control import By, Note, said_by, write_given
from service.cli.option_checks import file_of, web_address
from service.cli.options import AsJson, Config, Force, Group, Servers, load_checkpoint, out, quiet_settings
from service.cli.output_files import check_outputs

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
    from service.process.worker_controls import said_of

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


@models_app.command("shadow", epilog="Example: telltale models shadow --service http://plant-7:8080 --out shadow.html")
def models_shadow(
    out_file: Annotated[
        Path,
        typer.Option("--out", metavar="FILE.html", callback=file_of(".html", ".htm"), help="Page with what differs."),
    ],
    service: Annotated[
        str | None,
        typer.Option(
            "--service", metavar="URL", callback=web_address, help="Where it answers; by default on this machine."
        ),
    ] = None,
    force: Force = False,
    config: Config = None,
) -> None:
    """Report where the second checkpoint of a running service (shadow.checkpoint) differs from the one that judges.

    Which streams, and which alarms of one alone: when, and with which scores of both. A token is that of the settings.
    """
    check_outputs(out_file, force=force)

    from models.insight.shadow_report import shadow_report
    from service.cli.made import made_now
    from service.cli.shadow import comparison_of, page_link

    settings = quiet_settings(config, None, None, None, None)
    url = service or f"http://127.0.0.1:{settings.http.port}"
    token = None if settings.http.token is None else settings.http.token.get_secret_value()
    page = shadow_report(comparison_of(url, token), partial(page_link, url))
    page.write(out_file, made_now())
    out.print(f"{out_file}: {page.summary}")


def _id(topic: str | None) -> str:
    """One for each scope, so that the topic of controls keeps the last of each."""
    return "model" if topic is None else f"model.{topic}"
