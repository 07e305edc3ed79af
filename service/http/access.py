"""Who may ask: the host name that a request is for, and the token that it brings. In front of every answer.

A page of another site can make a browser ask this service, under a name of its own that it lets point here (DNS
rebinding). Such a request names that site as its host: where only this machine is listened to, no other name than this
machine's is answered to. A token travels as a header, never in an address or a cookie: it is in no log and no history,
and no other site's page can let a browser send it. Of a picture in a notification the address is signed with the token:
it opens this picture alone.
"""

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.host.signing import is_signed

PROBES = frozenset({"/livez", "/readyz"})  # asked by what runs the process, under any name, and say little


class Access:
    """Turns away who may not ask, and marks what must not be kept."""

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        names: frozenset[str] | None,
        public: Collection[str],
        signed: Collection[str] = (),
    ) -> None:
        """token: None: anybody may ask. names: see names_for. public: paths that say nothing, and need none.

        signed: paths that a signed address opens, too.
        """
        self._app = app
        self._token = token
        self._signed = frozenset(signed)
        self._names = None if names is None else {name.lower() for name in names}
        self._public = PROBES | frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope))
        await (refused or self._app)(scope, receive, _not_to_be_kept(send))

    def _refusal(self, path: str, query: str, headers: Headers) -> JSONResponse | None:
        if path in PROBES:
            return None
        name = _name(headers.get("host", ""))
        if self._names is not None and name not in self._names:
            reason = f"this service does not answer to the name {name!r}: the setting http.names can add it"
            return JSONResponse({"reason": reason}, 421)
        if self._token is None or path in self._public:
            return None
        if path in self._signed and is_signed(path, query, self._token):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.encode("latin-1"), self._token.encode()):
            return None
        reason = "a token is needed: Authorization: Bearer TOKEN"
        return JSONResponse({"reason": reason}, 401, {"WWW-Authenticate": 'Bearer realm="telltale"'})


def _name(host: str) -> str:
    """The host of a Host header, without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _not_to_be_kept(send: Send) -> Send:
    """Lets no answer be cached that does not say itself how."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
        await send(message)

    return marked
