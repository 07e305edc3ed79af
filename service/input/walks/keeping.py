"""What is compiled of reading records: run once where an image is made, so that no record waits for the compiler."""

import numpy as np

from service.input.walks.avro import walk
from service.input.walks.decimals import POWERS
from service.input.walks.decimals import walk as walk_decimals
from service.input.walks.influx import walk as walk_lines
from service.input.walks.operations import END, MOST_DEPTH
from service.input.walks.otlp import COLUMNS
from service.input.walks.otlp import walk as walk_requests
from service.input.walks.protobuf import walk as walk_messages
from service.input.walks.times import walk as walk_times


def keep_code() -> None:
    """Compile it all, where that was not done before, and keep it."""
    none, slots = np.zeros(0, np.int64), np.zeros((1, 0), np.int64)
    program, left = np.array([(END, 0, 0, 0)], np.int64), np.zeros(MOST_DEPTH, np.int64)
    data = np.frombuffer(b"", np.uint8)  # as of values, which cannot be written to
    flags = none.astype(np.bool_)
    kinds = slots.astype(np.uint8)
    walk(data, none, none, program, kinds, slots, slots, left, flags)
    rows = np.zeros((0, 4), np.int64)
    walk_lines(data, none, none, data, rows, none, none, POWERS, rows, kinds, slots, slots, none)
    tables = np.zeros((1, 4), np.int64), np.zeros((0, 8), np.int64), none, np.zeros((1, 2), np.int64)
    walk_messages(data, none, none, *tables, kinds, slots, slots, np.zeros((1, 4), np.int64), flags)
    walk_requests(data, none, none, np.zeros((0, COLUMNS), np.int64))
    walk_times(data, none, none, np.zeros((0, 3), np.int64), none, none)
    walk_decimals(data, none, none, POWERS, np.zeros(0))
