"""Connections: how long a client may take to ask and to read, and who makes room when there are too many.

A connection waits from when it is opened, or from its last answer, until it has brought the whole head of a request.
One that waits too long is closed, however many bytes it sends meanwhile; so is one whose client does not read. When all
places are taken, a newcomer takes the place of the connection that has waited longest, of those of the address that has
most: a client that keeps many open only ever loses its own, and one that asks as soon as it is connected, as a probe
does, is answered.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 256  # more than there are answers under way at any time, see turns.MOST_WAITING: one always waits
ASKS_WITHIN_S = 10.0
READS_WITHIN_S = 60.0  # from when there is more to send than the kernel takes until there is not
SWEEP_S = 1.0


class Connection(H11Protocol):
    """uvicorn's connection, with an end to its patience."""

    waiting_since_s = 0.0  # means something only while it waits
    unsent_since_s: float | None = None
    given_up = False

    @property
    def waits(self) -> bool:
        """Whether nothing is being answered: the client is to ask, or to read what it asked for."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        # asyncio sets it only on sockets that were made with the protocol's number.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting_since_s = self.loop.time()
        if len(self.connections) > MOST:
            _whose_place(self.connections).give_up()

    def on_response_complete(self) -> None:
        self.waiting_since_s = self.loop.time()
        super().on_response_complete()

    def look(self) -> None:
        """Close it if its client took too long."""
        now_s = self.loop.time()
        if self.transport.get_write_buffer_size() == 0:
            self.unsent_since_s = None
        elif self.unsent_since_s is None:
            self.unsent_since_s = now_s
        reads_late = self.unsent_since_s is not None and now_s - self.unsent_since_s > READS_WITHIN_S
        asks_late = self.unsent_since_s is None and self.waits and now_s - self.waiting_since_s > ASKS_WITHIN_S
        if reads_late or asks_late:
            self.give_up()

    def give_up(self) -> None:
        """Close it without sending what is unsent: who does not read must not hold it open."""
        self.given_up = True
        self.transport.abort()


def _whose_place(connections: Iterable[Any]) -> Connection:
    """The connection to be closed for a newcomer, who waits as well and so is the last choice."""
    held = [one for one in connections if isinstance(one, Connection) and not one.given_up]
    count = Counter(one.address for one in held)
    return min((one for one in held if one.waits), key=lambda one: (-count[one.address], one.waiting_since_s))
