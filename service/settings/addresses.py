"""Which addresses only this machine reaches, and which host names requests may be for."""

import ipaddress
from collections.abc import Collection

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_for(host: str, more: Collection[str]) -> frozenset[str] | None:
    """The host names that are answered to when listening on `host`, `more` among them; None: all."""
    if is_loopback(host):
        return LOOPBACK | {f"[{host}]" if ":" in host else host} | frozenset(more)
    return frozenset(more) or None
