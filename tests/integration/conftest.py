"""What every test against a broker runs with."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import ExitStack

import pytest


@pytest.fixture(scope="module", autouse=True)
def left_sockets() -> Iterator[None]:
    """Collect them here, so that they do not warn in other tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a registry that others wrote; a skip with the reason where it cannot be had."""
    from tests.apicurio import NoRegistry, running_registry  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_registry(tmp_path_factory.mktemp("apicurio")))
        except NoRegistry as reason:
            pytest.skip(f"this test needs a schema registry: {reason}")
        yield url
