"""Why nothing comes of a connection: which setting does not fit what listens there.

The client says no more than that a connection was lost. So what it uses is looked at first, and after it has failed a
connection is made by hand, as it would make it and in other ways, to see which one the listener understands.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from kafka import errors as kafka_errors
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslHandshakeRequest

from service.errors import RefusedSetting

WITHIN_S = 2.0  # each step
WRONG_HOST = (62, 64)  # OpenSSL's verify codes: the certificate is for another host, for another address
ILLEGAL_SASL_STATE, UNSUPPORTED_MECHANISM = 34, 33
NO_MECHANISM = "NONE"  # the broker answers which ones there are

_Socket = socket.socket | ssl.SSLSocket


def tls_context(client: Mapping[str, object]) -> ssl.SSLContext:
    """As the client makes it of these settings. Raises RefusedSetting when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = bool(client.get("ssl_check_hostname", True))
    authority, certificate, key = (client.get(f"ssl_{name}") for name in ("cafile", "certfile", "keyfile"))
    if isinstance(authority, str):
        try:
            context.load_verify_locations(authority)
        except OSError as error:  # ssl.SSLError too
            raise RefusedSetting(f"kafka.ssl_cafile is {authority}, which holds no certificates: {error}") from error
    else:
        context.load_default_certs()
    if isinstance(certificate, str):
        _load_certificate(context, certificate, str(key) if key else None, client.get("ssl_password"))
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None, password: object) -> None:
    where = f"kafka.ssl_keyfile ({key})" if key else f"kafka.ssl_certfile ({certificate})"

    def given() -> str:
        if password is None:
            raise RefusedSetting(f"the key in {where} is encrypted, but kafka.ssl_key_password is not set")
        return str(password)

    try:
        context.load_cert_chain(certificate, key, given)
    except OSError as error:  # ssl.SSLError too
        if password is not None and _is_encrypted(key or certificate):
            raise RefusedSetting(
                f"kafka.ssl_key_password does not open the key in {where}, or that file is damaged"
            ) from error
        raise RefusedSetting(
            f"kafka.ssl_certfile ({certificate}) and the key in {where} do not fit together, or are no PEM: {error}"
        ) from error


def _is_encrypted(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123  (as it was given)
        return b"ENCRYPTED" in file.read()


def diagnosis(bootstrap_servers: str, client: Mapping[str, object]) -> str | None:
    """What does not fit the first of these servers that can be reached, and which setting it is; None: not known."""
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        address = (host.strip("[]"), int(port)) if port.isdecimal() else None
        if address is not None and _connects(address):
            found = _misfit(address, client)
            return None if found is None else f"{server.strip()} {found}"
    return None


def _misfit(address: tuple[str, int], client: Mapping[str, object]) -> str | None:
    protocol = str(client.get("security_protocol", "PLAINTEXT"))
    set_to = f"but kafka.security_protocol is {protocol}"
    login = "SASL_" if protocol.startswith("SASL_") else ""
    if protocol.endswith("SSL"):
        context = tls_context(client)
        wrong = _handshake_problem(address, context)
        if wrong and _mechanisms(address, None) is not None:
            return f"listens without TLS, {set_to}: expected {login}PLAINTEXT"
    else:
        context = None
        wrong = None
        if _mechanisms(address, None) is None and _speaks_tls(address):
            return f"expects TLS, {set_to}: expected {login}SSL"
    if wrong:
        return wrong
    return _login_misfit(_mechanisms(address, context), client, set_to, protocol)


def _login_misfit(mechanisms: list[str] | None, client: Mapping[str, object], set_to: str, protocol: str) -> str | None:
    if mechanisms is None:
        mutual = protocol.endswith("SSL") and not client.get("ssl_certfile")
        return (
            "closes the connection: it may expect a certificate of this client (kafka.ssl_certfile)" if mutual else None
        )
    some = ", ".join(mechanisms)
    if mechanisms and not protocol.startswith("SASL_"):
        kind = protocol.replace("PLAINTEXT", "SASL_PLAINTEXT").replace("SSL", "SASL_SSL", protocol == "SSL")
        return f"expects a login (SASL: {some}), {set_to}: expected {kind}"
    if not mechanisms and protocol.startswith("SASL_"):
        return f"expects no login, {set_to}: expected {protocol.removeprefix('SASL_')}"
    if mechanisms and client.get("sasl_mechanism") not in mechanisms:
        return f"does not know kafka.sasl_mechanism {client.get('sasl_mechanism')}: expected {some}"
    return None


def _connects(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, WITHIN_S).close()
    except OSError:
        return False
    return True


def _handshake_problem(address: tuple[str, int], context: ssl.SSLContext) -> str | None:
    try:
        _opened(address, context).close()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in WRONG_HOST:
            return (
                f"has a certificate for another host ({error.verify_message}): expected its name in"
                " kafka.bootstrap_servers, or kafka.ssl_check_hostname: false"
            )
        return f"has a certificate that is not trusted ({error.verify_message}): see kafka.ssl_cafile"
    except OSError as error:
        return f"does not complete the TLS handshake ({error})"
    return None


def _speaks_tls(address: tuple[str, int]) -> bool:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        _opened(address, anybody).close()
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except OSError:
        return False
    return True


def _opened(address: tuple[str, int], context: ssl.SSLContext | None) -> _Socket:
    connection = socket.create_connection(address, WITHIN_S)
    if context is None:
        return connection
    try:
        return context.wrap_socket(connection, server_hostname=address[0])
    except BaseException:
        connection.close()
        raise


def _mechanisms(address: tuple[str, int], context: ssl.SSLContext | None) -> list[str] | None:
    """How one may log in; empty: one may not; None: what listens there does not answer as a broker does."""
    protocol = KafkaProtocol(client_id="telltale")
    try:
        with _opened(address, context) as connection:
            protocol.send_request(SaslHandshakeRequest(version=1, mechanism=NO_MECHANISM))
            connection.sendall(protocol.send_bytes())
            answers: list[tuple[int, Any]] = []
            while not answers:
                data = connection.recv(4096)
                if not data:
                    return None
                answers = protocol.receive_bytes(data)
    except (OSError, kafka_errors.KafkaError, ValueError):
        return None
    answer = answers[0][1]
    return list(answer.mechanisms) if answer.error_code in (0, UNSUPPORTED_MECHANISM) else []
