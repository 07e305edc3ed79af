"""A topic read at least once by the members of a group, on a real broker."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from service.kafka.topic_reader import Read, TopicReader
from service.log.port import Record
from tests.integration.test_end_to_end import wait_until
from tests.kafka import Broker

RECORDS = 20  # of each partition


def reader_of(broker: Broker, topic: str, from_end: bool = False) -> TopicReader:
    return TopicReader(broker.bootstrap_servers, topic, f"{topic}.group", session_timeout_ms=6_000, from_end=from_end)


class Member:
    """A reader, and what it has read since partitions were handed out to it last."""

    def __init__(self, reader: TopicReader) -> None:
        self.reader = reader
        self.began = 0
        self.offsets: dict[int, list[int]] = {}

    def poll(self) -> Read:
        read = self.reader.poll(0.1)
        if read.began:
            self.began += 1
            self.offsets = {number: [] for number in read.positions}
        for partition, offset, _ in read.values:
            self.offsets[partition].append(offset)
        return read


def test_what_was_not_committed_is_read_again_whenever_partitions_are_handed_out(kafka: Broker) -> None:
    """Also of a partition that a member keeps: the client alone would go on behind what was read."""
    topic = kafka.create_topic(2, "events")
    kafka.produce(topic, [(n % 2, Record(b"k", b"%d" % n)) for n in range(2 * RECORDS)])
    everything = list(range(RECORDS))
    with closing(reader_of(kafka, topic)) as reader:
        first = Member(reader)
        wait_until(lambda: first.poll().positions == {0: RECORDS, 1: RECORDS}, "all read")
        assert first.offsets == {0: everything, 1: everything}
        first.reader.commit({0: 5, 1: 7})
        with closing(reader_of(kafka, topic)) as other, ThreadPoolExecutor(2) as together:
            second = Member(other)

            def is_shared() -> bool:
                # At the same time: one that waits for its turn joins too late, and the group begins again.
                found = [read.positions for read in together.map(Member.poll, (first, second))]
                return [len(one) for one in found] == [1, 1] and all(RECORDS in one.values() for one in found)

            wait_until(is_shared, "one partition each")
            assert {**first.offsets, **second.offsets} == {0: everything[5:], 1: everything[7:]}
        before = first.began
        wait_until(lambda: first.poll().positions == {0: RECORDS, 1: RECORDS} and first.began > before, "both again")
        assert first.offsets == {0: everything[5:], 1: everything[7:]}


def test_a_group_that_is_new_begins_at_the_end_even_if_nothing_is_read_before_its_process_is_killed(
    kafka: Broker,
) -> None:
    topic = kafka.create_topic(2, "events")
    kafka.produce(topic, [(0, Record(b"k", b"old"))])
    reader_of(kafka, topic, from_end=True).close()
    kafka.produce(topic, [(n, Record(b"k", b"new")) for n in range(2)])
    with closing(reader_of(kafka, topic, from_end=True)) as reader:
        member = Member(reader)
        wait_until(lambda: member.poll().positions == {0: 2, 1: 1}, "all read")
    assert member.offsets == {0: [1], 1: [0]}
