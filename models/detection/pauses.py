"""What a reading leaves where nothing may be learned: while a plant is maintained, what is seen is not normal.

It is judged as any other, and moves what is about now: the net's memory, short means, runs, and the alarm. All else of
the row is put back as it was. So the next healthy reading is judged as if the pause had not been, and an alarm that
lasts through it is not adopted as the new normal. A stream that still warms up learns all the same: it knows nothing.
"""

import numpy as np

from models.data.arrays import Doubles
from models.detection.compiling import compiled
from models.detection.records import Rules, Scratch
from models.detection.rows import CHANNELS, LARGEST_RESIDUAL, RELATION_LASTING, SCALARS, Table

OF_CHANNELS = ("last", "mean_in_alarm", "level_deviation", "last_profile", "equal_run", "missing_run", "swing_run")
OF_STREAM = (
    "age",
    "time_ms",
    "late_run",
    "residual_strength",
    "residual_largest",
    "told_strength",
    "told_largest",
    "alarm",
    "opened_offset",
    "opened_ms",
    "opened_by",
    "peak",
    "length",
    "rest",
)
"""What moves in a pause too."""


def _stays(table: Table, moves: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(place for name, place in table.places.items() if name not in moves)


_CHANNELS_STAY, _STREAM_STAYS = np.array(_stays(CHANNELS, OF_CHANNELS)), np.array(_stays(SCALARS, OF_STREAM))


@compiled
def is_paused(paused_until: Doubles, n: int, time_ms: float, elapsed_ms: float, age: float, rules: Rules) -> bool:
    """Whether nothing may be learned from reading n, nor from the time since the stream's last one.

    paused_until: (N,) ms, when a pause of its stream last ended before each of N readings, as QuietTime.last_ends has
    it; empty: no stream pauses. age: with this reading.
    """
    return len(paused_until) > 0 and age > rules.warm_up and paused_until[n] > time_ms - elapsed_ms


@compiled
def keep(relation: Doubles, scratch: Scratch) -> None:
    """Before a reading of which nothing is to be learned."""
    for k in range(scratch.stream_numbers.shape[1]):
        scratch.kept_stream[0, k] = scratch.stream_numbers[0, k]
    for f in range(scratch.channel_numbers.shape[0]):
        for c in range(scratch.channel_numbers.shape[1]):
            scratch.kept_channels[f, c] = scratch.channel_numbers[f, c]
    for q in range(scratch.relation_numbers.shape[1]):
        scratch.kept_relation_numbers[0, q] = scratch.relation_numbers[0, q]
    for r in range(relation.shape[0]):
        for f in range(relation.shape[1]):
            scratch.kept_relation[r, f] = relation[r, f]


@compiled
def put_back(relation: Doubles, scratch: Scratch) -> None:
    """After it."""
    for k in _STREAM_STAYS:
        scratch.stream_numbers[0, k] = scratch.kept_stream[0, k]
    for f in range(scratch.channel_numbers.shape[0]):
        for c in _CHANNELS_STAY:
            scratch.channel_numbers[f, c] = scratch.kept_channels[f, c]
    for q in range(scratch.relation_numbers.shape[1]):
        scratch.relation_numbers[0, q] = scratch.kept_relation_numbers[0, q]
    for r in range(relation.shape[0]):
        if r != RELATION_LASTING and r != LARGEST_RESIDUAL:  # noqa: PLR1714  (compiled)
            for f in range(relation.shape[1]):
                relation[r, f] = scratch.kept_relation[r, f]
