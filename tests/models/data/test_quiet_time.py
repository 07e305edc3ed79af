"""When a quiet time last ended, beside when it holds."""

from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.data.cron import parse_cron
from models.data.patterns import Streams
from models.data.quiet_time import NEVER, NOW, QuietTime
from models.data.time_units import DAY_MS, MINUTE_MS

BEGINS_MS = 1_773_532_800_000  # 2026-03-15T00:00Z: two weeks before clocks are set forward in Berlin
STEP_MS = 17 * MINUTE_MS + 13_131
TIMES = np.arange(BEGINS_MS, BEGINS_MS + 20 * DAY_MS, STEP_MS)
BERLIN = ZoneInfo("Europe/Berlin")

HOUR_MS = 60 * MINUTE_MS
QUIET = {
    "once": QuietTime(Streams(["*"]), "", BEGINS_MS + DAY_MS, BEGINS_MS + 3 * DAY_MS + 1),
    "until": QuietTime(Streams(["*"]), "", None, BEGINS_MS + 3 * DAY_MS),
    "always": QuietTime(Streams(["*"]), ""),
    "nightly": QuietTime(Streams(["*"]), "", cron=parse_cron("30 2 * * *", BERLIN), lasts_ms=90 * MINUTE_MS + 7_000),
    "bounded": QuietTime(
        Streams(["*"]),
        "",
        BEGINS_MS + 2 * DAY_MS + HOUR_MS,
        BEGINS_MS + 9 * DAY_MS + HOUR_MS // 2,
        parse_cron("0 0 * * *", ZoneInfo("UTC")),
        2 * HOUR_MS,
    ),
    "often": QuietTime(Streams(["*"]), "", cron=parse_cron("*/5 * * * *", ZoneInfo("UTC")), lasts_ms=9 * MINUTE_MS),
}


@pytest.mark.parametrize("quiet", QUIET.values(), ids=QUIET.keys())
def test_it_ends_now_exactly_while_it_holds(quiet: QuietTime) -> None:
    held = np.array([quiet.holds("pump", time) for time in TIMES.tolist()])
    assert held.any()
    np.testing.assert_array_equal(quiet.last_ends(TIMES) == NOW, held)


@pytest.mark.parametrize("quiet", QUIET.values(), ids=QUIET.keys())
def test_where_it_does_not_hold_it_held_just_before_its_last_end(quiet: QuietTime) -> None:
    ends = quiet.last_ends(TIMES)
    for time, end in zip(TIMES.tolist(), ends.tolist(), strict=True):
        if end not in (NOW, NEVER):
            assert quiet.holds("pump", int(end) - 1)
            assert not any(quiet.holds("pump", at) for at in range(int(end), time + 1, STEP_MS))
    by_one = np.array([quiet.last_ends(TIMES[n : n + 1])[0] for n in range(0, len(TIMES), 50)])
    np.testing.assert_array_equal(by_one, ends[::50])


def test_before_it_has_been_it_never_ended() -> None:
    assert (QUIET["once"].last_ends(TIMES[:50]) == NEVER).all()
