"""What numpy arrays hold: one name for each."""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Int64s = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Times = NDArray[np.datetime64]
Records = NDArray[np.void]  # of one structured type: fields by name
Objects = NDArray[np.object_]
