"""What is compiled of reading records: run once where an image is made, so that no record waits for the compiler."""

import numpy as np

from service.input.avro_program import END, MOST_DEPTH
from service.input.avro_walk import walk


def keep_code() -> None:
    """Compile it all, where that was not done before, and keep it."""
    none, slots = np.zeros(0, np.int64), np.zeros((1, 0), np.int64)
    program, left = np.array([(END, 0, 0, 0)], np.int64), np.zeros(MOST_DEPTH, np.int64)
    data = np.frombuffer(b"", np.uint8)  # as of values, which cannot be written to
    walk(data, none, none, program, slots.astype(np.uint8), slots, slots, left, none.astype(np.bool_))
