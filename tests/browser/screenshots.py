"""Pictures of the page for the documentation: a simulated plant while a line of it fails, in both themes and sizes.

python -m tests.browser.screenshots [CHECKPOINT]
"""

import json
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from kafka import KafkaProducer
from playwright.sync_api import Browser, Locator, Page, expect

from models.data.synthetic import FEATURES, START_MS, Plant, PlantSimulator
from service.cli.feeding import PLANT_STEP_S, PLANT_TRAINING_READINGS, plant_readings
from service.input.wire import encode_reading
from service.kafka.topics import COMPACTED, TopicSpec, create_topics
from tests.browser.chromium import running_browser
from tests.commands import Process
from tests.integration.test_end_to_end import Service, made_topics, wait_until
from tests.kafka import Broker, running_broker

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
DESK: Any = {"viewport": {"width": 1440, "height": 1000}}
PHONE: Any = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TOKEN = "a-token-for-pictures"
STREAMS = 24
SEED = 0  # as `train --simulate` has it: the plant that the checkpoint knows
WEEK_MS = 7 * 86_400_000
STEP_MS = round(1000 * PLANT_STEP_S)
WARM = 3 * 288  # readings of each stream that are sent before the fault: three days
FAULTY = 14  # readings that it has lasted
SILENT_MS = 2 * 3_600_000  # for which the last stream of another line has sent nothing
LINE = "line-01"
RISE = {"temperature": 24.0, "pressure": 0.0, "vibration": 3.0}
UNITS = {"temperature": "°C", "pressure": "bar", "vibration": "mm/s"}


def main(checkpoint: Path | None = None) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, running_broker() as broker:
        trained = checkpoint or _trained(Path(folder))
        with _serving(broker, trained) as service, running_browser() as browser:
            silent = _send(broker, service)
            _take_all(browser, f"http://127.0.0.1:{service.port}/", silent)


def _trained(folder: Path) -> Path:
    path = folder / "plant.safetensors"
    assert Process("train", "--simulate", STREAMS, "--max-seconds", 60, "--out", path).ended(1_200) == 0
    return path


@contextmanager
def _serving(broker: Broker, checkpoint: Path) -> Iterator[Service]:
    """The service with its page, and `telltale incidents` beside it."""
    names = made_topics(broker)
    topic, controls = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("incidents", "controls"))
    create_topics(broker.bootstrap_servers, {topic: TopicSpec(1, 1), controls: TopicSpec(1, 1, COMPACTED)})
    rules = [{"channels": [feature], "unit": unit} for feature, unit in UNITS.items()]
    where = {
        "TELLTALE_INCIDENTS__TOPIC": topic,
        "TELLTALE_INCIDENTS__CONTROL_TOPIC": controls,
        "TELLTALE_INCIDENTS__DEPTH": "1",
        "TELLTALE_DETECTION__RULES": json.dumps(rules),
    }
    stage = Process("incidents", "--bootstrap-servers", broker.bootstrap_servers, **names.environment, **where)
    service = Service(broker, checkpoint, names, TELLTALE_HTTP__TOKEN=TOKEN, **where)
    try:
        yield service.until_listening()
    finally:
        service.process.kill()
        stage.kill()


def _send(broker: Broker, service: Service) -> str:
    """The plant's last days up to now, of which a line has failed at the end. The stream that has fallen silent."""
    now_ms = time.time_ns() // 1_000_000
    start_ms = START_MS + (now_ms - START_MS) // WEEK_MS * WEEK_MS - 2 * WEEK_MS
    simulator = PlantSimulator(STREAMS, SEED, step_s=PLANT_STEP_S, start_ms=start_ms, first_fault_after=10**9)
    until = (now_ms - start_ms) // STEP_MS
    assert until >= PLANT_TRAINING_READINGS
    simulator.advance(until - WARM)
    silent = simulator.keys[-1]
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        sent = _produce(producer, service, simulator.advance(WARM - FAULTY), None, silent)
        sent += _produce(producer, service, simulator.advance(FAULTY), LINE, silent)
    wait_until(lambda: service.judged_records() >= sent, "all is judged")
    return silent


def _produce(producer: KafkaProducer, service: Service, piece: Plant, faulty: str | None, silent: str) -> int:
    rise, sent = np.array([RISE[feature] for feature in FEATURES]), 0
    now_ms = time.time_ns() // 1_000_000
    for stream, time_ms, values in plant_readings(piece):
        if time_ms > now_ms - (SILENT_MS if stream == silent else 0):
            continue
        shown = values + rise if faulty is not None and stream.startswith(faulty) else values
        record = encode_reading(FEATURES, time_ms, np.round(shown, 3).tolist())
        producer.send(service.names.topic, record, stream.encode())
        sent += 1
    producer.flush()
    return sent


def _take_all(browser: Browser, url: str, silent: str) -> None:
    for scheme in ("light", "dark"):
        with _opened(browser, url, scheme, DESK) as page:
            row = page.locator("#incidents-open > li").first
            if scheme == "light":
                _say(page, row.get_by_role("button", name=re.compile("Acknowledge")), "acknowledge")
            row.get_by_role("button", name=re.compile("members of incident")).click()
            expect(row.locator(".sparkline")).to_be_visible()
            row.locator(".incident").click()
            page.wait_for_selector("#chart .span")
            _shoot(page, f"page-{scheme}")
        with _opened(browser, url, scheme, PHONE) as page:
            row = page.locator("#incidents-open > li").first
            _shoot(page, f"phone-list-{scheme}")
            row.get_by_role("button", name=re.compile("Mute incident")).tap()
            page.locator("#say-by").fill("anna")
            _shoot(page, f"phone-mute-{scheme}")
            page.locator("#say-cancel").tap()
            row.locator(".incident").tap()
            page.wait_for_selector("#chart .span")
            _shoot(page, f"phone-stream-{scheme}")
    with _opened(browser, url, "dark", DESK) as page:
        page.locator("#open .pick", has_text=silent.rpartition("/")[2]).click()
        page.wait_for_selector("#chart .span")
        _shoot(page.locator("#chosen"), "silence-dark")


def _say(page: Page, button: Any, choice: str) -> None:
    button.click()
    page.locator("#say-by").fill("anna")
    page.locator("#say-note").fill("on my way")
    page.locator("#say-choices").get_by_role("button", name=choice).click()
    expect(page.locator("#incidents-open .said").first).to_be_visible()
    expect(page.locator("#outcome")).to_be_empty()  # it would lie on the chart


@contextmanager
def _opened(browser: Browser, url: str, scheme: Any, size: Any) -> Iterator[Page]:
    with closing(browser.new_context(**size, color_scheme=scheme)) as session:
        page = session.new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        page.locator("#token").fill(TOKEN)
        page.locator("#ask button").click()
        expect(page.locator("#incidents-open .incident").first).to_be_visible()
        yield page


def _shoot(shown: Page | Locator, name: str) -> None:
    time.sleep(1)  # what moves has come to rest
    shown.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    expect.set_options(timeout=120_000)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
