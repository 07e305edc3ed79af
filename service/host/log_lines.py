"""Log lines: what the process says about itself, one line an event, on stderr.

A line is a JSON object, or text on a terminal: timestamp (RFC 3339, UTC), level, event (snake_case), logger, and the
event's own keys. What libraries log comes the same way as `library_message`. Known secrets are left out, long strings
cut, control characters escaped: what a producer wrote into a record can neither forge a line nor drive a terminal.
(`log` is the port that readings come from; this is the other kind of log.)
"""

import base64
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import structlog
from structlog.stdlib import ProcessorFormatter

MAX_STRING_BYTES = 256
MAX_TRACEBACK_CHARACTERS = 16_384
REDACTED = "[redacted]"
# Below WARNING the Kafka client logs its settings and what it sends, the password among them.
NEVER_BELOW_WARNING = ("kafka",)

Event = MutableMapping[str, Any]
_bound: dict[str, object] = {}


def configure(level: str, form: str, secrets: Sequence[str] = (), stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream` (stderr), from now on and only there.

    level: DEBUG, INFO, WARNING or ERROR. form: json, text, or auto: text if the stream is a terminal. Uncaught
    exceptions become lines too.
    """
    stream = stream or sys.stderr
    as_json = form == "json" or (form == "auto" and not stream.isatty())
    plain = _Plain(secrets)
    shared: list[structlog.typing.Processor] = [
        _with_bound,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    formatter = ProcessorFormatter(
        foreign_pre_chain=[*shared, _as_library_message],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            plain,
            _json_line if as_json else _text_line,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NEVER_BELOW_WARNING:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda uncaught: _log_uncaught(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)


def bind(**values: object) -> None:
    """Let every line of this process have these keys too."""
    _bound.update(values)


def _with_bound(_: object, __: str, event: Event) -> Event:
    return {**event, **_bound}


class Seldom:
    """Lets an event through once an interval for each reason, so that a flood of one cannot hide the others."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval_s = interval_s
        self._clock = clock
        self._held: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def pass_on(self, reason: str) -> int | None:
        """How many were held back since the last that was let through; None: hold this one back too."""
        now = self._clock()
        if now < self._due.get(reason, -math.inf):
            self._held[reason] = self._held.get(reason, 0) + 1
            return None
        self._due[reason] = now + self.interval_s
        return self._held.pop(reason, 0)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    structlog.get_logger("telltale").critical("uncaught_exception", exc_info=(kind, error, traceback))


def _as_library_message(_: object, __: str, event: Event) -> Event:
    return {**event, "event": "library_message", "message": event["event"]}


class _Plain:
    """Makes every value one that can be printed: secrets left out, strings cut."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self.spellings = sorted({s for secret in secrets if secret for s in _spellings(secret)}, key=len, reverse=True)

    def __call__(self, _: object, __: str, event: Event) -> Event:
        traceback = event.pop("exception", None)
        plain = {key: self._value(value) for key, value in event.items()}
        if traceback:
            plain["exception"] = self._redact(str(traceback))[-MAX_TRACEBACK_CHARACTERS:]  # what went wrong is last
        return plain

    def _value(self, value: object) -> object:
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if math.isfinite(value) else str(value)
            case Mapping():
                return {self._text(str(key)): self._value(inner) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(inner) for inner in value]
            case bytes():
                return self._text(value.decode(errors="replace"))
        return self._text(str(value))

    def _text(self, text: str) -> str:
        data = self._redact(text).encode(errors="backslashreplace")
        if len(data) <= MAX_STRING_BYTES:
            return data.decode()
        return data[:MAX_STRING_BYTES].decode(errors="ignore") + f"… ({len(data)} bytes)"

    def _redact(self, text: str) -> str:
        for spelling in self.spellings:
            text = text.replace(spelling, REDACTED)
        return text


def _spellings(secret: str) -> Iterator[str]:
    """The ways in which a secret may turn up in a message."""
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret))
    yield base64.b64encode(secret.encode()).decode()


def _json_line(_: object, __: str, event: Event) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return json.dumps({**first, **event})


def _text_line(_: object, __: str, event: Event) -> str:
    time_of_day, level, name = (str(event.pop(key, "")) for key in ("timestamp", "level", "event"))
    traceback = str(event.pop("exception", ""))
    pairs = [f"{key}={_printable(_brief(value))}" for key, value in event.items()]
    line = " ".join([time_of_day, f"{level.upper():<8}", _printable(name), *pairs])
    return "\n".join([line, *(f"    {_printable(row)}" for row in traceback.splitlines())])


def _brief(value: object) -> str:
    """A value as text; in quotes where it would not be seen to be one."""
    if isinstance(value, str) and value and not set(value) & set(" \"'=\n"):
        return value
    return json.dumps(value, ensure_ascii=False)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
