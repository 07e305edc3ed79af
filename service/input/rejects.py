"""Records that cannot be read, or only in part: why, and their dead letters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools
from service.input.mapping import SHOWN_READINGS
from service.input.reading_batch import ReadingBatch
from service.input.reasons import Reason
from service.log.port import Fetched, Record


class Reject(NamedTuple):
    """A record that cannot be read: index into what was fetched, and why."""

    record: int
    reason: Reason
    detail: str


def dead_letter(fetched: Fetched, reject: Reject) -> Record:
    """The record as it came, with the reason behind its own headers. It may be larger than its topic takes."""
    n = reject.record
    offset, time_ms = int(fetched.offsets[n]), int(fetched.times_ms[n])
    came_with = fetched.headers(offset)
    left_out = (("telltale-headers-left-out", str(came_with.left_out).encode()),) if came_with.left_out else ()
    headers = (
        *came_with.kept,
        ("telltale-reason", reject.reason.encode()),
        ("telltale-detail", reject.detail.encode(errors="replace")[:1024]),
        ("telltale-topic", fetched.partition.topic.encode()),
        ("telltale-partition", str(fetched.partition.number).encode()),
        ("telltale-offset", str(offset).encode()),
        *left_out,
    )
    return Record(fetched.keys[n], fetched.values[n], headers, time_ms if time_ms >= 0 else None)


def with_refused_streams(
    rejects: Sequence[Reject], fetched: Fetched, batch: ReadingBatch, out: Bools, detail: str
) -> list[Reject]:
    """The rejects with those of the readings for whose streams there is no room. out: (N,) which of the batch's."""
    records = np.searchsorted(fetched.offsets, batch.readings.offsets.numpy())
    holds = np.bincount(records, minlength=len(fetched.keys))
    refused: dict[int, list[int]] = {}
    for record, index in zip(records[out].tolist(), batch.indices[out].tolist(), strict=True):
        refused.setdefault(record, []).append(index)
    found = {reject.record: reject for reject in rejects}
    for record, indices in refused.items():
        before = found.get(record)
        if before is None and int(holds[record]) == 1 and indices == [0]:
            found[record] = Reject(record, Reason.STREAM_LIMIT, detail)
            continue
        refusal = refused_readings(
            len(indices), int(holds[record]), [f"{n}: {detail}" for n in indices[:SHOWN_READINGS]]
        )
        reason = Reason.STREAM_LIMIT if before is None else before.reason
        found[record] = Reject(record, reason, refusal if before is None else f"{before.detail}; {refusal}")
    return sorted(found.values())


def refused_readings(count: int, of: int, shown: Sequence[str]) -> str:
    """The detail of a record in which some readings cannot be judged. shown: index and reason of the first of them."""
    more = f"; and {count - len(shown)} more" if count > len(shown) else ""
    others = "" if count == of else ", the others are judged"
    return f"{count} of {of} readings refused{others}. Reading {'; reading '.join(shown)}{more}"
