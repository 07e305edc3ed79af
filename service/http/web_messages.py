"""Messages between the worker and the process that answers HTTP, and the line that they travel on.

A message is a frame: two lengths, MessagePack, and behind it the bytes of the arrays that it refers to, which are never
copied while Python's lock is held.
"""

import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.detection.detector import Readings
from models.detection.rows import Rows
from service.input.reading_batch import StreamKey
from service.live.metrics import Counted
from service.live.status import Status
from service.live.watching import View, ViewPart
from service.log.port import Partition

LENGTHS = struct.Struct(">II")
ALIGNED = 16


class Array(msgspec.Struct, array_like=True, frozen=True):
    """An array whose bytes follow the message."""

    dtype: str
    shape: tuple[int, ...]
    begin: int


class Published(msgspec.Struct, tag=True, frozen=True):
    """What the worker last published, and what has been counted beside it."""

    status: Status
    counted: Counted


class Answer(msgspec.Struct, tag=True, frozen=True):
    """To the question of this number. What is not set is not what was asked for."""

    question: int
    view: "SentView | None" = None
    table: "SentTable | None" = None  # None: the same as last time
    refusal: str | None = None
    reason: str = ""


class SentView(msgspec.Struct, frozen=True):
    """A `View`."""

    partition: Partition
    parts: list[tuple[list[Array], list[Array]]]  # a row and the readings after it
    row: list[Array]
    checkpoint: str


class SentPart(msgspec.Struct, frozen=True):
    """The streams of one partition; keys: None: those of last time."""

    partition: Partition
    keys: list[StreamKey | None] | None
    scores: Array
    columns: Array


class SentTable(msgspec.Struct, frozen=True):
    """A `StreamTable`. number: by which the next question says that it has come."""

    number: int
    made_ms: int
    parts: list[SentPart]


class Up(msgspec.Struct, tag=True, frozen=True):
    """Requests are answered."""


class AskTable(msgspec.Struct, tag=True, frozen=True):
    """seen: the number of the last table that came; 0: none."""

    question: int
    seen: int


class AskView(msgspec.Struct, tag=True, frozen=True):
    question: int
    key: StreamKey


class Expect(msgspec.Struct, tag=True, frozen=True):
    key: StreamKey


ToWeb = Published | Answer
ToWorker = Up | AskTable | AskView | Expect


class Link:
    """One end of the line. Any thread may send; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()

    def send(self, message: ToWeb | ToWorker, arrays: "Arrays | None" = None) -> None:
        """Raises OSError where the other process is not there any more."""
        head, bodies = msgspec.msgpack.encode(message), [] if arrays is None else arrays.bodies
        with self._sending:
            self._end.sendall(LENGTHS.pack(len(head), sum(body.nbytes for body in bodies)) + head)
            for body in bodies:
                self._end.sendall(body)

    def receive(self, wanted: Any) -> "tuple[Any, bytearray] | None":
        """The next message, of one of the `wanted` types, and its arrays; None: the other process has ended."""
        try:
            head, body = LENGTHS.unpack(self._read(LENGTHS.size))
            return msgspec.msgpack.decode(self._read(head), type=wanted), self._read(body)
        except (EOFError, ConnectionError):
            return None

    def finish(self) -> None:
        """Nothing more is sent: the other process ends."""
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended already

    def close(self) -> None:
        self._end.close()

    def _read(self, count: int) -> bytearray:
        read = bytearray(count)
        rest = memoryview(read)
        while rest:
            taken = self._end.recv_into(rest)
            if not taken:
                raise EOFError
            rest = rest[taken:]
        return read


class Arrays:
    """Those of one message, in the order in which they follow it."""

    def __init__(self) -> None:
        self.bodies: list[memoryview] = []
        self._end = 0

    def put(self, values: "NDArray[Any] | torch.Tensor") -> Array:
        whole = np.ascontiguousarray(values.numpy() if isinstance(values, torch.Tensor) else values)
        begin = self._end
        self.bodies.append(whole.reshape(-1).view(np.uint8).data)
        if gap := -whole.nbytes % ALIGNED:
            self.bodies.append(memoryview(bytes(gap)))
        self._end += whole.nbytes + gap
        return Array(whole.dtype.str, whole.shape, begin)


def array_of(sent: Array, body: bytearray) -> NDArray[Any]:
    count = int(np.prod(sent.shape, dtype=np.int64))
    return np.frombuffer(body, np.dtype(sent.dtype), count, sent.begin).reshape(sent.shape)


def _tensors(sent: Iterable[Array], body: bytearray) -> list[torch.Tensor]:
    return [torch.from_numpy(array_of(one, body)) for one in sent]


def send_view(view: View, arrays: Arrays) -> SentView:
    parts = [([*map(arrays.put, part.row)], [*map(arrays.put, part.readings)]) for part in view.parts]
    return SentView(view.partition, parts, [*map(arrays.put, view.row)], view.checkpoint)


def take_view(sent: SentView, body: bytearray) -> View:
    parts = [ViewPart(Rows(*_tensors(row, body)), Readings(*_tensors(readings, body))) for row, readings in sent.parts]
    return View(sent.partition, tuple(parts), Rows(*_tensors(sent.row, body)), sent.checkpoint)
