"""Controls over HTTP: what is written to their topic, and who may write."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from service.errors import LogUnavailable
from service.http.app import app
from service.http.server import Server
from service.log.port import Record
from service.stages.incidents.controls import Label, Quiet, read_control
from tests.service.http.test_access import BEARER, BOARD, TOKEN
from tests.service.stages.incidents.plant import time_at

CONTROLS = "/api/v1/controls"
QUIET = {"type": "quiet", "streams": ["a/*"], "reason": "overhaul", "until": time_at(10), "by": "anna"}
LABEL = {"type": "label", "label": "fault", "anomaly": "x", "by": "ben"}


@contextmanager
def serving(written: list[Record], token: str | None = TOKEN, fails: str | None = None) -> Iterator[httpx.Client]:
    def write(record: Record) -> None:
        if fails is not None:
            raise LogUnavailable(fails)
        written.append(record)

    server = Server(app(BOARD, None, 5.0, "0.1.0", lambda: 100.0, token=token, write_control=write), "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, headers=BEARER) as client:
        yield client
    server.stop()


@pytest.mark.slow
def test_a_control_is_written_with_an_id_of_its_own_and_the_time_and_taken_back_by_it() -> None:
    written: list[Record] = []
    with serving(written) as client:
        given = client.post(CONTROLS, json=QUIET)
        name = given.json()["control"]
        assert given.status_code == 201
        assert name.startswith("quiet-")
        labelled = client.post(CONTROLS, json=LABEL)
        assert labelled.status_code == 201
        assert client.delete(f"{CONTROLS}/{name}").json() == {"control": name}
    (quiet, label, back) = (read_control(record.key, record.value) for record in written)
    assert isinstance(quiet[1], Quiet)
    assert (quiet[0], quiet[1].reason) == (name, "overhaul")
    assert isinstance(label[1], Label)
    assert label[1].at.endswith("Z")
    assert back == (name, None)


@pytest.mark.slow
def test_what_stands_is_listed_the_latest_first_until_it_is_taken_back_or_is_over() -> None:
    past = {**QUIET, "until": time_at(1)}
    with serving([]) as client:
        quiet, _, label = (
            client.post(CONTROLS, json=one).json()["control"]
            for one in ({**QUIET, "until": "2999-01-01T00:00:00Z"}, past, LABEL)
        )
        found = client.get(CONTROLS).json()
        assert (found["may_write"], found["found"]) == (True, 2)
        assert [one["control"] for one in found["controls"]] == [label, quiet]
        assert found["controls"][0]["given"]["by"] == "ben"
        client.delete(f"{CONTROLS}/{label}")
        assert [one["control"] for one in client.get(CONTROLS).json()["controls"]] == [quiet]
    with serving([], token=None) as client:
        assert client.get(CONTROLS).json() == {"followed": False, "may_write": False, "found": 0, "controls": []}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "truncated"),
        (b"[]", 400, "Expected `object`"),
        (json.dumps({**QUIET, "until": None}).encode(), 400, "found no end"),
        (json.dumps({**QUIET, "odd": 1}).encode(), 400, "unknown field `odd`"),
        (json.dumps({"type": "mute"}).encode(), 400, "Invalid value 'mute'"),
        (b" " * 20_000, 413, "expected at most 16384 bytes"),
    ],
)
def test_what_is_no_control_is_refused_with_the_reason(body: bytes, status: int, reason: str) -> None:
    written: list[Record] = []
    with serving(written) as client:
        answer = client.post(CONTROLS, content=body)
        assert (answer.status_code, written) == (status, [])
        assert reason in answer.json()["reason"]
        assert client.delete(f"{CONTROLS}/a%20b").status_code == 400


@pytest.mark.slow
def test_who_brings_no_token_changes_nothing_even_where_none_is_set() -> None:
    written: list[Record] = []
    with serving(written, token=None) as client:
        answer = client.post(CONTROLS, json=QUIET)
        assert (answer.status_code, answer.json()["reason"]) == (
            403,
            "controls are taken only where a token is set: http.token",
        )
        assert client.delete(f"{CONTROLS}/quiet-1").status_code == 403
    with serving(written) as client:
        assert client.post(CONTROLS, json=QUIET, headers={"Authorization": "Bearer no"}).status_code == 401
    assert written == []


@pytest.mark.slow
def test_brokers_that_cannot_be_reached_are_said() -> None:
    with serving([], fails="kafka:9092: no answer") as client:
        answer = client.post(CONTROLS, json=QUIET)
        assert (answer.status_code, answer.json()) == (503, {"reason": "kafka:9092: no answer"})
