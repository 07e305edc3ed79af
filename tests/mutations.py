"""What a header could say instead: every place in a JSON value, with everything that is not expected there."""

import copy
from collections.abc import Iterator
from typing import Any

EXTREMES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1_000_000,
    2**31,
    2**63,
    -(2**64),
    10**300,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "x" * 10_000,
    "\ud800",
    [],
    {},
    [0] * 100,
    [f"f{n}" for n in range(5_000)],
    {"__class__": 1},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in it; of a list its first element only."""
    yield path
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def mutations(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one place changed or gone, and in words which."""
    for path in places(value):
        if not path:
            continue
        for extreme in EXTREMES:
            changed = copy.deepcopy(value)
            _holder(changed, path)[path[-1]] = extreme
            yield f"{'.'.join(map(str, path))} = {extreme!r:.40}", changed
        gone = copy.deepcopy(value)
        del _holder(gone, path)[path[-1]]
        yield f"{'.'.join(map(str, path))} gone", gone


def _holder(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value
