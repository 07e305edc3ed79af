"""What a reading takes in `Detector.observe`, by how many streams there are, beside the bare LSTM at the same shapes.

python -m tests.bench.observe [STREAMS ...]: one thread, one feature, 64 units; medians of the thread's processor time,
which other work on the machine adds less to, the two taking turns. At most 1.5 times is what is asked. Few streams are
measured twice: as a worker gets them, and in long blocks, as a file's come.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.detection.detector import Detector, Readings
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from service.live.memory import settle
from tests.bench.machine import machine

STREAMS = (1, 6, 60, 600, 6_000, 100_000)
BATCH = 6_000  # readings of a call, about, but for few streams: WAVES of each
WAVES = 10
LONG_WAVES = 256  # of few streams
FEW = 60
WARM_READINGS = 300  # of every stream before it is measured: past its warm-up
LEAST_ROUNDS = 5
ROUNDS_S = 6.0  # of both
SHORTEST_TURN = 500  # readings
WIDEST_LSTM = 2_048  # streams
HIDDEN = 64


class Call(NamedTuple):
    prepare: Callable[[], Any]  # what it is given; takes none of its time
    call: Callable[[Any], object]


def in_turns_us(calls: Sequence[Call], readings: int) -> tuple[float, ...]:
    """Of a reading, of each of these calls; they take turns, so that other work on the machine meets all alike."""
    took: list[list[float]] = [[] for _ in calls]
    began, together = time.perf_counter(), max(1, SHORTEST_TURN // readings)
    while len(took[0]) < LEAST_ROUNDS or time.perf_counter() - began < ROUNDS_S:
        for (prepare, call), times in zip(calls, took, strict=True):
            given = [prepare() for _ in range(together)]
            start = time.thread_time()
            for one in given:
                call(one)
            times.append((time.thread_time() - start) / (together * readings) * 1e6)
    return tuple(map(statistics.median, took))


def observing(streams: int, waves: int) -> Call:
    """Judges the next readings of streams that are past their warm-up."""
    detector, random = Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=HIDDEN))), np.random.default_rng(0)
    packed = pack(torch.arange(streams).repeat(waves))
    rows = detector.rows_for([b"%d" % stream for stream in range(streams)])
    number = torch.arange(streams * waves)
    values = torch.from_numpy(random.normal(size=(len(number), 1)))
    times_ms = 1_767_571_200_000 + number // streams * 60_000
    batches = count()

    def following() -> Readings:
        batch = next(batches)
        return Readings(number + batch * len(number), times_ms + batch * waves * 60_000, values)

    def call(later: Readings) -> None:
        detector.observe_in_place(later, packed, rows)

    for _ in range(-(-WARM_READINGS // waves)):
        call(following())
    return Call(following, call)


def bare_lstm(streams: int, waves: int) -> Call:
    """In blocks of streams as wide as it likes best: of more at once, its sums leave the processor's cache."""
    lstm = nn.LSTM(7, HIDDEN).eval()
    blocks = [min(WIDEST_LSTM, streams - first) for first in range(0, streams, WIDEST_LSTM)]
    given = [
        (torch.randn(waves, size, 7), (torch.zeros(1, size, HIDDEN), torch.zeros(1, size, HIDDEN))) for size in blocks
    ]

    def call(blocks: list[tuple[Tensor, tuple[Tensor, Tensor]]]) -> None:
        with torch.inference_mode():
            for inputs, state in blocks:
                lstm(inputs, state)

    return Call(lambda: given, call)


def ratios(numbers: Iterable[int]) -> Iterator[tuple[int, int, float]]:
    """Of each shape, streams and readings of each, how many times the bare LSTM `observe` takes; prints both."""
    print("| streams | readings of each | observe, µs a reading | bare LSTM | times the bare LSTM |")
    print("| --- | --- | --- | --- | --- |")
    for streams in numbers:
        for waves in waves_of(streams):
            calls = observing(streams, waves), bare_lstm(streams, waves)
            observed, bare = in_turns_us(calls, streams * waves)
            print(f"| {streams:,} | {waves} | {observed:.2f} | {bare:.2f} | {observed / bare:.2f} |", flush=True)
            yield streams, waves, observed / bare


def main() -> None:
    torch.set_num_threads(1)
    settle()  # memory comes and goes as in a worker
    print(f"{machine()}\n")
    for _ in ratios(map(int, sys.argv[1:] or map(str, STREAMS))):
        pass


def waves_of(streams: int) -> tuple[int, ...]:
    """How many readings of each stream a call has, in each measurement."""
    if streams <= FEW:
        return WAVES, LONG_WAVES
    return (WAVES if streams * WAVES <= BATCH else 1,)


if __name__ == "__main__":
    main()
