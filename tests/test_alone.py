"""Turns: nothing runs beside what is to run alone, and it is not kept waiting for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.alone import Turns

WITHIN_S = 120.0


def test_nothing_runs_beside_what_is_alone_and_everything_gets_its_turn(tmp_path: Path) -> None:
    """Three keep the room busy until the fourth, which wants to be alone, has been in it five times."""
    inside: list[str] = []
    done, busy = threading.Event(), threading.Barrier(4)

    def together(name: str) -> bool:
        met = False
        with closing(Turns(tmp_path)) as turns:
            busy.wait(WITHIN_S)
            while not done.is_set():
                with turns.turn(alone=False):
                    inside.append(name)
                    assert "alone" not in inside
                    met |= len(inside) > 1
                    threading.Event().wait(0.005)
                    inside.remove(name)
        return met

    def alone() -> None:
        with closing(Turns(tmp_path)) as turns:
            busy.wait(WITHIN_S)
            for _ in range(5):
                with turns.turn(alone=True):
                    assert inside == []
                    inside.append("alone")
                    threading.Event().wait(0.02)
                    assert inside == ["alone"]
                    inside.remove("alone")
        done.set()

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(together, name) for name in "abc"]
        last = threads.submit(alone)
        try:
            last.result(WITHIN_S)
        finally:
            done.set()
        assert any(other.result(WITHIN_S) for other in others), "two of the others were never in the room together"


def test_a_process_that_dies_lets_go_of_the_room(tmp_path: Path) -> None:
    with closing(Turns(tmp_path)) as turns:
        dying = Turns(tmp_path)
        dying.turn(alone=True).__enter__()
        dying.close()
        with turns.turn(alone=True):
            pass
