"""Models by topic: which judges which, and what is said of one that judges nothing."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from models.checkpoints.checkpoint_header import UnusableCheckpoint
from service.process.models import open_model, open_models
from service.settings.loading import load
from service.settings.settings import shown
from tests.service.settings.refusals import refusal

SETTINGS = """
kafka: {topics: [pumps, mills]}
features: [flow]
models:
  mills: {features: [load, heat]}
"""


def test_what_is_shown_can_be_read_again(file: Path, tmp_path: Path) -> None:
    file.write_text(SETTINGS)
    settings = load(file, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(settings))
    assert load(again, {}).models == settings.models
    assert settings.models["mills"].features == ("load", "heat")


def test_a_topic_has_its_own_model_and_the_others_have_the_usual_one(file: Path) -> None:
    file.write_text(SETTINGS)
    models = open_models(load(file, {}))
    assert models.of("mills").detector.features == ("load", "heat")
    assert models.of("pumps").detector.features == ("flow",)
    assert len(models.all) == 2
    assert open_model(load(file, {}), "mills").digest == models.of("mills").digest


def test_where_every_topic_has_its_own_no_other_need_be_there(file: Path) -> None:
    file.write_text("kafka: {topics: [mills]}\nmodels: {mills: {features: [load]}}")
    models = open_models(load(file, {}))
    assert models.usual is models.of("mills")
    with pytest.raises(UnusableCheckpoint, match=r"telltale\.safetensors"):
        open_models(load(file, {"kafka.topics": ["mills", "pumps"]}))


def test_a_model_of_a_topic_that_is_not_read_is_named(file: Path) -> None:
    file.write_text(SETTINGS)
    with capture_logs() as said:
        models = open_models(load(file, {"kafka.topics": ["pumps"]}))
    assert models.others == {}
    assert [(line["event"], line["setting"]) for line in said] == [("model_without_topic", "models.mills")]


def test_a_model_is_a_checkpoint_or_features() -> None:
    assert "expected checkpoint or features in it" in refusal(None, models={"mills": {}})
