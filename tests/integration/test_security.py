"""TLS and SASL on a real broker with a listener of every kind: what fits works, what does not names its setting."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion

from service.errors import LogUnavailable, RefusedSetting
from service.host.outgoing import ClientCredentials
from service.kafka.log import KafkaLog
from service.kafka.log_config import Cluster, GroupMember, TopicNames
from service.kafka.topics import check_topics, describe_topics
from service.log.port import Commit, Record
from tests.command_line import Telltale
from tests.faults.broker import OwnBroker
from tests.integration.certificates import KEY_PASSWORD, Certificates, make_certificates
from tests.integration.test_end_to_end import Names, made_topics
from tests.integration.test_kafka_log import connect_within
from tests.kafka import Broker, _free_ports
from tests.service.log_contract import Reader, readings
from tests.token_server import CLIENT_ID, CLIENT_SECRET, TokenServer

# Of a connection that fails, the client leaves the socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

KINDS = ("SASL_SSL", "SSL", "SASL_PLAINTEXT", "MUTUAL")  # the last: TLS with a certificate of the client's too
SCRAM = "SCRAM-SHA-512"
OAUTH = "OAUTHBEARER"
SESSION_S = 3.0  # after which a client with a token has to log in again
LOGIN = "org.apache.kafka.common.security."
SETTINGS = {  # of Telltale, for what the client calls
    "security_protocol": "SECURITY_PROTOCOL",
    "ssl_cafile": "SSL_CAFILE",
    "ssl_certfile": "SSL_CERTFILE",
    "ssl_keyfile": "SSL_KEYFILE",
    "ssl_password": "SSL_KEY_PASSWORD",
    "sasl_mechanism": "SASL_MECHANISM",
    "sasl_plain_username": "SASL_USERNAME",
    "sasl_plain_password": "SASL_PASSWORD",
}


class Secured(NamedTuple):
    """A broker and how to reach its listeners."""

    broker: Broker
    ports: Mapping[str, int]
    files: Certificates

    def servers(self, kind: str) -> str:
        return f"127.0.0.1:{self.ports[kind]}"

    def client(self, protocol: str, **more: object) -> dict[str, Any]:
        """Settings that fit a listener of this protocol, but for what is said otherwise."""
        fits: dict[str, object] = {"security_protocol": protocol}
        if protocol.endswith("SSL"):
            fits["ssl_cafile"] = str(self.files.authority)
        if protocol.startswith("SASL_"):
            fits |= {"sasl_mechanism": "PLAIN", "sasl_plain_username": "reader", "sasl_plain_password": "right"}
        return fits | more


@pytest.fixture(scope="module")
def secured(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    files = make_certificates(tmp_path_factory.mktemp("certificates"))
    first = _free_ports(len(KINDS) + 1)
    ports = {kind: first + n for n, kind in enumerate(KINDS)}
    open_to_all = ["PLAINTEXT://127.0.0.1:PORT", *(f"{kind}://127.0.0.1:{port}" for kind, port in ports.items())]
    protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **{kind: kind for kind in KINDS}, "MUTUAL": "SSL"}
    settings = {
        "listeners": ",".join([*open_to_all, f"CONTROLLER://127.0.0.1:{first + len(KINDS)}"]),
        "advertised.listeners": ",".join(open_to_all),
        "controller.quorum.voters": f"1@127.0.0.1:{first + len(KINDS)}",
        "listener.security.protocol.map": ",".join(f"{kind}:{protocol}" for kind, protocol in protocols.items()),
        "listener.name.mutual.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": f"PLAIN,{SCRAM},{OAUTH}",
        **{f"ssl.{store}.type": "PEM" for store in ("keystore", "truststore")},
        "ssl.keystore.location": str(files.broker),
        "ssl.truststore.location": str(files.authority),
    }
    for kind in ("sasl_ssl", "sasl_plaintext"):
        of = f"listener.name.{kind}"
        settings[f"{of}.plain.sasl.jaas.config"] = f'{LOGIN}plain.PlainLoginModule required user_reader="right";'
        settings[f"{of}.{SCRAM.lower()}.sasl.jaas.config"] = f"{LOGIN}scram.ScramLoginModule required;"
        settings[f"{of}.{OAUTH.lower()}.sasl.jaas.config"] = (
            f'{LOGIN}oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        )
        settings[f"{of}.{OAUTH.lower()}.connections.max.reauth.ms"] = f"{1000 * SESSION_S:.0f}"
    with OwnBroker(settings) as own:
        with KafkaAdminClient(bootstrap_servers=own.broker.bootstrap_servers) as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion("writer", ScramMechanism.SCRAM_SHA_512, "right too")]
            )
        yield Secured(own.broker, ports, files)


@pytest.fixture(scope="module")
def names(secured: Secured) -> Names:
    return made_topics(secured.broker)


# --- what fits


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with closing(TokenServer()) as server:
        yield server


def login_with(tokens: TokenServer, **more: Any) -> dict[str, Any]:
    provider = ClientCredentials(tokens.url, (CLIENT_ID, CLIENT_SECRET), **more)
    return {"sasl_mechanism": OAUTH, "sasl_oauth_token_provider": provider}


def goes_in_and_out(broker: Broker, cluster: Cluster, transactional_id: str) -> None:
    """Readings are read, and anomalies of them written, by a worker's log as it logs in to this cluster."""
    names = made_topics(broker)
    broker.produce(names.topic, [(0, record) for record in readings(20)])
    topics = TopicNames((names.topic,), names.anomalies, names.dead_letters, names.changelog)
    log = KafkaLog(cluster, topics, GroupMember(group=names.group, transactional_id=transactional_id))
    try:
        fetched = Reader(log).until(20).fetched
        log.commit([Commit(one.partition, one.next_offset, (Record(b"s", b"anomaly"),)) for one in fetched])
    finally:
        log.close()
    assert {written.record.value for written in broker.read_committed(names.anomalies)} == {b"anomaly"}


@pytest.mark.parametrize("kind", [*KINDS, SCRAM])
def test_readings_come_in_and_anomalies_go_out_whatever_the_listener(secured: Secured, kind: str) -> None:
    files, protocol = secured.files, "SSL" if kind == "MUTUAL" else "SASL_SSL" if kind == SCRAM else kind
    more: dict[str, object] = {}
    if kind == "MUTUAL":
        more = {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.locked_key), "ssl_password": KEY_PASSWORD}
    if kind == SCRAM:
        more = {"sasl_mechanism": SCRAM, "sasl_plain_username": "writer", "sasl_plain_password": "right too"}
    cluster = Cluster(secured.servers("SASL_SSL" if kind == SCRAM else kind), secured.client(protocol, **more))
    goes_in_and_out(secured.broker, cluster, f"{kind}/w0")


def test_the_commands_log_in_with_what_the_settings_say(
    secured: Secured, names: Names, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(monkeypatch, names, secured.client("SASL_SSL"))
    assert names.changelog in telltale.does("topics", "check", "--bootstrap-servers", secured.servers("SASL_SSL"))


@pytest.mark.thorough
def test_a_log_with_tokens_logs_in_again_as_long_as_it_runs(secured: Secured, tokens: TokenServer) -> None:
    """The broker ends a session after 3 s where the client does not log in again; the token lives as long."""
    names = made_topics(secured.broker)
    tokens.lives_s = SESSION_S
    cluster = Cluster(secured.servers("SASL_SSL"), secured.client("SASL_SSL", **login_with(tokens)))
    topics = TopicNames((names.topic,), names.anomalies, names.dead_letters, names.changelog)
    log = KafkaLog(cluster, topics, GroupMember(group=names.group, transactional_id="oauth/w0"))
    try:
        reader, began_s = Reader(log), time.monotonic()
        for n in range(1, 100):
            secured.broker.produce(names.topic, [(0, record) for record in readings(20)])
            fetched = reader.until(20 * n).fetched
            log.commit([Commit(one.partition, one.next_offset, (Record(b"s", b"%d" % n),)) for one in fetched])
            if time.monotonic() - began_s > 3 * SESSION_S:
                break
    finally:
        log.close()
    assert len(tokens.requests) > 3
    assert {written.record.value for written in secured.broker.read_committed(names.anomalies)} >= {b"1", b"%d" % n}


def test_the_commands_log_in_with_client_credentials(
    secured: Secured, names: Names, tokens: TokenServer, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(monkeypatch, names, {k: v for k, v in secured.client("SASL_SSL").items() if "plain" not in k})
    monkeypatch.setenv("TELLTALE_KAFKA__SASL_MECHANISM", OAUTH)
    monkeypatch.setenv("TELLTALE_KAFKA__SASL_OAUTH_TOKEN_URL", tokens.url)
    monkeypatch.setenv("TELLTALE_KAFKA__SASL_OAUTH_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("TELLTALE_KAFKA__SASL_OAUTH_CLIENT_SECRET", CLIENT_SECRET)
    check = ("topics", "check", "--bootstrap-servers", secured.servers("SASL_SSL"))
    assert names.changelog in telltale.does(*check)
    monkeypatch.setenv("TELLTALE_KAFKA__SASL_OAUTH_CLIENT_SECRET", "hunter2")
    connect_within(3.0, monkeypatch)
    said = telltale.refuses(*check, code=1)
    assert "answered 401 invalid_client: see kafka.sasl_oauth_client_id and kafka.sasl_oauth_client_secret" in said
    assert "hunter2" not in said


def test_a_token_that_the_broker_refuses_names_the_settings(
    secured: Secured, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_within(3.0, monkeypatch)
    tokens.lives_s = -10.0
    with pytest.raises(LogUnavailable, match=r"the login failed, see kafka\.sasl_oauth_scope, .*") as refused:
        describe_topics(secured.servers("SASL_SSL"), ["any"], secured.client("SASL_SSL", **login_with(tokens)))
    assert CLIENT_SECRET not in str(refused.value)


def test_a_token_server_that_is_away_is_named_with_its_setting(
    secured: Secured, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_within(3.0, monkeypatch)
    tokens.close()
    with pytest.raises(LogUnavailable, match=r"no token for the login: the token server http://.*sasl_oauth_token_url"):
        describe_topics(secured.servers("SASL_SSL"), ["any"], secured.client("SASL_SSL", **login_with(tokens)))


# --- what does not


MISFITS = {
    "password": (
        "SASL_SSL",
        "SASL_SSL",
        {"sasl_plain_password": "wrong"},
        r"see kafka\.sasl_username and kafka\.sasl_",
    ),
    "password in clear": (
        "SASL_PLAINTEXT",
        "SASL_PLAINTEXT",
        {"sasl_plain_password": "wrong"},
        r"kafka\.sasl_password",
    ),
    "user": (
        "SASL_SSL",
        "SASL_SSL",
        {"sasl_mechanism": SCRAM, "sasl_plain_username": "nobody"},
        r"kafka\.sasl_username",
    ),
    "mechanism": (
        "SASL_SSL",
        "SASL_SSL",
        {"sasl_mechanism": "SCRAM-SHA-256"},
        r"kafka\.sasl_mechanism SCRAM-SHA-256: exp",
    ),
    "no TLS for TLS": ("SSL", "PLAINTEXT", {}, r"expects TLS, but kafka\.security_protocol is PLAINTEXT: expected SSL"),
    "login without TLS": ("SASL_SSL", "SASL_PLAINTEXT", {}, r"expects TLS, .* is SASL_PLAINTEXT: expected SASL_SSL"),
    "TLS for no TLS": (
        "SASL_PLAINTEXT",
        "SASL_SSL",
        {},
        r"listens without TLS, .* is SASL_SSL: expected SASL_PLAINTEXT",
    ),
    "no login": (
        "SASL_SSL",
        "SSL",
        {},
        r"expects a login \(SASL: PLAIN.*\), but kafka\.security_protocol is SSL: .* SASL_SSL",
    ),
    "a login for none": (
        "SSL",
        "SASL_SSL",
        {},
        r"expects no login, but kafka\.security_protocol is SASL_SSL: expected SSL",
    ),
    "no certificate": ("MUTUAL", "SSL", {}, r"kafka\.ssl_certfile"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_named_with_its_setting(
    secured: Secured, misfit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_within(3.0, monkeypatch)
    kind, protocol, more, said = MISFITS[misfit]
    with pytest.raises(LogUnavailable, match=said) as refused:
        describe_topics(secured.servers(kind), ["any"], secured.client(protocol, **more))
    assert "\n" not in str(refused.value)
    assert "wrong" not in str(refused.value)


@pytest.mark.thorough
def test_a_wrong_password_over_tls_is_told_ten_times_of_ten(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker answers and hangs up at once: the client used to hear of the second alone, three times of four."""
    connect_within(2.0, monkeypatch)
    client = secured.client("SASL_SSL", sasl_plain_password="wrong")
    for _ in range(10):
        with pytest.raises(LogUnavailable, match=r"the login failed, .* \(Authentication failed: Invalid username"):
            describe_topics(secured.servers("SASL_SSL"), ["any"], client)


def test_a_stranger_is_not_trusted_and_a_file_that_cannot_be_used_is_refused_at_once(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connect_within(3.0, monkeypatch)
    files, servers = secured.files, secured.servers("MUTUAL")
    with pytest.raises(LogUnavailable, match=r"not trusted .*: see kafka\.ssl_cafile"):
        describe_topics(servers, ["any"], secured.client("SSL", ssl_cafile=str(files.stranger)))
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    with pytest.raises(RefusedSetting, match=r"kafka\.ssl_cafile is .*empty\.pem, which holds no certificates"):
        describe_topics(servers, ["any"], secured.client("SSL", ssl_cafile=str(empty)))
    mine = {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.locked_key)}
    with pytest.raises(RefusedSetting, match=r"kafka\.ssl_key_password does not open the key in kafka\.ssl_keyfile"):
        describe_topics(servers, ["any"], secured.client("SSL", **mine, ssl_password="another"))
    with pytest.raises(RefusedSetting, match=r"is encrypted, but kafka\.ssl_key_password is not set"):
        describe_topics(servers, ["any"], secured.client("SSL", **mine))
    with pytest.raises(RefusedSetting, match=r"do not fit together"):
        describe_topics(servers, ["any"], secured.client("SSL", **{**mine, "ssl_keyfile": str(files.broker)}))


def test_a_command_ends_with_one_line_and_its_exit_code(
    secured: Secured, names: Names, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_within(3.0, monkeypatch)
    check = ("topics", "check", "--bootstrap-servers")
    setting(monkeypatch, names, secured.client("SASL_SSL", sasl_plain_password="wrong"))
    said = telltale.refuses(*check, secured.servers("SASL_SSL"), code=1)
    assert said.count("telltale:") == 1
    assert "kafka.sasl_password" in said
    files = secured.files
    locked = {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.locked_key), "ssl_password": "another"}
    setting(monkeypatch, names, secured.client("SSL", **locked))
    assert "kafka.ssl_key_password" in telltale.refuses(*check, secured.servers("MUTUAL"), code=2)


def test_the_topics_are_checked_over_tls_too(secured: Secured, names: Names) -> None:
    outputs = (names.anomalies, names.dead_letters)
    found = check_topics(secured.servers("SSL"), [names.topic], outputs, secured.client("SSL"), names.changelog)
    assert found == dict.fromkeys((names.topic, *outputs, names.changelog), 2)


def setting(monkeypatch: pytest.MonkeyPatch, names: Names, client: Mapping[str, object]) -> None:
    """Let the commands of this process have these settings, and no others of the kind."""
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    for option, name in SETTINGS.items():
        if option in client:
            monkeypatch.setenv(f"TELLTALE_KAFKA__{name}", str(client[option]))
        else:
            monkeypatch.delenv(f"TELLTALE_KAFKA__{name}", raising=False)
