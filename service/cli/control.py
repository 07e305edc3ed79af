"""`telltale control`: what people say of streams, anomalies and incidents, written to the topic of controls."""

import getpass
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from models.output.wording import counted
from service.cli.moments import duration_s, time_ms
from service.cli.option_checks import one_of
from service.cli.options import AsJson, Config, Force, Servers, load_settings, out
from service.cli.output_files import check_outputs
from service.errors import RefusedSetting

if TYPE_CHECKING:
    from service.stages.incidents.controls import Control

app = typer.Typer()
control_app = typer.Typer(
    no_args_is_help=True, help="Say when streams are quiet, who looks after an incident, what an anomaly was."
)
app.add_typer(control_app, name="control")

Streams = Annotated[list[str], typer.Argument(metavar="PATTERN...", help="Of streams' whole names: site/line-3/*")]
Learn = Annotated[bool, typer.Option("--learn", help="Let the memory learn from them meanwhile.")]
Reason = Annotated[str, typer.Option("--reason", help="As events give it in held_back.")]
Note = Annotated[str, typer.Option("--note", help="In your own words.")]
By = Annotated[str | None, typer.Option("--by", help="Who says it; the name of your account if not given.")]
Id = Annotated[
    str | None, typer.Option("--id", help="Of the control; one that is there is replaced. Made if not given.")
]
From = Annotated[str | None, typer.Option("--from", help="Event time, RFC 3339 or milliseconds.")]
Until = Annotated[str | None, typer.Option("--until", help="Event time, RFC 3339 or milliseconds.")]


class _Said(TypedDict):
    by: str
    at: str
    note: str


@control_app.command("quiet", epilog='Example: telltale control quiet "site/line-3/*" --reason overhaul --for 4h')
def control_quiet(
    streams: Streams,
    reason: Reason,
    begins: From = None,
    until: Until = None,
    for_: Annotated[str | None, typer.Option("--for", help="In place of --until: from now, 90m, 4h, 2d.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="When it begins: minute hour day month weekday.")] = None,
    lasts: Annotated[str | None, typer.Option("--lasts", help="Beside --cron: how long each time, 90m, 2h.")] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Of --cron.")] = "UTC",
    learn: Learn = False,
    note: Note = "",
    by: By = None,
    name: Id = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Notify no one of some streams for a while, or each time that a maintenance window opens; learn nothing."""
    if until is not None and for_ is not None:
        raise RefusedSetting("--until and --for, expected one of them")
    from models.data.rfc3339 import rfc3339
    from service.stages.incidents.controls import Quiet

    ends = _moment("--until", until)
    if for_ is not None:
        ends = rfc3339(_now_ms() + round(1000 * _duration("--for", for_)))
    control = Quiet(
        streams=streams,
        reason=reason,
        begins=_moment("--from", begins),
        until=ends,
        cron=cron,
        lasts_s=None if lasts is None else _duration("--lasts", lasts),
        time_zone=time_zone,
        learn=learn,
        **said_by(by, note),
    )
    write_given(name, control, bootstrap_servers, config)


@control_app.command(
    "depend",
    epilog='Example: telltale control depend "site/line-3/*" --on "site/line-3/drive" --reason "line 3 stands"',
)
def control_depend(
    streams: Streams,
    on: Annotated[list[str], typer.Option("--on", help="Pattern of what they depend on; may be given several times.")],
    reason: Reason,
    learn: Learn = False,
    note: Note = "",
    by: By = None,
    name: Id = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Notify no one of some streams, and learn nothing of them, while what they depend on is anomalous."""
    from service.stages.incidents.controls import Dependency

    control = Dependency(streams=streams, on=on, reason=reason, learn=learn, **said_by(by, note))
    write_given(name, control, bootstrap_servers, config)


@control_app.command("acknowledge", epilog="Example: telltale control acknowledge INCIDENT --note 'on my way'")
def control_acknowledge(
    incident: Annotated[str, typer.Argument(help="Its id, as in its events.")],
    note: Note = "",
    by: By = None,
    name: Id = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Say that someone looks after an incident."""
    from service.stages.incidents.controls import Acknowledgement

    write_given(name, Acknowledgement(incident=incident, **said_by(by, note)), bootstrap_servers, config)


@control_app.command("label", epilog="Example: telltale control label known --anomaly ID --note 'the valve sticks'")
def control_label(
    label: Annotated[
        str, typer.Argument(callback=one_of("fault", "normal", "known"), help="fault, normal, or known: unimportant.")
    ],
    anomaly: Annotated[str | None, typer.Option("--anomaly", help="Its id, as in its events.")] = None,
    streams: Annotated[
        list[str] | None, typer.Option("--streams", help="Or a pattern of streams; may be given several times.")
    ] = None,
    begins: From = None,
    until: Until = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            callback=one_of("day", "week", "always", "none"),
            help="When others like it are normal or known too: around its hour each day, or each week, always, none. "
            "Day if not given; none for --streams.",
        ),
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Of --rule.")] = "UTC",
    note: Note = "",
    by: By = None,
    name: Id = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Say what an anomaly was, or those of some streams that opened between two times, and make a rule of it.

    Later anomalies of the same stream, kind and channel that are not more severe notify no one, until the label is
    taken back.
    """
    from msgspec.structs import replace

    from service.stages.incidents.controls import UNIMPORTANT, Label, check

    if rule is None:
        rule = "day" if anomaly is not None and label in UNIMPORTANT else "none"
    if rule != "none" and label not in UNIMPORTANT:
        raise RefusedSetting(f"--rule is {rule}, expected none for the label {label}")
    control = Label(
        label=label,
        anomaly=anomaly,
        streams=streams or None,
        begins=_moment("--from", begins),
        until=_moment("--until", until),
        **said_by(by, note),
    )
    with refused():
        check(control)
    if anomaly is not None or rule != "none":
        from service.process.labels import examples_of

        settings = load_settings(config, {"kafka.bootstrap_servers": bootstrap_servers})
        period = "always" if rule == "none" else rule
        with refused():
            examples = examples_of(control, period, time_zone, settings)
        if rule != "none":
            control = replace(control, rule=rule, examples=examples, time_zone=time_zone)
        elif label == "fault":
            control = replace(control, examples=examples)
    write_given(name, control, bootstrap_servers, config)
    for one in control.examples if control.rule is not None else ():
        when = {"day": "around the same hour each day", "week": "around the same hour each week"}.get(str(control.rule))
        out.print(
            f"  rule: {one.stream}, {one.kind}, channel {one.channel or 'unknown'}, at most {one.severity}"
            f"{f', {when} as {one.opened_at} ({time_zone})' if when else ''}"
        )


@control_app.command("labels", epilog="Example: telltale control labels --out labels.csv")
def control_labels(
    out_file: Annotated[Path, typer.Option("--out", help="CSV file to write.")],
    force: Force = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Write what people called anomalies, as stretches of streams: for telltale evaluate and telltale train --labels.

    An anomaly's stretch is from its opening to its end; a label of a span in which there was none is that span.
    """
    check_outputs(out_file, force=force)
    settings = load_settings(config, {"kafka.bootstrap_servers": bootstrap_servers})

    from models.output.output_file import write_or_keep
    from service.process.anomalies import told_anomalies
    from service.process.controls import standing_controls
    from service.process.labels import as_csv, said_windows

    said = said_windows(standing_controls(settings), told_anomalies(settings))
    write_or_keep(out_file, as_csv(said.windows))
    counts = Counter(one.label for one in said.windows)
    found = ", ".join(f"{counts[label]} {label}" for label in sorted(counts)) or "no labels"
    out.print(f"{out_file}: {counted(len(said.windows), 'stretch', 'stretches')} ({found})")
    if said.unknown:
        out.print(
            f"left out: {counted(said.unknown, 'label')} of anomalies whose events are no longer on "
            f"{settings.kafka.anomalies_topic}"
        )


@control_app.command("take-back", epilog="Example: telltale control take-back quiet-5f0c1a2b")
def control_take_back(
    name: Annotated[str, typer.Argument(metavar="ID", help="Of the control.")],
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Take back what has this id: a quiet time ends, a label or an acknowledgement is removed."""
    write_given(name, None, bootstrap_servers, config)


@control_app.command("list", epilog="Example: telltale control list --type label --json > labels.jsonl")
def control_list(
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            callback=one_of("quiet", "dependency", "holds", "acknowledgement", "label", "model"),
            help="Those of one type: quiet, dependency, holds, acknowledgement, label or model.",
        ),
    ] = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Print what is on the topic of controls and not taken back, the oldest first, also what is long past."""
    settings = load_settings(config, {"kafka.bootstrap_servers": bootstrap_servers})

    import msgspec

    from service.process.controls import standing_controls
    from service.stages.incidents.controls import type_of

    for name, control in standing_controls(settings).items():
        if kind is not None and type_of(control) != kind:
            continue
        said = {"id": name, **msgspec.to_builtins(control)}
        if as_json:
            out.print(msgspec.json.encode(said).decode())
        else:
            about = [f"{key} {value}" for key, value in said.items() if key not in ("id", "type", "by", "at")]
            out.print(f"{name}  {said['type']}  by {control.by} at {control.at}: {', '.join(about)}")


def write_given(name: str | None, control: "Control | None", servers: str | None, config: "Config") -> None:
    """name: the control's id; None: one is made. control: None: it is taken back."""
    from service.process.controls import write_control
    from service.stages.incidents.controls import control_record, type_of

    made = name or f"{type_of(control) if control else 'control'}-{uuid.uuid4().hex[:8]}"
    with refused():
        record = control_record(made, control)
    settings = load_settings(config, {"kafka.bootstrap_servers": servers})
    write_control(settings, record)
    done = "taken back" if control is None else "written"
    out.print(f"{made}: {done}, to {settings.incidents.control_topic}")


@contextmanager
def refused() -> Iterator[None]:
    """What a control's reader would say of it is said of the command."""
    try:
        yield
    except ValueError as error:
        raise RefusedSetting(str(error)) from error


def said_by(by: str | None, note: str) -> _Said:
    """Who says something, and when."""
    from models.data.rfc3339 import rfc3339

    return _Said(by=by or getpass.getuser(), at=rfc3339(_now_ms()), note=note)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _moment(option: str, text: str | None) -> str | None:
    from models.data.rfc3339 import rfc3339

    if text is None:
        return None
    try:
        return rfc3339(time_ms(text))
    except (ValueError, OverflowError) as error:
        raise RefusedSetting(
            f"{option} is {text}, expected a time such as 2026-11-28T08:00:00+01:00 ({error})"
        ) from None


def _duration(option: str, text: str) -> float:
    try:
        return duration_s(text)
    except ValueError:
        raise RefusedSetting(f"{option} is {text}, expected a number with s, m, h, d or w: 90m, 4h, 2d") from None
