"""Copies of rows, compiled, against those of torch."""

import pytest
import torch

from models.detection.row_copies import copy_rows
from models.detection.rows import Rows, RowsInPlace, fresh
from models.net.forecaster import ForecasterConfig


def some_rows(streams: int, config: ForecasterConfig, seed: int) -> Rows:
    random = torch.Generator().manual_seed(seed)
    return Rows(*(torch.rand(c.shape, dtype=c.dtype, generator=random) for c in fresh(streams, config)))


@pytest.mark.parametrize("cell", ["lstm", "gru", "xlstm"])
@pytest.mark.parametrize("features", [1, 3])
def test_rows_are_copied_to_where_they_are_wanted_and_no_other_changes(cell: str, features: int) -> None:
    config = ForecasterConfig(tuple("abc"[:features]), cell=cell, hidden=16, layers=2)
    source, target = some_rows(9, config, seed=1), some_rows(7, config, seed=2)
    expected, taken, wanted = target.copy(), torch.tensor([8, 0, 3]), torch.tensor([2, 6, 1])
    expected.put(wanted, source.take(taken))
    copy_rows(RowsInPlace.of(source, taken), RowsInPlace.of(target, wanted))
    assert all(torch.equal(found, column) for found, column in zip(target, expected, strict=True))
