"""Rows from one place to another, compiled: of few streams, a call of torch for each column takes most of the time."""

from models.detection.compiling import kept
from models.detection.rows import RowsInPlace


@kept
def copy_rows(source: RowsInPlace, target: RowsInPlace) -> None:
    """Let the rows of S streams in `target`, where no slot is there twice, be those in `source`."""
    _, layers, width = source.hidden.shape
    cells, (_, numbers, features) = source.cell.shape[2], source.channels.shape
    for stream in range(len(source.slots)):
        one, other = source.slots[stream], target.slots[stream]
        for layer in range(layers):
            for n in range(width):
                target.hidden[other, layer, n] = source.hidden[one, layer, n]
            for n in range(cells):
                target.cell[other, layer, n] = source.cell[one, layer, n]
        for c in range(numbers):
            for f in range(features):
                target.channels[other, c, f] = source.channels[one, c, f]
        for k in range(source.scalars.shape[1]):
            target.scalars[other, k] = source.scalars[one, k]
