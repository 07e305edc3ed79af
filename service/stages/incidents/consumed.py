"""In which order anomalies and controls were taken in, so that anyone can do the same again.

An incident's events follow from the anomalies, the controls and their order, and the order across partitions is what a
broker made of it. So each event says, in its header `telltale-consumed`, what was taken in since the event before:
`0:12-15,control:3-3,2:7-9` is partition 0 from offset 12 to 15, the control at offset 3, then partition 2 from 7 to 9.
Where one anomaly or control has several events, the others have no such header.
"""

from collections.abc import Iterator
from typing import NamedTuple

CONTROLS = -1  # in place of a partition: the topic of controls, which has one


class Run(NamedTuple):
    """What was taken in of one partition before it was another's turn; both ends belong to it."""

    partition: int  # of the topic of anomalies, or CONTROLS
    first: int
    last: int


class Consumed:
    """What was taken in since the last event."""

    def __init__(self, runs: list[Run] | None = None) -> None:
        self.runs = runs or []

    def add(self, partition: int, offset: int) -> None:
        if self.runs and self.runs[-1].partition == partition:
            self.runs[-1] = self.runs[-1]._replace(last=offset)
        else:
            self.runs.append(Run(partition, offset, offset))

    def take(self) -> str:
        """As the header has it; it begins again after that."""
        text = ",".join(
            f"{'control' if run.partition == CONTROLS else run.partition}:{run.first}-{run.last}" for run in self.runs
        )
        self.runs = []
        return text


def runs_of(header: str) -> Iterator[Run]:
    """What `take` wrote. Raises ValueError."""
    for part in filter(None, header.split(",")):
        partition, _, offsets = part.partition(":")
        first, _, last = offsets.partition("-")
        yield Run(CONTROLS if partition == "control" else int(partition), int(first), int(last))
