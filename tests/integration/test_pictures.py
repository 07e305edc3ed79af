"""From an alert to its picture: a real service on a real broker, and what a receiver finds at the addresses."""

import io
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import polars as pl
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from PIL import Image

from tests.command_line import Telltale
from tests.integration.test_end_to_end import made_topics, quick, service, wait_until
from tests.kafka import Broker
from tests.service.receiver import listening

__all__ = ["quick"]  # a fixture

TOKEN = "a-token-of-some-letters"
STREAM, READINGS, BROKEN_AT = "line-1/pumpe ü", 400, 300
MAJOR, SHADED = (184, 74, 0), (248, 223, 214)


def history(file: Path) -> Path:
    place = np.arange(READINGS)
    began_ms = round(time.time()) * 1_000 - READINGS * 60_000
    values = np.where(place >= BROKEN_AT, 1_000.0, place % 7.0)
    pl.DataFrame(
        {"timestamp": began_ms + 60_000 * place, "f0": values, "f1": 1.0, "stream": [STREAM] * READINGS}
    ).write_parquet(file)
    return file


def has(png: bytes, colour: tuple[int, int, int], within: int, least: int = 1) -> bool:
    """As many pixels as that are near a colour: an area has thousands, the edges of letters have a few."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return bool(np.all(np.abs(pixels - np.array(colour)) <= within, axis=-1).sum() >= least)


@pytest.mark.slow
def test_an_alert_has_a_picture_that_needs_no_token_and_says_what_the_topic_keeps_no_more(
    kafka: Broker, quick: Path, telltale: Telltale, tmp_path: Path
) -> None:
    names = made_topics(kafka)
    produced = ("--data", history(tmp_path / "plant.parquet"), "--bootstrap-servers", kafka.bootstrap_servers)
    with listening() as receiver:
        environment = {
            "TELLTALE_HTTP__TOKEN": TOKEN,
            "TELLTALE_NOTIFICATIONS__ALERTMANAGER_URLS": receiver.url,
            "TELLTALE_NOTIFICATIONS__PAGE_URL": "https://plant-7.example/",
            "TELLTALE_NOTIFICATIONS__PICTURES": "true",
        }
        with service(kafka, quick, names, **environment) as running:
            telltale.does("produce", "--topic", names.topic, *produced)
            (alert, *_) = json.loads(receiver.until_taken(1)[0])
            page, picture = (urlsplit(alert["annotations"][name]) for name in ("page", "picture"))
            assert (page.netloc, page.path) == (picture.netloc, "/") == ("plant-7.example", "/")
            assert page.fragment.startswith("line-1%2Fpumpe%20%C3%BC&at=")
            with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", trust_env=False, timeout=60) as client:
                address = f"{picture.path}?{picture.query}"
                found: list[bytes] = []

                def is_drawn() -> bool:
                    answer = client.get(address)
                    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
                    found.append(answer.content)
                    return has(answer.content, SHADED, 8, 2_000)

                wait_until(is_drawn, "the anomaly in the picture")
                assert client.get(f"{address}0").status_code == 401
                assert client.get("/api/v1/status").status_code == 401

                partition = next(one.partition for one in kafka.read_committed(names.topic))
                with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
                    admin.delete_records({TopicPartition(names.topic, partition): BROKEN_AT + 20})
                told = client.get(address)
                assert told.status_code == 200
                assert has(told.content, MAJOR, 40)
                (tmp_path / "before.png").write_bytes(found[-1])
                (tmp_path / "after.png").write_bytes(told.content)
