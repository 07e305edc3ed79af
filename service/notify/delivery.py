"""Delivery over HTTP: a receiver, a thread of its own that sends to it, and what waits for it.

What is to be sent is put in a box: nothing here waits for a receiver but its own thread. What a receiver does not take
is tried again, later and later, until it does.
"""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from service.errors import TelltaleError
from service.host.log_lines import Seldom
from service.host.outgoing import login_header, opener
from service.live.status import Notified

ALERTMANAGER, WEBHOOK = "alertmanager", "webhook"
RECEIVERS = (ALERTMANAGER, WEBHOOK)
TIMEOUT_S = 5.0  # for a connection, and for each answer
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
REFUSALS = (400, 413, 415, 422)  # what is wrong with this very message: sent again, it would be refused again
USER_AGENT = "telltale"

logger = structlog.get_logger("telltale.delivery")


def alerts_url(base: str) -> str:
    """Where an Alertmanager takes alerts, given where it is."""
    return f"{base.rstrip('/')}/api/v2/alerts"


class Undelivered(TelltaleError):
    """A receiver could not be reached, or did not take it now: try again."""


class RefusedMessage(TelltaleError):
    """A receiver will never take this message: go on with the next."""


class Letter(NamedTuple):
    """What is sent in one request."""

    body: bytes
    content_type: str
    notifications: int  # that are in it
    content: object = None  # what the box knows it by
    headers: Mapping[str, str] = {}  # beside the receiver's


class Box(Protocol):
    """What waits for one receiver. Filled by any thread, emptied by the receiver's own."""

    def next(self) -> Letter | None:
        """What is to be sent now, the same again until it is settled; None: nothing."""

    def settle(self, letter: Letter) -> None:
        """It was taken, or never will be."""

    def idle_s(self) -> float | None:
        """How long there will be nothing to send, if nothing is put in; None: for ever."""

    @property
    def waiting(self) -> int:
        """Notifications that are not delivered yet."""

    @property
    def pushed_out(self) -> int:
        """Notifications that there was no room for, since the start."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send, and as whom. authorization: the header's value, a secret; None: no login is sent."""

    kind: str  # a metric's label
    url: str
    authorization: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those of every request

    @property
    def name(self) -> str:
        """Without path and query, which may hold a secret."""
        parts = urlsplit(self.url)
        return f"{self.kind} {parts.scheme}://{parts.netloc}"

    def post(self, letter: Letter) -> None:
        """Returns when it was taken. Raises Undelivered and RefusedMessage."""
        headers = {"Content-Type": letter.content_type, "User-Agent": USER_AGENT, **self.headers, **letter.headers}
        if self.authorization is not None:
            headers["Authorization"] = login_header(self.authorization)
        request = urllib.request.Request(self.url, letter.body, headers, method="POST")  # noqa: S310  (http, https: checked)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            with error:
                kind = RefusedMessage if error.code in REFUSALS else Undelivered
                raise kind(f"{self.name} answered {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(f"{self.name}: {getattr(error, 'reason', None) or error!r}") from None


_OPENER = opener()


class EventQueue:
    """Messages in order, one a request. Who fills it looks at what waits before it puts in more."""

    pushed_out = 0

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._letters: deque[Letter] = deque()
        self._lock = threading.Lock()

    def put(self, body: bytes, content: object = None, headers: Mapping[str, str] | None = None) -> None:
        """content: what the letter is known by to who puts it in. headers: of its request."""
        with self._lock:
            self._letters.append(Letter(body, self._content_type, 1, content, headers or {}))

    def next(self) -> Letter | None:
        with self._lock:
            return self._letters[0] if self._letters else None

    def settle(self, letter: Letter) -> None:
        with self._lock:
            if self._letters and self._letters[0] is letter:
                self._letters.popleft()

    def clear(self) -> None:
        with self._lock:
            self._letters.clear()

    def idle_s(self) -> float | None:
        return None

    @property
    def contents(self) -> list[object]:
        """Of all that wait, in order."""
        with self._lock:
            return [letter.content for letter in self._letters]

    @property
    def waiting(self) -> int:
        return len(self._letters)


class Sender:
    """A receiver's thread."""

    def __init__(
        self,
        receiver: Receiver,
        box: Box,
        retry_s: tuple[float, float] = (FIRST_RETRY_S, LAST_RETRY_S),
        post: Callable[[Letter], None] | None = None,
    ) -> None:
        """retry_s: the first pause after a failure, and the longest; each is twice the one before."""
        self.kind = receiver.kind
        self._name = receiver.name
        self._post = post or receiver.post
        self._box = box
        self._retry_s = retry_s
        self._pause_s = retry_s[0]
        self._sent = self._failures = self._refused = 0
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._seldom = Seldom(interval_s=60.0)
        self._thread = threading.Thread(target=self._run, name=f"notify-{receiver.kind}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was put in the box."""
        self._woken.set()

    def stop(self) -> None:
        """Send what waits, each once more, and end; returns at once."""
        self._stopping.set()
        self._woken.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end; a receiver that keeps the thread longer is left alone with it."""
        self._thread.join(timeout_s)
        if self._box.waiting:
            logger.warning("notifications_unsent", receiver=self._name, waiting=self._box.waiting)

    @property
    def notified(self) -> Notified:
        return Notified(self._sent, self._failures, self._refused + self._box.pushed_out, self._box.waiting)

    def _run(self) -> None:
        while True:
            letter = self._box.next()
            if letter is not None:
                if not self._deliver(letter) and self._stopping.is_set():
                    return
            elif self._stopping.is_set():
                return
            else:
                self._woken.wait(self._box.idle_s())
                self._woken.clear()

    def _deliver(self, letter: Letter) -> bool:
        """Whether that is settled; if not, after a pause."""
        try:
            self._post(letter)
        except Undelivered as error:
            self._failures += 1
            self._say("notification_failed", error)
            self._stopping.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, self._retry_s[1])
            return False
        except RefusedMessage as error:
            self._failures += 1
            self._refused += letter.notifications
            self._say("notification_refused", error)
        else:
            self._sent += letter.notifications
        self._pause_s = self._retry_s[0]
        self._box.settle(letter)
        return True

    def _say(self, event: str, error: TelltaleError) -> None:
        held_back = self._seldom.pass_on(event)
        if held_back is not None:
            logger.warning(event, reason=str(error), waiting=self._box.waiting, more_since_last=held_back)


def join_all(senders: Sequence[Sender], within_s: float) -> None:
    """Let all of them end side by side, in that many seconds altogether."""
    ends_s = time.monotonic() + within_s
    for sender in senders:
        sender.stop()
    for sender in senders:
        sender.join(max(0.0, ends_s - time.monotonic()))
