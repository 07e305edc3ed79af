"""Which net suits some data: how finely it may be shown the clock, and whether it begins as one trained before."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.data.series import Series
from models.data.time_units import DAY_MS
from models.data.windows import TWO_WEEKS
from models.net.forecaster import MOST_WEEK_HARMONICS, ForecasterConfig
from models.net.warm_start import can_begin_as

FINE_DAY = 24  # harmonics: half an hour
FEW_DAYS, MANY_DAYS = 4.0, 8.0  # of a stream: from the one on the day is shown more finely, from the other in full


def suited_to(
    parts: Sequence[Series],
    cell: str = "lstm",
    hidden: int = 64,
    layers: int = 1,
    time_zone: str = "UTC",
    start: ForecasterConfig | None = None,
) -> ForecasterConfig:
    """A net that learns from these training parts, in this time zone. Raises ValueError.

    What a net has seen once or twice at a place in the day or week is chance to it, and it would learn it by heart. So
    the clock is no finer than the days teach that the middle one of the streams covers.

    start: of a net that this one may begin as. It does where the data has one channel, and cell and sizes are the same:
    then the clock is as fine as that net's at least. Several channels it would have to read apart, each into a memory
    of its own.
    """
    days = float(np.median([(one.times_ms[-1] - one.times_ms[0]) / DAY_MS for one in parts]))
    covered = min(max((days - FEW_DAYS) / (MANY_DAYS - FEW_DAYS), 0.0), 1.0)
    config = ForecasterConfig(
        parts[0].features,
        cell,
        hidden,
        layers,
        day_harmonics=max(1, round(FINE_DAY * covered)),
        week_harmonics=MOST_WEEK_HARMONICS if days >= TWO_WEEKS else 1,
        time_zone=time_zone,
        spreads=True,
    )
    if start is None or len(config.features) > 1:
        return config
    alike = replace(
        config,
        channelwise=True,
        day_harmonics=max(config.day_harmonics, start.day_harmonics),
        week_harmonics=max(config.week_harmonics, start.week_harmonics),
    )
    return alike if can_begin_as(start, alike) else config
