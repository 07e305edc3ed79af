"""Controls as the page lists them: those that stand on their topic and may still be about something."""

import threading
from collections.abc import Iterable

import msgspec

from models.data.rfc3339 import milliseconds_of
from service.stages.incidents.controls import Control, Quiet
from service.stages.incidents.standing import StandingControls


class ControlSeen(msgspec.Struct, frozen=True):
    """A control, and the id by which it can be taken back."""

    control: str
    given: Control


class ControlsFound(msgspec.Struct, frozen=True):
    """followed: whether the topic is there and is read; found: how many stand, of which `limit` are listed."""

    followed: bool
    may_write: bool  # whether this service takes controls: it has a token
    found: int
    controls: list[ControlSeen]  # the one given last first


class ControlList:
    """Written by the thread that follows the topic and by who gives a control, read by requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followed = False
        self._standing = StandingControls()

    def begin(self) -> None:
        """The topic is read from here on, and what was heard before is of another."""
        with self._lock:
            self._standing = StandingControls()

    def follow(self, followed: bool) -> None:
        self._followed = followed

    def hear(self, keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
        with self._lock:
            self._standing.hear(keys, values)

    def found(self, limit: int, now_ms: int, may_write: bool) -> ControlsFound:
        """Quiet times that have ended are left out."""
        with self._lock:
            held = list(self._standing.held.items())
        standing = [ControlSeen(name, control) for name, control in reversed(held) if not _over(control, now_ms)]
        return ControlsFound(self._followed, may_write, len(standing), standing[:limit])


def _over(control: Control, now_ms: int) -> bool:
    return isinstance(control, Quiet) and control.until is not None and milliseconds_of(control.until) <= now_ms
