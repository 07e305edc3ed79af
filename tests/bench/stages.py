"""The budget of a reading: what each stage of a worker takes without a broker, one after the other.

python -m tests.bench.stages [STREAMS ...]: one thread, one feature, 64 units, a JSON record a reading; medians of the
thread's processor time, microseconds a reading. Of the parts of `observe`, tests.bench.observe has the net.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from models.detection.detector import Detector
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from service.input.wire import Decoder
from service.log.port import Fetched, Partition
from service.state.changelog import Layout, page_record
from service.state.changelog_keys import Origin
from service.state.slab import StateSlab
from tests.bench.machine import machine

STREAMS = (60, 1_000, 20_000)
BATCH = 5_000  # readings of a poll
ROUNDS = 31
WARM_ROUNDS = 3
START_MS = 1_767_571_200_000
T = TypeVar("T")
PARTITION = Partition("bench", 0)


class Stages:
    """The same poll over and over, a second later each time; every stage as the service's pipeline calls it."""

    def __init__(self, streams: int) -> None:
        self.detector = Detector.cold(Forecaster(ForecasterConfig(("value",))))
        self.decoder = Decoder(("value",), max_future_ms=10**15)
        self.slab = StateSlab(self.detector.rows_for)
        self.layout = Layout.of("0" * 64, self.detector.rows_for([]))
        self.streams = np.arange(BATCH) * 7_919 % streams
        self.values = np.random.default_rng(0).normal(size=BATCH)
        self.took: dict[str, list[float]] = {}

    def poll(self, turn: int) -> None:
        fetched = self._fetched(turn)
        batch, _ = self._timed("decode", lambda: self.decoder.decode(fetched))
        slots = self._timed("keys to slots", lambda: batch.slots(self.slab.slots))
        waves = self._timed("waves", lambda: pack(slots))
        rows = self._timed("rows out", lambda: self.slab.gather(waves.slots))
        self._timed("observe", lambda: self.detector.observe_in_place(batch.readings, waves, rows))
        applied = torch.full((len(waves.slots),), fetched.next_offset - 1)
        self._timed("rows back", lambda: self.slab.scatter(waves.slots, rows, applied, int(fetched.offsets[0])))

    def write_pages(self) -> float:
        """Microseconds a stream."""
        began = time.thread_time()
        pages = [number for number, _ in self.slab.dirty_pages()]
        for number in pages:
            page_record(Origin("bench", PARTITION), self.layout, self.slab.page(number, 0))
        return (time.thread_time() - began) / len(self.slab.keys) * 1e6

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        done = work()
        self.took.setdefault(stage, []).append((time.thread_time() - began) / BATCH * 1e6)
        return done

    def _fetched(self, turn: int) -> Fetched:
        offsets, time_ms = np.arange(BATCH) + turn * BATCH, START_MS + turn * 1_000
        keys: list[bytes | None] = [b"plant-%02d/sensor-%06d" % (n % 20, n) for n in self.streams.tolist()]
        values: list[bytes | None] = [
            b'{"timestamp":%d,"value":%a}' % (time_ms + n // 100, value) for n, value in enumerate(self.values.tolist())
        ]
        end = int(offsets[-1]) + 1
        return Fetched(PARTITION, keys, values, offsets, np.full(BATCH, time_ms), end, end)


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    for streams in map(int, sys.argv[1:] or map(str, STREAMS)):
        stages = Stages(streams)
        for turn in range(WARM_ROUNDS + ROUNDS):
            stages.poll(turn)
        took = {stage: statistics.median(times[WARM_ROUNDS:]) for stage, times in stages.took.items()}
        parts = ", ".join(f"{stage} {us:.2f}" for stage, us in took.items())
        print(f"{streams:,} streams: {parts}; a page's share of a stream {stages.write_pages():.2f}", flush=True)


if __name__ == "__main__":
    main()
