"""How far one member is that reads all partitions of its topics."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.log.port import NOT_HEARD, MemberLog, Partition


@dataclass(slots=True)
class StageStatus:
    """What others see of a stage. Written by its own thread alone."""

    beat_s: float = 0.0  # time.monotonic() when the loop last came round
    state: str = "waiting"  # for partitions; restoring; running
    counts: Counter[str] = field(default_factory=Counter)  # since the start
    lag_records: int | None = None  # records that are not taken in yet; None: not known


def behind(log: MemberLog, partitions: Iterable[Partition]) -> list[Partition]:
    """Those of which there is more to be read than has come, or may be."""
    ends = _ends(log, partitions)
    return [partition for partition, end in ends.items() if end is None or log.position(partition) < end]


def lag_records(log: MemberLog, next_offsets: Mapping[Partition, int]) -> int | None:
    """Records that are not taken in yet; None where one of the ends is not known.

    next_offsets: of each partition, everything before it was taken in.
    """
    ends = _ends(log, next_offsets)
    lags = [max(0, end - next_offsets[partition]) for partition, end in ends.items() if end is not None]
    return sum(lags) if len(lags) == len(ends) else None


def _ends(log: MemberLog, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
    backlogs = log.backlogs() or {}
    return {partition: backlogs.get(partition, NOT_HEARD).end for partition in partitions}
