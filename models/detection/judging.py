"""Series through a detector: what the service does with batches from a topic, where the readings are at hand."""

from collections.abc import Sequence

import numpy as np
import torch

from models.data.arrays import Int64s
from models.data.series import Series
from models.detection.detector import Detector, Readings, Verdicts
from models.detection.rows import Rows
from models.detection.sensor_rules import SensorRules
from models.net.packing import pack


def judge_series(
    detector: Detector,
    series: Sequence[Series],
    rows: Rows,
    offsets: Sequence[Int64s] | None = None,
    sensors: SensorRules | None = None,
) -> Verdicts:
    """Judge all readings of every series from its row in `rows`, which becomes that after its last one.

    The verdicts are in one batch, series after series. offsets: of each one's readings; None: their place in the batch.
    sensors: whose limits hold; the values must be clean by them.
    """
    waves = pack(torch.from_numpy(np.repeat(np.arange(len(series)), [len(one.times_ms) for one in series])))
    times_ms, values = (np.concatenate([getattr(one, name) for one in series]) for name in ("times_ms", "values"))
    places = np.arange(len(times_ms)) if offsets is None else np.concatenate(list(offsets))
    readings = Readings(*map(torch.from_numpy, (places, times_ms, values)))
    keys = [series[n].key.encode() for n in waves.slots.tolist()]
    limits = None if sensors is None else sensors.limits(keys)
    return detector.observe_in_place(readings, waves, rows, limits)
