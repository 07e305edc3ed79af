"""Who may import whom: read from the sources, so that a shortcut is seen the day it is taken."""

import ast
from pathlib import Path

import pytest

from tests.imports import IMPORTS, ROOT, SOURCES, between_rooms, floors, imports_of, name_of, picture

# Room: the rooms that it may import, from the ground up; each line may name lines above it alone.
MAY_IMPORT = {
    "models.output": "",
    "models.data": "",
    "models.net": "",
    "models.detection": "models.output models.data models.net",
    "models.checkpoints": "models.output models.data models.net models.detection",
    "models.insight": "models.output models.data models.net models.detection",
    "models.training": "models.output models.data models.net models.detection",
    "models.evaluation": """
        models.output models.data models.net models.detection models.checkpoints models.training
    """,
    "service.errors": "",
    "service.failpoints": "",
    "service.host": "",
    "service.log": "models.data service.errors",
    "service.input": "models.data models.detection service.errors service.host service.log",
    "service.settings": "models.data service.errors service.host service.input",
    "service.state": "models.data models.detection service.errors service.log service.input",
    "service.kafka": "models.data service.errors service.failpoints service.host service.log service.state",
    "service.pipeline": """
        models.data models.net models.detection service.failpoints service.log service.input service.state
    """,
    "service.recovery": """
        models.output models.data service.errors service.failpoints service.log service.input service.state
        service.pipeline
    """,
    "service.live": """
        models.data models.detection models.insight service.errors service.host service.log service.input
        service.state service.pipeline
    """,
    "service.stages": "models.data service.errors service.log service.input service.state",
    "service.http": """
        models.output models.data models.detection models.insight service.errors service.host service.log
        service.input service.live service.stages
    """,
    "service.notify": """
        models.data models.detection service.errors service.host service.log service.input service.state
        service.pipeline service.live service.stages
    """,
    "service.inspect": """
        models.output models.data models.detection models.insight service.errors service.log service.input service.state
        service.pipeline service.recovery service.live service.stages
    """,
    "service.worker": """
        models.detection service.errors service.failpoints service.log service.input service.state service.pipeline
        service.recovery service.live
    """,
    "service.process": """
        models.data models.detection models.checkpoints service.errors service.host service.log service.settings
        service.input service.state service.kafka service.pipeline service.recovery service.live service.stages
        service.http service.notify service.inspect service.worker
    """,
    "service.cli": "*",
}

# Library: the rooms or modules that may know it.
KNOWN_IN = {
    "kafka": "service.kafka",
    "crc32c": "service.kafka.record_batches",
    "lz4": "service.kafka.inflating",
    "zstandard": "service.kafka.inflating models.data.text_files",
    "snappy": "service.kafka.inflating service.notify.remote_write",
    "prometheus_client": """
        service.live.metrics service.live.shadow_metrics service.live.histograms service.stages.metrics
        service.stages.incidents.metrics service.stages.rekey.metrics service.notify.score_metrics service.http.app
        service.process.running service.process.servers service.process.incidents service.process.rekey
        service.process.remote_write service.process.stages
    """,
    "pydantic": "service.settings models.checkpoints.checkpoint_header",
    "pydantic_core": "service.settings",
    "pydantic_settings": "service.settings",
    "yaml": "service.settings",
    "jmespath": "service.input.paths",
    "fastavro": "service.input.avro",
    "openpyxl": "models.data.workbook",
    "google": "service.input.protobuf service.input.protobuf_columns service.input.otlp service.input.sparkplug",
    "opentelemetry": "service.input.otlp",
    "line_protocol_parser": "service.input.documents",
    "fastapi": "service.http service.cli.demo",  # the demo serves the same app
    "starlette": "service.http",
    "uvicorn": "service.http.server service.http.connections",
    "numba": "models.detection.compiling",
    "typer": "service.cli",
    "rich": "service.cli",
    "plotly": "models",
    "PIL": "service.http.picture",
    "safetensors": "models.checkpoints.checkpoint models.training.state service.inspect.state_file",
    # A person's settings are read where a command begins.
    "service.settings.settings": "service.cli service.process service.settings",
    # What looks at another's log belongs to no group and joins none.
    "service.kafka.groupless": """
        service.cli service.process.groupless service.process.controls service.process.following
        service.process.worker_controls service.process.anomalies service.kafka
    """,
    # Of Kafka, what runs knows the log alone.
    "service.kafka": "service.kafka service.cli service.process",
    # Where a test may let the process fail: in what a worker does, and in nothing that only looks.
    "service.failpoints": "service.kafka.transactional_writer service.pipeline service.recovery service.worker.worker",
}
# What people import from Python stands above all of them, and knows these: of the service, nothing that runs.
TELLTALE = sorted((ROOT / "telltale").glob("*.py"))
TELLTALE_MAY_IMPORT = """
    models.output models.data models.detection models.checkpoints models.training service.input service.state
    service.cli.trainer
"""
BANNED = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def lies_in(name: str, places: str) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places.split())


def test_the_sources_are_found() -> None:
    assert {"service.pipeline", "models.detection.detector"} <= set(IMPORTS)
    assert "models.detection.detector" in IMPORTS["service.pipeline"]
    assert "torch" in IMPORTS["service.cli.options"], "late imports count"


def test_each_room_has_a_line_in_the_table() -> None:
    assert list(MAY_IMPORT) == [*dict.fromkeys(MAY_IMPORT)]
    assert set(MAY_IMPORT) == set(between_rooms())


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_the_table_allows(room: str) -> None:
    above = list(MAY_IMPORT)[: list(MAY_IMPORT).index(room)]
    allowed = above if MAY_IMPORT[room] == "*" else MAY_IMPORT[room].split()
    assert set(allowed) <= set(above), "a room may only import what stands before it in the table"
    assert between_rooms()[room] <= set(allowed)


def test_nothing_imports_the_package_that_people_import() -> None:
    assert TELLTALE
    assert [module for module, imported in IMPORTS.items() if any(lies_in(name, "telltale") for name in imported)] == []


def test_the_package_that_people_import_is_a_thin_one() -> None:
    ours = {name for path in TELLTALE for name in imports_of(path) if lies_in(name, "models service")}
    assert {name for name in ours if not lies_in(name, TELLTALE_MAY_IMPORT)} == set()
    assert {place for place in TELLTALE_MAY_IMPORT.split() if not any(lies_in(name, place) for name in ours)} == set()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    with pytest.raises(ValueError, match=r"circle: \['a', 'b'\]"):
        floors({"a": {"b"}, "b": {"a", "c"}, "c": set()})
    assert sum(map(len, floors(between_rooms()))) == len(MAY_IMPORT)


def test_the_picture_of_the_house_in_the_documents_is_the_house() -> None:
    drawn = picture(floors(between_rooms()))
    assert drawn in (ROOT / "ARCHITECTURE.md").read_text(), f"expected there what `make map` draws:\n{drawn}"


@pytest.mark.parametrize("library", KNOWN_IN)
def test_a_library_is_known_where_it_belongs_and_nowhere_else(library: str) -> None:
    knows = {module for module, imported in IMPORTS.items() if any(lies_in(name, library) for name in imported)}
    assert knows, f"nothing imports {library}: its line can go"
    assert {module for module in knows if not lies_in(module, KNOWN_IN[library])} == set()


def test_nothing_that_runs_what_it_reads_is_imported() -> None:
    found = {(module, name) for module, imported in IMPORTS.items() for name in imported}
    assert {(module, name) for module, name in found if name.split(".")[0] in BANNED} == set()


@pytest.mark.parametrize("path", [*SOURCES, *TELLTALE], ids=name_of)
def test_nothing_that_runs_what_it_reads_is_called(path: Path) -> None:
    """torch.load unpickles; eval and exec need no comment."""
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"eval", "exec", "compile", "torch.load", "yaml.load", "yaml.unsafe_load"}, node.lineno
        assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords), node.lineno


def test_no_module_is_named_for_nothing_in_particular() -> None:
    parts = {part for module in IMPORTS for part in module.split(".")}
    assert not parts & {"utils", "util", "base", "common", "helpers", "core", "misc"}
