"""The reference: each page is made from the code that it describes, when the site is built."""

import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import typer
from prometheus_client import CollectorRegistry

from docs.input_formats import input_formats
from docs.tables import block, page, table
from service.cli.main import app as commands_app
from service.http.app import app as http_app
from service.http.past_process import PastProcess
from service.input.anomaly import Anomaly, Channel
from service.input.events import Event
from service.input.notices import MODEL_PROMOTED, STATE_LOST, STATE_PRIMED, ModelPromoted, Notice, StateLost
from service.input.scores import CHANNEL_COLUMNS, ScoredReading
from service.live.insights import Insight
from service.live.metrics import Build, Metrics
from service.live.reporter import REASONS, STAGES
from service.live.status import (
    CheckpointStatus,
    Notified,
    PartitionStatus,
    ProcessState,
    ShadowPartition,
    ShadowStatus,
    Status,
    StatusBoard,
    WorkerProcess,
    WorkerState,
)
from service.live.streams import Streams
from service.notify.delivery import RECEIVERS
from service.notify.score_feed import FeedStatus
from service.notify.score_metrics import ScoreFeedMetrics
from service.process.incidents import new_book
from service.settings.incident_section import IncidentSettings
from service.settings.input_section import TopicInput
from service.settings.models_section import TopicModel
from service.settings.settings import PREFIX, SECTIONS, Settings
from service.stages.incidents.changes import AnomalyChange
from service.stages.incidents.controls import Acknowledgement, Dependency, Holds, Label, PromotedModel, Quiet
from service.stages.incidents.events import (
    ControlData,
    FirstCause,
    IncidentData,
    IncidentEvent,
    LostIncidentsData,
    NamedMember,
)
from service.stages.incidents.label_rules import Example
from service.stages.incidents.metrics import CAUSES, CHANGES, CONTROL_KINDS, STATES, IncidentMetrics
from service.stages.incidents.quiet import QuietTimes
from service.stages.incidents.stage import IncidentStatus
from service.stages.rekey.metrics import RekeyMetrics
from service.stages.rekey.stage import RekeyStatus
from service.state.open_alarms import SEVERITIES
from service.worker.worker import PROBLEMS

GENERATED = "*This page is generated from the code of this version.*"
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 70 the worker's loop stood still."
# A field of a struct, with the comment behind it.
FIELD = re.compile(r"^    (\w+): ([^=#]+?)(?: = [^#]+?)?(?:  # (.+))?$")
# Fields of events whose names say it, so that the source does not.
PLAIN_FIELDS = {
    "stream": "the stream's name, as in the message's key",
    "score": "of the reading at which the anomaly changed; 1.0 is the alarm threshold",
    "peak": "the highest score so far",
    "opened_at": "time of the reading that opened it, RFC 3339",
    "closed_at": "time of the reading that closed it, RFC 3339; null while it is open",
    "channels": "one for each feature, below",
    "checkpoint": "SHA-256 of the checkpoint that judged",
    "topic": "input topic of the reading",
    "partition": "input partition of the reading",
    "offset": "input offset of the reading's message",
    "name": "the feature",
    "observed": "the reading's value; null where it is missing",
    "expected": "what the memory expected; null where it does not know yet",
    "lower": "lower end of the band",
    "upper": "upper end of the band",
    "reason": "one word: what was found wrong",
    "detail": "the same in words",
}
SECTION_INTRODUCTIONS = {
    "kafka": "Brokers, topics, the group, and how to log in.",
    "http": "The page, the API, health and metrics.",
    "log": "What is logged, and in which form.",
    "input": "How records are read.",
    "detection": "What is known of sensors: [how rules are written](../how-to/configure.md#what-is-known-of-sensors).",
    "limits": "Which readings are believed, and how many streams are remembered.",
    "state": "How the streams' memory is kept, and what is done where it is lost.",
    "shadow": "A second model that is compared: [compare before you promote]"
    "(../how-to/train.md#compare-before-you-promote).",
    "metrics": "What metrics name.",
    "scores": "A topic with every judged reading: [scores as a stream](../how-to/scores.md).",
    "remote_write": "To whom `telltale remote-write` sends scores: "
    "[scores in Prometheus](../how-to/scores.md#into-prometheus).",
    "incidents": "Which anomalies are one incident, and of how many incidents people are notified: "
    "[on call](../on-call.md).",
    "rekey": "Topics whose records are written again, keyed by their streams: "
    "[a stream in several partitions](../how-to/read-any-topic.md#a-stream-in-several-partitions).",
    "notifications": "Who is notified of anomalies beside the topic.",
}


def pages() -> dict[str, str]:
    """Markdown by the page's path below docs/."""
    made: dict[str, Callable[[], str]] = {
        "commands": commands,
        "settings": settings,
        "input": input_formats,
        "events": events,
        "http": http,
        "metrics": metrics,
        "python": python,
    }
    return {f"reference/{name}.md": f"{make()}\n{GENERATED}\n" for name, make in made.items()}


# Settings


def settings() -> str:
    top = Settings.model_json_schema()["properties"]
    single = {name: top[name] for name in Settings.model_fields if name not in SECTIONS}
    sections = [
        f"## {name}\n\n{SECTION_INTRODUCTIONS[name]}\n\n{_settings_table(name, section.model_json_schema())}"
        for name, section in SECTIONS.items()
    ]
    example = block("yaml", "checkpoint: plant.safetensors\nkafka:\n  topics: [plant]\nlimits:\n  max_streams: 50000")
    return page(
        "# Settings",
        f"A setting is a line of a YAML file (`--config`, or `{PREFIX}CONFIG`), an environment variable, and for some "
        "an option. An option wins over the environment, the environment over the file. The variable of "
        f"`section.name` is `{PREFIX}SECTION__NAME`; lists are written with commas there.",
        example,
        "`telltale config show` prints what is in effect and where each value comes from; `telltale config check` says "
        "what is wrong. A key that is not here is an error.",
        "## No section",
        _settings_table("", {"properties": single}),
        *sections,
        "## input.topics",
        "A section for each topic whose records have another form: [read any topic](../how-to/read-any-topic.md). "
        f"{TopicInput.__doc__} In the environment `{PREFIX}INPUT__TOPICS` holds all of them as JSON.",
        _settings_table("input.topics.TOPIC", TopicInput.model_json_schema()),
        "## models",
        "A section for each topic that a model of its own judges: "
        f"[several models](../how-to/configure.md#several-models). In the environment `{PREFIX}MODELS` holds all of "
        "them as JSON.",
        _settings_table("models.TOPIC", TopicModel.model_json_schema()),
    )


def _settings_table(section: str, schema: dict[str, Any]) -> str:
    rows = [
        (
            f"`{section}.{name}`" if section else f"`{name}`",
            _accepted(field),
            f"`{json.dumps(field['default'])}`",
            field["description"],
        )
        for name, field in schema["properties"].items()
    ]
    return table(("setting", "value", "default", "meaning"), rows)


def _accepted(field: dict[str, Any]) -> str:
    """What a setting takes, in words, from its JSON schema."""
    if "anyOf" in field:
        return " or ".join(_accepted(one) for one in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    words = {
        "integer": "whole number",
        "boolean": "`true`, `false`",
        "array": "list",
        "object": "mapping",
        "string": "text",
        "null": "`null`",
    }
    kind = {"password": "secret", "path": "path"}.get(field.get("format", ""), words.get(field["type"], field["type"]))
    bounds = (
        ("exclusiveMinimum", "above {:,}"),
        ("minimum", "from {:,}"),
        ("maximum", "to {:,}"),
    )
    return " ".join([kind, *(words.format(field[bound]) for bound, words in bounds if bound in field)])


# Commands


def commands() -> str:
    return page("# Commands", EXIT_CODES, *_of_group(typer.main.get_command(commands_app), "telltale"))


def _of_group(group: Any, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _of_group(command, f"{path} {name}")
        else:
            yield from _of_command(command, f"{path} {name}")


def _of_command(command: Any, path: str) -> Iterator[str]:
    context = typer.Context(command, info_name=path)
    yield f"## {path}"
    yield command.help
    usage = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), command.get_usage(context))
    yield block("text", usage.removeprefix("Usage: "))
    if command.epilog:
        yield block("sh", command.epilog.removeprefix("Example: "))
    taken = [said for one in command.params if (said := one.get_help_record(context)) is not None]
    if taken:
        yield table(("option", "meaning"), [(f"`{option}`", meaning) for option, meaning in taken])


# Metrics


def metrics() -> str:
    families = [family for family in everything_exported().collect() if family.name.startswith("telltale_")]
    rows = []
    for family in families:
        (name, *_), labels = sorted({sample.name for sample in family.samples}, key=len), set[str]()
        labels.update(*(sample.labels for sample in family.samples))
        labels.discard("le")
        shown = family.name if family.type == "histogram" else name
        rows.append(
            (f"`{shown}`", family.type, ", ".join(f"`{label}`" for label in sorted(labels)), family.documentation)
        )
    return page(
        "# Metrics",
        "At `/metrics` of every service, as Prometheus or OpenMetrics text; `telltale_incident…` at that of "
        "`telltale incidents`, `telltale_rekey_…` at that of `telltale rekey`, `telltale_remote_write_…` at that of "
        "`telltale remote-write`. No label holds a stream's name but that "
        "of `telltale_top_stream_peak_ratio`, which is off by default (`metrics.top_streams`). A histogram has the "
        "series `_bucket`, `_sum` and `_count`. [Monitoring](../monitoring.md) says what to make of them.",
        table(("metric", "type", "labels", "meaning"), rows),
        "## Words that labels hold",
        table(
            ("label", "values"),
            [
                (f"`{label}`", ", ".join(f"`{value}`" for value in values))
                for label, values in (
                    ("reason", REASONS),
                    ("severity", SEVERITIES),
                    ("problem", PROBLEMS),
                    ("stage", STAGES),
                    ("receiver", RECEIVERS),
                    ("change", CHANGES),
                    ("cause", CAUSES),
                    ("state", STATES),
                    ("type", CONTROL_KINDS),
                )
            ],
        ),
    )


def everything_exported() -> CollectorRegistry:
    """All that a service with several workers, a partition, a named stream and a shadow shows."""
    workers = (WorkerProcess(1, ProcessState.RUNNING, os.getpid(), 0, 0),)
    partition = PartitionStatus("plant", 0, 1, 2, 3, strongest=(("pump", 1.0),), replay_from=0)
    checkpoint = CheckpointStatus("path", "digest", ("flow",), 0)
    shadow = ShadowStatus(checkpoint, (ShadowPartition("plant", 0),))
    registry = CollectorRegistry()
    Metrics(
        registry,
        StatusBoard(Status(WorkerState.RUNNING, 0, 0, 0.0, checkpoint, (partition,), workers=workers, shadow=shadow)),
        Build("", "", "", ""),
        STAGES,
        REASONS,
        SEVERITIES,
        PROBLEMS,
        notified=lambda: dict.fromkeys(RECEIVERS, Notified()),
        top_streams=1,
    )
    export_stages(registry)
    return registry


def export_stages(registry: CollectorRegistry) -> None:
    """All that the stages beside a service show."""
    IncidentMetrics(registry, IncidentStatus(lag_records=0), lambda: [(kind, Notified()) for kind in RECEIVERS])
    RekeyMetrics(registry, RekeyStatus(lag_records=0))
    ScoreFeedMetrics(registry, FeedStatus(lag_records=0))


# Python


def python() -> str:
    """mkdocstrings puts the package's documentation in place of the last line."""
    return page("# Python", "[Telltale from Python](../python.md) shows how to use it.", "::: telltale")


# HTTP


def http() -> str:
    board = StatusBoard(Status(WorkerState.RUNNING, 0, 0, 0.0, CheckpointStatus("", "", ()), ()))
    # Nothing is asked of it: only what it could be asked is read.
    api = http_app(
        board,
        CollectorRegistry(),
        0,
        "0",
        insight=cast(Insight, object()),
        streams=Streams(),
        past=cast(PastProcess, object()),
        write_control=lambda _record: None,
    ).openapi()
    routes = [_of_route(path, method, what) for path, of in api["paths"].items() for method, what in of.items()]
    return page(
        "# HTTP",
        api["info"]["description"],
        "Every answer's schema is in `/openapi.json` of a worker. [Who may ask](../how-to/secure.md), and "
        "[what many clients may take](../page.md#many-clients-and-slow-ones) of the service, have pages of their own.",
        *routes,
    )


def _of_route(path: str, method: str, route: dict[str, Any]) -> str:
    parameters = [
        (f"`{one['name']}`", _parameter(one), one.get("description", "")) for one in route.get("parameters", ())
    ]
    answers = [
        (code, answer.get("description", "").replace("Successful Response", "OK"), _fields(answer))
        for code, answer in sorted(route["responses"].items())
    ]
    return page(
        f"## {method.upper()} {path}",
        route.get("description", ""),
        table(("parameter", "value", "meaning"), parameters) if parameters else "",
        table(("status", "meaning", "fields"), answers),
    )


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    kind = schema["$ref"].rpartition("/")[2].lower() if "$ref" in schema else _accepted(schema)
    if parameter["required"]:
        return f"{kind}, required"
    return f"{kind}, default `{json.dumps(schema['default'])}`" if schema.get("default") is not None else kind


def _fields(answer: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return ", ".join(f"`{name}`" for name in schema.get("properties", ()))


# Events


def events() -> str:
    channel = Channel("vibration", 3.24, 2.21, 1.97, 2.45, 0.98)
    opened = "2026-01-21T09:10:28.789Z"
    anomaly = Anomaly(
        anomaly="2b0e4827-7d0a-5bd6-9a53-0ea2f36f9a50",
        stream="line-03/pump-033",
        status="open",
        severity="minor",
        kind="prediction",
        closed_as=None,
        score=1.21,
        peak=1.21,
        opened_at=opened,
        closed_at=None,
        channels=[channel],
        return_period_s=370_285.714,
        witnesses={"prediction": 2_592_000.0, "level": 14_400.0, "range": 3_600.0, "sudden": 43_200.0},
        checkpoint="89a927a74512",
        topic="plant",
        partition=6,
        offset=8233,
    )
    identity, json_type = "c60279ec-50f5-5dd4-8a3b-5a3a7b6c2f0e", "application/json"
    stream, source, kind = anomaly.stream, "/telltale/plant", "telltale.anomaly.opened"
    event = Event("1.0", identity, source, kind, stream, opened, json_type, anomaly)
    lost = StateLost(stream, "corrupt", "page 3: wrong checksum", "plant", 6, 8233, ends_anomalies=True)
    notice = Notice("1.0", "5e0f1d0c-6f3f-5d0e-8a54-5a8a7c0f9b1e", source, STATE_LOST, stream, json_type, lost)
    return page(
        "# Events",
        "What is written to the topic of anomalies (`kafka.anomalies_topic`): CloudEvents 1.0 in structured mode, "
        "header `content-type: application/cloudevents+json`, keyed by the stream, in the partition that its reading "
        "came from. Read them with `isolation.level=read_committed`. The same event has the same id each time.",
        "## Anomalies",
        "Types: `telltale.anomaly.opened`; `telltale.anomaly.updated` when it becomes more severe; "
        "`telltale.anomaly.closed`.",
        block("json", _indented(event)),
        "### data",
        _struct_table(Anomaly),
        "### data.channels",
        _struct_table(Channel),
        "## State that was lost",
        f"Types: `{STATE_LOST}`; `{STATE_PRIMED}`, with the reason `checkpoint`, where another checkpoint judges from "
        "an offset on. "
        f"{StateLost.__doc__} [State](../state.md#what-may-go-wrong-with-it) has the reasons.",
        block("json", _indented(notice)),
        "### data of state.lost",
        _struct_table(StateLost),
        "## Another checkpoint judges",
        f"Type `{MODEL_PROMOTED}`. {ModelPromoted.__doc__} [Promote a checkpoint]"
        "(../how-to/train.md#promote-it-without-a-restart).",
        "### data of model.promoted",
        _struct_table(ModelPromoted),
        "## Scores",
        "On the topic of scores (`scores.topic`; by default there is none): a flat JSON object for each judged reading "
        "of the streams that `scores.streams` names, header `content-type: application/json`, keyed by the stream, in "
        "the partition that its reading came from. [Scores as a stream](../how-to/scores.md) says how to read them.",
        block("json", _indented(_a_score())),
        _struct_table(ScoredReading),
        "Of each feature `NAME` there are four more. All are null where nothing is known.",
        table(
            ("field", "meaning"),
            [(f"`{column}_NAME`", PLAIN_FIELDS[column]) for column in CHANNEL_COLUMNS],
        ),
        "## Incidents",
        "On the topic of incidents (`incidents.topic`), all in partition 0, keyed by the incident. Types: "
        "`telltale.incident.opened`, `telltale.incident.updated`, `telltale.incident.closed`. The header "
        "`telltale-consumed` says which anomalies were taken in since the event before, in their order: "
        "[on call](../on-call.md). Where the state of incidents is lost, one event `telltale.incidents.lost` ends all "
        "that are open.",
        block("json", _indented(_an_incident())),
        "### data of incidents",
        _struct_table(IncidentData),
        "### data.first_cause",
        _struct_table(FirstCause),
        "### data.members",
        _struct_table(NamedMember),
        "### data of incidents.lost",
        _struct_table(LostIncidentsData),
        "## Controls",
        "What people say, on the topic of controls (`incidents.control_topic`): a JSON object a record. The key is the "
        "control's id; a record without a value takes it back. `telltale control` writes them; [on call]"
        "(../on-call.md#what-people-say) has what each does. All have `type`, `by` (who says it) and `at` (when, RFC "
        "3339), and may have a `note`.",
        "### type quiet",
        _struct_table(Quiet),
        "### type dependency",
        _struct_table(Dependency),
        "### type holds",
        _struct_table(Holds),
        "### type acknowledgement",
        _struct_table(Acknowledgement),
        "### type label",
        _struct_table(Label),
        "### type label: examples",
        _struct_table(Example),
        "### type model",
        _struct_table(PromotedModel),
        "## Controls that took effect",
        "Type `telltale.control.applied`, on the topic of incidents, keyed by the control: one event for each record "
        "of the topic of controls, before the events of the incidents that it changes.",
        "### data of control.applied",
        _struct_table(ControlData),
    )


def _an_incident() -> IncidentEvent:
    """Two machines of a line, a minute apart."""
    book, events, began_ms = new_book(IncidentSettings(), QuietTimes()), list[IncidentEvent](), 1_768_986_628_789
    for n, stream in enumerate(("site/line-03/pump-033/flow", "site/line-03/pump-034/flow")):
        anomaly, at_ms = f"2b0e4827-7d0a-5bd6-9a53-0ea2f36f9a5{n}", began_ms + 60_000 * n
        events += book.observe(AnomalyChange(anomaly, stream, True, n, "prediction", 1.21 + n, at_ms, at_ms))
    return events[-1]


def _a_score() -> dict[str, object]:
    """A reading of one feature."""
    reading = ScoredReading("line-03/pump-033", 1_768_986_628_789, 1.21, True, "plant", 6, 8233, 0)
    channel = zip(CHANNEL_COLUMNS, (3.24, 2.21, 1.97, 2.45), strict=True)
    return {**msgspec.structs.asdict(reading), **{f"{column}_vibration": value for column, value in channel}}


def _indented(message: object) -> str:
    return msgspec.json.format(msgspec.json.encode(message), indent=2).decode()


def _struct_table(struct: type[msgspec.Struct]) -> str:
    """Its fields as the source has them: name, type, and the comment beside or above."""
    rows, above = [], list[str]()
    written = {one.name: one.encode_name for one in msgspec.structs.fields(struct)}
    for line in inspect.getsource(struct).splitlines():
        if line.startswith("    # "):
            above.append(line.removeprefix("    # "))
        elif field := FIELD.match(line):
            name, kind, beside = field.groups()
            meaning = " ".join(filter(None, [*above, beside])) or PLAIN_FIELDS[name]
            rows.append((f"`{written[name]}`", _json_type(kind), meaning.replace("None:", "null:")))
            above = []
    return table(("field", "type", "meaning"), rows)


def _json_type(annotation: str) -> str:
    words = {"str": "text", "float": "number", "int": "whole number", "None": "null"}
    words |= dict.fromkeys(("list[Channel]", "list[NamedMember]", "list[Example]", "list[str]"), "list")
    words |= dict.fromkeys(("FirstCause", "Control"), "object")
    kinds = [words.get(kind, kind) for kind in annotation.split(" | ") if kind != "UnsetType"]
    return " or ".join(kinds) + (", may be left out" if "UnsetType" in annotation else "")
