"""What decides how anomalies become incidents: the settings, as the book of incidents takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models.data.time_units import DAY_MS, MINUTE_MS
from service.stages.incidents.controls import Dependency
from service.stages.incidents.groups import Groups


def never_quiet(stream: str, time_ms: int) -> str | None:  # noqa: ARG001  (of every stream the same)
    """Where no quiet times are declared."""
    return None


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """What is decided by settings.

    broad_streams: an incident of that many streams is major at least, one of ten times as many critical. expire_ms: so
    long after its last event an incident is closed, since the stream of an open member may have been forgotten. quiet:
    why an anomaly of this stream at this time is nothing to notify anyone of; None: it is. dependencies: by id, beside
    those that people give.
    """

    groups: Groups = field(default_factory=Groups)
    gap_ms: int = 5 * MINUTE_MS
    longest_ms: int = 60 * MINUTE_MS
    update_every_ms: int = MINUTE_MS
    expire_ms: int = 7 * DAY_MS
    broad_streams: int = 10
    quiet: Callable[[str, int], str | None] = never_quiet
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
