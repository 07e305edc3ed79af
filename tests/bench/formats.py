"""How fast each form of docs/payloads.py is read: records to readings, on one core, and the share of our own JSON.

`python -m tests.bench.formats` alone, or as the first table of `make bench`. No broker: a batch is decoded as a worker
does it, of one record many times over. Each form takes turns with our own JSON, and the time is the processor's, so
that what else the machine does falls on both.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from docs.payloads import PAYLOADS, Payload, decoder, fetched
from service.live.memory import settle
from tests.bench.machine import machine

RECORDS = 5_000
ROUNDS = 5


class Rate(NamedTuple):
    what: str
    records: float  # a second
    readings: float
    share: float  # of our own JSON's readings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.formats", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    args = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    print(table(args.records))


def table(records: int = RECORDS) -> str:
    """The rates as Markdown; the first payload is our own JSON. The collector is set as in a worker."""
    settle()
    lines = ["| form | records a second | readings a second | share of our JSON |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.what} | {one.records:,.0f} | {one.readings:,.0f} | {one.share:.2f} |"
        for one in (rate(payload, records) for payload in PAYLOADS)
    ]
    return "\n".join(lines)


def rate(payload: Payload, records: int) -> Rate:
    """Medians of some rounds. Raises ValueError where a payload cannot be read."""
    read, read_own = _reader(payload, records), _reader(PAYLOADS[0], records)
    rounds = [(*read(), *read_own()) for _ in range(ROUNDS + 1)][1:]
    took_s = median(took_s for took_s, _, _, _ in rounds)
    readings = rounds[0][1]
    share = median(own_s / took_s for took_s, _, own_s, _ in rounds) * readings / rounds[0][3]
    return Rate(payload.what, records / took_s, readings / took_s, share)


def _reader(payload: Payload, records: int) -> Callable[[], tuple[float, int]]:
    """What reads some records once: seconds of the processor, and how many readings they hold."""
    reads, batch = decoder(payload), fetched(payload, records)

    def read() -> tuple[float, int]:
        began_s = time.thread_time()
        found, rejects = reads.decode(batch)
        took_s = time.thread_time() - began_s
        if rejects:
            raise ValueError(f"{payload.what}: {rejects[0].detail}, expected a payload that is read")
        return took_s, len(found.keys)

    return read


if __name__ == "__main__":
    main()
