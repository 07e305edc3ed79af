"""Settings: precedence, errors that a person can act on, and secrets that never show."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import RefusedSetting
from service.settings.settings import PATHS, VARIABLES, Settings, authorization, client_options, load, secrets, shown

CANARY = "canary-Pa55word"
LOGIN = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "SCRAM-SHA-512",
    "kafka.sasl_username": "worker",
}


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("TELLTALE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "telltale.yaml"


def refusal(config_file: Path | None = None, **overrides: object) -> str:
    with pytest.raises(RefusedSetting) as refused:
        load(config_file, {name.replace("__", "."): value for name, value in overrides.items()})
    return str(refused.value)


def refusal_of(file: Path, text: str) -> str:
    file.write_text(text)
    return refusal(file)


# --- precedence


def test_without_anything_set_the_defaults_hold() -> None:
    settings = load(None, {})
    assert settings.kafka.anomalies_topic == "telltale.anomalies"
    assert settings.http.host == "127.0.0.1"
    assert settings.origin("http.host") == "default"
    assert settings.kafka.changelog_topic == "telltale.changelog"
    assert (settings.limits.max_streams, settings.limits.stream_ttl_s) == (200_000, 30 * 86_400)
    assert settings.state.when_lost == "fail"


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


# --- errors


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


@pytest.mark.parametrize("number", ["010", "0x1F90", "1:30", "8_080", "-007", "1_0.5", "[1, 010]"])
def test_a_number_that_yaml_reads_in_another_base_than_ten_is_refused(file: Path, number: str) -> None:
    said = refusal_of(file, f"log:\n  level: INFO\nhttp:\n  port: {number}\n")
    assert said.startswith(f"{file}, line 4: found a number that YAML reads in another base than ten")
    assert "write it in decimal, or in quotes" in said


def test_a_name_that_is_a_number_with_a_leading_zero_is_read_in_quotes(file: Path) -> None:
    file.write_text('kafka:\n  instance: "007"\nlimits:\n  stream_ttl_s: 1.5e3\n  max_future_s: .5\n')
    settings = load(file, {})
    assert settings.kafka.instance == "007"
    assert (settings.limits.stream_ttl_s, settings.limits.max_future_s) == (1_500, 0.5)


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


def test_an_unknown_key_suggests_the_nearest(file: Path) -> None:
    assert refusal_of(file, "kafka:\n  topic: a\n") == (
        f"kafka.topic: unknown, did you mean kafka.topics? ({file}, line 2)"
    )
    assert "did you mean http.port?" in refusal_of(file, "port: 8080\n")
    assert "did you mean kafka?" in refusal_of(file, "kafak:\n  topics: [a]\n")
    assert refusal_of(file, "zzz: 1\n") == f"zzz: unknown ({file}, line 1)"


def test_an_unknown_variable_suggests_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_HTTP_PORT", CANARY)
    assert refusal() == "environment variable TELLTALE_HTTP_PORT: unknown, did you mean TELLTALE_HTTP__PORT?"
    monkeypatch.delenv("TELLTALE_HTTP_PORT")
    monkeypatch.setenv("TELLTALE_KAFKA", "{not json")
    assert "TELLTALE_KAFKA: unknown" in refusal()


def test_variables_that_kubernetes_makes_of_a_service_named_telltale_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "TELLTALE_SERVICE_HOST": "10.0.0.1",
        "TELLTALE_SERVICE_PORT_HTTP": "8080",
        "TELLTALE_PORT": "tcp://10.0.0.1:8080",
        "TELLTALE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TELLTALE_METRICS_PORT": "tcp://10.0.0.2:80",
    }.items():
        monkeypatch.setenv(name, value)
    assert load(None, {}) == load(None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka:\n  group: a\n  group: b\n", "line 3: found kafka.group again, it is set in line 2 already"),
        ("kafka:\n  group: a\nkafka:\n  group: b\n", "line 3: found kafka again, it is set in line 1 already"),
        ("a: &a [x, x]\nkafka: *a\n", "line 2: found an alias, write the value itself"),
        ("- kafka\n", "line 1: found no section"),
        ("just words\n", "line 1: found no section"),
        ("kafka: 5\n", "line 1: found a single value as kafka, expected a section with keys below it"),
        ("kafka: [group]\n", "line 1: found a single value as kafka"),
        ("? [kafka]\n: 1\n", "line 1: found a key that is no name"),
        ("kafka:\n\tgroup: a\n", "line 2: not YAML"),
        ("kafka:\n  group: !!python/object:os.system {}\n", "line 2: found a value that YAML cannot read"),
        ("kafka:\n  group: 2024-13-45\n", "line 2: found a value that YAML cannot read, put it in quotes"),
        ("kafka: {}\n---\nhttp: {}\n", "line 2: not YAML"),
        ("checkpoint: " + "[" * 20_000, "nested too deeply"),
        ("checkpoint: \x07\n", "not YAML (bad character)"),
        ("#" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(file: Path, text: str, message: str) -> None:
    assert message in refusal_of(file, text)


def test_a_file_that_cannot_be_read_is_refused(file: Path, tmp_path: Path) -> None:
    assert refusal(file) == f"{file}: the settings file cannot be read: No such file or directory"
    assert "Is a directory" in refusal(tmp_path)
    file.write_bytes(b"group: \xff\n")
    assert refusal(file) == f"{file}: not UTF-8 at byte 7"


@given(text=st.text(max_size=60))
def test_whatever_the_file_holds_it_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, newline="", errors="surrogatepass")
    with suppress(RefusedSetting):
        load(file, {})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"kafka__transaction_timeout_ms": 20_000},
            "kafka.transaction_timeout_ms: found 20000, expected at most session_timeout_ms (10000) (command line)",
        ),
        ({"kafka__topics": ["telltale.anomalies"]}, "expected no topic that Telltale writes to itself"),
        ({"kafka__dead_letters_topic": "telltale.anomalies"}, "expected another topic than anomalies_topic"),
        ({"kafka__topics": []}, "kafka.topics: found [], expected to have at least 1 item"),
        ({"kafka__topics": ["a b"]}, "kafka.topics.0: found ['a b'], expected a topic name"),
        ({"kafka__bootstrap_servers": "broker"}, "kafka.bootstrap_servers: found 'broker', expected host:port"),
        ({"kafka__security_protocol": "SASL_SSL"}, "kafka.sasl_mechanism: expected a value, as security_protocol is"),
        ({"kafka__sasl_username": "me"}, "kafka.sasl_username: found 'me', expected none, or SASL_SSL"),
        ({"kafka__ssl_cafile": "/dev/null"}, "kafka.ssl_cafile: found '/dev/null', expected none, or TLS"),
        ({"kafka__ssl_cafile": "/nowhere"}, "expected a file that can be read (No such file or directory)"),
        ({"kafka__topics": ["telltale.changelog"]}, "expected no topic that Telltale writes to itself"),
        (
            {"kafka__changelog_topic": "telltale.anomalies"},
            "kafka.changelog_topic: found 'telltale.anomalies', expected another topic than those of",
        ),
        (
            {"kafka__changelog_topic": "telltale.dead-letters"},
            "expected another topic than those of anomalies and dead letters",
        ),
        ({"limits__max_streams": 0}, "limits.max_streams: found 0, expected"),
        ({"limits__stream_ttl_s": 0}, "limits.stream_ttl_s: found 0, expected"),
        ({"state__flush_interval_s": 0}, "state.flush_interval_s: found 0, expected"),
        ({"state__flush_interval_s": 3_601}, "state.flush_interval_s: found 3601, expected"),
        ({"state__when_lost": "ignore"}, "state.when_lost: found 'ignore', expected 'fail' or 'reset'"),
        ({"state__prime_readings": -1}, "state.prime_readings: found -1, expected"),
        ({"http__host": ""}, "http.host: found '', expected to have at least 1 character"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: dict[str, object], message: str) -> None:
    assert message in refusal(None, **overrides)


def test_a_password_goes_in_clear_only_where_a_person_says_so() -> None:
    plain = {
        **LOGIN,
        "kafka.security_protocol": "SASL_PLAINTEXT",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_password": CANARY,
    }
    with pytest.raises(RefusedSetting, match=r"kafka\.security_protocol: found 'SASL_PLAINTEXT', expected SASL_SSL"):
        load(None, plain)
    assert load(None, {**plain, "kafka.insecure": True}).kafka.insecure


# --- secrets


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


NOTIFIED = {
    "notifications.alertmanager_urls": ["http://one:9093", "https://two/prefix"],
    "notifications.alertmanager_authorization": f"Bearer {CANARY}",
    "notifications.webhook_urls": "http://hook/path?key=1",
    "notifications.webhook_authorization": f"Basic ann:{CANARY} too",
}


def test_a_login_for_notifications_never_shows_and_is_handed_to_whom_it_is_for() -> None:
    settings = load(None, NOTIFIED)
    assert settings.notifications.webhook_urls == ("http://hook/path?key=1",)
    assert authorization(settings, "alertmanager") == f"Bearer {CANARY}"
    assert authorization(settings, "webhook") == f"Basic ann:{CANARY} too"
    assert CANARY not in shown(settings) + repr(settings) + settings.model_dump_json()
    assert {CANARY, f"{CANARY} too", f"ann:{CANARY} too"} <= set(secrets(settings))


def test_a_login_for_notifications_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "login"
    secret.write_text(f"Bearer {CANARY}\n")
    given = {**NOTIFIED, "notifications.webhook_authorization_file": str(secret)}
    del given["notifications.webhook_authorization"]
    assert authorization(load(None, given), "webhook") == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("webhook_urls", f"https://ann:{CANARY}@hook", "http:// or https:// with a host and no login in it"),
        ("webhook_urls", f"ftp://hook/{CANARY}", "http:// or https:// with a host and no login in it"),
        ("alertmanager_urls", [CANARY], "http:// or https:// with a host and no login in it"),
        ("webhook_authorization", CANARY, '"Bearer TOKEN" or "Basic USER:PASSWORD"'),
        ("webhook_authorization", f"Bearer {CANARY}\nX-Forged: 1", '"Bearer TOKEN" or "Basic USER:PASSWORD"'),
        ("alertmanager_urls", [], "none without alertmanager_urls"),
    ],
)
def test_where_notifications_cannot_go_is_said_without_what_may_be_secret(
    path: str, value: object, expected: str
) -> None:
    with pytest.raises(RefusedSetting) as refused:
        load(None, {**NOTIFIED, f"notifications.{path}": value})
    assert expected in str(refused.value)
    assert CANARY not in str(refused.value)


TOKEN = "token-0123456789-0123456789"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "plant-7.example", "localhost.example"])
def test_others_can_ask_only_with_a_token_or_where_a_person_says_so(host: str) -> None:
    assert f"http.host: found '{host}', expected 127.0.0.1, or a token beside it" in refusal(http__host=host)
    assert load(None, {"http.host": host, "http.token": TOKEN}).http.token is not None
    assert load(None, {"http.host": host, "http.insecure": True}).http.token is None
    assert load(None, {"http.host": host, "http.enabled": False}).http.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_may_ask_without(host: str) -> None:
    assert load(None, {"http.host": host}).http.token is None


@pytest.mark.parametrize("token", ["", "short", "with a blank in it, long", "ümläute-0123456789-0123"])
def test_a_token_that_is_short_or_travels_in_no_header_is_refused_and_not_shown(token: str) -> None:
    said = refusal(http__token=token)
    assert said == (
        "http.token: found a value that is not shown, expected at least 16 letters, digits and signs, without blanks "
        "(command line)"
    )


def test_a_token_is_read_from_its_file_and_never_shows(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    settings = load(None, {"http.token_file": str(file)})
    assert settings.http.token is not None
    assert settings.http.token.get_secret_value() == TOKEN
    assert TOKEN not in shown(settings) + repr(settings)
    assert TOKEN in secrets(settings)
    assert "expected token or token_file, not both" in refusal(http__token_file=str(file), http__token=TOKEN)


@pytest.mark.parametrize("streams", [-1, 101])
def test_metrics_name_a_hundred_streams_at_most(streams: int) -> None:
    assert "metrics.top_streams" in refusal(metrics__top_streams=streams)


def test_what_is_shown_can_be_loaded_again(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(CANARY)
    options = {**LOGIN, "kafka.sasl_password_file": secret, "kafka.topics": ["a", "b"], "kafka.group": "ü: #'\"\u2028"}
    settings = load(None, options)
    file.write_text(shown(settings))
    again = load(file, {})
    assert again.model_dump() == settings.model_dump()
    assert isinstance(again, Settings)
