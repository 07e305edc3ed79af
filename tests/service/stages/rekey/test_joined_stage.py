"""The re-keying stage where metrics come one by one: whatever crashes, what is joined is the same, to the byte."""

import json
import threading
from collections.abc import Sequence

import pytest

from service.errors import LostState
from service.input.wire import Decoder
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Partition, Record
from service.stages.rekey import stage as stage_module
from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.readings import SOURCE, RecordReader
from service.stages.rekey.stage import Joining, RekeyStage
from tests.records import headers_of
from tests.service.stages.rekey.plant import (
    BEGAN_MS,
    BIRTH_CHANGELOG,
    DAY_MS,
    FEATURES,
    JOIN,
    METRIC_RULES,
    METRICS,
    PARTITIONS,
    metric,
    metrics_plant,
    of_streams,
    run_to_the_end,
    topics_of,
)

PARTS = tuple(Partition(METRICS, number) for number in range(PARTITIONS))
ALL = metrics_plant()
JOINING = Joining(JOIN, JoinChangelog("rekey", "readings", FEATURES))


def topics_with(records: Sequence[Sequence[Record]] = ALL) -> Topics:
    return topics_of(METRICS, records)


def stage_of(topics: Topics, *script: Fault, reset: bool = False) -> RekeyStage:
    reader = RecordReader(Decoder(FEATURES, DAY_MS, DAY_MS, METRIC_RULES))
    log = MemoryLog(topics, script, max_poll_records=10)
    stop = threading.Event()
    return RekeyStage(log, reader, stop, BIRTH_CHANGELOG, joining=JOINING, reset=reset, monotonic=lambda: 100.0)


def calm() -> dict[bytes, list[Record]]:
    topics = topics_with()
    run_to_the_end(topics, stage_of(topics))
    return of_streams(topics)


def readings(records: Sequence[Record]) -> list[tuple[float, float | None, float | None]]:
    found = [json.loads(one.value or b"") for one in records]
    return [((one["timestamp"] - BEGAN_MS) / 1000, one["values"]["temp"], one["values"]["press"]) for one in found]


def test_metrics_in_several_partitions_are_one_reading_of_the_stream_with_their_sources() -> None:
    topics = topics_with(
        [
            [metric("a", 4, "temp", 61.5), metric("b", 9, "temp", 1)],
            [metric("a", 4.5, "press", 4)],
            [metric("a", 4, "x", 1)],
        ]
    )
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    (one,) = of_streams(topics)[b"a"]
    assert one.value == b'{"timestamp":%d,"values":{"temp":61.5,"press":4.0}}' % (BEGAN_MS + 4_500)
    assert one.time_ms == BEGAN_MS + 4_750
    assert headers_of(one) == {SOURCE: b"metrics/0/0/0,metrics/1/0/0"}
    assert (stage.status.joined_streams, stage.status.counts["skipped"]) == (2, 1)


def test_a_streams_readings_are_one_a_window_with_what_is_known_and_nothing_that_has_expired() -> None:
    found = readings(calm()[b"d3"])
    assert len({int(time // 2) for time, *_ in found}) == len(found) == 29
    assert [time for time, *_ in found] == sorted(time for time, *_ in found)
    assert {press for time, _, press in found if time < 8} == {None}
    assert {press is None for time, _, press in found if 14 < time < 30} == {False}
    assert {press is None for time, _, press in found if 34 < time < 39} == {True}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_crash_at_any_commit_changes_nothing(at: int, written: bool) -> None:
    topics = topics_with()
    for crash in (Crash(at, written), Crash(at, not written)):
        with pytest.raises(Crashed):
            run_to_the_end(topics, stage_of(topics, crash))
        topics.compact()
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


def test_streams_that_end_all_at_once_are_written_in_several_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "AT_ONCE", 7)
    first = [metric(f"d{n:02}", 0, "temp", n) for n in range(50)]

    def topics() -> Topics:
        return topics_with([[*first, metric("later", 20, "temp", 1), metric("later", 21, "temp", 2)], [], []])

    disturbed = topics()
    for at in (9, 2, 1):
        with pytest.raises(Crashed):
            run_to_the_end(disturbed, stage_of(disturbed, Crash(at, written=at == 2)))
    run_to_the_end(disturbed, stage_of(disturbed))
    assert len(of_streams(disturbed)) == 50
    assert {len(records) for records in of_streams(disturbed).values()} == {1}


def test_readings_that_are_late_are_counted() -> None:
    late = metric("a", 1, "temp", 1)
    topics = topics_with([[metric("a", 3, "temp", 3), metric("a", 9, "temp", 9), late], [], []])
    stage = stage_of(topics)
    run_to_the_end(topics, stage)
    assert stage.status.counts["late"] == 1


def test_state_that_is_lost_ends_it_or_is_gone_on_without_as_the_settings_say() -> None:
    topics = topics_with()
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(9)))
    for records in topics.changelog.values():
        records.clear()
    with pytest.raises(LostState, match="knows no joined streams"):
        run_to_the_end(topics, stage_of(topics))
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    assert stage.status.counts["lost"] == 1
    assert of_streams(topics).keys() == calm().keys()
