"""What may be wrong with the state of a partition."""

from enum import StrEnum


class Problem(StrEnum):
    """What was found wrong with a partition's state; the label of a metric, and `reason` of a notice."""

    CORRUPT = "corrupt"  # a page or the marker: its bytes are not those that were written
    VERSION = "version"  # a page or the marker is of a version that this code does not know
    FOREIGN = "foreign"  # a page or the marker of another partition or group
    MISSING = "missing"  # a page that the marker counts
    EMPTY = "empty"  # offsets are committed, but the changelog has no marker
    RETENTION = "retention"  # the input was deleted before it had been judged again
    RECREATED = "recreated"  # the input topic is not the one that the state is of
    PARTITIONS = "partitions_added"  # keys now go to other partitions
    NUMERICS = "numerics"  # another machine's arithmetic may differ in the last bit
    BEHIND = "behind"  # the group's offsets are ahead of the marker
