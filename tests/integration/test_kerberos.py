"""GSSAPI on a real listener, with a KDC of its own: a ticket logs in, none is one line that names where to look."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.errors import LogUnavailable
from service.kafka.log_config import Cluster
from service.kafka.topics import describe_topics
from tests.command_line import Telltale
from tests.faults.broker import OwnBroker
from tests.integration.test_end_to_end import made_topics
from tests.integration.test_kafka_log import connect_within
from tests.integration.test_security import goes_in_and_out
from tests.kafka import Broker, _free_ports
from tests.kerberos import REALM, NoKerberos, Realm, running_kdc

pytestmark = [
    pytest.mark.programs,  # MIT Kerberos's
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # the client leaves sockets to the collector
]

SERVICE = "broker"  # not kafka, so that the setting is needed
LOGIN = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true doNotPrompt=true"


class Kerberized(NamedTuple):
    """A broker with a listener that takes tickets."""

    broker: Broker
    servers: str
    realm: Realm
    keytab: Path  # of a client

    @property
    def client(self) -> dict[str, Any]:
        return {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "GSSAPI",
            "sasl_kerberos_service_name": SERVICE,
            "sasl_kerberos_domain_name": "localhost",
        }


@pytest.fixture(scope="module")
def kerberized(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kerberized]:
    try:
        with running_kdc(tmp_path_factory.mktemp("kdc")) as realm:
            principal = f"{SERVICE}/localhost"
            keytab, first = realm.keytab(principal), _free_ports(2)
            listeners = f"PLAINTEXT://127.0.0.1:PORT,SASL_PLAINTEXT://127.0.0.1:{first}"
            settings = {
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{first + 1}",
                "advertised.listeners": listeners,
                "controller.quorum.voters": f"1@127.0.0.1:{first + 1}",
                "listener.security.protocol.map": (
                    "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
                ),
                "sasl.enabled.mechanisms": "GSSAPI",
                "sasl.kerberos.service.name": SERVICE,
                "listener.name.sasl_plaintext.gssapi.sasl.jaas.config": (
                    f'{LOGIN} keyTab="{keytab}" principal="{principal}@{REALM}";'
                ),
            }
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("JDK_JAVA_OPTIONS", f"-Djava.security.krb5.conf={realm.config}")
                own = OwnBroker(settings)
            with own:
                yield Kerberized(own.broker, f"127.0.0.1:{first}", realm, realm.keytab("telltale"))
    except NoKerberos as reason:
        pytest.skip(f"this test starts a KDC: {reason}")


@pytest.fixture
def ticket(kerberized: Kerberized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service has it that is given a keytab."""
    monkeypatch.setenv("KRB5_CONFIG", str(kerberized.realm.config))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", f"FILE:{kerberized.keytab}")


@pytest.mark.usefixtures("ticket")
def test_readings_come_in_and_anomalies_go_out_with_a_ticket(kerberized: Kerberized) -> None:
    goes_in_and_out(kerberized.broker, Cluster(kerberized.servers, kerberized.client), "kerberos/w0")


@pytest.mark.usefixtures("ticket")
def test_the_commands_log_in_with_what_the_settings_say(
    kerberized: Kerberized, telltale: Telltale, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = made_topics(kerberized.broker)
    more = {key.upper(): str(value) for key, value in kerberized.client.items()}
    for name, value in {**more, "INSECURE": "true"}.items():
        monkeypatch.setenv(f"TELLTALE_KAFKA__{name}", value)
    for name, value in names.environment.items():
        monkeypatch.setenv(name, value)
    assert names.changelog in telltale.does("topics", "check", "--bootstrap-servers", kerberized.servers)


@pytest.mark.usefixtures("ticket")
@pytest.mark.parametrize("missing", ["ticket", "service"])
def test_without_a_ticket_or_for_another_service_it_says_where_to_look(
    kerberized: Kerberized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    connect_within(3.0, monkeypatch)
    client = kerberized.client
    if missing == "ticket":
        monkeypatch.setenv("KRB5_CLIENT_KTNAME", f"FILE:{tmp_path / 'none'}")
    else:
        client["sasl_kerberos_service_name"] = "kafka"
    with pytest.raises(LogUnavailable, match=r"see kafka\.sasl_kerberos_service_name, .* the ticket \(klist\)"):
        describe_topics(kerberized.servers, ["any"], client)
