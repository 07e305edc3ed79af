"""How a person writes a time."""

import re

from models.data.rfc3339 import milliseconds_of

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def time_ms(text: str) -> int:
    """Milliseconds, or RFC 3339. Raises ValueError."""
    if text.isascii() and text.isdigit():
        return int(text)
    return milliseconds_of(text)


def duration_s(text: str) -> float:
    """A number with its unit: 7d, 12h, 90m. Raises ValueError."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        return float(found[1]) * UNITS_S[found[2]]
    raise ValueError(f"{text!r} is no duration")


def moment_ms(text: str, now_ms: int) -> int:
    """A time before now (7d, 12h, 90m), milliseconds, or RFC 3339. Raises ValueError."""
    try:
        return max(0, now_ms - round(duration_s(text) * 1000))
    except ValueError:
        return time_ms(text)
