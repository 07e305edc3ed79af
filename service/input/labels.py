"""Labels of streams: what a mapping finds beside their names, such as a site and a line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Labels = Mapping[str, str]  # by their names; equal ones of a topic are one object, never to be changed
NO_LABELS: Labels = {}

MOST_CHARACTERS = 100  # of a label; what is longer is left out
MOST_KEPT = 100_000  # different labels of a topic


class LabelReader:
    """Makes labels of what a mapping's paths find."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._kept: dict[tuple[str | None, ...], Labels] = {}

    def of(self, found: Sequence[Any]) -> Labels:
        """found: by each path, of one reading. What cannot be a label is left out."""
        return self._labels(tuple(map(label_text, found)))

    def of_columns(self, columns: Sequence[Sequence[Any]]) -> list[Labels]:
        """The same of N readings. columns: N by each path."""
        texts = [map(label_text, column) for column in columns]
        return list(map(self._labels, zip(*texts, strict=True)))

    def _labels(self, texts: tuple[str | None, ...]) -> Labels:
        labels = self._kept.get(texts)
        if labels is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            labels = {name: text for name, text in zip(self._names, texts, strict=True) if text is not None}
            self._kept[texts] = labels
        return labels


def label_text(found: Any) -> str | None:
    """A label as text: texts, whole numbers, true and false are some; None: it cannot be one."""
    if type(found) is str:
        return found if 0 < len(found) <= MOST_CHARACTERS and (found.isascii() or _is_encodable(found)) else None
    if type(found) is bool:
        return "true" if found else "false"
    if type(found) is int:
        return str(found) if -(1 << 63) <= found < 1 << 64 else None
    return None


def _is_encodable(text: str) -> bool:
    """Half of a surrogate pair, as JSON may have, is no text that can be written again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
