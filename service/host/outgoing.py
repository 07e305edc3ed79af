"""HTTP requests to other services: logins as settings hold them, and no redirects."""

import base64
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

TOKEN_WITHIN_S = 5.0
TOKEN_SHARE = 0.8  # of a token's life after which another is asked for; a client logs in again at 0.85 to 0.95
MAX_TOKEN_BYTES = 1_048_576


class NoToken(OSError):
    """A server gave no token. Says which, why, and which setting helps; never a secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, and the login at another server."""

    def redirect_request(self, *_: object) -> None:
        return None


def opener(cafile: str | None = None) -> urllib.request.OpenerDirector:
    """cafile: PEM file of the authority that signed the server's certificate; None: the system's."""
    tls = [] if cafile is None else [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=cafile))]
    return urllib.request.build_opener(_NoRedirect, *tls)


def login_header(authorization: str) -> str:
    """`Basic USER:PASSWORD` as it travels; anything else as it is."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "basic" and ":" in rest:
        return f"{scheme} {base64.b64encode(rest.encode()).decode()}"
    return authorization


class ClientCredentials:
    """Tokens by client credentials from an OAuth 2 server (RFC 6749, 4.4). kafka-python asks for one at each login.

    Holds a secret: never log it. Threads may share it; at worst two ask at once.
    """

    def __init__(
        self,
        url: str,
        client: tuple[str, str],
        scope: str | None = None,
        extensions: Mapping[str, str] | None = None,
        cafile: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """client: its id and its secret. extensions: what the brokers are told beside the token (RFC 7628)."""
        self._url, self._client, self._cafile, self._clock = url, client, cafile, clock
        self._form = {"grant_type": "client_credentials", **({} if scope is None else {"scope": scope})}
        self._extensions = dict(extensions or {})
        self._held: tuple[str, float] | None = None  # a token, and until when it is used

    def token(self) -> str:
        """The one that is held while it is fresh. Raises NoToken."""
        if self._held is None or self._clock() >= self._held[1]:
            asked_s = self._clock()
            token, lives_s = self._read(self._ask())
            self._held = token, asked_s + TOKEN_SHARE * lives_s
        return self._held[0]

    def extensions(self) -> dict[str, str]:
        return self._extensions

    @property
    def _server(self) -> str:
        parts = urlsplit(self._url)  # without path and query, which may hold a secret
        return f"the token server {parts.scheme}://{parts.netloc}"

    def _ask(self) -> object:
        name, secret = map(quote_plus, self._client)
        headers = {"Authorization": login_header(f"Basic {name}:{secret}"), "Accept": "application/json"}
        request = urllib.request.Request(self._url, urlencode(self._form).encode(), headers)  # noqa: S310  (http, https: checked)
        try:
            with opener(self._cafile).open(request, timeout=TOKEN_WITHIN_S) as answer:
                return json.loads(answer.read(MAX_TOKEN_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise NoToken(f"{self._server} answered {error.code}{_oauth_error(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or repr(error)
            raise NoToken(f"{self._server}: {reason}: see kafka.sasl_oauth_token_url, sasl_oauth_cafile") from None
        except ValueError:
            raise NoToken(f"{self._server}: found no JSON, expected a token: see kafka.sasl_oauth_token_url") from None

    def _read(self, answer: Any) -> tuple[str, float]:
        """The token, and how many s it lives: 0 where the server does not say, so that it is used once."""
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise NoToken(f"{self._server}: found no access_token in its answer: see kafka.sasl_oauth_token_url")
        try:
            return token, float(answer.get("expires_in") or 0.0)
        except (TypeError, ValueError):
            return token, 0.0


def _oauth_error(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong (RFC 6749, 5.2), and which setting that is."""
    try:
        code = json.loads(error.read(MAX_TOKEN_BYTES))["error"]
    except (OSError, ValueError, http.client.HTTPException, KeyError, TypeError):
        code = None
    said = f" {code}" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,64}", code) else ""
    if code == "invalid_scope":
        return f"{said}: see kafka.sasl_oauth_scope"
    if error.code in (400, 401, 403):
        return f"{said}: see kafka.sasl_oauth_client_id and kafka.sasl_oauth_client_secret"
    return f"{said}: see kafka.sasl_oauth_token_url"
