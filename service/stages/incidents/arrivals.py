"""What comes of the topic of anomalies: changes of anomalies, and what is none as a dead letter."""

from collections.abc import Iterator
from typing import NamedTuple

from service.errors import RejectedReading
from service.input.reasons import Reason
from service.input.rejects import Reject, dead_letter
from service.log.port import Fetched, Partition, Record
from service.stages.incidents.changes import AnomaliesEnded, AnomalyChange, read_change


class ArrivedChange(NamedTuple):
    """A record of the topic of anomalies: a change of one, the end of many, or what it becomes as a dead letter."""

    time_ms: int
    partition: Partition
    offset: int
    change: AnomalyChange | AnomaliesEnded | None
    letter: Record | None = None


def arrived_changes(fetched: Fetched, last_ms: int) -> Iterator[ArrivedChange]:
    """In the order of offsets. last_ms: time of the change before; what has no time of its own stays behind it."""
    for n, value in enumerate(fetched.values):
        offset = int(fetched.offsets[n])
        try:
            change = read_change(value)
        except RejectedReading as refused:
            letter = dead_letter(fetched, Reject(n, Reason(refused.reason), str(refused)))
            yield ArrivedChange(last_ms, fetched.partition, offset, None, letter)
        else:
            if isinstance(change, AnomalyChange):
                last_ms = change.time_ms
            if change is not None:
                yield ArrivedChange(last_ms, fetched.partition, offset, change)
