"""Which member of a group gets which partitions."""

from collections.abc import Iterable
from typing import Any

from kafka.coordinator.assignors.abstract import (
    AbstractPartitionAssignor,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from kafka.coordinator.assignors.range import RangePartitionAssignor

__all__ = ["OneOwnerAssignor", "RangePartitionAssignor"]


class OneOwnerAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """All partitions to one member: the first static one by name, else the first by its id. The others stand by."""

    name = "telltale-one-owner"
    version = 0

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> dict[str, Any]:
        members = list(members)
        owner = min(members, key=lambda one: (one.group_instance_id is None, one.group_instance_id, one.member_id))
        topics = sorted({topic for member in members for topic in member.metadata.topics})
        every = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics]
        return {
            one.member_id: ConsumerProtocolAssignment(cls.version, every if one is owner else [], b"")
            for one in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> Any:
        return ConsumerProtocolSubscription(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any, generation: Any) -> None:
        """Nothing is remembered of it."""
