"""Undo what a stream learned in a span: its row as if the readings of the span had never come.

The stream is judged again by the service's own pipeline, from the nearest state before the span that the changelog
still has, else from where its checkpoint took over or the input begins, up to where its partition has been judged. The
readings of the span are left out, and nothing is published. Its alarm stays as it was published: an anomaly that is
open stays open, and closes when its readings are normal by the row that was rebuilt.
"""

from typing import NamedTuple

from models.data.arrays import Bools, Int64s
from models.detection.rows import Rows
from models.output.wording import counted
from service.errors import RefusedInput
from service.inspect.beginning import beginning_of
from service.inspect.groupless_log import GrouplessLog, Search, input_of
from service.inspect.past import past_of
from service.inspect.question import Question
from service.inspect.transfer import Limits, put_rows, task_to_write_to
from service.log.port import Commit, Partition
from service.pipeline import Pipeline
from service.state.key_index import NO_SLOT
from service.state.writer import StateWriter

ALARM = ("alarm", "opened_offset", "opened_ms", "opened_by", "peak", "length", "rest")  # what of it was published


class Span(NamedTuple):
    """Event time; until_ms is not in it."""

    from_ms: int
    until_ms: int

    def holds(self, times_ms: Int64s) -> Bools:
        return (self.from_ms <= times_ms) & (times_ms < self.until_ms)


class Undone(NamedTuple):
    """What is to be committed, and how the row came about."""

    commit: Commit
    partition: Partition
    begins_with: str
    judged: int  # readings, again
    left_out: int
    remarks: tuple[str, ...]


def undo(
    log: GrouplessLog,
    search: Search,
    question: Question,
    span: Span,
    pipeline: Pipeline,
    writer: StateWriter,
    limits: Limits,
) -> Undone:
    """Of a group that does not run. question: about the beginning of the span. Raises RefusedInput, LostState."""
    name, past = question.stream.decode(), past_of(log, search, question.stream, writer.layout)
    partition = past.origin.partition
    task = task_to_write_to(log, past.origin, pipeline, writer, limits.idle_s)
    slots = task.slab.find([question.stream])
    if int(slots[0]) == NO_SLOT:
        raise RefusedInput(f"{partition}: {name} is not remembered in group {search.group}")
    began = beginning_of(log, question, pipeline, past, log.inspect(partition), spare=0)
    judged = left_out = 0
    for fetched in input_of(log, partition, began.offset, task.next_offset or 0):
        again, without = began.stream.learn(fetched, span.holds)
        judged, left_out = judged + again, left_out + without
    if not left_out:
        raise RefusedInput(
            f"{partition}: found no reading of {name} in the span from offset {began.offset:,} on, where the input, or "
            "the state before the span, begins; there is nothing to undo"
        )
    rows = began.stream.rows
    if rows is None:
        raise RefusedInput(
            f"{partition}: found {counted(left_out, 'reading')} of {name}, all of them in the span: nothing is left to "
            "rebuild its row from"
        )
    _keep_alarm(rows, task.slab.gather(slots))
    commit = put_rows(task, [question.stream], rows, writer, limits.streams)
    return Undone(commit, partition, began.what, judged, left_out, tuple(began.remarks))


def _keep_alarm(rows: Rows, published: Rows) -> None:
    for name in ALARM:
        rows.scalar(name)[:] = published.scalar(name)
    rows.votes[:] = published.votes
