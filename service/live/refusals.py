"""Many of the last records are refused and someone should look: a warning an episode, not a line a record."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from service.log.port import Partition
from service.pipeline import Processed

WINDOW = 10_000  # records, the newest
MANY = WINDOW // 100  # refused ones of them with which an episode begins: 1 %
FEW = MANY // 2  # with fewer it is over; between the two it stays as it is, or one record could end and begin it

logger = structlog.get_logger("telltale.worker")


@dataclass(slots=True)
class Refusals:
    """How many of the last WINDOW records were refused.

    Counted a batch: up to one batch more than the window is in it, and then 1 % is of that many.
    """

    going_on: bool = False
    _records: int = 0
    _by_reason: Counter[str] = field(default_factory=Counter)
    _batches: deque[tuple[int, Counter[str]]] = field(default_factory=deque)
    _last: tuple[Partition, str] | None = None  # where a record was refused, and why

    def add(self, judged: Sequence[Processed]) -> None:
        """What was committed; logs `many_records_refused` when an episode begins, `few_records_refused` at its end."""
        for one in judged:
            batch = one.counts["records"], Counter(reject.reason.value for reject in one.rejects)
            self._batches.append(batch)
            self._records += batch[0]
            self._by_reason.update(batch[1])
            if one.rejects:
                self._last = one.commit.partition, one.rejects[-1].detail
        while self._batches and self._records - self._batches[0][0] >= WINDOW:
            records, by_reason = self._batches.popleft()
            self._records -= records
            self._by_reason -= by_reason
        self._turn()

    def _turn(self) -> None:
        refused, many = self._by_reason.total(), MANY * max(1.0, self._records / WINDOW)
        if not self.going_on and self._last is not None and refused >= many:
            self.going_on = True
            partition, detail = self._last
            logger.warning(
                "many_records_refused",
                refused=refused,
                of_the_last=self._records,
                reasons=dict(self._by_reason.most_common()),
                detail=detail,
                topic=partition.topic,
                partition=partition.number,
                see=f"telltale input try --topic {partition.topic}",
            )
        elif self.going_on and refused < many * FEW / MANY:
            self.going_on = False
            logger.info("few_records_refused", refused=refused, of_the_last=self._records)
