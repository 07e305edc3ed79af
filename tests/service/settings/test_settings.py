"""Settings: defaults, and secrets that never show."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings.loading import load
from service.settings.settings import PATHS, Settings, authorization, client_options, secrets, shown
from service.settings.sources import VARIABLES
from tests.service.settings.refusals import CANARY, LOGIN, NOTIFIED, refusal


def test_without_anything_set_the_defaults_hold() -> None:
    settings = load(None, {})
    assert settings.kafka.anomalies_topic == "telltale.anomalies"
    assert settings.http.host == "127.0.0.1"
    assert settings.origin("http.host") == "default"
    assert settings.kafka.changelog_topic == "telltale.changelog"
    assert (settings.limits.max_streams, settings.limits.stream_ttl_s) == (200_000, 30 * 86_400)
    assert settings.state.when_lost == "fail"


def test_settings_cannot_be_changed() -> None:
    settings = load(None, {})
    with pytest.raises(ValidationError):
        settings.checkpoint = Path("other")
    with pytest.raises(ValidationError):
        settings.http.port = 1


def test_every_setting_has_a_variable_and_a_meaning() -> None:
    assert len(VARIABLES) == len(PATHS) == len(set(PATHS))
    text = shown(load(None, {}))
    assert all(f"{path.rpartition('.')[2]}:" in text for path in PATHS)
    assert "# None" not in text


def test_a_password_never_shows_where_settings_are_shown(file: Path) -> None:
    settings = load(None, {**LOGIN, "kafka.sasl_password": CANARY})
    assert CANARY not in shown(settings)
    assert CANARY not in repr(settings) + str(settings) + settings.model_dump_json()
    assert secrets(settings) == (CANARY,)
    assert client_options(settings) == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": CANARY,
        "ssl_check_hostname": True,
    }


def test_a_login_for_notifications_never_shows_and_is_handed_to_whom_it_is_for() -> None:
    settings = load(None, NOTIFIED)
    assert settings.notifications.webhook_urls == ("http://hook/path?key=1",)
    assert authorization(settings, "alertmanager") == f"Bearer {CANARY}"
    assert authorization(settings, "webhook") == f"Basic ann:{CANARY} too"
    assert CANARY not in shown(settings) + repr(settings) + settings.model_dump_json()
    assert {CANARY, f"{CANARY} too", f"ann:{CANARY} too"} <= set(secrets(settings))


def test_a_login_for_remote_write_never_shows_and_needs_somebody_whom_it_is_for() -> None:
    given = {
        "remote_write.url": "http://prometheus:9090/api/v1/write",
        "remote_write.authorization": f"Bearer {CANARY}",
    }
    settings = load(None, given)
    assert settings.remote_write.authorization is not None
    assert settings.remote_write.authorization.get_secret_value() == f"Bearer {CANARY}"
    assert CANARY not in shown(settings) + repr(settings) + settings.model_dump_json()
    assert CANARY in secrets(settings)
    assert "remote_write.authorization: found" in refusal(remote_write__authorization=f"Bearer {CANARY}")


def test_what_is_shown_can_be_loaded_again(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(CANARY)
    options = {**LOGIN, "kafka.sasl_password_file": secret, "kafka.topics": ["a", "b"], "kafka.group": "ü: #'\"\u2028"}
    settings = load(None, options)
    file.write_text(shown(settings))
    again = load(file, {})
    assert again.model_dump() == settings.model_dump()
    assert isinstance(again, Settings)
