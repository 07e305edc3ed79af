"""Which streams are near each other: those whose names begin alike, or that a person has declared to be a group."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.data.patterns import any_of


@dataclass(frozen=True, slots=True)
class Groups:
    """Names a stream's group.

    separator, depth: of `site/line/machine/sensor` with depth 2 the group is `site/line`. At least the last part is
    left out; a stream whose name has no separator is a group of its own. declared: patterns (`*`, `?`, `[...]`, of the
    whole name) by the name of their group; the first group with a pattern that fits wins over the name.
    """

    separator: str = "/"
    depth: int = 2
    declared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _patterns: tuple[tuple[str, re.Pattern[str]], ...] = field(init=False)

    def __post_init__(self) -> None:
        patterns = tuple((name, any_of(globs)) for name, globs in self.declared.items())
        object.__setattr__(self, "_patterns", patterns)

    def of(self, stream: str) -> str:
        for name, pattern in self._patterns:
            if pattern.fullmatch(stream):
                return name
        parts = stream.split(self.separator)
        return self.separator.join(parts[: max(1, min(self.depth, len(parts) - 1))])
