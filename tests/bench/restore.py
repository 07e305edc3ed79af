"""What restoring takes of the processor and of memory, without the broker: pages to rows, as Recovery loads them.

python -m tests.bench.restore [STREAMS ...]: one partition, one feature, 64 units. Pages are made while no time is
counted, and each is forgotten when it is loaded. `make bench` restores through a broker.
"""

import sys
import time

import psutil
import torch

from models.detection.detector import Detector
from models.net.forecaster import Forecaster, ForecasterConfig
from service.input.reading_batch import StreamKey
from service.log.port import Partition
from service.state.changelog import Collected, Layout, page_record, read_page, roster_agrees, roster_record
from service.state.changelog_keys import Origin
from service.state.key_index import keep_code
from service.state.slab import PAGE_ROWS, Page, StateSlab
from tests.bench import load
from tests.bench.machine import machine

STREAMS = (100_000, 1_000_000)
TOGETHER = 512  # pages that are made, then loaded


def restored(streams: int) -> tuple[float, float]:
    """Seconds of the processor, and bytes that are resident for it."""
    detector = Detector.cold(Forecaster(ForecasterConfig(("value",))))
    origin, rows = Origin("bench", Partition("bench", 0)), detector.rows_for([b""] * PAGE_ROWS)
    layout, slab = Layout.of("0" * 64, rows), StateSlab(detector.rows_for)
    pages, took_s, before = -(-streams // PAGE_ROWS), 0.0, psutil.Process().memory_info().rss
    slab.reserve(pages)
    for first in range(0, pages, TOGETHER):
        some = range(first, min(first + TOGETHER, pages))
        collected = Collected(origin)
        for number in some:
            slots = range(number * PAGE_ROWS, min((number + 1) * PAGE_ROWS, streams))
            keys = tuple(StreamKey(load.key(slot)) for slot in slots)
            page = Page(number, 0, torch.tensor(slots), keys, rows.part(0, len(keys)), torch.zeros(len(keys)).long())
            collected.pages[number] = page_record(origin, layout, page).value or b""
            collected.rosters[number] = roster_record(origin, number, keys).value or b""
        began = time.thread_time()
        for number in some:
            found = read_page(collected, layout, number)
            assert isinstance(found, Page)
            slab.load(found)
            assert roster_agrees(collected, found)
            collected.drop(number)
        took_s += time.thread_time() - began
    assert len(slab) == streams
    return took_s, psutil.Process().memory_info().rss - before


def main() -> None:
    torch.set_num_threads(1)
    keep_code()  # loaded before memory is counted
    print(f"{machine()}\n\n| streams | s of the processor | µs a stream | resident | bytes a stream |")
    print("| --- | --- | --- | --- | --- |")
    for streams in map(int, sys.argv[1:] or map(str, STREAMS)):
        took_s, resident = restored(streams)
        columns = f"{took_s:.2f}", f"{took_s / streams * 1e6:.2f}", f"{resident / 2**20:,.0f} MB"
        print(f"| {streams:,} | {' | '.join(columns)} | {resident / streams:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
