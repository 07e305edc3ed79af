"""A log that says how far reading it has come."""

import time
from collections.abc import Callable, Sequence

from service.inspect.groupless_log import GrouplessLog
from service.log.port import Commit, Partition, Polled, Source, Stored

REPORT_EVERY_S = 0.2

Report = Callable[[str, int, int], None]  # what is read, how much of it, of how much


class ReportingLog:
    """A log that is looked at. report: called now and then while a state or an input is read."""

    def __init__(self, log: GrouplessLog, report: Report) -> None:
        self._log = log
        self._report = report
        self._begin = 0
        self._end: dict[Partition, int] = {}
        self._partition: Partition | None = None
        self._reported_s = 0.0

    def partitions(self, topic: str) -> int:
        return self._log.partitions(topic)

    def inspect(self, partition: Partition) -> Source:
        source = self._log.inspect(partition)
        self._end[partition] = source.end
        return source

    def restore(self, partition: Partition) -> Stored:
        stored = self._log.restore(partition)
        self._say("state", stored.read, stored.size)
        return stored

    def start(self, partition: Partition, offset: int | None) -> int:
        self._partition, self._begin = partition, self._log.start(partition, offset)
        return self._begin

    def poll(self, timeout_s: float) -> Polled:
        polled = self._log.poll(timeout_s)
        if polled.fetched and self._partition is not None:
            end = self._end.get(self._partition, polled.fetched[-1].next_offset)
            self._say("readings", polled.fetched[-1].next_offset - self._begin, end - self._begin)
        return polled

    def position(self, partition: Partition) -> int:
        return self._log.position(partition)

    def commit(self, commits: Sequence[Commit]) -> None:
        self._log.commit(commits)

    def close(self) -> None:
        self._log.close()

    def _say(self, what: str, read: int, of: int) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._report(what, min(read, of), of)
