"""Controls on their topic: writing one, and reading those that stand."""

from contextlib import closing

from service.errors import RefusedInput
from service.incidents.controls import Control
from service.incidents.standing import StandingControls
from service.inspect.groupless_log import input_of
from service.kafka.groupless import KafkaGrouplessLog
from service.kafka.topics import identify_topic, produce
from service.log.port import Partition, Record
from service.settings.settings import Settings, client_options


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
    topic = Partition(settings.incidents.control_topic, 0)
    standing = StandingControls()
    with closing(KafkaGrouplessLog(settings.kafka.bootstrap_servers, None, client_options(settings))) as log:
        source = log.inspect(topic)
        for fetched in input_of(log, topic, source.begin, source.end):
            standing.hear(fetched.keys, fetched.values)
    return standing.held
