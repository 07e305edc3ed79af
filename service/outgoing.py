"""HTTP requests to other services: logins as settings hold them, and no redirects."""

import base64
import ssl
import urllib.request


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
