"""What a test cannot do without."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

T = TypeVar("T")


@contextmanager
def needed(thing: AbstractContextManager[T], missing: type[Exception]) -> Iterator[T]:
    """The thing, or a failure with what `missing` says, which is what to install; never a skip."""
    with ExitStack() as stack:
        reason, found = "", None
        try:
            found = stack.enter_context(thing)
        except missing as error:
            reason = str(error)
        if found is None:
            pytest.fail(reason, pytrace=False)
        yield found
