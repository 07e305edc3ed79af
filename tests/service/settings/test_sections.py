"""Sections: fields that contradict each other, and who can ask."""

from typing import cast

import pytest

from service.errors import RefusedSetting
from service.host.outgoing import ClientCredentials
from service.settings.loading import load
from service.settings.settings import client_options, secrets, shown
from tests.service.settings.refusals import CANARY, LOGIN, NOTIFIED, TOKEN, refusal


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
        (
            {"scores__topic": "telltale.readings"},
            "scores.topic: found 'telltale.readings', expected a topic that is neither read nor written otherwise",
        ),
        (
            {"scores__topic": "telltale.anomalies"},
            "scores.topic: found 'telltale.anomalies', expected a topic that is neither read nor written otherwise",
        ),
        ({"scores__streams": []}, "scores.streams: found [], expected to have at least 1 item"),
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


TOKENS = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "OAUTHBEARER",
    "kafka.sasl_oauth_token_url": "https://login/token",
    "kafka.sasl_oauth_client_id": "worker",
    "kafka.sasl_oauth_client_secret": CANARY,
}


def test_tokens_are_asked_for_with_what_is_set() -> None:
    extensions = {"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}
    settings = load(None, {**TOKENS, "kafka.sasl_oauth_extensions": extensions, "kafka.sasl_oauth_scope": "a b"})
    options = client_options(settings)
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert cast("ClientCredentials", options["sasl_oauth_token_provider"]).extensions() == extensions
    assert CANARY in secrets(settings)
    assert CANARY not in shown(settings) + repr(settings) + repr(options)
    assert "sasl_oauth_token_provider" not in client_options(load(None, {}))


def test_each_way_to_log_in_has_its_own_settings() -> None:
    sasl = {"kafka.security_protocol": "SASL_SSL"}
    assert (
        client_options(load(None, {**sasl, "kafka.sasl_mechanism": "AWS_MSK_IAM"}))["sasl_mechanism"] == "AWS_MSK_IAM"
    )
    kerberos = {**sasl, "kafka.sasl_mechanism": "GSSAPI", "kafka.sasl_kerberos_service_name": "broker"}
    assert client_options(load(None, kerberos))["sasl_kerberos_service_name"] == "broker"
    wrong: list[tuple[dict[str, object], str]] = [
        (
            {**kerberos, "kafka.sasl_username": "me"},
            "kafka.sasl_username: found 'me', expected none, as sasl_mechanism",
        ),
        (
            {**TOKENS, "kafka.sasl_oauth_client_id": None},
            "kafka.sasl_oauth_client_id: expected a value, as sasl_mechanism",
        ),
        ({**TOKENS, "kafka.sasl_oauth_extensions": {"auth": "x"}}, "expected a name of letters other than auth"),
        ({"kafka.sasl_oauth_scope": "a"}, "kafka.sasl_oauth_scope: found 'a', expected none, or SASL_SSL as"),
        (
            {
                "kafka.sasl_mechanism": "AWS_MSK_IAM",
                "kafka.security_protocol": "SASL_PLAINTEXT",
                "kafka.insecure": True,
            },
            "kafka.security_protocol: found 'SASL_PLAINTEXT', expected SASL_SSL, as AWS_MSK_IAM has no other",
        ),
    ]
    for given, message in wrong:
        with pytest.raises(RefusedSetting) as refused:
            load(None, given)
        assert message in str(refused.value)


def test_a_token_and_the_secret_for_it_go_in_clear_only_where_a_person_says_so() -> None:
    plain = {**TOKENS, "kafka.security_protocol": "SASL_PLAINTEXT"}
    with pytest.raises(RefusedSetting, match="OAUTHBEARER sends the token in clear"):
        load(None, plain)
    away = {**TOKENS, "kafka.sasl_oauth_token_url": "http://login/token"}
    with pytest.raises(
        RefusedSetting, match=r"kafka\.sasl_oauth_token_url: .* expected https://, as the client's secret"
    ):
        load(None, away)
    for given in (plain, away):
        assert load(None, {**given, "kafka.insecure": True}).kafka.insecure
    assert load(None, {**TOKENS, "kafka.sasl_oauth_token_url": "http://127.0.0.1:9/token"})


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


def test_pictures_are_linked_to_only_where_it_is_known_who_draws_them() -> None:
    assert "notifications.pictures: found" in refusal(notifications__pictures=True)
    drawn = {"notifications.pictures": True, "notifications.page_url": "http://plant-7:8080"}
    assert load(None, drawn).notifications.pictures


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "plant-7.example", "localhost.example"])
def test_others_can_ask_only_with_a_token_or_where_a_person_says_so(host: str) -> None:
    assert f"http.host: found '{host}', expected 127.0.0.1, or a token beside it" in refusal(http__host=host)
    assert load(None, {"http.host": host, "http.token": TOKEN}).http.token is not None
    assert load(None, {"http.host": host, "http.insecure": True}).http.token is None
    assert load(None, {"http.host": host, "http.enabled": False}).http.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_may_ask_without(host: str) -> None:
    assert load(None, {"http.host": host}).http.token is None


@pytest.mark.parametrize("streams", [-1, 101])
def test_metrics_name_a_hundred_streams_at_most(streams: int) -> None:
    assert "metrics.top_streams" in refusal(metrics__top_streams=streams)
