"""Controls on their topic: writing one, and reading those that stand."""

from contextlib import closing

from service.errors import RefusedInput
from service.inspect.groupless_log import GrouplessLog, input_of
from service.kafka.groupless import KafkaGrouplessLog
from service.kafka.topics import identify_topic, produce
from service.log.port import Partition, Record
from service.settings.settings import Settings, client_options
from service.stages.incidents.controls import Control
from service.stages.incidents.standing import StandingControls


def write_control(settings: Settings, record: Record) -> None:
    """Returns when the brokers have it. Raises RefusedInput where there is no such topic, or it is too wide."""
    servers, topic, client = (
        settings.kafka.bootstrap_servers,
        settings.incidents.control_topic,
        client_options(settings),
    )
    found = identify_topic(servers, topic, client)
    if found.partitions != 1:
        raise RefusedInput(f"{topic}: found {found.partitions} partitions, expected 1 (incidents.control_topic)")
    produce(servers, topic, [(record, 0)], client)


def standing_controls(settings: Settings) -> dict[str, Control]:
    """By id, those that were given and not taken back; a record that is no control is passed over."""
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        controls = ControlTopic(settings.incidents.control_topic)
        controls.look(log)
        return controls.standing.held


class ControlTopic:
    """The controls that stand, as the topic has been read so far."""

    def __init__(self, topic: str) -> None:
        self.standing = StandingControls()
        self._partition = Partition(topic, 0)
        self._topic_id: str | None = None
        self._next_offset = 0

    def look(self, log: GrouplessLog) -> bool:
        """Read what has come since; whether that was anything. Raises RefusedInput where there is no such topic."""
        source = log.inspect(self._partition)
        if source.topic_id != self._topic_id or not source.begin <= self._next_offset <= source.end:
            self.standing, self._topic_id, self._next_offset = StandingControls(), source.topic_id, source.begin
        came = self._next_offset < source.end
        for fetched in input_of(log, self._partition, self._next_offset, source.end):
            self.standing.hear(fetched.keys, fetched.values)
        self._next_offset = source.end
        return came
