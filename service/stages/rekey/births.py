"""What births of Sparkplug say: names and data types of the metrics of a node or a device, which data may leave out.

A birth is valid until the next of its node or device, or until its death. A node's birth also ends those of its
devices, and so does its death. A node's death belongs to the birth with the same `bdSeq`: one that comes late, after
the node was born again, ends nothing. Chapters 5 and 6 of the Sparkplug 3.0 specification.

Messages are taken in the order of their records' time, since births, data and deaths have other keys and so are in
other partitions. Of the same time, births are before data and deaths behind it, as `rank` says, and no device's birth
is ended by a message of its own time: which was first is not known, and a dead device sends nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from models.data.rfc3339 import rfc3339
from service.errors import RejectedReading
from service.input.reasons import Reason
from service.input.sparkplug import MEASURES, NAMESPACE, name_of

BIRTHS, DEATHS = ("NBIRTH", "DBIRTH"), ("DDEATH", "NDEATH")
SEQUENCE = "bdSeq"
MOST_BYTES = 900_000  # of what is kept of a birth: it is one record of the changelog


class Birth(msgspec.Struct, frozen=True):
    """Of a node or a device."""

    born_ms: int  # time of its record
    sequence: int | None  # its bdSeq; a device has none
    metrics: list[tuple[str, int | None, int]]  # name, alias, data type


class Message(NamedTuple):
    """What came, and from where."""

    kind: str  # NBIRTH, DDATA and so on
    source: str  # GROUP/NODE or GROUP/NODE/DEVICE
    payload: Any
    time_ms: int  # of its record

    @property
    def node(self) -> str:
        return node_of(self.source)


class _Known(NamedTuple):
    birth: Birth
    by_alias: dict[int, tuple[str, int]]
    by_name: dict[str, int]


def rank(kind: str) -> int:
    """Of messages of the same time the one of a lower rank is first."""
    if kind in BIRTHS:
        return BIRTHS.index(kind)
    return 3 if kind in DEATHS else 2


def node_of(source: str) -> str:
    return "/".join(source.split("/", 2)[:2])


class Births:
    """Those that are valid."""

    def __init__(self) -> None:
        self.dirty: set[str] = set()  # sources whose birth has changed since this was cleared
        self._nodes: dict[str, dict[str, _Known]] = {}  # by node: by source

    def __len__(self) -> int:
        return sum(map(len, self._nodes.values()))

    def get(self, source: str) -> Birth | None:
        known = self._known(source)
        return None if known is None else known.birth

    def restore(self, births: Iterable[tuple[str, Birth]]) -> None:
        """Begin with what was known."""
        for source, birth in births:
            self._nodes.setdefault(node_of(source), {})[source] = _known_of(birth)

    def clear(self) -> None:
        """Forget all: what came meanwhile was missed."""
        for node in list(self._nodes):
            self._end(node, list(self._nodes[node]))

    def take(self, message: Message) -> list[tuple[str, Birth]]:
        """Let a birth or a death take effect. Raises RejectedReading of a birth that is too large.

        Returns what a death ends: the sources that are dead, each with its birth.
        """
        if message.kind in BIRTHS:
            self._begin(message)
        elif message.kind in DEATHS:
            return self._die(message)
        return []

    def fill_in(self, message: Message, *, needs_names: bool) -> bool:
        """Give the payload's metrics the names and data types that they lack; whether there were any.

        Of what is no measurement, a command, metrics that no birth explains are left out. Raises RejectedReading of
        an alias that is not known, if needs_names.
        """
        known, changed, unknown = self._known(message.source), False, list[Any]()
        for metric in message.payload.metrics:
            if not metric.name and metric.HasField("alias"):
                found = None if known is None else known.by_alias.get(metric.alias)
                if found is None:
                    unknown.append(metric)
                    continue
                metric.name, changed = found[0].encode(), True
            if known is not None and not metric.datatype and metric.name:
                datatype = known.by_name.get(metric.name.decode(errors="replace"), 0)
                if datatype:
                    metric.datatype, changed = datatype, True
        if not unknown or not needs_names:
            return changed
        if message.kind in MEASURES:
            raise RejectedReading(Reason.UNKNOWN_ALIAS, self._missing(message, unknown[0].alias))
        for metric in unknown:
            message.payload.metrics.remove(metric)
        return True

    def _begin(self, message: Message) -> None:
        if message.kind == "NBIRTH":
            self._end_older(message)
        self._end(message.node, [message.source])
        birth = Birth(message.time_ms, _sequence_of(message.payload), list(_metrics_of(message.payload)))
        size = len(msgspec.json.encode(birth.metrics))
        if size > MOST_BYTES:
            raise RejectedReading(
                Reason.TOO_LARGE,
                f"a birth of {len(birth.metrics)} metrics, of which the names and data types take {size} "
                f"bytes, expected at most {MOST_BYTES}",
            )
        self._nodes.setdefault(message.node, {})[message.source] = _known_of(birth)
        self.dirty.add(message.source)

    def _die(self, message: Message) -> list[tuple[str, Birth]]:
        born = self._nodes.get(message.node, {})
        if message.kind == "DDEATH":
            return self._end(message.node, [one for one in (message.source,) if _is_older(born.get(one), message)])
        of_node = born.get(message.source)
        sequence, died = None if of_node is None else of_node.birth.sequence, _sequence_of(message.payload)
        ended = list[tuple[str, Birth]]()
        if sequence is not None and sequence == died:
            ended = self._end(message.node, [message.source])
        elif None not in (sequence, died):
            return []  # that of a life before
        return ended + self._end_older(message)

    def _end_older(self, message: Message) -> list[tuple[str, Birth]]:
        """All births of a node before this message."""
        born = self._nodes.get(message.node, {})
        return self._end(message.node, [one for one, known in born.items() if _is_older(known, message)])

    def _end(self, node: str, sources: Iterable[str]) -> list[tuple[str, Birth]]:
        born, ended = self._nodes.get(node, {}), list[tuple[str, Birth]]()
        for source in sources:
            known = born.pop(source, None)
            if known is not None:
                self.dirty.add(source)
                ended.append((source, known.birth))
        if not born:
            self._nodes.pop(node, None)
        return ended

    def _known(self, source: str) -> _Known | None:
        return self._nodes.get(node_of(source), {}).get(source)

    def _missing(self, message: Message, alias: int) -> str:
        """What is said of an alias that is not known."""
        group, _, place = message.source.partition("/")
        kind = "DBIRTH" if "/" in place else "NBIRTH"
        known = self._known(message.source)
        if known is None:
            found = f"no {kind} of it is known, or it has ended with its death or its node's next birth"
        else:
            found = f"its {kind} of {rfc3339(known.birth.born_ms)} has no metric with it"
        seq = f", seq {message.payload.seq}" if message.payload.HasField("seq") else ""
        return (
            f"a metric of {message.source} with the alias {alias} and no name{seq}: {found}, expected a record "
            f"{NAMESPACE}/{group}/{kind}/{place} before this one. The node publishes its births again when it is sent "
            f"`Node Control/Rebirth` = true by {NAMESPACE}/{group}/NCMD/{message.node.partition('/')[2]}"
        )


def _is_older(known: _Known | None, message: Message) -> bool:
    """Whether it was born before the message; of the same time it was not."""
    return known is not None and known.birth.born_ms < message.time_ms


def _known_of(birth: Birth) -> _Known:
    by_alias = {alias: (name, datatype) for name, alias, datatype in birth.metrics if alias is not None}
    return _Known(birth, by_alias, {name: datatype for name, _, datatype in birth.metrics})


def _metrics_of(payload: Any) -> Iterator[tuple[str, int | None, int]]:
    """Those with a name that can be read; the reading of the birth says what is wrong with others."""
    for metric in payload.metrics:
        try:
            name = name_of(metric)
        except RejectedReading:
            continue
        if name is not None and name != SEQUENCE:
            yield name, metric.alias if metric.HasField("alias") else None, metric.datatype


def _sequence_of(payload: Any) -> int | None:
    """The bdSeq of a birth or a death of a node."""
    for metric in payload.metrics:
        if metric.name == SEQUENCE.encode():
            return int(metric.long_value or metric.int_value)
    return None
