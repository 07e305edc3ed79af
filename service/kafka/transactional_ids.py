"""Under which names a group's producers write: no two groups can ever have the same.

`GROUP/INSTANCE`, `GROUP/INSTANCE/PROCESS` (worker-N or incidents) and `GROUP/import/CHANCE`, each part percent-encoded,
so that the slash stands between parts alone. All ids of a group, and no other's, begin with `GROUP/`: that is what a
prefixed right is granted on.
"""

import uuid
from urllib.parse import quote


def prefix_of(group: str) -> str:
    """What all ids of a group begin with."""
    return f"{quote(group, safe='')}/"


def worker_id(group: str, instance: str) -> str:
    """A worker's own; a restart with the same one ends what the dead worker left open."""
    return prefix_of(group) + quote(instance, safe="")


def supervised_id(group: str, instance: str, process: str) -> str:
    """Of a process of this name in a service that has several. instance: the service's own."""
    return f"{worker_id(group, instance)}/{process}"


def supervised_instance(instance: str, process: str) -> str:
    """The same process's name in its group, its group.instance.id."""
    return f"{quote(instance, safe='')}/{process}"


def import_id(group: str) -> str:
    """For one writing of state from outside the group."""
    return f"{prefix_of(group)}import/{uuid.uuid4().hex[:8]}"
