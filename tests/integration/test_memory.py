"""What a worker holds while it polls a real broker."""

import gc
from collections.abc import Iterator
from contextlib import closing

import pytest

from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, TopicNames
from service.kafka.topics import CHANGELOG
from service.live.memory import TIDY_S, MemoryKeeper, settle
from service.log.port import Partition
from tests.kafka import Broker

POLLS = 100


@pytest.fixture
def thresholds() -> Iterator[None]:
    """The collector's are afterwards as they were."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.usefixtures("thresholds")
def test_what_polls_leave_behind_is_collected_by_the_clock(kafka: Broker) -> None:
    """By the count of objects, as the service sets it, Python's collector would come round after thousands of polls."""
    topics = [kafka.create_topic(1, name) for name in ("readings", "anomalies", "dead-letters")]
    changelog = kafka.create_topic(1, "changelog", CHANGELOG)
    clock = Clock()
    keeper = MemoryKeeper(None, 1_000, clock=clock)
    names = TopicNames((topics[0],), topics[1], topics[2], changelog)
    member = GroupMember(group="memory", transactional_id="memory")
    with closing(KafkaLog(Cluster(kafka.bootstrap_servers), names, member)) as log:
        while not log.poll(0.5).assigned:
            pass
        log.start(Partition(topics[0], 0), None)
        settle()
        for _ in range(POLLS):
            log.poll(0.02)
        clock.now_s += TIDY_S
        keeper.look(0)
        assert gc.collect() < POLLS
