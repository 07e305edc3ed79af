"""Expressions of JMESPath over columns: names, literals, `||`, `&&`, `!`, `==` and `!=`.

What comes out is what the library finds of each reading by itself; it takes 10 µs for one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

NULL: Mapping[str, Any] = {"type": "literal", "value": None, "children": []}  # as the library has it
Names = tuple[str, ...]  # one below the other
Get = Callable[[Names], Iterable[Any]]  # what names lead to, in each reading
Column = Callable[[Get], Iterable[Any]]


class Formula(NamedTuple):
    """An expression. column: what it is of each reading; a literal has no end."""

    leaves: tuple[Names, ...]
    column: Column


def formula_of(parsed: Mapping[str, Any]) -> Formula | None:
    """Of an expression as the library parses it; None of one that has anything else in it, or no names."""
    leaves: list[Names] = []
    column = _column(parsed, leaves)
    return None if column is None or not leaves else Formula(tuple(leaves), column)


def names_of(parsed: Mapping[str, Any]) -> Names | None:
    """Of an expression that is nothing but names one below the other; None of any other."""
    if parsed["type"] == "current":
        return ()
    if parsed["type"] == "field":
        return (parsed["value"],)
    if parsed["type"] != "subexpression":
        return None
    parts = [names_of(child) for child in parsed["children"]]
    return None if None in parts else tuple(name for part in parts if part for name in part)


def _column(parsed: Mapping[str, Any], leaves: list[Names]) -> Column | None:
    """leaves: to which the expression's are added."""
    names = names_of(parsed)
    if names:
        leaves.append(names)
        return lambda get: get(names)
    if parsed["type"] == "literal":
        return lambda _: repeat(parsed["value"])
    if parsed["type"] == "comparator" and NULL in parsed["children"]:
        return _null_column(parsed, leaves)
    combine = COMBINED.get((parsed["type"], parsed.get("value")))
    if combine is None:
        return None
    columns = [column for child in parsed["children"] if (column := _column(child, leaves)) is not None]
    if len(columns) < len(parsed["children"]):
        return None
    return lambda get: combine(*(column(get) for column in columns))


def _null_column(parsed: Mapping[str, Any], leaves: list[Names]) -> Column | None:
    """Of a comparison with null, as most are."""
    (one, *_) = [child for child in parsed["children"] if child != NULL] or [NULL]
    column = _column(one, leaves)
    if column is None:
        return None
    if parsed["value"] == "eq":
        return lambda get: (value is None for value in column(get))
    return (lambda get: (value is not None for value in column(get))) if parsed["value"] == "ne" else None


def _either(one: Iterable[Any], other: Iterable[Any]) -> Iterable[Any]:
    if type(one) is list and all(one):  # as almost always; a literal has no end
        return one
    return (second if _is_false(first) else first for first, second in zip(one, other, strict=False))


def _both(one: Iterable[Any], other: Iterable[Any]) -> Iterator[Any]:
    return (first if _is_false(first) else second for first, second in zip(one, other, strict=False))


def _contrary(one: Iterable[Any]) -> Iterator[bool]:
    return (_is_false(value) for value in one)


def _same(one: Iterable[Any], other: Iterable[Any]) -> Iterator[bool]:
    return (_equal(first, second) for first, second in zip(one, other, strict=False))


def _different(one: Iterable[Any], other: Iterable[Any]) -> Iterator[bool]:
    return (not _equal(first, second) for first, second in zip(one, other, strict=False))


COMBINED: Mapping[tuple[str, Any], Callable[..., Iterable[Any]]] = {
    ("or_expression", None): _either,
    ("and_expression", None): _both,
    ("not_expression", None): _contrary,
    ("comparator", "eq"): _same,
    ("comparator", "ne"): _different,
}


def _is_false(value: Any) -> bool:
    """As JMESPath has it: of numbers none is."""
    return value is None or value is False or (not value and type(value) not in (int, float))


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are alike: 1 is not true, nor 0 false."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
