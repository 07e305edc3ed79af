"""The re-keying stage: whatever crashes, each reading is there once, in its stream's order, to the byte."""

import json
import threading
from collections.abc import Sequence

import pytest

from service.errors import LostState
from service.input.wire import Decoder
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Partition, Record
from service.stages.rekey.readings import SOURCE, RecordReader
from service.stages.rekey.stage import RekeyStage
from tests.records import headers_of
from tests.service.stages.rekey.plant import (
    BEGAN_MS,
    BIRTH_CHANGELOG,
    DAY_MS,
    FEATURES,
    PARTITIONS,
    RULES,
    TOPIC,
    of_streams,
    plant,
    record,
    run_to_the_end,
    topics_of,
)

PARTS = tuple(Partition(TOPIC, number) for number in range(PARTITIONS))
ALL = plant()
READINGS = 60 * 7 + 12 * 3


def topics_with(records: Sequence[Sequence[Record]] = ALL) -> Topics:
    return topics_of(TOPIC, records)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def stage_of(topics: Topics, *script: Fault, reset: bool = False) -> RekeyStage:
    return stage_on(MemoryLog(topics, script, max_poll_records=10), reset=reset)


def stage_on(log: MemoryLog, wait_s: float = 0.0, clock: Clock | None = None, *, reset: bool = False) -> RekeyStage:
    reader = RecordReader(Decoder(FEATURES, DAY_MS, DAY_MS, RULES))
    stop, monotonic = threading.Event(), clock or Clock()
    return RekeyStage(log, reader, stop, BIRTH_CHANGELOG, wait_s=wait_s, reset=reset, monotonic=monotonic)


def calm() -> dict[bytes, list[Record]]:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    return of_streams(topics)


def test_a_reading_is_written_in_our_own_form_under_its_streams_name_with_its_source_and_its_records_time() -> None:
    topics = topics_with([[record(4, 5, temp=0.1, press=None)], [], []])
    run_to_the_end(topics, stage_of(topics))
    assert of_streams(topics) == {
        b"h1/m4": [
            Record(
                b"h1/m4",
                b'{"timestamp":1767571205000,"values":{"temp":0.1,"press":null}}',
                ((SOURCE, b"telegraf/0/0/0"),),
                BEGAN_MS + 5250,
            )
        ]
    }


def test_a_streams_readings_from_all_partitions_are_in_one_by_their_time() -> None:
    found = calm()
    assert sum(map(len, found.values())) == READINGS
    for key in (b"h%d/m%d" % (n % 3, n) for n in range(7)):
        times = [json.loads(one.value or b"")["timestamp"] for one in found[key]]
        assert times == [BEGAN_MS + 1000 * second for second in range(60)]


def test_what_is_written_reads_as_what_the_records_held() -> None:
    """Without a mapping, by the decoder of a worker."""
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    again = Topics({"readings": PARTITIONS})
    for partition, records in topics.anomalies.items():
        again.append(Partition("readings", partition.number), records)
    of_sources = {}
    for partition in PARTS:
        fetched = topics.fetch(partition, 0, 10_000)
        assert fetched is not None
        batch, _ = Decoder(FEATURES, DAY_MS, DAY_MS, RULES).decode(fetched)
        for n, key in enumerate(batch.keys):
            place = f"{TOPIC}/{partition.number}/{int(batch.readings.offsets[n])}/{int(batch.indices[n])}"
            of_sources[place] = (key, int(batch.readings.times_ms[n]), str(batch.readings.values[n].tolist()))
    read = {}
    for partition in again.partitions:
        fetched = again.fetch(partition, 0, 10_000)
        assert fetched is not None
        batch, rejects = Decoder(FEATURES, DAY_MS, DAY_MS).decode(fetched)
        assert rejects == []
        for n, key in enumerate(batch.keys):
            source = dict(fetched.headers(int(batch.readings.offsets[n])).kept)[SOURCE]
            assert source is not None
            read[source.decode()] = (key, int(batch.readings.times_ms[n]), str(batch.readings.values[n].tolist()))
    assert read == of_sources
    assert len(read) == READINGS


def test_what_cannot_be_read_is_one_dead_letter_as_it_came() -> None:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    letters = topics.dead_letters[PARTS[0]]
    assert len(letters) == 4
    assert {letter.value for letter in letters} == {b"{"}
    headers = headers_of(letters[0])
    assert (headers["a"], headers["telltale-reason"], headers["telltale-topic"]) == (b"b", b"bad_json", b"telegraf")


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_crash_at_any_commit_changes_nothing(at: int, written: bool) -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(at, written)))
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(at, not written)))
    run_to_the_end(topics, stage_of(topics))
    assert of_streams(topics) == calm()
    assert len(topics.dead_letters[PARTS[0]]) == 4


@pytest.mark.parametrize("at", [2, 4, 9])
def test_a_failed_commit_and_partitions_that_go_and_come_back_change_nothing(at: int) -> None:
    topics = topics_with()
    stage = stage_of(topics, Migrate(at), Revoke(at + 6, PARTS), Assign(at + 7, PARTS))
    run_to_the_end(topics, stage)
    assert of_streams(topics) == calm()
    assert stage.status.counts["migrations"] == 1


def test_a_partition_that_is_added_is_read_too() -> None:
    topics, more = topics_with(), Partition(TOPIC, 3)
    log = MemoryLog(topics, [Assign(3, (more,))], max_poll_records=10)
    stage = stage_on(log)
    topics.add_partitions(TOPIC, 1)
    topics.owners[more] = log
    topics.append(more, [record(50, 1)])
    run_to_the_end(topics, stage)
    assert topics.committed[more] == 1
    assert b"h2/m50" in of_streams(topics)
    assert sum(map(len, of_streams(topics).values())) == READINGS + 1


def test_a_reading_waits_for_those_of_other_partitions_that_are_on_their_way() -> None:
    topics, clock = topics_with([[record(1, 7)], [], []]), Clock()
    stage = stage_on(MemoryLog(topics), 1.0, clock)
    for _ in range(3):
        stage.turn(0.0)
    assert of_streams(topics) == {}
    topics.append(PARTS[1], [record(1, 6)])
    stage.turn(0.0)
    clock.now_s += 1.0
    stage.turn(0.0)
    times = [json.loads(one.value or b"")["timestamp"] for one in of_streams(topics)[b"h1/m1"]]
    assert times == [BEGAN_MS + 6_000, BEGAN_MS + 7_000]


@pytest.mark.slow
def test_many_readings_are_committed_in_several_transactions_each_of_whole_records() -> None:
    several = [json.loads(record(machine, 1).value or b"") for machine in range(700)]
    one = Record(b"gateway", json.dumps(several).encode(), (), BEGAN_MS + 1000)
    topics = topics_with([[one] * 7, [], []])
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(2)))
    assert topics.committed == {PARTS[0]: 3}
    run_to_the_end(topics, stage_of(topics))
    assert sum(map(len, of_streams(topics).values())) == 4_900


def test_records_that_were_deleted_before_they_were_read_end_it_or_are_gone_on_without_as_the_settings_say() -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(5)))
    begins = topics.committed[PARTS[1]]
    topics.delete_before(PARTS[1], begins + 3)
    with pytest.raises(LostState, match=f"from offset {begins} on are missing"):
        run_to_the_end(topics, stage_of(topics))
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    assert stage.status.counts["lost"] == 1


def test_the_stage_counts_what_it_did() -> None:
    topics = topics_with()
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    stage.turn(0.0)
    assert dict(stage.status.counts) == {
        "records": sum(map(len, ALL)),
        "readings": READINGS,
        "ended": 0,
        "rejected": 4,
        "skipped": 0,
    }
    assert (stage.status.state, stage.status.lag_records) == ("running", 0)
