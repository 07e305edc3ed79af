"""The section `kafka`: the brokers, the topics, the group, and how a worker logs in."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from service.settings.addresses import is_loopback
from service.settings.fields import File, FilePath, Name, Secret, Servers, Topic, Topics, Url, Whole, wrong_value
from service.settings.secret_files import file_of, with_secrets_from_files
from service.settings.section import Section

# The fields that each mechanism needs, and those that it may have.
PASSWORD: tuple[tuple[str, ...], tuple[str, ...]] = (("sasl_username", "sasl_password"), ())
LOGINS = {
    "PLAIN": PASSWORD,
    "SCRAM-SHA-256": PASSWORD,
    "SCRAM-SHA-512": PASSWORD,
    "OAUTHBEARER": (
        ("sasl_oauth_token_url", "sasl_oauth_client_id", "sasl_oauth_client_secret"),
        ("sasl_oauth_scope", "sasl_oauth_extensions", "sasl_oauth_cafile"),
    ),
    "AWS_MSK_IAM": ((), ()),
    "GSSAPI": ((), ("sasl_kerberos_service_name", "sasl_kerberos_domain_name")),
}
LOGIN_FIELDS = tuple(dict.fromkeys(name for needed, possible in LOGINS.values() for name in needed + possible))


def _extension_name(value: str) -> str:
    """RFC 7628; auth is the token's own."""
    if not re.fullmatch(r"[A-Za-z]{1,64}", value) or value == "auth":
        raise wrong_value("a name of letters other than auth")
    return value


ExtensionName = Annotated[str, AfterValidator(_extension_name)]


class KafkaSettings(Section):
    bootstrap_servers: Servers = Field(
        default="localhost:9092", description="brokers to ask for the others: host:port, with commas between"
    )
    topics: Topics = Field(
        default=("telltale.readings",), description="topics the readings come from; in the environment with commas"
    )
    group: Name = Field(default="telltale", description="consumer group: workers of one group share the partitions")
    anomalies_topic: Topic = Field(default="telltale.anomalies", description="topic the anomalies go to")
    dead_letters_topic: Topic = Field(
        default="telltale.dead-letters", description="topic the records go to that cannot be read"
    )
    changelog_topic: Topic = Field(
        default="telltale.changelog",
        description="compacted topic that the streams' memory is kept in; several groups may share it",
    )
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="where a group without offsets starts; earliest, so that streams are warm when they are up to date",
    )
    instance: Name | None = Field(
        default=None,
        description="this worker's own name in the group, the same after a restart, so that it gets its partitions "
        "back without a rebalance; null: it is a new member each time",
    )
    session_timeout_ms: Whole = Field(
        default=10_000,
        ge=1_000,
        le=1_800_000,
        description="ms without a heartbeat after which a worker's partitions go to the others; "
        "short, so that a crash costs seconds",
    )
    transaction_timeout_ms: Whole = Field(
        default=10_000,
        ge=1_000,
        le=900_000,
        description="ms after which the broker ends an open transaction; at most session_timeout_ms, or a dead "
        "worker's partitions wait for it",
    )
    max_poll_records: Whole = Field(
        default=50_000,
        ge=1,
        le=1_000_000,
        description="most records judged and committed in one go; more is faster and adds latency",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: (
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] | None
    ) = Field(
        default=None,
        description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (a token by client credentials), AWS_MSK_IAM "
        "(extra: msk) or GSSAPI (Kerberos; extra: kerberos); for SASL_* only",
    )
    sasl_username: Name | None = Field(default=None, description="who logs in, by PLAIN or SCRAM")
    sasl_password: Secret | None = Field(default=None, description="secret; better in a file")
    sasl_password_file: FilePath | None = file_of("sasl_password")
    sasl_oauth_token_url: Url | None = Field(
        default=None, description="of OAUTHBEARER: where an OAuth 2 server gives tokens for client credentials"
    )
    sasl_oauth_client_id: Name | None = Field(default=None, description="who asks for a token")
    sasl_oauth_client_secret: Secret | None = Field(default=None, description="secret; better in a file")
    sasl_oauth_client_secret_file: FilePath | None = file_of("sasl_oauth_client_secret")
    sasl_oauth_scope: Name | None = Field(
        default=None, description="what the token is for; several with blanks between"
    )
    sasl_oauth_extensions: dict[ExtensionName, Name] = Field(
        default={},
        description='what the brokers are told beside the token: {"logicalCluster": "lkc-1", "identityPoolId": '
        '"pool-1"}',
    )
    sasl_oauth_cafile: File | None = Field(
        default=None,
        description="PEM file of the authority that signed the token server's certificate; null: the system's",
    )
    sasl_kerberos_service_name: Name | None = Field(
        default=None, description="of GSSAPI: the first part of the brokers' principals; null: kafka"
    )
    sasl_kerberos_domain_name: Name | None = Field(
        default=None, description="of GSSAPI: the host in the brokers' principals; null: the one that is connected to"
    )
    ssl_cafile: File | None = Field(
        default=None, description="PEM file of the authority that signed the brokers' certificates; null: the system's"
    )
    ssl_certfile: File | None = Field(default=None, description="PEM file of this client's certificate (mTLS)")
    ssl_keyfile: File | None = Field(default=None, description="PEM file of the certificate's private key")
    ssl_key_password: Secret | None = Field(default=None, description="secret; what ssl_keyfile is encrypted with")
    ssl_key_password_file: FilePath | None = file_of("ssl_key_password")
    ssl_check_hostname: bool = Field(
        default=True, description="whether a broker's certificate must name the host that was asked for"
    )
    insecure: bool = Field(
        default=False,
        description="allow a secret to be sent in clear (PLAIN, OAUTHBEARER or a token server without TLS); for a "
        "test cluster only",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: object) -> object:
        return with_secrets_from_files(given, ("sasl_password", "sasl_oauth_client_secret", "ssl_key_password"))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        outputs = (self.anomalies_topic, self.dead_letters_topic, self.changelog_topic)
        if looped := set(outputs) & set(self.topics):
            raise wrong_value(f"no topic that Telltale writes to itself ({looped.pop()})", "topics")
        if outputs[0] == outputs[1]:
            raise wrong_value("another topic than anomalies_topic", "dead_letters_topic")
        if outputs[2] in outputs[:2]:
            raise wrong_value("another topic than those of anomalies and dead letters", "changelog_topic")
        if self.transaction_timeout_ms > self.session_timeout_ms:
            raise wrong_value(f"at most session_timeout_ms ({self.session_timeout_ms})", "transaction_timeout_ms")
        self._agree_on_login()
        self._agree_on_tls()
        return self

    def _agree_on_login(self) -> None:
        if not self.security_protocol.startswith("SASL_"):
            for name in ("sasl_mechanism", *LOGIN_FIELDS):
                if getattr(self, name):
                    raise wrong_value(
                        f"none, or SASL_SSL as security_protocol, which is {self.security_protocol}", name
                    )
            return
        if self.sasl_mechanism is None:
            raise wrong_value(f"a value, as security_protocol is {self.security_protocol}", "sasl_mechanism")
        needed, possible = LOGINS[self.sasl_mechanism]
        for name in needed:
            if getattr(self, name) is None:
                raise wrong_value(f"a value, as sasl_mechanism is {self.sasl_mechanism}", name)
        for name in LOGIN_FIELDS:
            if getattr(self, name) and name not in needed + possible:
                raise wrong_value(f"none, as sasl_mechanism is {self.sasl_mechanism}", name)
        self._agree_on_secrecy()

    def _agree_on_secrecy(self) -> None:
        if self.sasl_mechanism == "AWS_MSK_IAM" and self.security_protocol != "SASL_SSL":
            raise wrong_value("SASL_SSL, as AWS_MSK_IAM has no other", "security_protocol")
        if self.insecure:
            return
        if self.sasl_mechanism in ("PLAIN", "OAUTHBEARER") and self.security_protocol == "SASL_PLAINTEXT":
            sent = "the password" if self.sasl_mechanism == "PLAIN" else "the token"
            raise wrong_value(
                f"SASL_SSL or a SCRAM mechanism, as {self.sasl_mechanism} sends {sent} in clear"
                " (insecure: true allows it)",
                "security_protocol",
            )
        url = urlsplit(self.sasl_oauth_token_url or "")
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            raise wrong_value(
                "https://, as the client's secret is sent in clear (insecure: true allows it)", "sasl_oauth_token_url"
            )

    def _agree_on_tls(self) -> None:
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password"):
            if getattr(self, name) is not None and not self.security_protocol.endswith("SSL"):
                raise wrong_value(f"none, or TLS as security_protocol, which is {self.security_protocol}", name)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise wrong_value("a value, as ssl_keyfile has one", "ssl_certfile")
        if self.ssl_key_password is not None and self.ssl_certfile is None:
            raise wrong_value("none without ssl_certfile", "ssl_key_password")
