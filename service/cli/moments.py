"""How a person writes a time."""

import re

from models.data.rfc3339 import milliseconds_of

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def time_ms(text: str) -> int:
    """Milliseconds, or RFC 3339. Raises ValueError."""
    if text.isascii() and text.isdigit():
        return int(text)
    return milliseconds_of(text)


def moment_ms(text: str, now_ms: int) -> int:
    """A time before now (7d, 12h, 90m), milliseconds, or RFC 3339. Raises ValueError."""
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        return max(0, now_ms - round(float(ago[1]) * UNITS_S[ago[2]] * 1000))
    return time_ms(text)
