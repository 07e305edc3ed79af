"""Errors that a person can act on, and that no secret shows in."""

from pathlib import Path

import pytest

from service.errors import RefusedSetting
from service.settings.loading import load
from tests.service.settings.refusals import CANARY, refusal, refusal_of


def test_an_error_names_section_value_expectation_and_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_LIMITS__MAX_FUTURE_S", "-1")
    file.write_text("kafka:\n  session_timeout_ms: soon\n  group: no\nhttp:\n  port: yes\n")
    assert refusal(file, log__level="loud").splitlines() == [
        f"kafka.group: found False, expected a valid string ({file}, line 3)",
        f"kafka.session_timeout_ms: found 'soon', expected a valid integer ({file}, line 2)",
        f"http.port: found True, expected a number ({file}, line 5)",
        "log.level: found 'loud', expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR' (command line)",
        "limits.max_future_s: found '-1', expected greater than 0 (environment variable TELLTALE_LIMITS__MAX_FUTURE_S)",
    ]


def test_an_unknown_key_suggests_the_nearest(file: Path) -> None:
    assert refusal_of(file, "kafka:\n  topic: a\n") == (
        f"kafka.topic: unknown, did you mean kafka.topics? ({file}, line 2)"
    )
    assert "did you mean http.port?" in refusal_of(file, "port: 8080\n")
    assert "did you mean kafka?" in refusal_of(file, "kafak:\n  topics: [a]\n")
    assert refusal_of(file, "zzz: 1\n") == f"zzz: unknown ({file}, line 1)"


@pytest.mark.parametrize(
    "line",
    [
        "sasl_password: CANARY",  # with no SASL protocol
        "sasl_password: [CANARY]",
        "sasl_password: {CANARY: 1}",
        "sasl_pasword: CANARY",
        "sasl_password: *CANARY",
        "sasl_password: !CANARY x",
        "sasl_password: !!int CANARY",
        "sasl_password: CANARY: x",
        "sasl_password: 'CANARY",
        'sasl_password: "\\qCANARY"',
        "sasl_password: CANARY\n  sasl_password: x",
        "sasl_password_file: CANARY",
        "sasl_password_file: [CANARY]",
        "sasl_password: CANARY\n  sasl_password_file: CANARY",
        "ssl_key_password: CANARY",
        "password: CANARY",
        "CANARY",
        "x: CANARY",
        "{group: x, sasl_password: CANARY",
    ],
)
def test_a_password_never_shows_in_an_error(file: Path, line: str) -> None:
    file.write_text("kafka:\n  " + line.replace("CANARY", CANARY) + "\n")
    with pytest.raises(RefusedSetting) as refused:
        load(file, {})
    error: BaseException | None = refused.value
    while error is not None:
        assert CANARY not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
