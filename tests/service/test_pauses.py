"""In quiet times nothing is learned: as people say it, from an offset on, whatever happens to the workers."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from models.data.quiet_time import NEVER, NOW
from models.detection.detector import Detector
from service.input.reading_batch import StreamKey
from service.log.memory_log import Assign, Crash, Fault, Revoke, Topics
from service.log.port import Record
from service.state.changelog import Collected
from service.state.changelog_keys import Origin
from service.state.pauses import Pause, SaidPause, TaskPauses, paused_until, restored_pauses
from tests.data import QUICK, some_forecaster
from tests.service.test_recovery import (
    GROUP,
    P0,
    SELDOM,
    SOON,
    Output,
    Plant,
    Service,
    assert_as_calm,
    calm_after,
    ends,
    sent,
    topics_with,
)

ALL = SaidPause("overhaul", ("stream-*",), until_ms=1 << 50)
SOME = SaidPause("mute", ("stream-[12]",), until_ms=1 << 50)
NIGHTS = SaidPause("nights", ("*",), cron="0 22 * * *", lasts_ms=8 * 3_600_000, time_zone="Europe/Berlin")
ORIGIN = Origin(GROUP, P0)


class People:
    """What they say as time passes: something else every few rounds."""

    def __init__(self, *said: Sequence[SaidPause], rounds: int = 2) -> None:
        self._said, self._rounds, self._asked = said, rounds, 0

    def __call__(self) -> Sequence[SaidPause]:
        self._asked += 1
        return self._said[min(self._asked // self._rounds, len(self._said) - 1)]


@pytest.fixture(scope="module")
def plant() -> Plant:
    return Plant(Detector.cold(some_forecaster(2), QUICK))


@pytest.fixture(scope="module")
def history() -> list[Record]:
    return sent(readings=500, passers_by=100)


def pauses_in(topics: Topics) -> TaskPauses:
    """As the changelog has them."""
    collected = Collected(ORIGIN)
    for record in topics.changelog[P0]:
        collected.add((record.key,), (record.value,))
    return restored_pauses(collected.pauses)


def judged_by(plant: Plant, topics: Topics, pauses: TaskPauses) -> Output:
    """The oracle: one reading a step, by one task that knows from the beginning what was said when."""
    task = plant.task(P0)
    task.pauses = pauses
    return calm_after(plant, topics, task, 0)


def people() -> Callable[[], Sequence[SaidPause]]:
    return People((), (ALL,), (SOME, NIGHTS), (), (SOME,))


@pytest.mark.slow
def test_what_people_say_takes_effect_at_the_offset_that_the_changelog_has(plant: Plant, history: list[Record]) -> None:
    topics = topics_with(history)
    service = Service(plant, topics, pauses=people()).until_idle()
    pauses = pauses_in(topics)
    assert len(pauses.pauses) == 4
    assert [one.from_offset for one in pauses.pauses] == sorted(one.from_offset for one in pauses.pauses)
    judged = judged_by(plant, topics, pauses)
    assert_as_calm(plant, topics, judged)
    assert service.board.read().counts.paused > 50
    assert judged.state != plant.calm(topics).state, "or it would say nothing"


@pytest.mark.slow
@pytest.mark.parametrize("flush_interval_s", [SOON, SELDOM])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", [2, 3, 4])
def test_a_crash_at_any_commit_around_it_changes_nothing(
    plant: Plant, history: list[Record], commit: int, written: bool, flush_interval_s: float
) -> None:
    topics, said = topics_with(history), people()
    again: list[Fault] = [Revoke(2, (P0,)), Assign(3, (P0,)), Crash(4, written)]
    ends(Service(plant, topics, [Crash(commit, written)], flush_interval_s, pauses=said))
    topics.compact()
    ends(Service(plant, topics, again, flush_interval_s, 50, pauses=said))
    Service(plant, topics, (), flush_interval_s, 150, pauses=said).until_idle()
    pauses = pauses_in(topics)
    assert pauses.pauses
    assert_as_calm(plant, topics, judged_by(plant, topics, pauses))


def key(name: str) -> StreamKey:
    return StreamKey(name.encode())


def test_a_pause_counts_for_the_streams_times_and_offsets_it_was_said_of() -> None:
    said = SaidPause("", ("line-3/*",), from_ms=1_000, until_ms=2_000).window()
    keys = [key(name) for name in ("line-3/a", "line-4/a", "line-3/b", "line-3/a", "line-3/a", "line-3/a")]
    times, offsets = np.array([1_000, 1_000, 1_999, 2_000, 999, 1_500]), np.array([10, 11, 12, 13, 14, 15])
    assert paused_until([Pause(said)], keys, times, offsets) is not None
    found = paused_until([Pause(said)], keys, times, offsets)
    assert found is not None
    assert found.tolist() == [NOW, NEVER, NOW, 2_000, NEVER, NOW]
    found = paused_until([Pause(said, 11, 15)], keys, times, offsets)
    assert found is not None
    assert found.tolist() == [NEVER, NEVER, NOW, 2_000, NEVER, NEVER]
    assert paused_until([Pause(said, 0, 10)], keys, times, offsets) is None
    assert paused_until([Pause(said)], [key("line-4/a")] * 6, times, offsets) is None


def test_of_what_is_said_the_changelog_has_what_it_was_and_from_where_on() -> None:
    pauses = TaskPauses()
    first = (ALL,)
    assert pauses.adopt(first, 7, 0, None) == ([ALL], [])
    assert pauses.adopt(first, 8, 0, None) == ([], [])
    assert pauses.adopt((NIGHTS, ALL), 9, 0, None) == ([NIGHTS], [])
    assert pauses.adopt((NIGHTS,), 12, 0, None) == ([], [ALL])
    restored = restored_pauses(pauses.record(ORIGIN).value)
    offsets = [(one.from_offset, one.until_offset) for one in restored.pauses]
    assert offsets == [(one.from_offset, one.until_offset) for one in pauses.pauses] == [(7, 12), (9, None)]
    assert restored.adopt((NIGHTS,), 13, 0, None) == ([], []), "it is said already"


def test_what_was_over_long_before_the_partitions_time_is_not_taken_in() -> None:
    pauses, over = TaskPauses(), SaidPause("over", ("*",), until_ms=1_000)
    assert pauses.adopt((over,), 7, 0, 8 * 86_400_000) == ([], [])
    assert not pauses.is_changed


def test_of_many_the_first_to_end_are_let_go_unless_they_are_to_be_judged_by_again() -> None:
    pauses = TaskPauses()
    for n in range(40):
        pauses.adopt((SaidPause(f"quiet-{n}", ("x" * 9_000,), until_ms=1 << 50),), n, 35, None)
    assert 25 <= len(pauses.pauses) < 40
    assert len(pauses.record(ORIGIN).value or b"") < 300_000
    assert [one.from_offset for one in pauses.pauses][-5:] == [35, 36, 37, 38, 39]
