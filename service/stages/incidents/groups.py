"""Which streams are near each other: those that a person has declared to be a group, that have the same labels, or
whose names begin alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.data.patterns import any_of
from service.input.labels import NO_LABELS, Labels


@dataclass(frozen=True, slots=True)
class Groups:
    """Names a stream's group.

    separator, depth: of `site/line/machine/sensor` with depth 2 the group is `site/line`. At least the last part is
    left out; a stream whose name has no separator is a group of its own. labels: the values of these, with the
    separator between them, win over the name where a stream has them all. declared: patterns (`*`, `?`, `[...]`, of the
    whole name) by the name of their group; the first group with a pattern that fits wins over both.
    """

    separator: str = "/"
    depth: int = 2
    declared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Sequence[str] = ()
    _patterns: tuple[tuple[str, re.Pattern[str]], ...] = field(init=False)

    def __post_init__(self) -> None:
        patterns = tuple((name, any_of(globs)) for name, globs in self.declared.items())
        object.__setattr__(self, "_patterns", patterns)

    def of(self, stream: str, labels: Labels = NO_LABELS) -> str:
        for name, pattern in self._patterns:
            if pattern.fullmatch(stream):
                return name
        if self.labels and all(name in labels for name in self.labels):
            return self.separator.join(labels[name] for name in self.labels)
        parts = stream.split(self.separator)
        return self.separator.join(parts[: max(1, min(self.depth, len(parts) - 1))])
