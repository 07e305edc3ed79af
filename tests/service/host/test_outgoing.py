"""Tokens by client credentials: asked for once while they are fresh; what is wrong names its setting and no secret."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka.net.sasl.oauth import SaslMechanismOAuth

import service.kafka.client  # noqa: F401  (it tells kafka-python what a provider of tokens is)
from service.host.outgoing import ClientCredentials, NoToken
from tests.token_server import CLIENT_ID, CLIENT_SECRET, TokenServer

LOGIN = (CLIENT_ID, CLIENT_SECRET)


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with closing(TokenServer()) as one:
        yield one


def refusal(credentials: ClientCredentials) -> str:
    with pytest.raises(NoToken) as refused:
        credentials.token()
    assert CLIENT_SECRET not in str(refused.value)
    return str(refused.value)


def test_a_token_is_held_for_four_fifths_of_its_life(server: TokenServer) -> None:
    now_s = 0.0
    server.lives_s = 100.0
    credentials = ClientCredentials(server.url, LOGIN, "kafka plant", clock=lambda: now_s)
    first = credentials.token()
    now_s = 79.9
    assert credentials.token() == first
    assert server.requests == [{"grant_type": ["client_credentials"], "scope": ["kafka plant"]}]
    now_s = 80.0
    assert credentials.token() != first
    assert len(server.requests) == 2


def test_a_token_of_unknown_life_is_used_once(server: TokenServer) -> None:
    server.answer = b'{"access_token": "opaque"}'
    credentials = ClientCredentials(server.url, LOGIN)
    assert [credentials.token(), credentials.token()] == ["opaque", "opaque"]
    assert len(server.requests) == 2


def test_the_client_sends_the_token_and_the_extensions(server: TokenServer) -> None:
    server.answer = b'{"access_token": "opaque"}'
    provider = ClientCredentials(server.url, LOGIN, extensions={"logicalCluster": "lkc-1", "identityPoolId": "p"})
    sent = SaslMechanismOAuth(sasl_oauth_token_provider=provider).auth_bytes()
    assert sent == b"n,,\x01auth=Bearer opaque\x01logicalCluster=lkc-1\x01identityPoolId=p\x01\x01"


def test_a_login_that_is_refused_names_its_settings(server: TokenServer) -> None:
    said = refusal(ClientCredentials(server.url, (CLIENT_ID, "another")))
    address = server.url.removesuffix("/realms/plant/token")
    assert said == (
        f"the token server {address} answered 401 invalid_client: see kafka.sasl_oauth_client_id and"
        " kafka.sasl_oauth_client_secret"
    )
    said = refusal(ClientCredentials(server.url, LOGIN, "nothing"))
    assert said.endswith("answered 400 invalid_scope: see kafka.sasl_oauth_scope")


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b"{}", b'{"access_token": "a\\u0001b"}', b'{"access_token": 7}', b'"token"', b"\xff"]
)
def test_an_answer_without_a_token_names_the_url(server: TokenServer, answer: bytes) -> None:
    server.answer = answer
    assert refusal(ClientCredentials(server.url, LOGIN)).endswith("see kafka.sasl_oauth_token_url")


def test_a_redirect_is_not_followed(server: TokenServer) -> None:
    server.redirects = True
    assert "answered 302: see kafka.sasl_oauth_token_url" in refusal(ClientCredentials(server.url, LOGIN))


def test_a_server_that_is_away_is_named(server: TokenServer) -> None:
    server.close()
    assert "refused: see kafka.sasl_oauth_token_url" in refusal(ClientCredentials(server.url, LOGIN)).lower()
