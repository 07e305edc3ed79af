"""A worker as `telltale run` starts it, which dies where the orders say, and publishes its verdict on every reading.

Everything is the product's own but for what stands in this file: verdicts beside the anomalies in the same transaction,
a fail-point, a proxy, and, as the negative control, offsets that are sent in the group's name alone.
"""

import faulthandler
import os
import random
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from kafka.producer.transaction_manager import TransactionManager

from service import failpoints
from service.host import log_lines
from service.kafka.log import KafkaLog
from service.log.port import Polled, Record
from service.pipeline import Pipeline, Processed
from service.process import judges, running
from service.settings import loading, settings

VERDICT = b"\x00verdict"
JUDGED, LATE, DUPLICATE = 1, 2, 4
OFFSET_AT = len(VERDICT)  # of the offset of the reading's record within a verdict
INDEX_AT = OFFSET_AT + 8  # of which of its record's readings it is


def run(orders: Mapping[str, Any]) -> int:
    """orders: `settings` by "section.field"; `proxy`: URL; `fail`: a scene.Fault; `verdicts_of`: keys; `control`."""
    log_lines.configure("INFO", "json")
    prefix = orders["verdicts_of"]
    _replace(judges, "Pipeline", VerdictPipeline if prefix is None else verdict_pipeline_of(prefix.encode()))
    if orders["proxy"]:
        proxied = {"proxy_url": orders["proxy"]}
        _replace(running, "client_options", lambda given: {**settings.client_options(given), **proxied})
    if orders["control"]:
        _send_offsets_in_the_groups_name_alone()
    if orders["fail"]:
        failpoints.arm(fail(**orders["fail"]))
    _explain_on_request()
    running.run_service(loading.load(None, orders["settings"]))
    return 0


def _explain_on_request() -> None:
    """Say when judging begins; and on SIGUSR2 what is owned, fetched from and waited for."""

    class Explaining(KafkaLog):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self._judging = False
            signal.signal(signal.SIGUSR2, self._explain)

        def poll(self, timeout_s: float) -> Polled:
            if not self._judging:
                self._judging = True
                print('{"event": "judging"}', flush=True)
            return super().poll(timeout_s)

        def _explain(self, *_: object) -> None:
            mine = self._consumer._subscription.assignment
            state = {f"{tp.topic}-{tp.partition}": (one.paused, one.position) for tp, one in mine.items()}
            names = ("_owned", "_started", "_fresh", "_restoring")
            print({name: getattr(self, name, None) for name in names}, "paused, position:", state, flush=True)
            faulthandler.dump_traceback()

    _replace(running, "KafkaLog", Explaining)


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Something of the product's by something else: it has to be there."""
    getattr(module, name)
    setattr(module, name, value)


class VerdictPipeline(Pipeline):
    """Puts a verdict before the anomalies of each reading; where batches end, it does not show."""

    def process_all(self, *args: Any, **kwargs: Any) -> list[Processed]:
        return [_with_verdicts(one, b"") for one in super().process_all(*args, **kwargs)]


def verdict_pipeline_of(prefix: bytes) -> type[Pipeline]:
    """Verdicts of the streams only whose names begin so."""

    class VerdictPipelineOfSome(Pipeline):
        def process_all(self, *args: Any, **kwargs: Any) -> list[Processed]:
            return [_with_verdicts(one, prefix) for one in super().process_all(*args, **kwargs)]

    return VerdictPipelineOfSome


def _with_verdicts(one: Processed, prefix: bytes) -> Processed:
    if one.verdicts is None or not one.batch.keys:
        return one
    verdicts = _verdicts(one, prefix)
    assert len(one.events) <= len(one.commit.anomalies)
    events = [(event.data.offset, 1, record) for event, record in zip(one.events, one.commit.anomalies, strict=False)]
    other = one.commit.anomalies[len(one.events) :]
    records = sorted([*verdicts, *events], key=lambda item: item[:2])
    return one._replace(commit=one.commit._replace(anomalies=(*(record for _, _, record in records), *other)))


def _verdicts(one: Processed, prefix: bytes) -> list[tuple[int, int, Record]]:
    """(offset, 0, verdict) of each reading: its place, fate, alarm, score and band, all bits of them."""
    verdicts, batch = one.verdicts, one.batch
    assert verdicts is not None
    fate = verdicts.fate.judged * JUDGED + verdicts.fate.late * LATE + verdicts.fate.duplicate * DUPLICATE
    band = np.concatenate([c.numpy() for c in (verdicts.expected, verdicts.lower, verdicts.upper)], axis=1)
    columns: Sequence[list[Any]] = (
        batch.readings.offsets.tolist(),
        batch.indices.tolist(),
        fate.tolist(),
        verdicts.alarm.tolist(),
        verdicts.score.tolist(),
    )
    packed = struct.Struct(f"<{len(VERDICT)}sqHBBd").pack
    return [
        (offset, 0, Record(key, packed(VERDICT, offset, index, fate, alarm, score) + row.tobytes()))
        for key, offset, index, fate, alarm, score, row in zip(batch.keys, *columns, band, strict=True)
        if key.startswith(prefix)
    ]


def verdict_offset(value: bytes | None) -> int | None:
    """The offset of the record whose reading a verdict is about; None for any other record."""
    place = verdict_place(value)
    return None if place is None else place[0]


def verdict_place(value: bytes | None) -> tuple[int, int] | None:
    """The same, and which of the record's readings."""
    if value is None or not value.startswith(VERDICT):
        return None
    offset, index = (value[begin:end] for begin, end in ((OFFSET_AT, INDEX_AT), (INDEX_AT, INDEX_AT + 2)))
    return int.from_bytes(offset, "little"), int.from_bytes(index, "little")


def fail(point: str, hit: int, number: int, within_ms: float) -> Callable[[str], None]:
    """End or stop this process at every hit-th time that a point is reached, or within some milliseconds after it."""
    reached = 0

    def reach(name: str) -> None:
        nonlocal reached
        reached += name == point
        if name != point or reached % hit:
            return
        if within_ms and number == signal.SIGKILL:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel's doing, whatever this process does meanwhile
            signal.setitimer(signal.ITIMER_REAL, random.random() * within_ms / 1000 + 1e-6)
        else:
            os.kill(os.getpid(), number)

    return reach


def _send_offsets_in_the_groups_name_alone() -> None:
    send = TransactionManager.send_offsets_to_transaction

    def send_without_generation(self: Any, offsets: Any, membership: Any) -> Any:
        return send(self, offsets, membership.group_id)

    TransactionManager.send_offsets_to_transaction = send_without_generation
