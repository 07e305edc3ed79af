"""Patterns of names, as a shell has them: `*` stands for anything, `?` for one character, `[ab]` for one of some."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate


def any_of(globs: Sequence[str]) -> re.Pattern[str]:
    """Fits the whole names that one of the patterns fits."""
    return re.compile("|".join(map(translate, globs)) if globs else r"(?!)")


@dataclass(frozen=True, slots=True)
class Streams:
    """Those whose whole names fit one of the patterns, and none of `but`. `name in streams` asks for one."""

    patterns: Sequence[str]
    but: Sequence[str] = ()
    _in: re.Pattern[str] = field(init=False, compare=False)
    _out: re.Pattern[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_in", any_of(self.patterns))
        object.__setattr__(self, "_out", any_of(self.but))

    def __contains__(self, name: str) -> bool:
        return self._in.fullmatch(name) is not None and self._out.fullmatch(name) is None
