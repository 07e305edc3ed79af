"""Times as RFC 3339 writes them."""

from datetime import UTC, datetime, timedelta


def rfc3339(time_ms: int) -> str:
    """In UTC, to the millisecond."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds_of(text: str) -> int:
    """The time since 1970. Raises ValueError, also where no offset from UTC is given."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no offset from UTC")
    return round(time.timestamp() * 1000)
