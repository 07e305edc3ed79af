"""Who may ask, over a socket: host names, the token, what is open to everybody."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.host.signing import signed
from service.http.app import app, metrics_app
from service.http.past_routes import PICTURE
from service.http.server import Server
from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState
from service.settings.addresses import names_for

TOKEN = "0123456789abcdef"
BOARD = StatusBoard(Status(WorkerState.RUNNING, 1_000, 2_000, 99.0, CheckpointStatus("/x", "abc", ("f0",))))
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAGE = ("page.js", "page.css", "chart.js", "plot.js", "standing.js", "words.js", "ticking.js", "service.js")
OPEN_PATHS = ("/livez", "/readyz", "/", *(f"/page/{name}" for name in PAGE))
CLOSED_PATHS = ("/metrics", "/api/v1/status", "/api/v1/anomalies", "/api/v1/summary", "/openapi.json", "/nowhere")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    api = app(
        BOARD,
        CollectorRegistry(),
        5.0,
        "0.1.0",
        lambda: 100.0,
        token=TOKEN,
        names=names_for("127.0.0.1", ["telltale.example"]),
    )
    server = Server(api, "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("path", OPEN_PATHS)
def test_health_and_the_pages_own_files_need_no_token(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", CLOSED_PATHS)
def test_everything_else_does_also_what_is_not_there(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="telltale"')
    assert answer.json() == {"reason": "a token is needed: Authorization: Bearer TOKEN"}
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(path, headers=BEARER).status_code == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize(
    "given",
    [TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer  {TOKEN}", f"Basic {TOKEN}", "Bearer é"],
)
def test_anything_but_the_very_token_is_refused(client: httpx.Client, given: str) -> None:
    headers = [(b"authorization", given.encode("latin-1"))]
    assert client.get("/api/v1/status", headers=headers).status_code == 401


def test_the_schemes_name_may_be_written_in_any_case(client: httpx.Client) -> None:
    assert client.get("/api/v1/status", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_a_token_in_the_address_is_none(client: httpx.Client) -> None:
    assert client.get("/api/v1/status", params={"token": TOKEN, "access_token": TOKEN}).status_code == 401


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080", "Telltale.Example:443"]
)
def test_this_machines_names_and_those_that_were_set_are_answered_to(client: httpx.Client, name: str) -> None:
    assert client.get("/api/v1/status", headers={**BEARER, "Host": name}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/metrics", "/openapi.json"])
@pytest.mark.parametrize("name", ["attacker.example", "127.0.0.1.attacker.example", "localhost.", "", "127.0.0.1:x"])
def test_another_name_is_not_so_that_no_other_sites_page_can_ask(client: httpx.Client, name: str, path: str) -> None:
    answer = client.get(path, headers={**BEARER, "Host": name})
    assert answer.status_code == 421
    assert "http.names" in answer.json()["reason"]


def test_probes_come_under_any_name(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"Host": "10.1.2.3:8080"}).status_code == 200


def test_where_others_can_ask_any_name_will_do_unless_some_are_set() -> None:
    assert names_for("0.0.0.0", []) is None
    assert names_for("0.0.0.0", ["telltale.example"]) == frozenset({"telltale.example"})
    assert names_for("::1", []) == frozenset({"localhost", "127.0.0.1", "[::1]"})
    assert "127.0.0.2" in (names_for("127.0.0.2", []) or ())


@pytest.mark.slow
def test_metrics_have_an_address_of_their_own_and_then_nothing_else_is_there_nor_they_elsewhere() -> None:
    server = Server(metrics_app(CollectorRegistry(), "0.1.0", None), "127.0.0.1", 0, "http.metrics_")
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            assert client.get("/metrics").status_code == 200
            for path in ("/", "/livez", "/api/v1/status", "/openapi.json", "/page/page.js"):
                assert client.get(path).status_code == 404
    finally:
        server.stop()
    assert all(getattr(route, "path", "") != "/metrics" for route in app(BOARD, None, 5.0, "0.1.0").routes)


def test_a_signed_address_opens_one_picture_and_nothing_else(client: httpx.Client) -> None:
    query = "stream=line+1%2Fpump&around_ms=5"
    address = signed(PICTURE, query, TOKEN)
    assert TOKEN not in address
    signature = address.rpartition("=")[2]
    # Behind the token there is no past here, so what may be asked is not found.
    assert client.get(address).status_code == 404
    others = [
        address.replace("around_ms=5", "around_ms=6"),
        address.replace("stream=line", "stream=line&stream=line"),
        f"{address}&stream=other",
        address[:-1],
        f"{PICTURE}?{query}",
        f"{PICTURE}?signature={signature}",
        signed(PICTURE, query, "another-token-of-16"),
        f"{PICTURE}?{query}&signature=ü",
        f"/api/v1/past?{query}&signature={signature}",
        signed("/api/v1/status", query, TOKEN),
    ]
    assert [client.get(one).status_code for one in others] == [401] * len(others)
