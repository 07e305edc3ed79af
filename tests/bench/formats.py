"""How fast each form of docs/payloads.py is read: records to readings, on one core, and the share of our own JSON.

`python -m tests.bench.formats` alone, or as the first table of `make bench`. No broker: a batch is decoded as a worker
does it, of one record many times over. Caches of names and times serve all but the first of them, so rates of a real
topic are lower.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

from docs.payloads import PAYLOADS, Payload, decoder, fetched
from tests.bench.machine import machine

RECORDS = 5_000
ROUNDS = 3


class Rate(NamedTuple):
    what: str
    records: float  # a second
    readings: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.formats", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    args = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    print(table(args.records))


def table(records: int = RECORDS) -> str:
    """The rates as Markdown; the first payload is our own JSON."""
    rates = [rate(payload, records) for payload in PAYLOADS]
    lines = ["| form | records a second | readings a second | share of our JSON |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.what} | {one.records:,.0f} | {one.readings:,.0f} | {share:.2f} |" for one, share in shares(rates)
    ]
    return "\n".join(lines)


def rate(payload: Payload, records: int) -> Rate:
    """The best of some rounds: others on the machine only slow it down. Raises ValueError where one cannot be read."""
    reads, batch = decoder(payload), fetched(payload, records)
    took_s = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        read, rejects = reads.decode(batch)
        took_s.append(time.perf_counter() - began_s)
        if rejects:
            raise ValueError(f"{payload.what}: {rejects[0].detail}, expected a payload that is read")
    return Rate(payload.what, records / min(took_s), len(read.keys) / min(took_s))


def shares(rates: Sequence[Rate]) -> list[tuple[Rate, float]]:
    """Each with its readings a second by those of the first."""
    return [(one, one.readings / rates[0].readings) for one in rates]


if __name__ == "__main__":
    main()
