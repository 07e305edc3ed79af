"""The rows of the suite: what is played, how often in CI and how often by `make faults`."""

import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.faults import apart, incidents, kills, load, outages, pausing, promoting, rekeying
from tests.faults.broker import OwnBroker
from tests.faults.figures import Cast, Figures
from tests.faults.oracle import Differences

ROLES = {
    **{name: f"tests.faults.{name}" for name in ("worker", "oracle", "schedules", "pages")},
    "rekey": "tests.faults.rekeying",
    "incidents": "tests.faults.incidents",
}
"""What a child of the cast's nursery may be."""

Play = Callable[[Cast], Figures]


class Row(NamedTuple):
    """A row; `ci` and `full` play it in the two sizes."""

    ci: Play
    full: Play


def _kills(alone: int, together: int) -> Play:
    """Half of the time one worker, half of it three."""

    def play(cast: Cast) -> Figures:
        return _added(
            "kill -9, 1 and 3 workers",
            [lambda: kills.kills(cast, alone, 1), lambda: kills.kills(cast._replace(seed=cast.seed + 1), together, 3)],
        )

    return play


def _halves(row: Callable[[Cast, int], Figures], count: int) -> Play:
    """Two scenes at the same time: most of what a fault costs is waiting."""

    def play(cast: Cast) -> Figures:
        casts = [cast, cast._replace(seed=cast.seed + 1)]
        counts = [count - count // 2, count // 2]
        return _added("", [partial(row, one, n) for one, n in zip(casts, counts, strict=True)])

    return play


def _outages(count: int) -> Play:
    """The ways between are broken all at the same time; the broker, another one, meanwhile in one way after another."""

    def play(cast: Cast) -> Figures:
        def at_the_broker() -> Figures:
            with OwnBroker() as own:
                mine = cast._replace(broker=own.broker)
                return _joined("", [outages.at_the_broker(own, mine, kind, count) for kind in outages.AT_THE_BROKER])

        ways = [partial(outages.on_the_way, cast, kind, count) for kind in outages.ON_THE_WAY]
        return _added("broker and network, 8 kinds", [at_the_broker, *ways])

    return play


def _terminations(count: int, alone: int, hung: int) -> Play:
    """Under load and cut off on the suite's broker; on another one that stands still meanwhile."""

    def play(cast: Cast) -> Figures:
        def hanging() -> Figures:
            with OwnBroker() as own:
                return outages.hung_terminations(own, cast._replace(broker=own.broker), hung)

        return _added(
            "SIGTERM: load, cut off, broker stopped", [lambda: outages.terminations(cast, count, alone), hanging]
        )

    return play


def _rekeying(kind: str) -> Row:
    return Row(lambda cast: rekeying.kills(cast, 8, kind), lambda cast: rekeying.kills(cast, 200, kind))


def _added(name: str, plays: Iterable[Callable[[], Figures]]) -> Figures:
    """Played at the same time."""
    plays = list(plays)
    with ThreadPoolExecutor(len(plays)) as threads:
        return _joined(name, [one.result() for one in [threads.submit(play) for play in plays]])


def _joined(name: str, found: Iterable[Figures]) -> Figures:
    first, *others = found
    for other in others:
        first.add(other)
    first.row = name or first.row
    return first


ROWS: dict[str, Row] = {
    "kills": Row(_kills(10, 23), _kills(400, 600)),
    "supervised": Row(lambda cast: kills.supervised(cast, 3), lambda cast: kills.supervised(cast, 100)),
    "recovery": Row(lambda cast: kills.kills_in_recovery(cast, 3), _halves(kills.kills_in_recovery, 30)),
    "stops": Row(lambda cast: kills.stops(cast, 8), _halves(kills.stops, 200)),
    "control": Row(lambda cast: kills.stops(cast, 8, control=True), lambda cast: kills.stops(cast, 20, control=True)),
    "members": Row(lambda cast: load.members(cast, 10), lambda cast: load.members(cast, 200)),
    "outages": Row(_outages(1), _outages(10)),
    "late-end": Row(
        lambda cast: outages.late_end_of_transaction(cast, 4), _halves(outages.late_end_of_transaction, 100)
    ),
    "sigterm": Row(_terminations(4, 1, 5), _terminations(40, 10, 20)),
    "pauses": Row(lambda cast: pausing.kills(cast, 12), lambda cast: pausing.kills(cast, 200)),
    "promotions": Row(lambda cast: promoting.kills(cast, 10), lambda cast: promoting.kills(cast, 200)),
    "incidents": Row(lambda cast: incidents.kills(cast, 10), lambda cast: incidents.kills(cast, 200)),
    "pages": Row(lambda cast: apart.pages(cast, 100), lambda cast: apart.pages(cast, 1_000)),
    "new-keys": Row(lambda cast: load.new_keys(cast, 300_000), lambda cast: load.new_keys(cast, 1_000_000)),
    "many-readings": Row(
        lambda cast: apart.schedules(cast, 6, 600, many=True),
        lambda cast: apart.schedules(cast, 50, 5_000, many=True),
    ),
    "rekey": _rekeying("keyed"),
    "join": _rekeying("joined"),
    "births": _rekeying("sparkplug"),
    "schedules": Row(lambda cast: apart.schedules(cast, 10, 4_000), lambda cast: apart.schedules(cast, 50, 20_000)),
}


def play(name: str, cast: Cast, *, full: bool) -> Figures:
    """One row, with how long it took."""
    began = time.monotonic()
    row = ROWS[name]
    try:
        figures = (row.full if full else row.ci)(cast)
    except Exception as error:  # a row that could not be played to its end has failed; the others are still played
        traceback.print_exc()
        figures = Figures(name, 0, 0, Differences(), failures=[f"{type(error).__name__}: {error}"])
    figures.seconds = time.monotonic() - began
    return figures
