"""Twenty pages that are open on a running worker, and one that looks back, in a process of its own: what they ask for.

A page listens to events with the readings of a stream, asks for the lists as often as `service/http/page/page.js` does,
and asks for them again when it is opened. The one that looks back asks again as soon as it has its answer. Commands
come as lines on stdin: `go` opens them, `rest` closes them, `count` tells what came; its end ends the process.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

from tests.http_clients import ToldProcess

PAGES = 20
LISTS_EVERY_S, SAID_EVERY_S = 2.0, 10.0
LISTS = ("/api/v1/anomalies/open?limit=100", "/api/v1/streams?sort=score&limit=25")
SAID = ("/api/v1/streams?sort=silence&limit=25", "/api/v1/controls?limit=200", "/api/v1/incidents?limit=50")
AT_FIRST = (*LISTS, *SAID, "/api/v1/anomalies?limit=60")
READINGS = 600  # that are looked back at
WITHIN_S = 30.0


class OpenPages(ToldProcess):
    """Open from `go` to `rest`."""

    def __init__(self, port: int, streams: Sequence[str]) -> None:
        super().__init__("tests.bench.pages", str(port), *streams[:PAGES])

    def answers(self) -> dict[str, int]:
        """Since the start: lists and events by name, answers that were refused by status."""
        return self.counted()


@contextmanager
def pages(port: int, streams: Sequence[str]) -> Iterator[OpenPages]:
    opened = OpenPages(port, streams)
    try:
        yield opened
    finally:
        opened.end()


class _Visit:
    """What all threads share: whether pages are open, and what came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = threading.Event()
        self.counts: Counter[str] = Counter()

    def events(self, path: str) -> Iterator[str]:
        """Names of events as they come, while pages are open."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)) as client:
            client.request("GET", path)
            answer = client.getresponse()
            if answer.status != 200:
                self.counts[f"refused {answer.status}"] += 1
                time.sleep(1.0)
                return
            while self.open.is_set() and (line := answer.readline()):
                if line.startswith(b"event: "):
                    yield line[7:].strip().decode()

    def listen(self, path: str) -> None:
        """Again and again, as a page whose connection broke."""
        while self.open.wait():
            with suppress(OSError, HTTPException):
                for name in self.events(path):
                    self.counts[name] += 1

    def ask(self) -> None:
        """For the lists: all when it is opened, then some of them now and then."""
        while self.open.wait():
            with suppress(OSError, HTTPException), closing(self._connection()) as client:
                self._get(client, AT_FIRST)
                said_s = time.monotonic()
                while self.open.is_set():
                    time.sleep(LISTS_EVERY_S)
                    self._get(client, LISTS)
                    if time.monotonic() - said_s >= SAID_EVERY_S:
                        said_s = time.monotonic()
                        self._get(client, SAID)

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)

    def _get(self, client: HTTPConnection, paths: Sequence[str]) -> None:
        for path in paths:
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            self.counts["lists" if answer.status == 200 else f"refused {answer.status}"] += 1


def main(port: str, *streams: str) -> None:
    visit = _Visit(int(port))
    looked_at = quote(streams[0])
    works = [(visit.listen, (f"/api/v1/events?stream={quote(stream)}",)) for stream in streams]
    works += [(visit.listen, (f"/api/v1/past?stream={looked_at}&readings={READINGS}",))]
    for target, arguments in works:
        threading.Thread(target=target, args=arguments, daemon=True).start()
    for _ in streams:
        threading.Thread(target=visit.ask, daemon=True).start()
    for line in sys.stdin:
        if line == "count\n":
            print(json.dumps(visit.counts), flush=True)
        else:
            (visit.open.set if line == "go\n" else visit.open.clear)()


if __name__ == "__main__":
    main(*sys.argv[1:])
