"""What a bridge writes of nodes that speak Sparkplug: births that say names, and data by alias alone.

A node dies and is born again with other aliases; its device dies and is born on its own. A death comes late, when its
node was born again. Each message has the topic of MQTT as its key, so births and data are in different partitions.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import pysparkplug as sp

from service.log.port import Record

NODES = ("edge-0", "edge-1", "edge-2")
LIFE_S = 40  # from a birth of a node to its next
MADE: Any = {"NBIRTH": sp.NBirth, "DBIRTH": sp.DBirth, "NDATA": sp.NData, "DDATA": sp.DData, "DDEATH": sp.DDeath}
TEMP, PRESS = sp.DataType.INT32, sp.DataType.DOUBLE


class Sent(NamedTuple):
    """A message, and when the bridge wrote it."""

    topic: str
    payload: bytes
    time_ms: int


class _Node:
    """Numbers its messages as Sparkplug asks for, and gives its metrics other aliases in each life."""

    def __init__(self, name: str, number: int, *, named: bool) -> None:
        self.name, self.number, self.named = name, number, named
        self.seq, self.life = 0, -1

    def topic(self, kind: str) -> str:
        return f"spBv1.0/plant/{kind}/{self.name}" + ("/p7" if kind.startswith("D") else "")

    def birth(self, kind: str, time_ms: int) -> Sent:
        more = [sp.Metric(time_ms, "bdSeq", sp.DataType.INT64, value=self.life)] if kind == "NBIRTH" else []
        return self._sent(kind, time_ms, [*more, *self._metrics(kind, time_ms, -1, 1.5, told=True)], types=True)

    def data(self, kind: str, time_ms: int, temp: int, press: float) -> Sent:
        metrics = self._metrics(kind, time_ms, temp, press, told=self.named)
        return self._sent(kind, time_ms, metrics, types=self.named)

    def death(self, life: int, time_ms: int) -> Sent:
        metric = sp.Metric(1, "bdSeq", sp.DataType.INT64, value=life)
        return Sent(self.topic("NDEATH"), sp.NDeath(1, metric).encode(include_dtypes=True), time_ms)

    def device_death(self, time_ms: int) -> Sent:
        return self._sent("DDEATH", time_ms, None, types=True)

    def _metrics(self, kind: str, time_ms: int, temp: int, press: float, *, told: bool) -> list[sp.Metric]:
        """told: whether names are."""
        first = 10 * (self.life % 2) + (5 if kind.startswith("D") else 0)
        return [
            sp.Metric(time_ms, "temp" if told else None, TEMP, value=temp, alias=first + self.life % 2),
            sp.Metric(time_ms, "press" if told else None, PRESS, value=press, alias=first + (self.life + 1) % 2),
        ]

    def _sent(self, kind: str, time_ms: int, metrics: Sequence[sp.Metric] | None, *, types: bool) -> Sent:
        made: Any = {
            "NBIRTH": sp.NBirth,
            "DBIRTH": sp.DBirth,
            "NDATA": sp.NData,
            "DDATA": sp.DData,
            "DDEATH": sp.DDeath,
        }
        content = {} if metrics is None else {"metrics": tuple(metrics)}
        payload = made[kind](timestamp=time_ms, seq=self.seq, **content)
        self.seq = (self.seq + 1) % 256
        return Sent(self.topic(kind), payload.encode(**({} if metrics is None else {"include_dtypes": types})), time_ms)


def messages(seconds: int, began_ms: int, *, named: bool = False) -> Iterator[Sent]:
    """In the order in which they came. named: data has names and data types too."""
    nodes = [_Node(name, n, named=named) for n, name in enumerate(NODES)]
    for second in range(seconds):
        for node in nodes:
            yield from _second(node, second, began_ms + 1_000 * second + 10 * node.number)


def _second(node: _Node, second: int, now_ms: int) -> Iterator[Sent]:
    of_life = (second + 7 * node.number) % LIFE_S
    if second == 0 or of_life == 0:
        if node.life >= 0 and node.number != 1:
            yield node.death(node.life, now_ms)
        node.life, node.seq = node.life + 1, 0
        yield node.birth("NBIRTH", now_ms)
        yield node.birth("DBIRTH", now_ms)  # in the same millisecond
    if of_life == 3 and node.number == 1 and node.life:
        yield node.death(node.life - 1, now_ms + 1)  # late: the node was born again
    if of_life == 20:
        yield node.device_death(now_ms + 2)
    if of_life == 25:
        yield node.birth("DBIRTH", now_ms + 2)
    yield node.data("NDATA", now_ms + 3, -second - node.number, second / 3)
    if not 20 <= of_life < 25 or (node.number == 2 and of_life == 22):  # a device may not speak when it is dead
        yield node.data("DDATA", now_ms + 4, -(second % 10), 1000 + second / 7)


def records(seconds: int, began_ms: int, partitions: int, *, named: bool = False) -> list[list[Record]]:
    """By partition, with some that cannot be read."""
    found: list[list[Record]] = [[] for _ in range(partitions)]
    for sent in messages(seconds, began_ms, named=named):
        key = sent.topic.encode()
        found[crc32(key) % partitions].append(Record(key, sent.payload, (), sent.time_ms))
    for second in range(0, seconds, 17):
        found[second % partitions].append(Record(b"x", b"{", (("a", b"b"),), began_ms + 1_000 * second))
    return [sorted(mine, key=lambda one: one.time_ms or 0) for mine in found]
