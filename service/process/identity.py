"""Who a process is in its consumer group."""

import socket
import uuid
from typing import NamedTuple, Self

from service.kafka.transactional_ids import supervised_id, supervised_instance, worker_id
from service.settings.kafka_section import KafkaSettings


class Identity(NamedTuple):
    """A member of a group."""

    name: str  # of its clients
    transactional_id: str
    instance: str | None  # group.instance.id
    leaves_at_close: bool

    @classmethod
    def alone(cls, kafka: KafkaSettings, group: str) -> Self:
        """Of a process that nothing supervises, as the settings say."""
        me = service_name(kafka)
        return cls(me, worker_id(group, me), kafka.instance, leaves_at_close=False)

    @classmethod
    def supervised(cls, kafka: KafkaSettings, group: str, service: str, process: str) -> Self:
        """Of a process of this name in a service: started again, it is the same member.

        service: see service_name.
        """
        return cls(
            f"{service}-{process}",
            supervised_id(group, service, process),
            supervised_instance(service, process),
            leaves_at_close=kafka.instance is None,
        )


def service_name(kafka: KafkaSettings) -> str:
    """The one that is set, or a new one."""
    return kafka.instance or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
