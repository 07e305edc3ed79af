"""Notices: a lost state is published as a CloudEvent, and a loss published again has the same id."""

import json
import uuid

import msgspec

from service.input.notices import STATE_PRIMED, StateLost, state_lost
from service.log.port import Partition

HERE = Partition("plant.readings", 3)
LOST = StateLost("mill", "corrupt", "page 0: the checksum of its 900 bytes is wrong", *HERE, 812, ends_anomalies=True)


def test_a_lost_state_is_told_as_a_cloudevent_under_its_streams_key() -> None:
    record = state_lost(LOST)
    assert (record.key, record.headers) == (b"mill", (("content-type", b"application/cloudevents+json"),))
    envelope = json.loads(record.value or b"")
    assert uuid.UUID(envelope.pop("id")).version == 5
    assert envelope == {
        "specversion": "1.0",
        "source": "/telltale/plant.readings",
        "type": "telltale.state.lost",
        "subject": "mill",
        "datacontenttype": "application/json",
        "data": {
            "stream": "mill",
            "reason": "corrupt",
            "detail": LOST.detail,
            "topic": "plant.readings",
            "partition": 3,
            "offset": 812,
            "ends_anomalies": True,
        },
    }


def test_where_it_is_not_known_whose_state_is_lost_the_partition_is_named() -> None:
    record = state_lost(msgspec.structs.replace(LOST, stream=None))
    envelope = json.loads(record.value or b"")
    assert record.key == b"plant.readings/3"
    assert envelope["subject"] == "plant.readings/3"
    assert envelope["data"]["stream"] is None


def test_a_loss_told_again_has_the_same_id_and_any_other_has_not() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"stream": None},
        {"stream": "kiln"},
        {"reason": "missing"},
        {"detail": "page 1: another page of unknown streams"},
        {"topic": "other"},
        {"partition": 4},
        {"offset": 813},
    ]
    ids = [json.loads(state_lost(msgspec.structs.replace(LOST, **change)).value or b"")["id"] for change in changes]
    assert len(set(ids)) == len(ids)
    assert json.loads(state_lost(LOST).value or b"")["id"] == ids[0]


def test_memory_that_was_primed_for_another_checkpoint_has_a_type_and_an_id_of_its_own() -> None:
    lost, primed = (json.loads(state_lost(LOST, *kind).value or b"") for kind in ((), (STATE_PRIMED,)))
    assert primed["type"] == "telltale.state.primed"
    assert primed["id"] != lost["id"]
    assert primed["data"] == lost["data"]
