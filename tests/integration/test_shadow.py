"""`telltale models shadow` of a real service on a real broker: the page says what the service has compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.checkpoints import checkpoint as checkpoints
from models.checkpoints import checkpoint_header
from models.detection.detector import Detector
from tests.command_line import Telltale
from tests.data import QUICK, some_forecaster
from tests.integration.test_end_to_end import made_topics, quick, service, wait_until
from tests.integration.test_pictures import READINGS, STREAM, history
from tests.kafka import Broker
from tests.models.insight.test_shadow_report import cells

__all__ = ["quick"]  # a fixture

TOKEN = "a-token-of-some-letters"


@pytest.fixture
def deaf(tmp_path: Path) -> Path:
    """A checkpoint that opens no alarm."""
    score = replace(QUICK.score, lowest_threshold=1e6, lowest_sudden=1e6, range_share=1e6)
    detector, path = Detector.cold(some_forecaster(2), replace(QUICK, score=score)), tmp_path / "deaf.safetensors"
    data = checkpoint_header.TrainingData(files=0, streams=0, readings=0, first_ms=0, last_ms=0)
    metrics = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0, ended="untrained"
    )
    checkpoints.save(path, detector, checkpoint_header.describe(detector, "2026-01-01T00:00:00Z", {}, data, metrics))
    return path


def test_a_service_with_a_shadow_gives_a_report_of_what_differs(
    kafka: Broker, quick: Path, deaf: Path, telltale: Telltale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, page = made_topics(kafka), tmp_path / "shadow.html"
    telltale.does(
        *("produce", "--topic", names.topic, "--data", history(tmp_path / "plant.parquet")),
        *("--bootstrap-servers", kafka.bootstrap_servers),
    )
    with service(kafka, quick, names, TELLTALE_SHADOW__CHECKPOINT=str(deaf)) as running:
        where = f"http://127.0.0.1:{running.port}"
        wait_until(lambda: running.status()["counts"]["readings"] == READINGS, "all is judged")
        wait_until(lambda: bool(running.status()["shadow"]["alarms"]), "an alarm of one alone")
        assert "readings compared" in telltale.does("models", "shadow", "--service", where, "--out", page)
        shadow = running.status()["shadow"]
        (partition,) = [one for one in shadow["partitions"] if one["readings"]]
        found = cells(page.read_text())
        assert found[-8] == STREAM
        assert found[-7] == "the one that judges"
        first = found.index(f"{names.topic}-{partition['number']}")
        second = found.index(f"{names.topic}-{partition['number']}", first + 1)
        readings = [partition[name] for name in ("readings", "only_shadow", "only_current", "both")]
        assert found[first + 1 : first + 5] == [f"{n:,}" for n in readings]
        alarms = [partition[name] for name in ("opened", "opened_current", "alone", "alone_current")]
        assert found[second + 1 : second + 5] == [f"{n:,}" for n in alarms]
        assert partition["alone_current"] + sum(one["closed_ms"] is None for one in shadow["alarms"]) == len(
            shadow["alarms"]
        )
        assert f'href="{where}/#line-1%2Fpumpe%20%C3%BC&amp;at=' in page.read_text()
        assert "there already; --force overwrites" in telltale.refuses(
            "models", "shadow", "--service", where, "--out", page, code=2
        )


def test_a_service_that_compares_nothing_or_asks_for_a_token_says_so(
    kafka: Broker, quick: Path, telltale: Telltale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "shadow.html"
    with service(kafka, quick, made_topics(kafka), TELLTALE_HTTP__TOKEN=TOKEN) as running:
        where = f"http://127.0.0.1:{running.port}"
        asked = ("models", "shadow", "--service", where, "--out", page)
        assert f"{where} answered 401: it asks for its token (http.token)" in telltale.refuses(*asked, code=1)
        monkeypatch.setenv("TELLTALE_HTTP__TOKEN", TOKEN)
        assert "it compares nothing, expected a second checkpoint (shadow.checkpoint)" in telltale.refuses(
            *asked, code=1
        )
    gone = telltale.refuses("models", "shadow", "--service", where, "--out", page, code=1)
    assert "expected a running service (--service)" in gone
    told = telltale.refuses("models", "shadow", "--service", "file:///x", "--out", page, code=2)
    assert "--service is file:///x, expected http://HOST:PORT or https://HOST" in told
    assert not page.exists()
