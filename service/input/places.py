"""Where values are in the bytes that they are joined to."""

from collections.abc import Sequence

import numpy as np

from models.data.arrays import Int64s


def places_of(values: Sequence[bytes] | Sequence[str]) -> tuple[Int64s, Int64s]:
    """Where each begins and ends, (R,) each; of text that is ASCII."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    ends = sizes.cumsum()
    return ends - sizes, ends
