"""Secrets in files of their own: read, given once, never shown."""

from pathlib import Path

from service.settings.loading import load
from service.settings.settings import authorization, client_options, secrets, shown
from tests.service.settings.refusals import CANARY, LOGIN, NOTIFIED, TOKEN, refusal


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(CANARY + "\n")
    settings = load(None, {**LOGIN, "kafka.sasl_password_file": str(secret)})
    assert client_options(settings)["sasl_plain_password"] == CANARY
    assert CANARY not in shown(settings)


def test_a_secret_is_given_once_and_is_not_empty(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("\n")
    assert refusal(kafka__sasl_password_file=str(secret)) == (
        "kafka.sasl_password_file: found a value that is not shown, "
        "expected a file that holds a secret, this one is empty (command line)"
    )
    assert "expected sasl_password or sasl_password_file, not both" in refusal(
        kafka__sasl_password_file=str(secret), kafka__sasl_password=CANARY
    )


def test_a_login_for_notifications_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "login"
    secret.write_text(f"Bearer {CANARY}\n")
    given = {**NOTIFIED, "notifications.webhook_authorization_file": str(secret)}
    del given["notifications.webhook_authorization"]
    assert authorization(load(None, given), "webhook") == f"Bearer {CANARY}"


def test_a_token_is_read_from_its_file_and_never_shows(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    settings = load(None, {"http.token_file": str(file)})
    assert settings.http.token is not None
    assert settings.http.token.get_secret_value() == TOKEN
    assert TOKEN not in shown(settings) + repr(settings)
    assert TOKEN in secrets(settings)
    assert "expected token or token_file, not both" in refusal(http__token_file=str(file), http__token=TOKEN)
