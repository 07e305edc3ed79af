"""The budget of a reading: what each stage of a worker takes without a broker, one after the other.

python -m tests.bench.stages [STREAMS ...]: one thread, one feature, 64 units, a JSON record a reading; medians of the
thread's processor time, microseconds a reading. All streams are known and past their warm-up, and have readings in
turn. Of the parts of `observe`, tests.bench.observe has the net.

--growth: how a reading's time grows from 100 streams to a million; at most 1.3 times is asked.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from models.detection.detector import Readings
from models.net.packing import Waves, pack
from service.input.reading_batch import StreamKey
from service.input.wire import Decoder
from service.live.memory import settle
from service.log.port import Fetched, Partition
from service.state.changelog import Layout, page_record
from service.state.changelog_keys import Origin
from service.state.slab import PAGE_ROWS, StateSlab
from tests.bench import load
from tests.bench.machine import machine

STREAMS = (60, 1_000, 20_000)
GROWTH = (100, 1_000, 10_000, 100_000, 1_000_000)
BATCH = 5_000  # readings of a poll
ROUNDS = 31
WARM_ROUNDS = 3
HIDDEN = 64
T = TypeVar("T")
PARTITION = Partition("bench", 0)


class Stages:
    """One poll after the other, every stage as the service's pipeline calls it.

    A stream has a reading a second, as in its training, or it would open an alarm for its silence.
    """

    def __init__(self, streams: int) -> None:
        self.detector = load.warm_detector(streams, HIDDEN)
        self.decoder = Decoder(("value",), max_future_ms=10**15)
        self.slab = StateSlab(self.detector.rows_for)
        self.layout = Layout.of("0" * 64, self.detector.rows_for([]))
        self.streams = streams
        for first in range(0, streams, BATCH):
            self.slab.slots([StreamKey(load.key(n)) for n in range(first, min(first + BATCH, streams))])
        self.noise = load.fill_values()  # of which a turn sees others, or streams would repeat themselves
        self.took: dict[str, list[float]] = {}

    def poll(self, turn: int) -> None:
        fetched = self._fetched(turn)
        batch, _ = self._timed("decode", lambda: self.decoder.decode(fetched))
        slots = self._timed("keys to slots", lambda: batch.slots(self.slab.slots))
        waves = self._timed("waves", lambda: pack(slots))
        self._timed("observe", lambda: self._observe(batch.readings, waves))
        applied = torch.full((len(waves.slots),), fetched.next_offset - 1)
        self._timed("rows noted", lambda: self.slab.note_judged(waves.slots, applied, int(fetched.offsets[0])))

    def _observe(self, readings: Readings, waves: Waves) -> None:
        with self.slab.judged_in_place() as rows:
            self.detector.observe_in_place(readings, waves, rows)

    @property
    def medians_us(self) -> dict[str, float]:
        """Of a reading, by stage."""
        return {stage: statistics.median(times[WARM_ROUNDS:]) for stage, times in self.took.items()}

    def write_pages(self) -> float:
        """Microseconds a stream."""
        began = time.thread_time()
        pages = [number for number, _ in self.slab.dirty_pages()]
        for number in pages:
            page_record(Origin("bench", PARTITION), self.layout, self.slab.page(number, 0))
        return (time.thread_time() - began) / (len(pages) * PAGE_ROWS) * 1e6

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        done = work()
        self.took.setdefault(stage, []).append((time.thread_time() - began) / BATCH * 1e6)
        return done

    def _fetched(self, turn: int) -> Fetched:
        offsets = np.arange(BATCH) + turn * BATCH
        waves, streams = offsets // self.streams, offsets * 7_919 % self.streams
        keys: list[bytes | None] = list(map(load.key, streams.tolist()))
        columns = (load.START_MS + waves * 1_000).tolist(), self.noise[offsets % len(self.noise)].tolist()
        values: list[bytes | None] = [
            b'{"timestamp":%d,"value":%a}' % (time_ms, value) for time_ms, value in zip(*columns, strict=True)
        ]
        end = int(offsets[-1]) + 1
        return Fetched(PARTITION, keys, values, offsets, np.full(BATCH, load.START_MS), end, end)


def measured(streams: int) -> Stages:
    stages = Stages(streams)
    for turn in range(WARM_ROUNDS + ROUNDS):
        stages.poll(turn)
    return stages


def growth() -> float:
    """How many times as long a reading takes of the most streams as of the fewest; prints what each number takes."""
    totals = []
    print("| streams | µs a reading | of 100 streams' |\n| --- | --- | --- |")
    for streams in GROWTH:
        totals.append(sum(measured(streams).medians_us.values()))
        print(f"| {streams:,} | {totals[-1]:.2f} | {totals[-1] / totals[0]:.2f} |", flush=True)
    return totals[-1] / totals[0]


def main() -> None:
    torch.set_num_threads(1)
    settle()  # memory comes and goes as in a worker
    print(machine())
    if sys.argv[1:] == ["--growth"]:
        growth()
        return
    for streams in map(int, sys.argv[1:] or map(str, STREAMS)):
        stages = measured(streams)
        parts = ", ".join(f"{stage} {us:.2f}" for stage, us in stages.medians_us.items())
        print(f"{streams:,} streams: {parts}; a page's share of a stream {stages.write_pages():.2f}", flush=True)


if __name__ == "__main__":
    main()
