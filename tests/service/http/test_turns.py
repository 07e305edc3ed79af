"""Whose turn it is: clocks are told here, requests are real tasks."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from service.http import turns
from service.http.turns import AT_ONCE, BURST_S, LONGEST_PAUSE_S, MOST_WAITING, Brake, Share, Turns
from service.live.watching import NotNow

WITHIN_S = 20.0


class Clocks:
    """What has passed, and what of it the processor worked."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.used_s = 50.0

    def share(self, share: float, burst_s: float = BURST_S) -> Share:
        return Share(share, burst_s, lambda: self.used_s, lambda: self.now_s)

    def work(self, seconds: float, idle_s: float = 0.0) -> None:
        self.used_s += seconds
        self.now_s += seconds + idle_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, WITHIN_S))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


class Asking:
    """Requests, and in which order they had their turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.had: list[str] = []
        self.refused: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, address: str) -> None:
        waiting, done = self._turns.waiting, len(self.had) + len(self.refused)
        self._tasks.append(asyncio.create_task(self._take(address)))
        await until(lambda: self._turns.waiting > waiting or len(self.had) + len(self.refused) > done)

    def count(self, number: int) -> bool:
        return len(self.had) >= number

    async def _take(self, address: str) -> None:
        try:
            await self._turns.take(address)
        except NotNow:
            self.refused.append(address)
        else:
            self.had.append(address)


def test_what_is_saved_and_what_is_owed_are_bounded(clocks: Clocks) -> None:
    share = clocks.share(0.1, burst_s=2.0)
    assert share.left_s() == pytest.approx(2.0)
    clocks.now_s += 1_000
    assert share.left_s() == pytest.approx(2.0)
    clocks.work(1.5, idle_s=3.5)
    assert share.left_s() == pytest.approx(1.0)
    clocks.work(500)
    assert share.left_s() == pytest.approx(-2.0)
    assert share.wait_s() == pytest.approx(20.0)
    clocks.now_s += 20.1
    assert share.left_s() > 0
    assert share.wait_s() == 0


def test_anyone_who_works_whenever_there_is_something_left_takes_the_share_and_no_more(clocks: Clocks) -> None:
    share = clocks.share(0.05)
    began_s, used_s = clocks.now_s, clocks.used_s
    while clocks.now_s < began_s + 1_000:
        if share.left_s() > 0:
            clocks.work(0.2)
        else:
            clocks.now_s += 0.01
    assert (clocks.used_s - used_s - BURST_S) / 1_000 == pytest.approx(0.05, abs=0.001)


def test_requests_are_answered_as_they_come_while_there_is_something_left(clocks: Clocks) -> None:
    async def test() -> None:
        asking = Asking(Turns(clocks.share(0.1)))
        for _ in range(AT_ONCE):
            await asking.ask("a")
        assert asking.had == ["a"] * AT_ONCE

    run(test())


def test_no_more_are_answered_side_by_side_than_may(clocks: Clocks) -> None:
    async def test() -> None:
        in_turn = Turns(clocks.share(0.1))
        asking = Asking(in_turn)
        for _ in range(AT_ONCE + 1):
            await asking.ask("a")
        assert (len(asking.had), in_turn.waiting) == (AT_ONCE, 1)
        in_turn.give_back()
        await until(lambda: len(asking.had) == AT_ONCE + 1)

    run(test())


def test_when_the_share_is_used_up_addresses_are_served_in_turn(clocks: Clocks) -> None:
    async def test() -> None:
        in_turn = Turns(clocks.share(0.1))
        asking = Asking(in_turn)
        clocks.work(2 * BURST_S)
        for address in ("a", "a", "a", "b", "c", "b"):
            await asking.ask(address)
        assert (asking.had, in_turn.waiting) == ([], 6)
        clocks.now_s += 100
        for answered in range(1, 6):
            await until(partial(asking.count, answered))
            in_turn.give_back()
        await until(lambda: len(asking.had) == 6)
        assert asking.had == ["a", "b", "c", "a", "b", "a"]

    run(test())


def test_where_all_places_are_taken_the_longest_line_makes_room(clocks: Clocks) -> None:
    async def test() -> None:
        in_turn = Turns(clocks.share(0.1))
        asking = Asking(in_turn)
        clocks.work(2 * BURST_S)
        for _ in range(MOST_WAITING):
            await asking.ask("many")
        await asking.ask("many")
        assert asking.refused == ["many"]
        await asking.ask("one")
        await until(lambda: len(asking.refused) == 2)
        assert (asking.refused, in_turn.waiting) == (["many", "many"], MOST_WAITING)
        clocks.now_s += 100
        await until(lambda: "one" in asking.had)

    run(test())


def test_a_line_that_does_not_move_is_left(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 0.05)

    async def test() -> None:
        in_turn = Turns(clocks.share(0.1))
        clocks.work(2 * BURST_S)
        with pytest.raises(NotNow, match="HTTP takes 10 % of one processor"):
            await in_turn.take("a")
        assert in_turn.waiting == 0
        clocks.now_s += 100
        for _ in range(AT_ONCE):
            await in_turn.take("a")  # no one kept a turn that he did not get

    run(test())


def test_without_a_share_no_one_waits_for_the_processor(clocks: Clocks) -> None:
    async def test() -> None:
        in_turn = Turns()
        clocks.work(1_000)
        await in_turn.take("a")

    run(test())


def test_a_process_that_takes_far_too_much_is_held_back(clocks: Clocks) -> None:
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        clocks.now_s += seconds

    brake = Brake(clocks.share(0.25), pause)
    brake()
    assert paused == []
    began_s, used_s = clocks.now_s, clocks.used_s
    while clocks.now_s < began_s + 1_000:
        clocks.work(0.05)
        brake()
    assert max(paused) <= LONGEST_PAUSE_S
    assert (clocks.used_s - used_s) / 1_000 == pytest.approx(0.25, abs=0.01)
