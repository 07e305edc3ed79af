"""One partition's unit of work: its memory, and how far it has come."""

from dataclasses import dataclass

from service.log import Partition
from service.slab import StateSlab


@dataclass(slots=True)
class PartitionTask:
    """Lives from the assignment of its partition to its revocation."""

    partition: Partition
    slab: StateSlab
    next_offset: int | None = None  # everything before it has been judged; None: nothing has been fetched yet
    end_offset: int | None = None  # of the log, when last fetched from
    event_time_ms: int | None = None  # latest time of any reading judged
    open_alarms: int = 0
