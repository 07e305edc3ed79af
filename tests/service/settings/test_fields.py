"""Types of a setting's value: what each refuses."""

import pytest

from tests.service.settings.refusals import refusal


def test_leading_zeros_are_refused_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_HTTP__PORT", "010")
    assert refusal() == (
        "http.port: found '010', expected a number in decimal, without leading zeros"
        " (environment variable TELLTALE_HTTP__PORT)"
    )


@pytest.mark.parametrize("name", ["a\0b", "a\tb", "a\nb", "a\x1bb", "a\u202eb", " a", "a "])
@pytest.mark.parametrize("setting", ["kafka.group", "kafka.instance", "http.host", "http.names"])
def test_a_name_with_control_characters_or_blanks_around_it_is_refused(setting: str, name: str) -> None:
    if setting == "http.names" and name.strip() != name:
        return  # a list with commas, whose parts are stripped
    assert "without control characters" in refusal(None, **{setting.replace(".", "__"): name})


@pytest.mark.parametrize("setting", ["checkpoint", "kafka.ssl_cafile", "http.token_file"])
def test_a_path_with_control_characters_is_refused(setting: str) -> None:
    assert setting in refusal(None, **{setting.replace(".", "__"): "a\0b"})


@pytest.mark.parametrize("servers", ["a\0b:9092", "kafka:09092", "kafka:\u0663"])
def test_brokers_are_hosts_and_decimal_ports(servers: str) -> None:
    assert "expected host:port" in refusal(kafka__bootstrap_servers=servers)


@pytest.mark.parametrize("token", ["", "short", "with a blank in it, long", "ümläute-0123456789-0123"])
def test_a_token_that_is_short_or_travels_in_no_header_is_refused_and_not_shown(token: str) -> None:
    said = refusal(http__token=token)
    assert said == (
        "http.token: found a value that is not shown, expected at least 16 letters, digits and signs, without blanks "
        "(command line)"
    )
