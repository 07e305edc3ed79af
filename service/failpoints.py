"""Named points at which a test can let the process fail. Nothing reaches them unless a test's own program arms them."""

from collections.abc import Callable

_reached: Callable[[str], None] | None = None


def arm(reached: Callable[[str], None] | None) -> None:
    """Call `reached` with the name of every point that is passed, from now on; None: no more."""
    global _reached  # noqa: PLW0603  (one process, one test)
    _reached = reached


def reach(name: str) -> None:
    if _reached is not None:
        _reached(name)
