"""Where something is in a record: JMESPath expressions, and what is around the value by names that begin with `$`.

`$key`, `$header.NAME`, `$topic` and `$time` (the record's own time) are of the record. `$record` is its whole value,
for a reading that is one of many in it. `$key.PATH` and `$record.PATH` look into them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError

from service.errors import RejectedReading
from service.input.formulas import Formula, Names, formula_of, names_of
from service.input.reasons import Reason

QUOTED = "a name with other characters than letters, digits and _ needs double quotes within it: '\"@timestamp\"'"
AROUND = ("key", "header", "topic", "time", "record")
# What the library raises where a function or a comparison is given what it does not take.
NOT_APPLICABLE = (JMESPathError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
READING = "reading"
EXPECTED = "$key, $header.NAME, $topic, $time or $record"


class Around(NamedTuple):
    """The record that a reading is in."""

    topic: str
    key: Any  # decoded
    headers: Mapping[str, str]
    time_ms: int | None
    record: Any  # its whole value, decoded


Find = Callable[[Any, Around], Any]  # what is there, of a reading and its record; None: nothing is


class Path(NamedTuple):
    """A path as it is written, what finds what it names, and where that is."""

    text: str
    find: Find
    place: str = READING  # or one of AROUND
    names: Names | None = None  # as almost all are; None: more than names
    formula: Formula | None = None  # of what is more than names; None: it is not read all at once

    @property
    def leaves(self) -> tuple[Names, ...]:
        """The names whose parts of a reading it needs to be read all at once."""
        return (self.names or (),) if self.formula is None else self.formula.leaves


def path(text: str) -> Path:
    """Raises ValueError, which says what was expected."""
    if not text.startswith("$"):
        search, names, formula = _search(text)
        return Path(text, lambda reading, _around: search(reading), READING, names, formula)
    name, _, rest = text[1:].partition(".")
    if name not in AROUND or (name == "header" and not rest):
        raise ValueError(f"{EXPECTED}: a path that begins with $ names what is around a reading")
    if name == "header":
        return Path(text, lambda _reading, around: around.headers.get(rest), name, (rest,))
    if name in ("topic", "time") and rest:
        raise ValueError(f"${name} alone, as nothing is below it")
    place = Around._fields.index("time_ms" if name == "time" else name)
    if not rest:
        return Path(text, lambda _reading, around: around[place], name, ())
    search, names, formula = _search(rest)
    return Path(text, lambda _reading, around: search(around[place]), name, names, formula)


def _search(text: str) -> tuple[Callable[[Any], Any], Names | None, Formula | None]:
    """What finds an expression's value, and the names that it is, or else its formula if it has one.

    Walking names takes a twentieth of what the library does.
    """
    try:
        compiled = jmespath.compile(text)
    except JMESPathError as error:
        reason = str(error).partition("\n")[0].partition(", for expression")[0].rstrip(":")
        raise ValueError(f"a JMESPath expression ({reason}); {QUOTED}") from error
    names = names_of(compiled.parsed)
    if names is None:
        return lambda within: _searched(compiled, text, within), None, formula_of(compiled.parsed)
    if len(names) == 1:
        (name,) = names
        return lambda within: within.get(name) if type(within) is dict else None, names, None
    return lambda within: _walked(within, names), names, None


def _walked(within: Any, names: Names) -> Any:
    for name in names:
        if type(within) is not dict:
            return None
        within = within.get(name)
    return within


def _searched(compiled: Any, text: str, within: Any) -> Any:
    try:
        return compiled.search(within)
    except NOT_APPLICABLE as error:
        reason = str(error).partition("\n")[0]
        raise RejectedReading(Reason.WRONG_FEATURES, f"{text} cannot be applied to the record: {reason}") from error
