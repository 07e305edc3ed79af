"""`telltale produce` on a real topic."""

from service.log import Record
from tests.command_line import Telltale
from tests.kafka import Broker


def test_a_plant_that_goes_on_sends_what_one_that_never_stopped_sends(kafka: Broker, telltale: Telltale) -> None:
    def produce(topic: str, readings: int, *more: object) -> None:
        where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
        said = telltale.does("produce", "--simulate", 3, "--readings", readings, *where, *more)
        assert said.startswith(f"{3 * readings:,} readings to {topic}")

    once, twice = kafka.create_topic(2), kafka.create_topic(2)
    produce(once, 9)
    produce(twice, 4, "--go-on")
    produce(twice, 5, "--go-on")
    sent = [[(one.partition, one.record[:2]) for one in kafka.read_committed(topic)] for topic in (once, twice)]
    assert len(sent[0]) == 27
    assert sent[0] == sent[1]


def test_another_topic_than_the_plants_is_not_gone_on_from(kafka: Broker, telltale: Telltale) -> None:
    topic = kafka.create_topic(1)
    kafka.produce(topic, [(0, Record(b"pump", b'{"value": 1}'))])
    where = ("--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers)
    assert "not the simulated plant's" in telltale.refuses("produce", "--simulate", 3, "--go-on", *where, code=1)
