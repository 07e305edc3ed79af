"""The HTTP interface, asked over a socket."""

import dataclasses
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse

from service.errors import RefusedSetting
from service.http import page_routes as api_page
from service.http.app import app
from service.http.health import FRESH_S
from service.http.server import Server
from service.live.metrics import Build, Metrics
from service.live.status import CheckpointStatus, Counts, PartitionStatus, Status, StatusBoard, WorkerState

BEAT_LIMIT_S = 5.0
NOW_S = 100.0
RUNNING = Status(
    WorkerState.RUNNING,
    started_ms=1_000,
    published_ms=2_000,
    beat_s=NOW_S - 1,
    checkpoint=CheckpointStatus("/checkpoints/pump.safetensors", "abc", ("temperature",)),
    partitions=(PartitionStatus("plant", 0, 10, 15, 2_000, streams=3),),
    recent=tuple({"id": str(n), "time": f"2026-01-20T09:26:{50 - n}Z", "score": float("nan")} for n in range(3)),
)


@pytest.fixture(scope="module")
def board() -> StatusBoard:
    return StatusBoard(RUNNING)


@pytest.fixture(scope="module")
def server(board: StatusBoard) -> Iterator[Server]:
    registry = CollectorRegistry()
    Metrics(registry, board, Build("0", "3", "2", "f"), ["poll"], ["bad_json"], ["minor"], ["corrupt"])
    server = Server(app(board, registry, BEAT_LIMIT_S, "0.1.0", lambda: NOW_S), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server, board: StatusBoard) -> Iterator[httpx.Client]:
    board.publish(RUNNING)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client


def publish(board: StatusBoard, **changes: Any) -> None:
    board.publish(dataclasses.replace(RUNNING, **changes))


def test_a_worker_whose_loop_comes_round_is_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reason": "1 partition"})


def test_a_worker_whose_loop_is_stuck_is_neither(client: httpx.Client, board: StatusBoard) -> None:
    publish(board, beat_s=NOW_S - BEAT_LIMIT_S - 0.5)
    for path in ("/livez", "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"status": "failing", "reason": "the worker's loop has not come round for 5.5 s"}


def test_a_worker_that_has_not_come_round_for_three_seconds_is_alive_and_not_ready(
    client: httpx.Client, board: StatusBoard
) -> None:
    publish(board, beat_s=NOW_S - FRESH_S)
    assert client.get("/readyz").status_code == 200
    publish(board, beat_s=NOW_S - FRESH_S - 0.5)
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the worker's loop has not come round for 3.5 s")
    assert client.get("/api/v1/summary").json()["ready"] is False


def test_a_worker_that_starts_need_not_come_round_yet(client: httpx.Client, board: StatusBoard) -> None:
    publish(board, state=WorkerState.STARTING, beat_s=NOW_S - FRESH_S - 0.5)
    assert client.get("/readyz").json()["reason"] == "the worker is starting"


def test_the_summary_tells_what_is_judged_from_what_is_not(client: httpx.Client, board: StatusBoard) -> None:
    partitions = (
        PartitionStatus("plant", 0, 10, 15, streams=30, warming=4),
        PartitionStatus("yard", 0, 10, 12, streams=7, warming=7),
    )
    counts = Counts(rejected={"bad_json": 3, "bad_key": 0}, late=5, duplicate=2)
    publish(board, partitions=partitions, counts=counts)
    summary = client.get("/api/v1/summary").json()
    assert (summary["streams"], summary["judged"], summary["warming"], summary["lag"]) == (37, 26, 11, 7)
    assert (summary["rejected"], summary["rejected_by_reason"]) == (3, {"bad_json": 3})
    assert (summary["late"], summary["duplicate"], summary["topics"]) == (5, 2, ["plant", "yard"])
    restoring = PartitionStatus("yard", 0, None, None, streams=7, stage="restoring")
    publish(board, partitions=(partitions[0], restoring))
    summary = client.get("/api/v1/summary").json()
    assert summary["judged"] == 26, "streams of a partition without its memory are not judged"
    assert summary["lag"] is None, "not known of one is not known of all"


@pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.STOPPING])
def test_a_worker_that_does_not_run_is_alive_but_not_ready(
    client: httpx.Client, board: StatusBoard, state: WorkerState
) -> None:
    publish(board, state=state)
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, f"the worker is {state}")


def test_a_worker_without_a_partition_is_ready(client: httpx.Client, board: StatusBoard) -> None:
    publish(board, partitions=())
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert "no partition is assigned" in answer.json()["reason"]


def test_a_worker_is_ready_when_all_of_its_partitions_have_their_memory(
    client: httpx.Client, board: StatusBoard
) -> None:
    there = PartitionStatus("plant", 0, 10, 15)
    stages = [("restoring", 0.254), ("priming", 0.0), ("replaying", 0.999)]
    for count, (stage, progress) in enumerate(stages, 1):
        busy = tuple(PartitionStatus("plant", n, stage=stage, progress=progress) for n in range(1, count + 1))
        publish(board, partitions=(there, *busy))
        assert client.get("/livez").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "failing"
        said = ", ".join(f"plant-{n} {stage} {100 * progress:.0f} %" for n in range(1, count + 1))
        assert answer.json()["reason"] == f"{count} of {count + 1} partitions: {said}"
    publish(board, partitions=(there, PartitionStatus("plant", 1, 3, 3)))
    assert client.get("/readyz").json() == {"status": "ready", "reason": "2 partitions"}


def test_of_many_partitions_without_memory_some_are_named(client: httpx.Client, board: StatusBoard) -> None:
    publish(board, partitions=tuple(PartitionStatus("plant", n, stage="restoring", progress=0.5) for n in range(1_000)))
    reason = client.get("/readyz").json()["reason"]
    assert reason.startswith("1000 of 1000 partitions: plant-0 restoring 50 %, plant-1 ")
    assert reason.endswith(" more")
    assert len(reason) < 300


def test_the_status_says_how_far_a_partition_is(client: httpx.Client, board: StatusBoard) -> None:
    publish(board, partitions=(PartitionStatus("plant", 0, 10, 15, stage="replaying", progress=0.25, replay_from=4),))
    (partition,) = client.get("/api/v1/status").json()["partitions"]
    assert (partition["stage"], partition["progress"], partition["replay_from"]) == ("replaying", 0.25, 4)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=nonsense", "text/plain; version=0.0.4"),
    ],
)
def test_metrics_come_in_the_format_that_is_asked_for(client: httpx.Client, accept: str, content_type: str) -> None:
    answer = client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.text.endswith("# EOF\n") == ("openmetrics" in content_type)


def test_metrics_hold_what_the_worker_published(client: httpx.Client) -> None:
    samples = [s for family in parse(client.get("/metrics").text) for s in family.samples]
    (lag,) = [s for s in samples if s.name == "telltale_lag_records"]
    assert (lag.value, lag.labels) == (5, {"topic": "plant", "partition": "0"})


def test_the_status_is_told_as_it_was_published(client: httpx.Client) -> None:
    status = client.get("/api/v1/status").json()
    assert (status["state"], status["beat_age_s"], status["started_ms"]) == ("running", 1.0, 1_000)
    assert status["checkpoint"]["features"] == ["temperature"]
    assert status["partitions"][0]["lag"] == 5
    assert status["counts"]["readings"] == 0


def test_anomalies_come_newest_first_and_no_more_than_asked_for(client: httpx.Client) -> None:
    assert [event["id"] for event in client.get("/api/v1/anomalies").json()["anomalies"]] == ["0", "1", "2"]
    answer = client.get("/api/v1/anomalies", params={"limit": 1})
    assert answer.json() == {"anomalies": [{"id": "0", "time": "2026-01-20T09:26:50Z", "score": None}]}


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many"])
def test_a_limit_that_is_none_is_refused(client: httpx.Client, limit: str) -> None:
    assert client.get("/api/v1/anomalies", params={"limit": limit}).status_code == 422


def test_the_page_and_its_files_are_kept_by_browsers_until_they_change(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for path in ("/", *re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] != "no-store"
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content


@pytest.mark.parametrize("tags", ["W/{}", '"other", {}', '{} , "other"', "*"])
def test_a_tag_is_known_however_it_comes_back(client: httpx.Client, tags: str) -> None:
    etag = client.get("/page/page.js").headers["etag"]
    assert client.get("/page/page.js", headers={"If-None-Match": tags.format(etag)}).status_code == 304
    assert client.get("/page/page.js", headers={"If-None-Match": f'"{etag.strip(chr(34))}x"'}).status_code == 200


def test_compressed_bytes_have_a_tag_of_their_own(client: httpx.Client) -> None:
    packed, plain = (
        client.get("/page/page.js", headers={"Accept-Encoding": encoding}) for encoding in ("gzip", "identity")
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["etag"] != plain.headers["etag"]
    refused = client.get("/page/page.js", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_every_file_of_the_page_is_served_and_no_other(client: httpx.Client) -> None:
    folder = Path(api_page.__file__).parent / "page"
    declarations = set(folder.glob("*.d.ts"))  # for the checker of types
    for file in set(folder.iterdir()) - declarations:
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        assert client.get(path).content == file.read_bytes()
    for path in (
        "/page/",
        "/page/index.html",
        "/page/../api.py",
        "/page/%2e%2e/api.py",
        "/page/none.js",
        "/page/messages.d.ts",
    ):
        assert client.get(path).status_code == 404


def test_the_whole_page_is_small_for_a_phone(client: httpx.Client) -> None:
    sizes = [int(client.head(path).headers["content-length"]) for path in api_page.PATHS]
    assert len(sizes) > 20
    assert sum(sizes) < 80_000  # bytes, compressed


def test_nothing_but_this_services_own_scripts_may_run_in_the_page(client: httpx.Client) -> None:
    policy = dict(part.strip().split(" ", 1) for part in client.get("/").headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|javascript:|https?://", client.get("/").text)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/status", "/page/page.js"])
def test_nothing_can_be_changed(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/", "/page/page.js", "/openapi.json", "/api/v1/status", "/nowhere"]
)
def test_head_tells_what_get_would_without_the_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # what they tell changes
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/api/v1/anomalies?limit=0", "/docs"])
def test_every_answer_has_the_security_headers_and_names_no_software(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@contextmanager
def served(api: Any) -> Iterator[Server]:
    server = Server(api, "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _index(board: StatusBoard) -> Any:
    return app(board, CollectorRegistry(), BEAT_LIMIT_S, "0.1.0")


def test_a_port_that_is_taken_is_a_refused_setting(server: Server, board: StatusBoard) -> None:
    second = Server(_index(board), "127.0.0.1", server.port)
    message = f"http.port: cannot listen on 127.0.0.1, port {server.port}: Address already in use"
    with pytest.raises(RefusedSetting, match=message):
        second.start()
    assert not second.failed


def test_a_host_that_is_not_this_machine_is_a_refused_setting(board: StatusBoard) -> None:
    with pytest.raises(RefusedSetting, match=r"http\.host: found 'no\.such\.host\.invalid'"):
        Server(_index(board), "no.such.host.invalid", 0).start()


@pytest.mark.slow
def test_a_server_that_was_stopped_is_gone_and_has_not_failed(board: StatusBoard) -> None:
    with served(_index(board)) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/livez", trust_env=False).status_code == 503
        assert not server.failed
    assert not server.failed
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


@pytest.mark.slow
def test_a_server_that_ends_by_itself_has_failed(board: StatusBoard) -> None:
    with served(_index(board)) as server:
        (thread,) = [t for t in threading.enumerate() if t is server._thread]
        server._uvicorn.should_exit = True
        thread.join(10)
        assert server.failed


def _fail() -> None:
    raise ValueError("broken")


@pytest.mark.slow
def test_a_handler_that_raises_ends_the_request_and_not_the_server(board: StatusBoard) -> None:
    api = _index(board)
    api.get("/broken")(_fail)
    with served(api) as server:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/broken", trust_env=False)
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not server.failed


def test_a_request_without_end_does_not_stop_the_others(server: Server, client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert client.get("/livez").status_code == 200
        slow.sendall(b"X-Long: " + b"x" * 70_000)
        assert slow.recv(100).startswith(b"HTTP/1.1 400")
