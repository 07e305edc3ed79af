"""Which net suits some data: how finely it may be shown the clock."""

from collections.abc import Sequence

import numpy as np

from models.data.series import Series
from models.data.time_units import DAY_MS
from models.net.forecaster import MOST_WEEK_HARMONICS, ForecasterConfig

FINE_DAY = 24  # harmonics: half an hour
FEW_DAYS, MANY_DAYS = 4.0, 8.0  # of a stream: from the one on the day is shown more finely, from the other in full
TWO_WEEKS = 13.0  # days, with what a part may lack at its ends


def suited_to(
    parts: Sequence[Series], cell: str = "lstm", hidden: int = 64, layers: int = 1, time_zone: str = "UTC"
) -> ForecasterConfig:
    """A net that learns from these training parts, in this time zone. Raises ValueError.

    What a net has seen once or twice at a place in the day or week is chance to it, and it would learn it by heart. So
    the clock is no finer than the days teach that the middle one of the streams covers.
    """
    days = float(np.median([(one.times_ms[-1] - one.times_ms[0]) / DAY_MS for one in parts]))
    covered = min(max((days - FEW_DAYS) / (MANY_DAYS - FEW_DAYS), 0.0), 1.0)
    return ForecasterConfig(
        parts[0].features,
        cell,
        hidden,
        layers,
        day_harmonics=max(1, round(FINE_DAY * covered)),
        week_harmonics=MOST_WEEK_HARMONICS if days >= TWO_WEEKS else 1,
        time_zone=time_zone,
        spreads=True,
    )
