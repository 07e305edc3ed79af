"""Somebody who is told over HTTP: takes what is posted, or answers as the test says."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

WITHIN_S = 120.0


class Posted(NamedTuple):
    path: str
    headers: Message
    body: bytes


class Listening:
    """A receiver on a port of its own. answers: status codes of the first requests; those after them get 200."""

    def __init__(self, *answers: int, hang: bool = False) -> None:
        self.posted: list[Posted] = []  # whatever the answer
        self.taken: list[bytes] = []  # bodies that were answered with 200
        self.let_go = threading.Event()
        if not hang:
            self.let_go.set()
        self._answers = list(answers)
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self, Posted(self.path, self.headers, body))

            def do_GET(self) -> None:
                receiver.take(self, Posted(self.path, self.headers, b"GET"))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, request: BaseHTTPRequestHandler, posted: Posted) -> None:
        with self._changed:
            self.posted.append(posted)
            code = self._answers.pop(0) if self._answers else 200
            self._changed.notify_all()
        self.let_go.wait(WITHIN_S)
        with self._changed:
            if code == 200:
                self.taken.append(posted.body)
            self._changed.notify_all()
        request.send_response(code)
        if code == 302:
            request.send_header("Location", f"{self.url}/elsewhere")
        request.end_headers()

    def until_posted(self, requests: int) -> list[Posted]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.posted) >= requests, WITHIN_S), self.posted
            return list(self.posted)

    def until_taken(self, bodies: int) -> list[bytes]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.taken) >= bodies, WITHIN_S), self.posted
            return list(self.taken)

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def listening(*answers: int, hang: bool = False) -> Iterator[Listening]:
    receiver = Listening(*answers, hang=hang)
    try:
        yield receiver
    finally:
        receiver.close()
