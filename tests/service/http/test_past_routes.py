"""A picture of a stream's past over HTTP: whatever looking back comes to, and where there is nothing to draw with."""

import io
import sys
from collections.abc import Iterator

import httpx
import msgspec
import numpy as np
import pytest
from PIL import Image

from service.errors import RefusedInput
from service.http.app import app
from service.http.past_process import PastProcess, PastQuestion, Tell
from service.http.past_routes import PICTURE
from service.http.picture import MISSING
from service.http.server import Server
from service.live.status import CheckpointStatus, Status, StatusBoard, WorkerState
from tests.service.http.test_picture import BEGINS_MS, MAJOR, READING, READINGS, SHADED, near, past

BOARD = StatusBoard(Status(WorkerState.RUNNING, 1_000, 2_000, 99.0, CheckpointStatus("/x", "abc", ("flow",))))


def look_back(question: PastQuestion, tell: Tell) -> None:
    """Does what the question's stream says."""
    if question.stream == "refused":
        raise RefusedInput("no service has judged it")
    tell("progress", {"what": "reading", "read": 1, "of": 2})
    tell("past", msgspec.Raw(past([10.0] * READINGS, question.stream)))


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    process = PastProcess(look_back)
    process.start(lambda: None)
    server = Server(app(BOARD, None, 5.0, "0.1.0", lambda: 100.0, past=process), "127.0.0.1", 0)
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=60) as client:
            yield client
    finally:
        server.stop()
        process.stop()


def picture(client: httpx.Client, stream: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    answer = client.get(PICTURE, params={"stream": stream, "around_ms": BEGINS_MS})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(np.int64)


def test_what_looking_back_finds_is_drawn(client: httpx.Client) -> None:
    assert near(picture(client, "line-1/pump ü"), SHADED, 8).any()


def test_why_it_finds_nothing_is_written_into_the_picture(client: httpx.Client) -> None:
    pixels = picture(client, "refused")
    assert near(pixels, MAJOR).any()
    assert not near(pixels, READING).any()


def test_without_the_library_it_says_what_to_install(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    answer = client.get(PICTURE, params={"stream": "pump", "around_ms": BEGINS_MS})
    assert (answer.status_code, answer.json()) == (501, {"reason": MISSING})


@pytest.mark.parametrize("asked", [{"around_ms": 1}, {"stream": "pump"}, {"stream": "pump", "around_ms": -1}])
def test_a_picture_is_of_a_stream_at_a_time(client: httpx.Client, asked: dict[str, str | int]) -> None:
    assert client.get(PICTURE, params=asked).status_code == 422
