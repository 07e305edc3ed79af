"""What the tests of the page share: readings in the time that the clock shows, and the page as somebody opened it."""

import dataclasses
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from models.detection.detector import Detector
from service.input.wire import encode_reading
from tests.data import QUICK, some_forecaster
from tests.kafka import Broker

FEATURES = ("f0", "f1")
EVERY_S = 0.2  # between two readings of a stream
PATIENCE_MS = 60_000  # what is waited for: a loaded machine takes its time

expect.set_options(timeout=PATIENCE_MS)


def save_checkpoint(path: Path) -> Path:
    """It opens alarms within dozens of readings, and takes no fault for the new normal while a test looks at it."""
    patient = dataclasses.replace(QUICK, alarm=dataclasses.replace(QUICK.alarm, adopt_after=10_000))
    detector = Detector.cold(some_forecaster(len(FEATURES)), patient)
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoints.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


class Plant:
    """Streams of readings to a topic, in the time that the wall clock shows; some of them can be made sick."""

    def __init__(self, broker: Broker, topic: str, streams: Sequence[str], history: int) -> None:
        """history: readings of each stream that lie before now."""
        self._producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, linger_ms=0)
        self._topic = topic
        self._streams = streams
        self._random = np.random.default_rng(0)
        self._step = 0
        self._first_s = time.time() - history * EVERY_S
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plant")
        self.sick: frozenset[str] = frozenset()

    def send(self, readings: int) -> None:
        """Of each stream, and wait until they are there."""
        for _ in range(readings):
            self._send()
        self._producer.flush()

    def send_record(self, value: bytes, stream: str) -> None:
        """Any bytes, in the partition of that stream."""
        self._producer.send(self._topic, value, stream.encode())
        self._producer.flush()

    def send_ahead(self, stream: str, ahead_s: float) -> None:
        """One reading whose time is that far ahead."""
        reading = encode_reading(
            FEATURES, round(1000 * (time.time() + ahead_s)), [20.0 + self._streams.index(stream)] * 2
        )
        self.send_record(reading, stream)

    def start(self) -> None:
        """Go on by itself."""
        self._thread.start()

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def close(self) -> None:
        self._ended.set()
        if self.started:
            self._thread.join()
        self._producer.close()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._send()

    def _send(self) -> None:
        time_ms = round(1000 * (self._first_s + self._step * EVERY_S))
        for n, stream in enumerate(self._streams):
            values = 20 + n + math.sin(self._step / 12 + n) + self._random.normal(0, 0.1, len(FEATURES))
            values[0] += 25 if stream in self.sick else 0
            self._producer.send(self._topic, encode_reading(FEATURES, time_ms, values.tolist()), stream.encode())
        self._step += 1


class Opened:
    """The page, and what its console said."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # Being asked for the token is an answer 401, which the console shows as an error.
        if message.type in ("error", "warning") and "401" not in message.text:
            self.complaints.append(message.text)

    def charted(self) -> list[str]:
        """Names of the lines that the chart has."""
        lines = self.page.locator("#chart .line")
        expect(lines.first).to_be_attached()
        names: list[str] = lines.evaluate_all("lines => lines.map((one) => one.dataset.name)")
        return names


@contextmanager
def visited(browser: Browser, url: str, script: str = "", **context: Any) -> Iterator[Opened]:
    """The page at `url`. script: what runs in it first."""
    with closing(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})) as session:
        session.set_default_timeout(PATIENCE_MS)
        shown = Opened(session.new_page())
        if script:
            shown.page.add_init_script(script)
        shown.page.goto(url, wait_until="commit")  # what it shows is waited for by those who look
        yield shown
