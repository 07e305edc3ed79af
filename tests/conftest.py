"""What every test runs with: one torch thread, and a Kafka broker for those that ask for one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.needed import needed

if TYPE_CHECKING:
    from tests.command_line import Telltale
    from tests.kafka import Broker
    from tests.small_disk import SmallDisk

pytest.register_assert_rewrite("tests.service.log_contract")

# Read when torch is first imported, so that tests without torch do not pay for it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

BROKER: "pytest.StashKey[Broker]" = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    # Importing kafka-python 3.0 warns on Python 3.11 and 3.12: it reads its message schemas with read_text().
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def telltale() -> "Iterator[Telltale]":
    from tests.command_line import command_line  # noqa: PLC0415  (what needs no command need not wait for it)

    with command_line() as telltale:
        yield telltale


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is run is run in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> "Iterator[SmallDisk]":
    """A file system of 1 MiB; skips where none can be mounted."""
    from tests.small_disk import small_disk  # noqa: PLC0415

    with small_disk(tmp_path / "disk", 2**20) as disk:
        yield disk


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> "Iterator[Broker]":
    """A running broker, or a failure that says what to install; never a skip."""
    from tests.kafka import NoBroker, running_broker  # noqa: PLC0415  (0.4 s to import)

    with needed(running_broker(), NoBroker) as broker:
        pytestconfig.stash[BROKER] = broker
        yield broker


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    broker = config.stash.get(BROKER, None)
    if broker is not None:
        terminalreporter.write_line(f"Kafka: {broker.kind}, {broker.bootstrap_servers}")
