"""Reading the settings: which source goes before which."""

from pathlib import Path

import pytest

from service.settings.loading import load


def test_an_option_goes_before_the_environment_and_this_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("http:\n  port: 1\n  host: localhost\nkafka:\n  group: from-file\n")
    monkeypatch.setenv("TELLTALE_HTTP__PORT", "2")
    monkeypatch.setenv("TELLTALE_KAFKA__GROUP", "from-environment")
    settings = load(file, {"http.port": 3, "http.host": None})
    assert (settings.http.port, settings.kafka.group, settings.http.host) == (3, "from-environment", "localhost")
    assert settings.origin("http.port") == "command line"
    assert settings.origin("kafka.group") == "environment variable TELLTALE_KAFKA__GROUP"
    assert settings.origin("http.host") == f"{file}, line 3"


def test_the_environment_can_name_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("checkpoint: /checkpoints/pump.safetensors\n")
    monkeypatch.setenv("TELLTALE_CONFIG", str(file))
    assert load(None, {}).checkpoint == Path("/checkpoints/pump.safetensors")


def test_topics_are_a_list_in_the_file_and_have_commas_in_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("kafka:\n  topics: [a, b]\n")
    assert load(file, {}).kafka.topics == ("a", "b")
    monkeypatch.setenv("TELLTALE_KAFKA__TOPICS", "c, d")
    assert load(file, {}).kafka.topics == ("c", "d")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_KAFKA__INSTANCE", "")
    assert load(None, {}).kafka.instance is None


def test_an_empty_file_and_an_empty_section_set_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load(file, {}) == load(None, {})
    file.write_text("kafka:\n  # group: mine\n")
    assert load(file, {}) == load(None, {})
