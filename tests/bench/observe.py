"""What a reading takes in `Detector.observe`, by how many streams there are, beside the bare LSTM at the same shapes.

python -m tests.bench.observe [STREAMS ...]: one thread, one feature, 64 units; medians of the thread's processor time,
microseconds a reading. Few streams are measured twice: as a worker gets them, and in long blocks, as a file's come.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from models.detection.detector import Detector, Readings
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack

STREAMS = (1, 6, 60, 600, 6_000, 100_000)
BATCH = 6_000  # readings of a call, about, but for few streams: WAVES of each
WAVES = 10
LONG_WAVES = 256  # of few streams
FEW = 60
WARM_READINGS = 300  # of every stream before it is measured: past its warm-up
LEAST_ROUNDS = 5
ROUNDS_S = 3.0
HIDDEN = 64


def median_us(call: Callable[[int], object], readings: int) -> float:
    """Of a reading, in processor time: other work on the machine counts less. call: with the number of the round."""
    took, began = list[float](), time.perf_counter()
    while len(took) < LEAST_ROUNDS or time.perf_counter() - began < ROUNDS_S:
        start = time.thread_time()
        call(len(took))
        took.append((time.thread_time() - start) / readings * 1e6)
    return statistics.median(took)


def observe_us(streams: int, waves: int) -> float:
    detector, random = Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=HIDDEN))), np.random.default_rng(0)
    packed = pack(torch.arange(streams).repeat(waves))
    rows = detector.rows_for([b"%d" % stream for stream in range(streams)])
    number = torch.arange(streams * waves)
    values = torch.from_numpy(random.normal(size=(len(number), 1)))
    times_ms = 1_767_571_200_000 + number // streams * 60_000

    def call(batch: int) -> None:
        later = Readings(number + batch * len(number), times_ms + batch * waves * 60_000, values)
        detector.observe_in_place(later, packed, rows)

    warm = -(-WARM_READINGS // waves)
    for batch in range(warm):
        call(batch)
    return median_us(lambda batch: call(warm + batch), len(number))


def lstm_us(streams: int, waves: int) -> float:
    lstm, inputs = nn.LSTM(7, HIDDEN).eval(), torch.randn(waves, streams, 7)
    state = torch.zeros(1, streams, HIDDEN), torch.zeros(1, streams, HIDDEN)
    with torch.inference_mode():
        return median_us(lambda _: lstm(inputs, state), streams * waves)


def main() -> None:
    torch.set_num_threads(1)
    print("| streams | waves a call | observe, µs a reading | bare LSTM |\n| --- | --- | --- | --- |")
    for streams in map(int, sys.argv[1:] or map(str, STREAMS)):
        for waves in waves_of(streams):
            observed, bare = observe_us(streams, waves), lstm_us(streams, waves)
            print(f"| {streams:,} | {waves} | {observed:.2f} | {bare:.2f} |", flush=True)


def waves_of(streams: int) -> tuple[int, ...]:
    """How many readings of each stream a call has, in each measurement."""
    if streams <= FEW:
        return WAVES, LONG_WAVES
    return (WAVES if streams * WAVES <= BATCH else 1,)


if __name__ == "__main__":
    main()
