"""Taking a member that is gone out of its group, so that its partitions need not wait for its session to end."""

from collections.abc import Mapping

from kafka import errors as kafka_errors
from kafka.admin import MemberToRemove

from service.errors import LogUnavailable
from service.kafka.client import translated
from service.kafka.topics import admin_of


def remove_member(servers: str, group: str, instance: str, client: Mapping[str, object] | None = None) -> bool:
    """Whether the group had a member of this group.instance.id; it has none now (KIP-345). Raises LogUnavailable."""
    where = f"taking {instance} out of group {group}"
    with translated(where), admin_of(servers, client) as admin:
        (error,) = admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance)]).values()
    if error not in (kafka_errors.NoError, kafka_errors.UnknownMemberIdError):
        raise LogUnavailable(f"{where}: {error.__name__}")
    return error is kafka_errors.NoError
