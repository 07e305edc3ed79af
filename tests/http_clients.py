"""HTTP clients that ask a running worker for what is dear, again and again, in a process of their own.

Commands come as lines on stdin: `go`, `rest`, `count`; its end ends the process.
"""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

PATHS = (
    "/api/v1/explanation?stream={stream}&readings=512",
    "/api/v1/forecast?stream={stream}&steps=1000&interval_s=60",
    "/api/v1/readings?stream={stream}",
    "/api/v1/streams?limit=500&search={number}",
    "/api/v1/anomalies/open?limit=500",
    "/metrics",
    "/openapi.json",
    "/page/page.css",
)
A_CONNECTION = 20  # requests


class ToldProcess:
    """A module that runs in a process of its own and asks a worker for things, from `go` to `rest`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def go(self) -> None:
        self._say("go")

    def rest(self) -> None:
        self._say("rest")

    def counted(self) -> dict[str, int]:
        """What it counted since the start."""
        self._say("count")
        assert self._process.stdout is not None
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        self._process.communicate()

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()


class Clients(ToldProcess):
    """`count` of them, each with a connection at a time; they ask without a pause."""

    def __init__(self, port: int, count: int, streams: Sequence[str]) -> None:
        super().__init__("tests.http_clients", str(port), str(count), *streams)

    def answers(self) -> dict[int, int]:
        """By status, since the start."""
        return {int(status): count for status, count in self.counted().items()}


@contextmanager
def clients(port: int, count: int, streams: Sequence[str]) -> Iterator[Clients]:
    asking = Clients(port, count, streams)
    try:
        yield asking
    finally:
        asking.end()


def _ask(port: int, seed: int, streams: Sequence[str], asking: threading.Event, statuses: Counter[int]) -> None:
    chance = random.Random(seed)
    while True:
        asking.wait()
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
                for _ in range(A_CONNECTION):
                    if not asking.is_set():
                        break
                    path = chance.choice(PATHS)
                    client.request("GET", path.format(stream=chance.choice(streams), number=chance.randrange(999)))
                    answer = client.getresponse()
                    answer.read()
                    statuses[answer.status] += 1
        except (OSError, HTTPException):
            continue


def main(port: str, count: str, *streams: str) -> None:
    asking, statuses = threading.Event(), Counter[int]()
    for seed in range(int(count)):
        threading.Thread(target=_ask, args=(int(port), seed, streams, asking, statuses), daemon=True).start()
    for line in sys.stdin:
        if line == "count\n":
            print(json.dumps(statuses), flush=True)
        else:
            (asking.set if line == "go\n" else asking.clear)()


if __name__ == "__main__":
    main(*sys.argv[1:])
