"""Addresses that open one answer without a token: they are signed with it, and do not hold it.

A picture is fetched by programs that can send no header. Who has its address can see this picture and nothing else.
"""

import hmac

PARAMETER = "&signature="


def signed(path: str, query: str, secret: str) -> str:
    """The address of a path with its query, and what proves that who knows the secret made it."""
    return f"{path}?{query}{PARAMETER}{_signature(path, query, secret)}"


def is_signed(path: str, query: str, secret: str) -> bool:
    """query: as it came, the signature last."""
    before, found, given = query.rpartition(PARAMETER)
    return bool(found) and hmac.compare_digest(given.encode(), _signature(path, before, secret).encode())


def _signature(path: str, query: str, secret: str) -> str:
    return hmac.digest(secret.encode(), f"{path}?{query}".encode(), "sha256").hex()
