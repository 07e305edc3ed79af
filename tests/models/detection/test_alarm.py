import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.detection.alarm import AlarmConfig, Change, OpenedBy, Severity
from models.detection.records import Scores
from tests.models.detection.interpreted import ALARM_STEP, OneStream

CONFIG = AlarmConfig(close_below=0.5, close_after=3, rest=4, adopt_after=10, relearn=6)


class Alarm:
    """One stream's alarm, and what has been done to it. Reading n comes at n seconds, with offset 100 + n."""

    def __init__(self, config: AlarmConfig = CONFIG) -> None:
        self.one = OneStream(alarm=config)
        self.row, self.channel = self.one.stream, self.one.channels[0]
        self.changes: list[Change] = []
        self.learned: list[bool] = []
        self.updated_baseline: list[bool] = []
        self.open: list[bool] = []
        self.paused = False

    def take(
        self,
        scores: Sequence[float],
        value: float = 0.0,
        furthest: OpenedBy = OpenedBy.PREDICTION,
        times_as_rare: float = 1.0,
    ) -> None:
        """Scores of witnesses that smooth, unless `furthest` is one that does not."""
        for score in scores:
            sharp = score if furthest >= OpenedBy.RANGE else 0.0
            self.one.looks[0].value = value
            seen = len(self.changes)
            of = Scores(score, sharp, 1.0, (0.0,) * 4, (0.0,) * 5, (0.0,) * 3, int(furthest), math.log(times_as_rare))
            where = 100.0 + seen, seen * 1_000.0
            step = ALARM_STEP.step_alarm(self.row, self.one.scratch, of, *where, self.one.rules, self.paused)
            self.changes.append(step.change)
            self.learned.append(step.learns == 1.0)
            self.updated_baseline.append(step.updates_baseline == 1.0)
            self.open.append(self.row.alarm > 0)


def one_alarm(scores: Sequence[float], config: AlarmConfig = CONFIG) -> Alarm:
    alarm = Alarm(config)
    alarm.take(scores)
    return alarm


def changes(alarm: Alarm) -> list[tuple[int, Change]]:
    return [(n, change) for n, change in enumerate(alarm.changes) if change != Change.NONE]


def test_low_scores_change_nothing_and_are_learned() -> None:
    alarm = one_alarm([0.0, 0.3, 0.99] * 9)
    assert changes(alarm) == []
    assert all(alarm.learned)
    assert all(alarm.updated_baseline)
    assert (alarm.row.alarm, alarm.row.rest) == (0, 0)


def test_an_alarm_opens_at_1_and_remembers_where() -> None:
    alarm = Alarm()
    alarm.take([0.2, 0.9])
    alarm.take([1.0], furthest=OpenedBy.RANGE)
    assert changes(alarm) == [(2, Change.OPENED)]
    row = alarm.row
    assert (row.opened_offset, row.opened_ms, row.opened_by) == (102, 2_000, OpenedBy.RANGE)
    assert (row.length, row.peak, row.rest) == (1, 1.0, 0)


def test_it_closes_after_calm_readings_in_a_row() -> None:
    alarm = one_alarm([2.0, 0.1, 0.1, 0.6, 0.1, 0.1, 0.49, 0.1])
    assert changes(alarm) == [(0, Change.OPENED), (6, Change.RECOVERED)]
    assert alarm.open == [True] * 6 + [False] * 2


def test_the_lower_bound_itself_is_not_calm() -> None:
    assert changes(one_alarm([1.0, 0.5, 0.5, 0.5, 0.5])) == [(0, Change.OPENED)]


def test_between_the_bounds_it_neither_opens_nor_closes() -> None:
    assert changes(one_alarm([0.7] * 30)) == []
    assert changes(one_alarm([1.0] + [0.7] * 8)) == [(0, Change.OPENED)]


def test_none_opens_while_it_rests() -> None:
    alarm = one_alarm([1.0, 0, 0, 0] + [5.0] * 6)
    assert changes(alarm) == [(0, Change.OPENED), (3, Change.RECOVERED), (3 + CONFIG.rest + 1, Change.OPENED)]


def test_open_alarms_and_high_scores_teach_nothing() -> None:
    alarm = one_alarm([0.1, 3.0, 0.1, 0.1, 0.1, 0.1, 2.0, 0.1])
    assert alarm.learned == [True, False, False, False, False, True, False, True]


def test_the_baseline_learns_from_the_first_readings_of_an_alarm_alone() -> None:
    alarm = one_alarm([0.1] + [3.0] * 6, AlarmConfig(learn_first=4))
    assert alarm.updated_baseline == [True] * 5 + [False] * 2


def test_what_lasts_is_closed_as_a_level_shift_and_learned_whatever_its_score() -> None:
    alarm = one_alarm([2.5] * 30)
    closed = CONFIG.adopt_after - 1
    assert changes(alarm)[:3] == [
        (0, Change.OPENED),
        (closed, Change.LEVEL_SHIFT),
        (closed + CONFIG.relearn + 1, Change.OPENED),
    ]
    learned = [n for n, learns in enumerate(alarm.learned) if learns]
    assert learned[: CONFIG.relearn] == list(range(closed + 1, closed + 1 + CONFIG.relearn))
    assert closed + CONFIG.relearn + 1 not in learned


@pytest.mark.parametrize(("known_s", "closed"), [(1_000.0, 30), (10.0, 20)])
def test_what_lasts_must_last_in_event_time_too_at_most_twice_as_long_as_was_known(known_s: float, closed: int) -> None:
    alarm = Alarm(replace(CONFIG, adopt_days=30 / 86_400))
    for n in range(closed + 1):
        alarm.row.days = (known_s + n) / 86_400  # the judge counts them
        alarm.take([2.5])
    assert changes(alarm) == [(0, Change.OPENED), (closed, Change.LEVEL_SHIFT)]


def test_calm_readings_at_the_very_end_recover_it_instead() -> None:
    alarm = one_alarm([2.0] * (CONFIG.adopt_after - CONFIG.close_after) + [0.1] * CONFIG.close_after)
    assert changes(alarm)[-1] == (CONFIG.adopt_after - 1, Change.RECOVERED)


def test_the_level_is_the_mean_of_the_readings_since_it_opened() -> None:
    alarm = Alarm()
    alarm.take([0.1], value=1_000.0)
    values = [3.0, 8.0, -2.0, 7.0]
    for value in values:
        alarm.take([2.0], value=value)
    assert alarm.channel.mean_in_alarm == pytest.approx(np.mean(values))
    alarm.take([0.1] * 8, value=0.0)
    alarm.take([2.0], value=40.0)
    assert alarm.channel.mean_in_alarm == 40, "the next alarm's level is its own"


@pytest.mark.parametrize(
    ("times_as_rare", "severity"),
    [
        (1.0, Severity.MINOR),
        (9.9, Severity.MINOR),
        (10.0, Severity.MAJOR),
        (999.0, Severity.MAJOR),
        (1e3, Severity.CRITICAL),
        (1e9, Severity.CRITICAL),
    ],
)
def test_severity_is_that_of_the_rarest_reading_whatever_the_score(times_as_rare: float, severity: Severity) -> None:
    alarm = Alarm()
    alarm.take([1.5], times_as_rare=times_as_rare)
    assert alarm.row.alarm == 1 + severity
    alarm.take([9.0, 0.6])
    assert alarm.row.alarm == 1 + severity


def test_only_what_becomes_more_severe_is_an_update() -> None:
    alarm = Alarm()
    for times_as_rare in (1.0, 9.0, 10.0, 900.0, 1.0, 1e3, 1e6):
        alarm.take([2.0], times_as_rare=times_as_rare)
    assert changes(alarm) == [(0, Change.OPENED), (2, Change.UPDATED), (5, Change.UPDATED)]


def test_a_new_alarm_starts_from_its_own_peak() -> None:
    alarm = Alarm()
    alarm.take([8.0], times_as_rare=1e6)
    alarm.take([0, 0, 0, 0, 0, 0, 0, 1.1])
    assert changes(alarm)[-1] == (8, Change.OPENED)
    assert (alarm.row.peak, alarm.row.alarm, alarm.row.length) == (1.1, 1 + Severity.MINOR, 1)


def test_the_rest_and_the_relearning_run_out() -> None:
    alarm = one_alarm([1.0, 0, 0, 0])
    assert alarm.row.rest == CONFIG.rest
    alarm.take([0.0] * CONFIG.rest)
    assert alarm.row.rest == 0
    alarm.take([2.0] * CONFIG.adopt_after)
    assert (alarm.row.alarm, alarm.row.rest) == (0, -CONFIG.relearn)
    alarm.take([0.0] * CONFIG.relearn)
    assert alarm.row.rest == 0
