"""Versions of the row in the changelog, held against what comes out, bit by bit."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch

from models.detection.rows import CHANNELS, SCALARS, Rows
from service.inspect.past import Version
from service.inspect.question import Check
from service.inspect.replayed_stream import ReplayedStream


class Checks:
    """Versions of the row that are held against what comes out, as it gets there."""

    def __init__(self, versions: Sequence[Version], begin: int) -> None:
        self.done: list[Check] = []
        self._waiting = deque(version for version in versions if version.through > begin)
        self._at = begin

    def borders(self) -> list[int]:
        return [version.through for version in self._waiting]

    def look(self, stream: ReplayedStream, next_offset: int) -> None:
        """Everything before next_offset is judged."""
        while self._waiting and self._waiting[0].through <= next_offset:
            version = self._waiting.popleft()
            self._at = version.through
            self.done.append(Check(version.applied, tuple(_differing(stream.rows, version.rows))))

    def reached(self, offset: int) -> bool:
        """Whether one was behind this offset, or there is none to come."""
        return self._at > offset or not self._waiting


def _differing(found: Rows | None, expected: Rows) -> Iterator[str]:
    """The names of the quantities whose bits are not the same."""
    if found is None:
        yield "it is forgotten"
        return
    for name, one, other in zip(("h", "c"), found[:2], expected[:2], strict=True):
        if not torch.equal(one.view(torch.int32), other.view(torch.int32)):
            yield name
    for fields, column, other in zip((CHANNELS.names, SCALARS.names), found[2:], expected[2:], strict=True):
        same = column[0].view(torch.int64) == other[0].view(torch.int64)
        yield from (name for name, equal in zip(fields, same, strict=False) if not bool(equal.all()))
    for name in ("relation", "relation_statistics", "symptoms", "votes"):
        if not torch.equal(getattr(found, name).view(torch.int64), getattr(expected, name).view(torch.int64)):
            yield name
