"""What every test runs with: one torch thread, and a Kafka broker for those that ask for one.

What a test asks for says where it runs. `programs` is the mark of those that need programs beside Python; `make check`
leaves them out, and those that are marked `slow`. Several processes (`--numprocesses 2 --dist loadfile`) share the
modules among them: a module's tests stay together, with what they have in common. Beside a test that is marked `alone`
nothing else runs; those of a module come last.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.alone import Turns
from tests.needed import needed

if TYPE_CHECKING:
    from tests.command_line import Telltale
    from tests.kafka import Broker
    from tests.proxy import Proxy
    from tests.small_disk import SmallDisk

pytest.register_assert_rewrite("tests.service.log_contract")

# A loaded machine takes many times as long for an example, which says nothing about it.
settings.register_profile("telltale", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("telltale")

# Read when torch is first imported, so that tests without torch do not pay for it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

PROGRAMS = frozenset({"kafka", "java", "browser", "tools", "schema_registry"})
"""The fixtures that are programs, or fail without them."""

TURNS: pytest.StashKey[Turns] = pytest.StashKey()
BROKERS: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    # Importing kafka-python 3.0 warns on Python 3.11 and 3.12: it reads its message schemas with read_text().
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workerinput"):  # one of several processes, each of which has a folder in the run's
        config.stash[TURNS] = Turns(config._tmp_path_factory.getbasetemp().parent)  # type: ignore[attr-defined]
        config.add_cleanup(config.stash[TURNS].close)


@pytest.hookimpl(tryfirst=True)  # before marks select tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        asked = frozenset(getattr(item, "fixturenames", ()))
        if asked & PROGRAMS:
            item.add_marker("programs")
    if TURNS in config.stash:
        items.sort(key=_is_alone)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)  # waiting for a turn does not count as the test's own time
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    turns = item.config.stash.get(TURNS, None)
    if turns is None:
        return (yield)
    with turns.turn(alone=_is_alone(item)):
        return (yield)


@pytest.fixture(scope="module")
def telltale() -> "Iterator[Telltale]":
    from tests.command_line import command_line  # noqa: PLC0415  (what needs no command need not wait for it)

    with command_line() as telltale:
        yield telltale


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is run is run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def disk(tmp_path: Path) -> "Iterator[SmallDisk]":
    """A file system of 1 MiB; skips where none can be mounted."""
    from tests.small_disk import small_disk  # noqa: PLC0415

    with small_disk(tmp_path / "disk", 2**20) as disk:
        yield disk


@pytest.fixture
def proxy() -> "Iterator[Proxy]":
    """What stands between a client and its servers, and holds back or breaks off what a test says."""
    from tests.proxy import Proxy  # noqa: PLC0415

    proxy = Proxy()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> "Iterator[Broker]":
    """A running broker, or a failure that says what to install; never a skip."""
    from tests.kafka import NoBroker, running_broker  # noqa: PLC0415  (0.4 s to import)

    with needed(running_broker(), NoBroker) as broker:
        pytestconfig.stash[BROKERS] = [f"{broker.kind}, {broker.bootstrap_servers}"]
        yield broker


@pytest.fixture(scope="session")
def java() -> None:
    """What a broker runs on that a test may kill, or set up as it likes; a skip with what to install."""
    from tests.kafka import NoBroker, require_java  # noqa: PLC0415

    try:
        require_java()
    except NoBroker as reason:
        pytest.skip(f"this test starts a broker of its own: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes
        session.config.workeroutput["brokers"] = session.config.stash.get(BROKERS, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash.setdefault(BROKERS, []).extend(getattr(node, "workeroutput", {}).get("brokers", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for broker in config.stash.get(BROKERS, ()):
        terminalreporter.write_line(f"Kafka: {broker}")
