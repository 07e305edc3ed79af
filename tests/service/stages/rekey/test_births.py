"""Sparkplug in the re-keying stage: data by alias alone reads as data with names, whatever crashes."""

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import pysparkplug as sp
import pytest

from models.detection.detector import Detector
from service.errors import LostState, RejectedReading
from service.input.formats import RecordRules
from service.input.sparkplug import topic_of
from service.input.wire import Decoder
from service.log.memory_log import Assign, Crash, Crashed, Fault, MemoryLog, Migrate, Revoke, Topics
from service.log.port import Fetched, Partition, Record
from service.pipeline import Pipeline
from service.stages.rekey import births as births_module
from service.stages.rekey.births import Birth, Births
from service.stages.rekey.joined_state import JoinChangelog
from service.stages.rekey.readings import RecordReader, WaitingMessage
from service.stages.rekey.stage import Joining, RekeyStage
from service.state.slab import StateSlab
from service.state.task import PartitionTask
from tests.data import some_forecaster
from tests.fuzzing import INPUTS
from tests.records import headers_of
from tests.service.input.walking import harmed
from tests.service.stages.rekey import sparkplug_plant
from tests.service.stages.rekey.plant import (
    BEGAN_MS,
    BIRTH_CHANGELOG,
    DAY_MS,
    FEATURES,
    JOIN,
    PARTITIONS,
    of_streams,
    run_to_the_end,
    sparkplug_mapping,
    sparkplug_records,
    topics_of,
)

TOPIC = "spb"
PARTS = tuple(Partition(TOPIC, number) for number in range(PARTITIONS))
SECONDS = 90
MAPPING = sparkplug_mapping()
NODE, DEVICE = "plant/edge-0", "plant/edge-0/p7"


def stage_of(
    topics: Topics,
    *script: Fault,
    reset: bool = False,
    mapping: Any = MAPPING,
    features: Sequence[str] = ("value",),
) -> RekeyStage:
    reader = RecordReader(Decoder(features, DAY_MS, DAY_MS, RecordRules(mappings={TOPIC: mapping})))
    log = MemoryLog(topics, script, max_poll_records=10)
    return RekeyStage(log, reader, threading.Event(), BIRTH_CHANGELOG, reset=reset, monotonic=lambda: 100.0)


def played(records: Sequence[Sequence[Record]], mapping: Any = MAPPING) -> tuple[Topics, RekeyStage]:
    topics = topics_of(TOPIC, records)
    stage = stage_of(topics, mapping=mapping)
    run_to_the_end(topics, stage)
    return topics, stage


def letters(topics: Topics) -> list[tuple[str, str]]:
    found = [headers_of(one) for one in topics.dead_letters.get(PARTS[0], ())]
    return [((one["telltale-reason"] or b"").decode(), (one["telltale-detail"] or b"").decode()) for one in found]


def sent(kind: str, second: float, *metrics: sp.Metric, source: str = NODE, seq: int = 0, types: bool = True) -> Record:
    group, _, place = source.partition("/")
    classes: dict[str, Any] = {"NBIRTH": sp.NBirth, "DBIRTH": sp.DBirth, "NDATA": sp.NData, "DDATA": sp.DData}
    time_ms = BEGAN_MS + round(1000 * second)
    payload = classes.get(kind, sp.NData)(timestamp=time_ms, seq=seq, metrics=metrics)
    return Record(f"spBv1.0/{group}/{kind}/{place}".encode(), payload.encode(include_dtypes=types), (), time_ms)


def metric(
    name: str | None, value: float, alias: int | None = None, datatype: Any = sp.DataType.DOUBLE, second: float = 0.0
) -> sp.Metric:
    return sp.Metric(BEGAN_MS + round(1000 * second), name, datatype, value=value, alias=alias)


def bd_seq(number: int) -> sp.Metric:
    return metric("bdSeq", number, datatype=sp.DataType.INT64)


def values(topics: Topics) -> dict[bytes, list[float]]:
    return {key: [one["values"]["value"] for one in found if "values" in one] for key, found in said(topics).items()}


def said(topics: Topics) -> dict[bytes, list[dict[str, Any]]]:
    return {key: [json.loads(one.value or b"") for one in found] for key, found in of_streams(topics).items()}


def ends(topics: Topics) -> dict[bytes, list[float]]:
    """Seconds at which it is said of streams that they are silent from then on."""
    of_streams = {
        key: [(one["timestamp"] - BEGAN_MS) / 1000 for one in found if one.get("silent")]
        for key, found in said(topics).items()
    }
    return {key: found for key, found in of_streams.items() if found}


def in_one(*records: Record) -> list[list[Record]]:
    return [list(records), [], []]


def calm() -> Topics:
    return played(sparkplug_records(SECONDS))[0]


def test_data_by_alias_and_without_data_types_reads_as_data_with_names_and_types() -> None:
    by_alias = of_streams(calm())
    named = of_streams(played(sparkplug_plant.records(SECONDS, BEGAN_MS, PARTITIONS, named=True))[0])
    assert (
        by_alias.keys()
        == named.keys()
        == {
            f"plant/{node}{device}/{name}".encode()
            for node in sparkplug_plant.NODES
            for device in ("", "/p7")
            for name in ("temp", "press")
        }
    )
    for key, found in by_alias.items():
        # Of a device that is dead the name alone says what is meant: it speaks so three times.
        unknown = 3 if key.startswith(b"plant/edge-2/p7") else 0
        assert len(named[key]) - len(found) == unknown, key
        assert {one.value for one in found} <= {one.value for one in named[key]}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 2, 7, 12])
def test_a_crash_at_any_commit_changes_nothing(at: int, written: bool) -> None:
    topics = topics_of(TOPIC, sparkplug_records(SECONDS))
    for crash in (Crash(at, written), Crash(at, not written)):
        with pytest.raises(Crashed):
            run_to_the_end(topics, stage_of(topics, crash))
        topics.compact()
    run_to_the_end(topics, stage_of(topics))
    assert of_streams(topics) == of_streams(calm())
    assert sorted(letters(topics)) == sorted(letters(calm()))


@pytest.mark.parametrize("at", [2, 4, 9])
def test_a_failed_commit_and_partitions_that_go_and_come_back_change_nothing(at: int) -> None:
    topics = topics_of(TOPIC, sparkplug_records(SECONDS))
    stage = stage_of(topics, Migrate(at), Revoke(at + 6, PARTS), Assign(at + 7, PARTS))
    run_to_the_end(topics, stage)
    assert of_streams(topics) == of_streams(calm())


def test_an_alias_without_a_birth_is_a_dead_letter_that_names_the_birth_and_asks_for_it() -> None:
    topics, _ = played(
        in_one(
            sent("NDATA", 1, metric(None, 1.5, alias=7), seq=12),
            sent("NBIRTH", 2, bd_seq(1), metric("temp", 20, alias=1)),
            sent("NDATA", 3, metric(None, 1.5, alias=7), seq=1),
            sent("DDATA", 4, metric(None, 1.5, alias=1), source=DEVICE, seq=2),
            sent("NDATA", 5, metric(None, 1.5, alias=1), seq=3),
        )
    )
    assert values(topics) == {b"plant/edge-0/temp": [20.0, 1.5]}
    first, second, third = letters(topics)
    assert first == (
        "unknown_alias",
        (
            "a metric of plant/edge-0 with the alias 7 and no name, seq 12: no NBIRTH of it is known, or it has ended "
            "with its death or its node's next birth, expected a record spBv1.0/plant/NBIRTH/edge-0 before this one. "
            "The node publishes its births again when it is sent `Node Control/Rebirth` = true by "
            "spBv1.0/plant/NCMD/edge-0"
        ),
    )
    assert "its NBIRTH of 2026-01-05T00:00:02" in second[1]
    assert "expected a record spBv1.0/plant/DBIRTH/edge-0/p7 before this one" in third[1]
    assert "by spBv1.0/plant/NCMD/edge-0" in third[1]


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    record = sent("NDATA", 1, metric(None, 1.5, alias=7))
    topics, _ = played(in_one(record))
    (letter,) = topics.dead_letters[PARTS[0]]
    assert (letter.key, letter.value) == (record.key, record.value)


@pytest.mark.parametrize(
    ("died", "known", "silent"),
    [
        ([("NDEATH", NODE, bd_seq(3))], 0, ["", "/p7"]),
        ([("NDEATH", NODE, bd_seq(3)), ("NDEATH", NODE, bd_seq(3))], 0, ["", "/p7"]),
        ([("NDEATH", NODE, bd_seq(2))], 2, []),  # of a life before
        ([("DDEATH", DEVICE, None)], 1, ["/p7"]),
        ([("DDEATH", "plant/edge-0/other", None)], 2, []),
        ([("NDEATH", "plant/edge-1", bd_seq(3))], 2, []),
    ],
)
def test_a_death_ends_what_belongs_to_it_and_tells_its_streams_once(
    died: list[tuple[str, str, sp.Metric | None]], known: int, silent: list[str]
) -> None:
    on = metric("on", 1, datatype=sp.DataType.BOOLEAN)  # is no stream
    born = [
        sent("NBIRTH", 1, bd_seq(3), on, metric("temp", 20, alias=1)),
        sent("DBIRTH", 1, metric("temp", 30, alias=2), source=DEVICE),
    ]
    deaths = [sent(kind, 2, *([] if one is None else [one]), source=source) for kind, source, one in died]
    topics, stage = played(in_one(*born, *deaths))
    assert stage.status.births == known
    assert ends(topics) == {f"{NODE}{place}/temp".encode(): [2.0] for place in silent}
    assert (stage.status.counts["ended"], stage.status.counts["readings"]) == (len(silent), 2)


@pytest.mark.slow
def test_no_message_raises_and_a_death_alone_ends_streams_of_births_that_it_ends() -> None:
    rng, records = Random(29), list[Record]()
    for n in range(INPUTS):
        kind = rng.choice(("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"))
        source = f"plant/edge-{rng.randrange(3)}{'/p7' if kind[0] == 'D' else ''}"
        metrics = (bd_seq(rng.randrange(2)), metric("temp", n, alias=1), metric("press", n, alias=2))
        named = kind.endswith("BIRTH") or rng.random() < 0.5
        some = metrics[:1] if kind == "NDEATH" else metrics if named else (metric(None, n, alias=1),)
        record = sent(kind, n / 1000, *some, source=source)
        key, value = record.key or b"", record.value
        records.append(
            record._replace(
                key=harmed(rng, key) if rng.random() < 0.1 else key,
                value=None if rng.random() < 0.02 else harmed(rng, value or b"\0") if rng.random() < 0.3 else value,
            )
        )
    reader = RecordReader(Decoder(("value",), DAY_MS, DAY_MS, RecordRules(mappings={TOPIC: MAPPING})))
    keys, values_, times_ms = zip(*((one.key, one.value, one.time_ms) for one in records), strict=True)
    fetched = Fetched(PARTS[0], [*keys], [*values_], np.arange(INPUTS), np.array(times_ms), INPUTS, INPUTS)
    births, born, told, refused = Births(), dict[str, Birth](), 0, 0
    for waiting in reader.read(fetched, 0):
        assert isinstance(waiting, WaitingMessage)
        arrived = reader.read_message(waiting, births)
        refused += arrived.letter is not None
        told += len(arrived.ends)
        for end in arrived.ends:
            source, _, name = end.key.decode().rpartition("/")
            assert name in [one for one, *_ in born[source].metrics]
            assert births.get(source) is None
            assert b"DEATH" in (keys[waiting.offset] or b"")
        with suppress(RejectedReading):
            source = (topic_of(keys[waiting.offset]) or {"source": ""})["source"]
            if (birth := births.get(source)) is not None:
                born[source] = birth
    assert min(told, refused) > INPUTS / 20


def test_a_death_is_written_behind_all_readings_of_its_streams_whichever_way_they_are_mapped() -> None:
    many = [metric(f"m{n}", n, alias=n) for n in range(1_100)]
    born, data = (
        sent("NBIRTH", 1, bd_seq(3), *many),
        sent("NDATA", 2, *(metric(None, 7, alias=n) for n in range(1_100))),
    )
    death = sent("NDEATH", 2, bd_seq(3))  # of the same millisecond
    topics, _ = played([[death], [data], [born]])
    assert {key: ["silent" in one for one in found] for key, found in said(topics).items()} == {
        f"{NODE}/m{n}".encode(): [False, False, True] for n in range(1_100)
    }
    topics, _ = played([[death], [data], [born]], sparkplug_mapping(stream=("alias", "$key.source")))
    assert ends(topics) == {f"{n}/{NODE}".encode(): [2.0] for n in range(1_100)}


def test_what_waits_to_be_joined_is_written_before_the_death_and_the_next_life_goes_on() -> None:
    lives = [
        sent("NBIRTH", 1, bd_seq(3), metric("temp", 20, 1, second=1), metric("press", 4, 2, second=1)),
        sent("NDATA", 4.5, metric(None, 21, alias=1, second=4.5)),
        sent("NDEATH", 5, bd_seq(3)),
        sent("NBIRTH", 8, bd_seq(4), metric("temp", 30, 5, second=8), metric("press", 5, 6, second=8)),
    ]
    topics = topics_of(TOPIC, in_one(*lives))
    mapping = sparkplug_mapping(stream=("$key.source",), metric="name")
    reader = RecordReader(Decoder(FEATURES, DAY_MS, DAY_MS, RecordRules(mappings={TOPIC: mapping})))
    joining = Joining(JOIN, JoinChangelog("rekey", "readings", FEATURES))
    run_to_the_end(topics, RekeyStage(MemoryLog(topics), reader, threading.Event(), BIRTH_CHANGELOG, joining=joining))
    found = said(topics)[NODE.encode()]
    assert [((one["timestamp"] - BEGAN_MS) / 1000, one.get("values")) for one in found] == [
        (1.0, {"temp": 20.0, "press": 4.0}),
        (4.5, {"temp": 21.0, "press": 4.0}),
        (5.0, None),
        (8.0, {"temp": 30.0, "press": 5.0}),
    ]


def test_the_worker_behind_it_tells_a_death_once_and_the_next_reading_closes_it() -> None:
    topics, detector = topics_of(TOPIC, sparkplug_records(SECONDS)), Detector.cold(some_forecaster(1))
    run_to_the_end(topics, stage_of(topics, features=detector.features))
    told: dict[bytes, list[tuple[str, str]]] = {}
    for partition, records in topics.anomalies.items():
        keys, values, times_ms = zip(*((one.key, one.value, one.time_ms) for one in records), strict=True)
        count, offsets = len(records), np.arange(len(records))
        fetched = Fetched(partition, [*keys], [*values], offsets, np.array(times_ms), count, count)
        task = PartitionTask(partition, StateSlab(detector.rows_for))
        for one in Pipeline(detector, "0" * 64, DAY_MS).process(fetched, task):
            for event in one.events:
                told.setdefault(event.data.stream.encode(), []).append((event.change, event.data.kind))
    # A device of the third node is dead at the end.
    assert told == {
        key: [("opened", "silent"), ("closed", "silent")] * len(seconds)
        if "values" in said(topics)[key][-1]
        else [("opened", "silent"), ("closed", "silent")] * (len(seconds) - 1) + [("opened", "silent")]
        for key, seconds in ends(topics).items()
    }
    # Of the nodes, one never dies, and one is born again in the millisecond of its death, which comes behind that.
    assert {key for key in told if b"/p7/" not in key} == {b"plant/edge-2/temp", b"plant/edge-2/press"}
    assert len(told) == 8


def test_a_nodes_birth_ends_those_of_its_devices_and_not_one_that_comes_with_it() -> None:
    births = [sent("DBIRTH", 1, metric("temp", 30, alias=2), source=f"{NODE}/old")]
    births += [sent("NBIRTH", 2, bd_seq(3), metric("temp", 20, alias=1))]
    births += [sent("DBIRTH", 2, metric("temp", 30, alias=2), source=DEVICE)]
    topics, stage = played([[births[2]], [births[1]], [births[0]]])  # of the same time, in other partitions
    assert stage.status.births == 2
    assert set(values(topics)) == {b"plant/edge-0/temp", b"plant/edge-0/p7/temp", b"plant/edge-0/old/temp"}


def test_data_types_that_are_left_out_are_those_of_the_birth() -> None:
    topics, _ = played(
        in_one(
            sent("NBIRTH", 1, bd_seq(3), metric("level", 7, datatype=sp.DataType.INT32)),
            sent("NDATA", 2, metric("level", -5, datatype=sp.DataType.INT32), types=False),
        )
    )
    assert values(topics) == {b"plant/edge-0/level": [7.0, -5.0]}


def test_a_metric_with_an_empty_name_is_not_a_stream_of_its_own() -> None:
    topics, _ = played(
        in_one(
            sent("NBIRTH", 1, bd_seq(3), metric("temp", 20, alias=1)),
            sent("NDATA", 2, metric("", 21, alias=1)),
            sent("NDATA", 3, metric("", 22)),
        )
    )
    assert values(topics) == {b"plant/edge-0/temp": [20.0, 21.0]}
    assert letters(topics) == [("bad_sparkplug", "a metric without a name and without an alias, expected a name")]


def test_commands_by_alias_are_left_out_like_others() -> None:
    topics, stage = played(in_one(sent("NCMD", 1, metric(None, 1.5, alias=7))))
    assert (values(topics), letters(topics), stage.status.counts["skipped"]) == ({}, [], 1)


def test_the_state_of_hosts_is_left_out() -> None:
    state = Record(b"spBv1.0/STATE/scada", b'{"online":true,"timestamp":1704164645000}', (), BEGAN_MS)
    topics, stage = played(in_one(state))
    assert (letters(topics), stage.status.counts["skipped"]) == ([], 1)


def test_a_mapping_that_names_streams_by_alias_needs_no_birth_and_takes_its_data_types() -> None:
    topics, _ = played(
        in_one(
            sent("NDATA", 1, metric(None, 1.5, alias=7)),
            sent("NBIRTH", 2, metric("level", 3, alias=7, datatype=sp.DataType.INT32)),
            sent("NDATA", 3, metric(None, -5, alias=7, datatype=sp.DataType.INT32), types=False),
        ),
        sparkplug_mapping(stream=("$key.source", "alias")),
    )
    assert values(topics) == {b"plant/edge-0/7": [1.5, 3.0, -5.0]}


def test_a_birth_that_is_too_large_is_refused_and_the_one_before_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births_module, "MOST_BYTES", 100)
    many = [metric(f"metric-{n}", n, alias=n) for n in range(20)]
    topics, stage = played(in_one(sent("NBIRTH", 1, metric("temp", 20, alias=1)), sent("NBIRTH", 2, *many)))
    assert stage.status.births == 0
    ((reason, detail),) = letters(topics)
    assert (reason, "a birth of 20 metrics" in detail) == ("too_large", True), detail


def test_births_that_are_lost_end_it_or_are_gone_on_without_as_the_settings_say() -> None:
    topics = topics_of(TOPIC, sparkplug_records(SECONDS))
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(9)))
    for records in topics.changelog.values():
        records.clear()
    with pytest.raises(LostState, match="knows no births"):
        run_to_the_end(topics, stage_of(topics))
    stage = stage_of(topics, reset=True)
    run_to_the_end(topics, stage)
    assert stage.status.counts["lost"] == 1
    assert len(letters(topics)) > len(letters(calm()))
    assert of_streams(topics).keys() == of_streams(calm()).keys()


def test_a_birth_of_which_a_record_is_missing_is_told() -> None:
    topics = topics_of(TOPIC, sparkplug_records(SECONDS))
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(9)))
    for partition, records in topics.changelog.items():
        topics.changelog[partition] = [one for one in records if b"edge-1" not in (one.key or b"")]
    with pytest.raises(LostState, match="births, the marker says"):
        run_to_the_end(topics, stage_of(topics))
    with pytest.raises(Crashed):
        run_to_the_end(topics, stage_of(topics, Crash(2, written=True), reset=True))
    topics.compact()
    run_to_the_end(topics, stage_of(topics))  # what was left is not found again
