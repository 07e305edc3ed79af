"""Controls that have come and are not taken in yet, in the order of their topic's one partition."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from service.errors import RejectedReading
from service.input.reasons import Reason
from service.input.rejects import Reject, dead_letter
from service.log.port import Fetched, Partition, Record
from service.stages.incidents.controls import GivenControl, read_control


class ArrivedControl(NamedTuple):
    """A record of the topic of controls: a control, or what it becomes as a dead letter."""

    offset: int
    given: GivenControl | None
    letter: Record | None = None


class ControlInbox:
    """What has come of the topic of controls."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.topic_id = ""
        self._waiting: deque[ArrivedControl] = deque()
        self._next_offset = 0  # behind what has come

    def begin(self, offset: int, topic_id: str) -> None:
        """Nothing has come yet; it begins at this offset."""
        self._waiting.clear()
        self._next_offset, self.topic_id = offset, topic_id

    def put(self, fetched: Fetched) -> None:
        for n, (key, value) in enumerate(zip(fetched.keys, fetched.values, strict=True)):
            offset, time_ms = int(fetched.offsets[n]), int(fetched.times_ms[n])
            try:
                given = GivenControl(*read_control(key, value), offset, time_ms)
            except RejectedReading as refused:
                letter = dead_letter(fetched, Reject(n, Reason(refused.reason), str(refused)))
                self._waiting.append(ArrivedControl(offset, None, letter))
            else:
                self._waiting.append(ArrivedControl(offset, given))
        self._next_offset = fetched.next_offset

    def take(self, most: int) -> Iterator[ArrivedControl]:
        """What is next, in order. most: at most that many."""
        for _ in range(min(most, len(self._waiting))):
            yield self._waiting.popleft()

    @property
    def next_offset(self) -> int:
        """Everything before it was taken."""
        return self._waiting[0].offset if self._waiting else self._next_offset

    @property
    def waiting(self) -> int:
        return len(self._waiting)
