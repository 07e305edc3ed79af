"""Open alarms, read from the rows: those that the events leave open."""

import numpy as np

from models.detection.detector import Detector
from service.input.anomaly import anomaly_id
from service.input.events import Event
from service.input.wire import encode_reading
from service.log.port import Fetched, Partition
from service.pipeline import Pipeline
from service.state.open_alarms import by_severity, open_alarms, strongest
from service.state.slab import StateSlab
from service.state.task import PartitionTask

P0 = Partition("readings", 0)
OPENED_MS = 1_700_000_000_000


def judged(detector: Detector, spikes: int) -> tuple[PartitionTask, list[Event]]:
    """Eight streams; after 140 readings the first few have a fault, some worse than others, that has not ended."""
    task = PartitionTask(P0, StateSlab(detector.rows_for))
    random = np.random.default_rng(5)
    records: list[tuple[bytes, bytes]] = []
    for n in range(144):
        for stream in range(8):
            values = random.normal(size=2) + (10.0 + 12.0 * stream if n >= 140 and stream < spikes else 0.0)
            value = encode_reading(("f0", "f1"), OPENED_MS + 60_000 * n, values.tolist())
            records.append((b"stream-%d" % stream, value))
    count = len(records)
    keys: list[bytes | None] = [key for key, _ in records]
    sent_values: list[bytes | None] = [value for _, value in records]
    fetched = Fetched(P0, keys, sent_values, np.arange(count), np.full(count, -1), count, count)
    processed = Pipeline(detector, "digest", 86_400_000).process(fetched, task)
    return task, [event for one in processed for event in one.events]


def test_the_open_alarms_of_the_rows_are_those_that_the_events_leave_open(detector: Detector) -> None:
    task, events = judged(detector, spikes=6)
    last = {event.data.anomaly: event.data for event in events}
    left = {name: anomaly for name, anomaly in last.items() if anomaly.status == "open"}
    found = open_alarms(task.slab)
    assert len(left) >= 4
    assert len({anomaly.severity for anomaly in left.values()}) >= 2
    assert {anomaly_id(P0, one.opened_offset, one.key.decode()) for one in found} == set(left)
    for one in found:
        anomaly = left[anomaly_id(P0, one.opened_offset, one.key.decode())]
        assert (one.severity, one.key.decode()) == (anomaly.severity, anomaly.stream)
        assert one.peak >= anomaly.peak
        assert one.opened_by.name.lower() == anomaly.kind
    counts = by_severity(found)
    assert counts == {name: sum(one.severity == name for one in left.values()) for name in counts}
    peaks = sorted((one.peak for one in found), reverse=True)
    assert [peak for _, peak in strongest(found, 3)] == peaks[:3]
    assert strongest(found, 0) == ()
