"""Patterns of names, as a shell has them: `*` stands for anything, `?` for one character, `[ab]` for one of some."""

import re
from collections.abc import Sequence
from fnmatch import translate


def any_of(globs: Sequence[str]) -> re.Pattern[str]:
    """Fits the whole names that one of the patterns fits."""
    return re.compile("|".join(map(translate, globs)) if globs else r"(?!)")
