"""What a record of unknown form probably is, and the mapping that would read it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from models.data.number_clocks import clock_of
from models.data.stream_key import flaw_of
from models.data.time_units import date_in_digits, looks_like
from service.errors import RefusedSetting, RejectedReading
from service.input import avro, otlp, protobuf, senml, sparkplug
from service.input.documents import documents_in_text, influx_documents, json_documents
from service.input.formats import TopicMapping
from service.input.names import NO_FEATURES, STREAMS, TIMES, TIMES_MORE
from service.input.numbers import signs_of
from service.input.presets import PRESETS
from service.input.reasons import Reason
from service.input.registry import ID_BYTES, Registry, schema_id

MOST_SCHEMAS = 2**20  # of a registry: higher numbers are ids of none
DIGITS = re.compile(r"[0-9]{1,20}")
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
TIMES_WITHIN = ("observedat", "received_at", "receivedat")
METRICS = ("name", "metric", "metricname", "metric_name", "variable", "parameter")
HOSTS = ("host", "hostname")  # where nothing else names a stream
LABELS = ("tags", "labels", "dimensions")
SINGLES = ("value", "v", "val", "reading", "measurement", "state", "payload")
BODIES = ("body", "payload", "data", "value", "message")  # of envelopes, as text
QUALITIES = ("quality", "statuscode", "status_code", "q")
HOLDERS = ("values", "fields", "data", "measurements", "readings", "payload")
HOLDERS_WITHIN = (*HOLDERS, "decoded_payload", "telemetry", "object", "metrics", "body", "reported", "sensors")
GENERIC = ("properties", "value", "current", "new_state")  # names of objects that do not say what is in them
DEEPEST = 3  # objects within objects that are looked into
GOOD_OF_OPC_DA = 192  # and more, where OPC UA has 0
MANY = ("metrics", "readings", "measurements", "items", "records", "data", "points", "values")


DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d %b %Y", "%b %d %Y")
CLOCKS = (" %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", "")
DATE_AND_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
DAY_AND_MONTH = re.compile(r"(\d\d?)[/-](\d\d?)[/-]\d{4}")


Place: TypeAlias = tuple[str, Mapping[str, Any]]  # an object, and the path to what is in it


class Guess(NamedTuple):
    """What it is, in words if it has any, and settings of `input.topics.TOPIC`; None: what reads it is not known.

    needs: what must be done before they read it.
    """

    what: str
    settings: Mapping[str, Any] | None
    needs: str = ""

    @property
    def yaml(self) -> str:
        """The settings as YAML writes them in one line."""
        inner = ", ".join(f"{name}: {_flow(value)}" for name, value in (self.settings or {}).items())
        return f"{{{inner}}}"

    @property
    def joined(self) -> "Guess | None":
        """Of records of one metric each: settings by which the metrics of a stream are joined."""
        fields = {**PRESETS.get(str((self.settings or {}).get("preset")), {}), **(self.settings or {})}
        stream, values = fields.get("stream"), fields.get("values", "values")
        if isinstance(stream, str) or not stream or len(stream) == 1 or stream[-1].lower() not in METRICS:
            return None
        if not isinstance(values, str) or values == "@":
            return None
        return self._replace(settings={**(self.settings or {}), "stream": [*stream[:-1]], "metric": stream[-1]})

    def mapping(self, topic: str, registry: Registry | None = None) -> TopicMapping | None:
        """The same, to read with."""
        if self.settings is None:
            return None
        given = {name: value for name, value in self.settings.items() if name != "preset"}
        fields = {**PRESETS.get(str(self.settings.get("preset")), {}), **given}
        for name in ("stream", "good", "select"):
            if name in fields:
                fields[name] = tuple(fields[name]) if isinstance(fields[name], list | tuple) else (fields[name],)
        return TopicMapping(f"input.topics.{topic}", **fields, registry=registry)


def guess(
    key: bytes | None, value: bytes | None, headers: Sequence[str] = (), registry: Registry | None = None
) -> Guess | None:
    """None where nothing is known that reads it. headers: their names. Raises RegistryUnavailable."""
    if value is None:
        return Guess("no value", {"tombstones": "ignore"})
    schema = schema_id(value)
    if schema is not None and len(value) > ID_BYTES and 0 < schema < MOST_SCHEMAS:
        return _of_registry(key, value, schema, registry)
    try:
        (document, *_) = json_documents(value)
    except (RejectedReading, ValueError):
        return _of_lines(key, value)
    return _of_document(key, document, headers, registry)


def _of_pack(document: list[Any]) -> Guess | None:
    """A pack of SenML."""
    first = _first(document)
    if "bn" not in first and not {"n", "v"} <= first.keys():
        return None
    try:
        found = senml.records_of([document])
    except RejectedReading:
        return None
    timed = all("t" in one for one in found)
    return Guess("SenML", {"preset": "senml", **({} if timed else {"time": "$time"})})


def _of_lines(key: bytes | None, value: bytes) -> Guess | None:
    try:
        (line, *_) = influx_documents(value)
    except RejectedReading:
        return _of_sparkplug(key, value) or _of_otlp(value)
    time = {"time": "$time"} if line["time"] is None else _unit(line["time"], "ns")
    return Guess("Influx's line protocol", {"preset": "influx", **time, **_of_tags(key, line["tags"])})


def _of_sparkplug(key: bytes | None, value: bytes) -> Guess | None:
    """A payload under the topic that it was published to."""
    settings = {"preset": "sparkplug"}
    mapping = Guess("", settings).mapping("")
    try:
        if mapping is None or key is None or not sparkplug.topic_of(key)["measures"]:
            return None
        list(sparkplug.documents_of(mapping)(value))
    except RejectedReading as rejected:
        if rejected.reason != Reason.UNKNOWN_ALIAS:
            return None
    return Guess("Sparkplug B", settings)


def _of_otlp(value: bytes) -> Guess | None:
    """Metrics of OpenTelemetry."""
    what = "OpenTelemetry's metrics"
    try:
        first = next((one for one in otlp.documents_of("")(value) if one["scalar"]), None)
    except RejectedReading:
        return None
    except RefusedSetting:
        # A field with the number 1 that is a message, as every request begins.
        return Guess(what, None, otlp.INSTALL) if value[:1] in (b"\n", b"{") else None
    named = {} if first is None or first["source"] is not None else {"stream": "series"}
    return Guess(what, {"preset": "otlp", **named})


def _of_tags(key: bytes | None, tags: Mapping[str, Any]) -> dict[str, Any]:
    if key is not None and flaw_of(key) is None:
        return {}
    return {"stream": [f"tags.{_path(name)}" for name in tags] or ["$topic"]}


def _of_document(key: bytes | None, document: Any, headers: Sequence[str], registry: Registry | None) -> Guess | None:
    if isinstance(document, str) and document.lstrip().startswith(("{", "[")):
        document = _in_text(document)
    if isinstance(document, list) and document:
        if (pack := _of_pack(document)) is not None:
            return pack
        document = document[0]
    if not isinstance(document, dict):
        if not _is_number(document):
            return None
        found = {"time": "$time", "values": "@", **_decimal([document])}
        return Guess("a number", {**found, **_of_key(key, {}, found, registry)})
    if isinstance(document.get("resourceMetrics"), list):
        return _of_otlp(json.dumps(document).encode())
    settings = _of_producer(document, headers)
    if settings is None and (found_body := _body_of(document)) is not None:
        body, reading = found_body
        document = {**document, body: [reading]}
        inner = _of_reading(reading, document)
        settings = None if inner is None else ("an envelope", {"readings": _path(body), **inner})
    settings = settings or _of_object(document)
    if settings is None:
        return None
    what, found = settings
    return Guess(what, {**found, **_of_key(key, document, found, registry)})


def _body_of(envelope: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The name of a text that holds readings, and the first of them."""
    name = _named(envelope, BODIES)
    if name is None or not isinstance(envelope[name], str):
        return None
    found = _in_text(envelope[name])
    if isinstance(found, dict):
        return name, found
    return (name, first) if (first := _first(found)) else None


def _in_text(text: str) -> Any:
    """What a text holds as JSON, or as that in base64; None: neither."""
    try:
        return documents_in_text(text, "")[0]
    except RejectedReading:
        return None


def _of_registry(key: bytes | None, value: bytes, schema: int, registry: Registry | None) -> Guess | None:
    """A value behind the id of its schema."""
    if value[ID_BYTES : ID_BYTES + 1] in (b"{", b"["):
        found = guess(key, value[ID_BYTES:], (), registry)
        return found and found._replace(settings={"format": "json-schema", **(found.settings or {})})
    document, what = _by_registry(registry, value), "Avro"
    if document is None:
        document, what = _protobuf_by_registry(registry, value), "Protobuf"
    if document is None:
        return Guess(f"Avro or Protobuf with schema id {schema} of a schema registry", None)
    found = _of_document(key, document, (), registry)
    return found and found._replace(what=what, settings={"format": what.lower(), **(found.settings or {})})


def _by_registry(registry: Registry | None, framed: bytes) -> Any:
    """What it is as Avro; None if it is none."""
    try:
        return None if registry is None else avro.of_registry(registry).document(framed)
    except RejectedReading:
        return None


def _protobuf_by_registry(registry: Registry | None, framed: bytes) -> Any:
    """What it is as Protobuf; None if it is none."""
    try:
        return None if registry is None else next(iter(protobuf.of_registry(registry).documents(framed)))
    except RejectedReading:
        return None


def _metric_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Telegraf's metric, the first of a batch."""
    first = _first(document.get("metrics"))
    return first if "fields" in first else document


def _of_producer(document: Mapping[str, Any], headers: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """Forms that are known by their names."""
    telegraf = _metric_of(document)
    if isinstance(telegraf.get("fields"), dict) and isinstance(telegraf.get("tags", ""), dict | None):
        return "Telegraf's JSON", {"preset": "telegraf", **_unit(telegraf.get("timestamp"), "s")}
    inner = document["payload"] if "schema" in document and isinstance(document.get("payload"), dict) else document
    if isinstance(inner.get("after"), dict) and "op" in inner:
        return "a change of a table by Debezium", {"preset": "debezium"}
    if inner is not document:
        found = _of_object(inner)
        within = {} if found is None else {"values": "values", **found[1]}
        if within.get("values") == "@":  # as the preset says
            del within["values"]
        return "Kafka Connect's JSON with a schema", {"preset": "connect", **within}
    if "specversion" in document and "data" in document:
        return "a CloudEvent", {"preset": "cloudevents"}
    if "ce_specversion" in headers:
        return "the data of a CloudEvent", {"preset": "cloudevents-binary"}
    return None


def _of_object(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """An object of names that say what they are, or one that holds many of those."""
    for name in MANY:
        holder = _named(document, (name,))
        first = _first(document.get(holder)) if holder else {}
        if holder and first and (found := _of_reading(first, document)) is not None:
            return "an array of readings", {"readings": _path(holder), **found}
    found = _of_reading(document, document)
    if found is None or found.get("values") == "@":  # numbers beside an object that holds the values are none of them
        found = _of_objects_within(document, named=found is not None) or found
    return None if found is None else ("", found)


def _of_objects_within(document: Mapping[str, Any], *, named: bool = False) -> dict[str, Any] | None:
    """Values that lie some objects deep, and times that may lie elsewhere in the record.

    named: only in an object whose name says that it holds them.
    """
    places, names = [*_places(document, "", DEEPEST)], (*TIMES, *TIMES_MORE, *TIMES_WITHIN)
    for path, within in places:
        holder = _named(within, HOLDERS_WITHIN)
        inside = within.get(holder) if holder else None
        if isinstance(inside, dict) and any(map(_is_number, inside.values())):
            return {"values": f"{path}{_path(holder or '')}", **_decimal([*inside.values()]), **_time(places, names)}
    singles = {
        path: _named(within, SINGLES)
        for path, within in places
        if path and (single := _named(within, SINGLES)) and _is_number(within[single])
    }
    if not singles or named:
        return None
    by_name = {_name_of(path): f"{path}{_path(single or '')}" for path, single in singles.items()}
    texts = [within[single] for path, within in places if (single := singles.get(path))]
    return {"values": by_name, **_decimal(texts), **_time(places, names)}


def _name_of(path: str) -> str:
    """The last name on a path that says what is there. path: with a point behind it."""
    names = [name.strip('"') for name in path.split(".")[:-1]]
    return next((name for name in reversed(names) if name.lower() not in GENERIC), names[-1])


def _places(found: Mapping[str, Any], path: str, depth: int) -> Iterator[Place]:
    """Objects with the path to what is in them, those that lie less deep first."""
    level = [(path, found)]
    for _ in range(depth + 1):
        yield from level
        level = [
            (f"{outer}{_path(str(name))}.", inner)
            for outer, holder in level
            for name, inner in holder.items()
            if isinstance(inner, dict)
        ]


def _of_reading(reading: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any] | None:
    values = _values(reading)
    if values is None:
        return None
    around = [] if reading is record else [("$record.", record)]
    return {**_time([("", reading), *around]), **values}


def _time(places: Sequence[Place], names: Sequence[str] = (*TIMES, *TIMES_MORE)) -> dict[str, Any]:
    """In the first of the places that has one of the names; a day and a clock side by side are joined."""
    for path, within in places:
        both = _named(within, ("date",)), _named(within, ("time",))
        if None not in both and isinstance(within[both[1] or ""], str) and "-" not in within[both[1] or ""]:
            joined = f'join(`"T"`, [{_path(both[0] or "")}, {_path(both[1] or "")}])'
            return (
                {"time": joined, **_unit("T".join(str(within[name or ""]) for name in both), "ms")} if not path else {}
            )
        if (name := _named(within, names)) is not None:
            where = f"{path}{_path(name)}"
            return {**({} if where == "timestamp" else {"time": where}), **_unit(within[name], "ms")}
    return _only_time(places) or {"time": "$time"}


def _only_time(places: Iterable[Place]) -> dict[str, Any] | None:
    """The one text in a reading that is a time, whatever its name."""
    for path, within in places:
        times = [str(name) for name, one in within.items() if isinstance(one, str) and DATE_AND_CLOCK.match(one)]
        if len(times) == 1:
            return {"time": f"{path}{_path(times[0])}", **_unit(within[times[0]], "ms")}
    return None


def _unit(time: Any, usual: str) -> dict[str, Any]:
    """How a time is written, where it is not as usual."""
    if isinstance(time, str) and DIGITS.fullmatch(time.strip()):
        time = int(time)
    if isinstance(time, int) and (form := date_in_digits(time)) is not None:
        return {"time_format": form, "time_zone": "UTC"}
    if isinstance(time, int | float) and (clock := clock_of(time)) is not None:
        return {"time_format": clock}
    if isinstance(time, int | float):
        unit = looks_like(time)
        return {} if unit is None or unit.value == usual else {"time_unit": unit.value}
    if isinstance(time, str):
        try:
            return {"time_zone": "UTC"} if datetime.fromisoformat(time.strip()).tzinfo is None else {}
        except ValueError:
            found = _format(time.strip())
            return {} if found is None else {"time_format": found, "time_zone": "UTC"}
    return {}


def _format(text: str) -> str | None:
    """The format of a time, where a day cannot be taken for a month."""
    for written in DATES:
        for clock in CLOCKS:
            try:
                datetime.strptime(text, f"{written}{clock}")  # noqa: DTZ007
            except ValueError:
                continue
            both = DAY_AND_MONTH.match(text)
            if both is not None and max(int(both[1]), int(both[2])) <= 12 and int(both[1]) != int(both[2]):
                return None
            return f"{written}{clock}"
    return None


def _values(reading: Mapping[str, Any]) -> dict[str, Any] | None:
    for name in HOLDERS:
        holder = _named(reading, (name,))
        found = reading.get(holder) if holder else None
        inside = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else []
        if holder and any(_is_number(one) for one in inside):
            return {**({} if holder == "values" else {"values": _path(holder)}), **_decimal(inside)}
    single = _named(reading, SINGLES)
    if single is not None and _is_number(reading[single]):
        return {"values": _path(single), **_decimal([reading[single]]), **_quality(reading)}
    flat = [one for name, one in reading.items() if name.lower() not in NO_FEATURES]
    return {"values": "@", **_decimal(flat)} if any(_is_number(one) for one in flat) else None


def _decimal(values: Sequence[Any]) -> dict[str, Any]:
    """That of numbers in text; nothing where each may have either, as 1.230 may be 1230."""
    texts = {one: signs for one in values if isinstance(one, str) and (signs := signs_of(one))}
    sure = next((signs[0] for signs in texts.values() if len(signs) == 1), None)
    if sure is None and texts and not any("." in one or "," in one for one in texts):
        return {"decimal": "."}  # whole numbers
    return {} if sure is None else {"decimal": sure}


def _quality(reading: Mapping[str, Any]) -> dict[str, Any]:
    name = _named(reading, QUALITIES)
    return {} if name is None else {"quality": _path(name), "good": _good(reading[name])}


def _good(quality: Any) -> str | int:
    """The flag of good values, by one that may be of a bad one."""
    if isinstance(quality, bool):
        return True
    if isinstance(quality, int) and quality >= GOOD_OF_OPC_DA:
        return GOOD_OF_OPC_DA
    return "good" if isinstance(quality, str) else 0


def _of_key(
    key: bytes | None, document: Mapping[str, Any], found: Mapping[str, Any], registry: Registry | None
) -> dict[str, Any]:
    """How the key is written, and where the stream's name is if not there."""
    preset = found.get("preset")
    holder = document.get(str(found.get("readings")))
    reading = _first(holder) or document
    metric = _named(reading, METRICS) if found.get("values") and found["values"] != "@" else None
    more = [_path(metric)] if metric and isinstance(reading[metric], str) else []
    if preset == "telegraf":
        return _of_tags(key, _metric_of(document).get("tags") or {})
    if preset in ("cloudevents", "cloudevents-binary"):
        return {}
    if key is None:
        parts = _stream_of(reading, document) if reading is document else _stream_of(reading, {})
        if not parts and reading is not document:
            parts = [f"$record.{one}" for one in _stream_of(document, document)]
        host = _named(reading, HOSTS)
        parts = parts or (_labels_of(reading) if more else []) or ([_path(host)] if host else [])
        return {"stream": (parts + more if parts or more else ["$topic"])}
    settings: dict[str, Any] = {}
    base = "$key"
    if flaw_of(key) is not None:
        base, settings = _written_key(key, registry)
    stream = [base, *(part for part in more if str(reading[metric or ""]).encode() not in key)]
    return settings if stream == ["$key"] else {**settings, "stream": stream}


def _stream_of(reading: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """The path of what names a sensor or a machine, in the reading or some objects deep in the document."""
    for path, within in [("", reading), *_places(document, "", DEEPEST)]:
        if (name := _named(within, STREAMS)) and isinstance(within[name], str | int):
            return [f"{path}{_path(name)}"]
    return []


def _labels_of(reading: Mapping[str, Any]) -> list[str]:
    """The paths of labels of a metric: together they tell one from another."""
    holder = _named(reading, LABELS)
    labels = reading[holder] if holder else None
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        return []
    return [f"{_path(holder or '')}.{_path(name)}" for name in labels if name != "__name__"]


def _written_key(key: bytes, registry: Registry | None) -> tuple[str, dict[str, Any]]:
    if (decoded := _by_registry(registry, key)) is not None:
        return _below_key(decoded), {"key_format": "avro"}
    try:
        decoded = json.loads(key)
    except (ValueError, RecursionError):
        return "$key", ({"key_format": "integer"} if len(key) in (4, 8) else {})
    return _below_key(decoded), {"key_format": "json"}


def _below_key(decoded: Any) -> str:
    """The path of what is the name in a key, probably."""
    if not isinstance(decoded, dict) or not decoded:
        return "$key"
    return f"$key.{_path('payload' if 'payload' in decoded else str(next(iter(decoded))))}"


def _named(found: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that is there, as it is written there."""
    there = {str(name).lower(): str(name) for name in found}
    return next((there[name] for name in names if name in there), None)


def _first(found: Any) -> Mapping[str, Any]:
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return bool(signs_of(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _path(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _flow(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(name)}: {_flow(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z$_][A-Za-z0-9$_./-]*", value):
        return f"'{value}'"
    return str(value)
