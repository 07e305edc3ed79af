"""Delivery: what a receiver gets, whatever it answers, and who waits for it."""

import base64
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from service.live.status import Notified
from service.notify.delivery import EventQueue, Letter, Receiver, RefusedMessage, Sender, Undelivered, join_all
from tests.service.receiver import WITHIN_S, listening

SOON = (0.01, 0.05)
LETTER = Letter(b'{"n":1}', "application/cloudevents+json", 1)


@contextmanager
def sending(url: str) -> Iterator[tuple[Sender, EventQueue]]:
    """A sender at work, and what it empties."""
    queue = EventQueue("text/plain")
    sender = Sender(Receiver("webhook", url), queue, SOON)
    sender.start()
    try:
        yield sender, queue
    finally:
        join_all([sender], WITHIN_S)


def put(queue: EventQueue, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        queue.put(body)


def bodies(count: int) -> list[bytes]:
    return [b"event %d" % n for n in range(count)]


def test_a_receiver_gets_the_bytes_their_type_and_the_login() -> None:
    with listening() as receiver:
        Receiver("webhook", f"{receiver.url}/hook?key=1", "Bearer abc").post(LETTER)
        Receiver("webhook", receiver.url, "Basic ann:pass word").post(LETTER)
        Receiver("webhook", receiver.url, "Basic already+encoded==").post(LETTER)
        Receiver("webhook", receiver.url).post(LETTER)
    first, *others = receiver.posted
    assert (first.path, first.body) == ("/hook?key=1", LETTER.body)
    assert first.headers["Content-Type"] == "application/cloudevents+json"
    login = base64.b64encode(b"ann:pass word").decode()
    assert [one.headers["Authorization"] for one in (first, *others)] == [
        "Bearer abc",
        f"Basic {login}",
        "Basic already+encoded==",
        None,
    ]


@pytest.mark.parametrize(
    ("answer", "error"), [(503, Undelivered), (401, Undelivered), (404, Undelivered), (429, Undelivered)]
)
def test_what_may_go_well_another_time_is_to_be_tried_again(answer: int, error: type[Exception]) -> None:
    with listening(answer) as receiver, pytest.raises(error, match=f"answered {answer}"):
        Receiver("webhook", receiver.url).post(LETTER)


@pytest.mark.parametrize("answer", [400, 413, 415, 422])
def test_a_message_that_is_refused_for_what_it_is_is_not_tried_again(answer: int) -> None:
    with listening(answer) as receiver, pytest.raises(RefusedMessage):
        Receiver("webhook", receiver.url).post(LETTER)


def test_a_redirect_is_not_followed_so_that_no_one_else_gets_the_login() -> None:
    with listening(302) as receiver, pytest.raises(Undelivered, match="302"):
        Receiver("webhook", receiver.url, "Bearer abc").post(LETTER)
    assert len(receiver.posted) == 1


def test_no_one_there_and_an_answer_that_is_none_are_failures_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Undelivered, match="refused"):
        Receiver("webhook", f"http://127.0.0.1:{port}").post(LETTER)


def test_an_error_does_not_tell_what_may_be_secret_in_the_path() -> None:
    with listening(500) as receiver, pytest.raises(Undelivered) as failed:
        Receiver("webhook", f"{receiver.url}/services/SECRET?token=SECRET", "Bearer SECRET").post(LETTER)
    assert "SECRET" not in str(failed.value)
    assert receiver.url in str(failed.value)


def test_everything_arrives_once_and_in_order_whatever_fails_meanwhile() -> None:
    with listening(503, 200, 500, 401) as receiver, sending(receiver.url) as (sender, queue):
        put(queue, bodies(10))
        sender.wake()
        assert receiver.until_taken(10) == bodies(10)
    assert sender.notified == Notified(sent=10, failures=3)


def test_what_is_refused_is_dropped_and_counted_and_the_next_goes_on() -> None:
    with listening(400) as receiver, sending(receiver.url) as (sender, queue):
        put(queue, bodies(3))
        sender.wake()
        assert receiver.until_taken(2) == bodies(3)[1:]
    assert sender.notified == Notified(sent=2, failures=1, dropped=1)


def test_pauses_between_attempts_double_up_to_the_longest() -> None:
    pauses: list[float] = []

    def refuse(letter: Letter) -> None:
        raise Undelivered("not now")

    def pause(timeout: float | None = None) -> bool:
        pauses.append(timeout or 0.0)
        return False

    sender = Sender(Receiver("webhook", "http://nowhere"), EventQueue("text/plain"), (1.0, 5.0), refuse)
    sender._stopping.wait = pause  # type: ignore[method-assign]
    for _ in range(5):
        assert not sender._deliver(LETTER)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.slow
def test_stopping_sends_what_waits_and_takes_no_longer_than_it_may() -> None:
    with listening() as receiver, sending(receiver.url) as (sender, queue):
        put(queue, bodies(20))
        join_all([sender], WITHIN_S)
        assert receiver.taken == bodies(20)
    with listening(hang=True) as receiver, sending(receiver.url) as (sender, queue), capture_logs() as logs:
        put(queue, bodies(3))
        sender.wake()
        receiver.until_posted(1)
        began = time.monotonic()
        join_all([sender], 0.2)
        assert time.monotonic() - began < 2.0
        assert [line["waiting"] for line in logs if line["event"] == "notifications_unsent"] == [3]
        receiver.let_go.set()


def test_a_receiver_that_is_down_when_it_stops_is_tried_once_more() -> None:
    with listening(*[503] * 50) as receiver, sending(receiver.url) as (sender, queue):
        put(queue, bodies(1))
        sender.wake()
        receiver.until_posted(1)
        join_all([sender], WITHIN_S)
        assert not sender._thread.is_alive()
    assert sender.notified.waiting == 1
