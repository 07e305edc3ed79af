"""Who may import whom: read from the sources, so that a shortcut is seen the day it is taken."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("models", "service") for path in sorted((ROOT / folder).glob("*.py"))]


def name_of(path: Path) -> str:
    return f"{path.parent.name}.{path.stem}"


# What the service takes of the models: what judges, and the types that it hands over.
OPEN_TO_THE_SERVICE = {"detection", "checkpoint", "packing", "tensor_file", "alarm", "rows", "series"}
# And what is the same for both: names to choose from, how files and counts are written, keys, units of times.
OPEN_TO_THE_SERVICE |= {"names", "output_file", "stream_key", "time_units", "wording"}
# How a model comes to be is for the commands that make one.
TRAINING = {"forecaster", "training", "synthetic", "spool"}
MAKE_MODELS = {
    "options",
    "cli_models",
    "cli_kafka",
    "trainer",
    "history",
    "feeding",
    "demo",
    "cli_gradients",
    "cli_compare",
    "cli_evaluate",
}
# What a run of training can be asked for.
RUNS = {"cells", "distributed", "kinds", "kinds_training", "priming", "training_report"}
RUN_TRAINING = {"cli_models", "trainer"}
# How cells remember is measured on its own, apart from any service.
MEMORY = {"cells", "gradients", "gradients_report", "memory_tasks"}
MEASURE_MEMORY = {"cli_gradients"}
# Which of them is worth it, on given data.
COMPARISON = {"cells", "comparison", "comparison_report", "comparison_tables", "kept_runs"}
COMPARE = {"cli_compare"}
# How well anomalies are found, beside simple detectors.
EVALUATION = {"benchmark", "evaluation_report", "evaluation_tables", "kept_runs"}
EVALUATE = {"cli_evaluate"}
# What the memory did and what comes next is asked by people, of files and of live streams.
INSIGHT = {"explanation", "explanation_report", "forecasting"}
LOOK_INTO_MODELS = {"insights", "api_insights", "cli_inspect"}
# Which bits this machine makes is measured where a command begins, and handed on as a word.
NUMERICS = {"numerics"}
MEASURE_NUMERICS = {"cli_state", "running", "demo"}

# What a person calls: reads Settings, builds everything, prints.
COMMANDS = {name_of(path) for path in SOURCES if path.stem.startswith("cli") or path.stem.startswith("option")}

# All that knows the Kafka client.
KAFKA = {name_of(path) for path in SOURCES if path.stem.startswith("kafka_")}

# All that knows the web framework.
HTTP = {
    *(name_of(path) for path in SOURCES if path.stem.startswith("api")),
    "service.access",
    "service.answers",
    "service.connections",
    "service.following",
    "service.serving",
    "service.turns",
}

# Module: who may import it, and why.
ONLY_IN = {
    "kafka": KAFKA,
    "crc32c": {"service.record_batches"},
    "prometheus_client": {
        "service.metrics",
        "service.api",
        "service.running",  # makes the registry that both of them get
    },
    "pydantic": {"service.settings", "service.wire", "models.checkpoint"},
    "pydantic_core": {"service.settings"},
    "pydantic_settings": {"service.settings"},
    "yaml": {"service.settings"},
    "fastapi": {*HTTP, "service.demo"},  # the demo serves the same app
    "starlette": HTTP,
    "uvicorn": {
        "service.serving",
        "service.connections",  # what uvicorn's own connection lacks
    },
    "typer": COMMANDS,
    "rich": {*COMMANDS, "service.trainer", "service.demo"},
    "plotly": {
        "models.report",
        "models.training_report",
        "models.comparison_report",
        "models.gradients_report",
        "models.explanation_report",
        "models.evaluation_report",
        "models.series_report",
    },
    "safetensors": {"models.checkpoint", "models.training_state", "service.state_file"},
    "service.settings": {*COMMANDS, "service.running", "service.feeding"},
    "service.cli": set(),
    **{key: {"service.cli"} for key in sorted(COMMANDS - {"service.cli", "service.options", "service.option_checks"})},
    "service.option_checks": COMMANDS,
    "service.options": COMMANDS,
    "service.kafka_log": {"service.running", "service.demo"},
    "service.kafka_unjoined": {"service.cli_state", "service.cli_models"},
    "service.kafka_topics": {
        "service.kafka_log",  # asks before it starts
        "service.kafka_widths",  # says the same while it runs
        "service.cli_kafka",
        "service.cli_state",
        "service.feeding",
        "service.demo",
    },
    **{f"service.kafka_{name}": KAFKA for name in ("client", "columns", "transactions", "changelog")},
    "service.memory_log": {"service.demo"},
    "service.record_batches": {
        "service.kafka_columns",
        "service.kafka_client",
        # how much of a record is held:
        "service.kafka_log",
        "service.kafka_changelog",
    },
    # What decompresses is known where batches are read, and nowhere else.
    **{key: {"service.inflating"} for key in ("lz4", "zstandard", "snappy")},
    "service.inflating": {"service.record_batches"},
    "service.fitting": {"service.kafka_log", "service.memory_log"},
    # What a changelog record is made of concerns those that write, restore or look at state.
    "service.changelog": {
        "service.state_writer",
        "service.recovery",
        "service.inspection",
        "service.replay",
        "service.state_file",
        "service.kafka_log",  # whose an open transaction is, its records' keys say
        # to say what a row is made of:
        "service.cli_state",
        "service.running",
        "service.demo",
    },
    "service.state_writer": {
        "service.worker",
        "service.inspection",  # what is imported is written as a worker writes it
        "service.cli_state",
        "service.running",
        "service.demo",
    },
    "service.recovery": {
        "service.worker",
        "service.inspection",  # what is exported is restored as a worker restores it
        "service.running",
        "service.demo",
    },
    # Where a test may let the process fail: in what a worker does, and in nothing that only looks.
    "service.failpoints": {"service.kafka_log", "service.pipeline", "service.recovery", "service.worker"},
    "service.watchdog": {"service.running", "service.stopping"},
    "service.stopping": {"service.running"},
    # What goes out over HTTP is put together in one place, and told by the worker alone.
    "service.notifying": {"service.worker", "service.running"},
    "service.delivery": {"service.notifying", "service.alert_book", "service.running"},
    "service.alert_book": {"service.notifying"},
    "service.open_alarms": {"service.worker", "service.notifying", "service.alert_book", "service.running"},
    "service.inspection": {
        "service.cli_state",
        "service.replay",
        "service.cli_inspect",  # how a table is printed
        "service.history",  # a log that is looked at
    },
    "service.state_file": {"service.cli_state", "service.inspection"},
    "service.replay": {
        "service.cli_state",
        "service.cli_inspect",  # how a time is written
        "service.history",  # the same, and how a stretch of a partition is read
    },
}
BANNED = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# An adapter knows the port and the errors; beside them only what is listed here.
ADAPTERS = {
    # The format of the bytes that are fetched; where a commit may fail; how large a dead letter may be.
    **{
        name.split(".")[1]: {"record_batches", "failpoints", "fitting", *(other.split(".")[1] for other in KAFKA)}
        for name in KAFKA
    },
    "kafka_log": {"record_batches", "failpoints", "fitting", "changelog", *(name.split(".")[1] for name in KAFKA)},
    "kafka_unjoined": {"record_batches", "fitting", "transactional_ids", *(name.split(".")[1] for name in KAFKA)},
    "memory_log": {"fitting"},  # its topic of dead letters takes what a broker's does
    "file_log": {"wire"},  # its records are written as `telltale produce` writes them
}


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, late and type-checking imports too, dotted as far as it is a module's name."""
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: a relative import"
            module = node.module or ""
            if module in ("models", "service"):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


IMPORTS: Mapping[str, set[str]] = {name_of(path): set(imports_of(path)) for path in SOURCES}


def from_package(module: str, package: str) -> set[str]:
    """What a module imports of a package, by first name."""
    return {name.split(".")[1] for name in IMPORTS[module] if name.startswith(f"{package}.")}


def modules(package: str) -> list[str]:
    return [module for module in IMPORTS if module.startswith(f"{package}.")]


def test_the_sources_are_found() -> None:
    assert {"service.pipeline", "models.detection"} <= set(IMPORTS)
    assert "detection" in from_package("service.pipeline", "models")
    assert "torch" in IMPORTS["service.options"], "late imports count"


@pytest.mark.parametrize("module", modules("models"))
def test_models_never_import_the_service(module: str) -> None:
    assert from_package(module, "service") == set()


@pytest.mark.parametrize("module", modules("service"))
def test_the_service_takes_of_the_models_what_judges(module: str) -> None:
    name = module.split(".")[1]
    allowed = OPEN_TO_THE_SERVICE | (TRAINING if name in MAKE_MODELS else set())
    allowed |= INSIGHT if name in LOOK_INTO_MODELS else set()
    allowed |= RUNS if name in RUN_TRAINING else set()
    allowed |= NUMERICS if name in MEASURE_NUMERICS else set()
    allowed |= MEMORY if name in MEASURE_MEMORY else set()
    allowed |= COMPARISON if name in COMPARE else set()
    allowed |= EVALUATION if name in EVALUATE else set()
    assert from_package(module, "models") <= allowed


@pytest.mark.parametrize("owned", ONLY_IN)
def test_a_library_is_known_where_it_belongs_and_nowhere_else(owned: str) -> None:
    found = {
        module
        for module, imported in IMPORTS.items()
        if any(name == owned or name.startswith(f"{owned}.") for name in imported)
    }
    assert found <= ONLY_IN[owned]


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_an_adapter_knows_the_port_and_the_errors(adapter: str) -> None:
    assert from_package(f"service.{adapter}", "service") <= {"log", "errors"} | ADAPTERS[adapter]


def test_nothing_that_runs_what_it_reads_is_imported() -> None:
    found = {(module, name) for module, imported in IMPORTS.items() for name in imported}
    assert {(module, name) for module, name in found if name.split(".")[0] in BANNED} == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_that_runs_what_it_reads_is_called(path: Path) -> None:
    """torch.load unpickles; eval and exec need no comment."""
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"eval", "exec", "compile", "torch.load", "yaml.load", "yaml.unsafe_load"}, node.lineno
        assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords), node.lineno


def test_no_module_is_named_for_nothing_in_particular() -> None:
    assert not {module.split(".")[1] for module in IMPORTS} & {"utils", "util", "base", "common", "helpers", "core"}
