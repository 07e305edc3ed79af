"""How settings are refused, and a secret that must not show."""

from pathlib import Path

import pytest

from service.errors import RefusedSetting
from service.settings.loading import load

CANARY = "canary-Pa55word"
LOGIN = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "SCRAM-SHA-512",
    "kafka.sasl_username": "worker",
}
TOKEN = "token-0123456789-0123456789"
NOTIFIED = {
    "notifications.alertmanager_urls": ["http://one:9093", "https://two/prefix"],
    "notifications.alertmanager_authorization": f"Bearer {CANARY}",
    "notifications.webhook_urls": "http://hook/path?key=1",
    "notifications.webhook_authorization": f"Basic ann:{CANARY} too",
}


def refusal(config_file: Path | None = None, **overrides: object) -> str:
    with pytest.raises(RefusedSetting) as refused:
        load(config_file, {name.replace("__", "."): value for name, value in overrides.items()})
    return str(refused.value)


def refusal_of(file: Path, text: str) -> str:
    file.write_text(text)
    return refusal(file)
