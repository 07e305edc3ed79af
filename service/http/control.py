"""What a supervisor says to its processes: who they may talk to, what became of the others, and when to stop.

One line from the supervisor to each process. An end of a link to another process travels beside the message that
introduces it, as a descriptor.
"""

import array
import socket
from collections.abc import Iterator

import msgspec

from service.http.web_messages import LENGTHS
from service.live.status import WorkerProcess


class Introduced(msgspec.Struct, tag=True, frozen=True):
    """Beside it comes one end of a link between a worker and the process that answers HTTP; each gets its own."""


class Supervised(msgspec.Struct, tag=True, frozen=True):
    """The workers' processes, all of them."""

    processes: list[WorkerProcess]


class Stop(msgspec.Struct, tag=True, frozen=True):
    """In good order, and soon."""


Order = Introduced | Supervised | Stop


class Control:
    """The supervisor's end. Nothing here waits: what cannot be said is a process that does not listen."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    def say(self, order: Order, link: socket.socket | None = None) -> bool:
        """Whether it could be said. link: what comes with `Introduced`; it stays open here."""
        body = msgspec.msgpack.encode(order)
        frame = LENGTHS.pack(len(body), link is not None) + body
        beside = [] if link is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [link.fileno()]))]
        try:
            return self._end.sendmsg([frame], beside) == len(frame)
        except OSError:
            return False

    def close(self) -> None:
        self._end.close()


def orders(end: socket.socket) -> Iterator[tuple[Order, socket.socket | None]]:
    """What the supervisor says, until it has ended. Waits."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(end, LENGTHS.size, 1)
        if len(head) < LENGTHS.size:
            return
        size, with_link = LENGTHS.unpack(head)
        body = end.recv(size, socket.MSG_WAITALL)
        order = msgspec.msgpack.decode(body, type=Order)
        yield order, socket.socket(fileno=descriptors[0]) if with_link else None
