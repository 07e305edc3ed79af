"""The process that looks back: what it answers, and that it ends when no one waits for it or it takes too long."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

import msgspec
import psutil
import pytest

from service.errors import RefusedInput
from service.http import past_process
from service.http.past_process import PastProcess, PastQuestion, Tell
from service.live.watching import TooMuchAsked

WITHIN_S = 60.0


def look_back(question: PastQuestion, tell: Tell) -> None:
    """Does what the question's stream says."""
    tell("progress", {"pid": os.getpid(), "nice": os.nice(0)})
    if question.stream == "hangs":
        time.sleep(600)  # until it is killed
    if question.stream == "dies":
        os._exit(7)
    if question.stream == "refused":
        raise RefusedInput("no such stream")
    tell("past", {"stream": question.stream, "much": "x" * question.readings})


@pytest.fixture
def process() -> Iterator[PastProcess]:
    one = PastProcess(look_back)
    one.start(lambda: None)
    try:
        yield one
    finally:
        one.stop()


def question(stream: str, readings: int = 10) -> PastQuestion:
    return PastQuestion(stream, 1_000, readings)


async def answers(process: PastProcess, asked: PastQuestion) -> list[tuple[str, dict[str, object]]]:
    return [(name, msgspec.json.decode(body)) async for name, body in await process.ask(asked)]


def test_an_answer_of_megabytes_comes_whole_from_a_process_of_the_lowest_priority(process: PastProcess) -> None:
    (_, begun), (name, body) = asyncio.run(answers(process, question("pump", 3_000_000)))
    assert name == "past"
    assert body == {"stream": "pump", "much": "x" * 3_000_000}
    assert begun["nice"] == past_process.LOWEST_PRIORITY
    assert begun["pid"] != os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "reason"), [("refused", "no such stream"), ("dies", past_process.PROCESS_FAILED)])
def test_why_there_is_no_answer_is_said_and_the_next_one_is_answered(
    process: PastProcess, stream: str, reason: str
) -> None:
    async def both() -> tuple[object, object]:
        return (await answers(process, question(stream)))[-1], (await answers(process, question("pump")))[-1][0]

    assert asyncio.run(both()) == (("refused", {"reason": reason}), "past")


def test_an_answer_that_no_one_waits_for_is_ended_and_the_next_begins(process: PastProcess) -> None:
    async def leave_and_ask() -> tuple[int, str]:
        stream = await process.ask(question("hangs"))
        begun = msgspec.json.decode((await first(stream))[1])
        await close(stream)
        return begun["pid"], (await answers(process, question("pump")))[-1][0]

    pid, name = asyncio.run(asyncio.wait_for(leave_and_ask(), WITHIN_S))
    assert name == "past"
    wait_until(lambda: not psutil.pid_exists(pid))


def test_others_wait_for_their_turn_and_only_so_many(process: PastProcess) -> None:
    async def crowd() -> tuple[str, str]:
        begun = await process.ask(question("hangs"))
        await first(begun)
        waiting = [await process.ask(question("pump")) for _ in range(past_process.MOST_WAITING - 1)]
        said = [await first(one) for one in waiting]
        with pytest.raises(TooMuchAsked):
            await process.ask(question("one too many"))
        await close(begun)
        last = [name async for name, _ in waiting[0]][-1]
        for one in waiting[1:]:
            await close(one)
        return said[0][1].decode(), last

    said, last = asyncio.run(asyncio.wait_for(crowd(), WITHIN_S))
    assert msgspec.json.decode(said)["what"] == "turn"
    assert last == "past"


@pytest.mark.slow
def test_an_answer_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_process, "LONGEST_S", 0.2)
    process = PastProcess(look_back)
    process.start(lambda: None)
    try:
        name, body = asyncio.run(asyncio.wait_for(answers(process, question("hangs")), WITHIN_S))[-1]
    finally:
        process.stop()
    assert name == "refused"
    assert "took longer than" in str(body["reason"])


async def first(stream: AsyncIterator[tuple[str, bytes]]) -> tuple[str, bytes]:
    return await anext(stream)


async def close(stream: AsyncIterator[tuple[str, bytes]]) -> None:
    assert isinstance(stream, AsyncGenerator)
    await stream.aclose()


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends
        os.sched_yield()
