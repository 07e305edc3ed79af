"""Readings of one metric each: the name of the metric says which feature the value is of.

The other features are missing in such a reading. `telltale rekey` joins those of a stream by time.
"""

from collections.abc import Callable, Iterable, Sequence
from math import nan
from typing import Any

from service.errors import RejectedReading
from service.input.paths import Around, Path
from service.input.reasons import Reason


def is_of_a_feature(metric: Path, features: Sequence[str]) -> Path:
    """What is false of the metrics that are no features; one without a name is left to what reads the value."""
    known = frozenset(features)

    def find(reading: Any, around: Around) -> bool:
        name = metric.find(reading, around)
        return not isinstance(name, str) or name in known

    return Path(metric.text, find)


def one_metric(
    metric: Path,
    value: Path,
    features: Sequence[str],
    number: Callable[[str, Any], float],
    refuse: Callable[[str, Any], None],
) -> Callable[[Any, Around], list[float]]:
    """What makes a row of a reading, with NaN for the features that it does not have.

    number: makes one of a value, NaN if that stands for a missing one. refuse: raises, given where nothing was found.
    """
    places = {name: n for n, name in enumerate(features)}

    def row(reading: Any, around: Around) -> list[float]:
        name = metric.find(reading, around)
        if not isinstance(name, str):
            raise RejectedReading(
                Reason.WRONG_FEATURES, f"{name!r:.60} at {metric.text}, expected the name of a metric"
            )
        found = value.find(reading, around)
        if found is None and not (isinstance(reading, dict) and value.text in reading):
            refuse(value.text, reading)
        values = [nan] * len(places)
        values[places[name]] = number(name, found)
        return values

    return row


def metrics_of(metric: Path, readings: Iterable[tuple[Any, Around | None]]) -> tuple[str, ...]:
    """The names of the metrics in some readings, each once; of those that are selected."""
    names = (metric.find(reading, around) for reading, around in readings if around is not None)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
