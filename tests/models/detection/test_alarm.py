from collections.abc import Sequence

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.detection.alarm import AlarmConfig, Change, OpenedBy, Severity, is_restless, step
from models.detection.rows import SCALARS, Channels, Scalars
from tests.data import fresh_columns

CONFIG = AlarmConfig(close_below=0.5, close_after=3, rest=4, adopt_after=10, relearn=6)


class Streams:
    """Some streams' alarms, and what has been done to them. Reading n comes at n seconds, with offset 100 + n."""

    def __init__(self, streams: int = 1, config: AlarmConfig = CONFIG) -> None:
        self.config = config
        self.channels: Channels[Doubles]
        self.scalars: Scalars[Doubles]
        self.channels, self.scalars = fresh_columns(streams).views()
        self.seen = 0
        self.changes: list[list[Change]] = []
        self.learned: list[list[bool]] = []
        self.open: list[list[bool]] = []

    def take(
        self, scores: Sequence[Sequence[float]], value: float = 0.0, furthest: OpenedBy = OpenedBy.PREDICTION
    ) -> None:
        """scores: (T, S)."""
        for wave in np.array(scores, dtype=np.float64):
            many = len(wave)
            now = step(
                wave,
                np.full(many, int(furthest)),
                np.full((many, 1), value),
                np.full(many, self.seen * 1_000.0),
                np.full(many, 100.0 + self.seen),
                self.channels,
                self.scalars,
                self.config,
            )
            self.seen += 1
            self.changes.append([Change(change) for change in now.change.tolist()])
            self.learned.append([learns == 1.0 for learns in now.learns.tolist()])
            self.open.append([is_open > 0 for is_open in self.scalars.alarm.tolist()])


def one_stream(scores: Sequence[float], config: AlarmConfig = CONFIG) -> Streams:
    streams = Streams(config=config)
    streams.take([[score] for score in scores])
    return streams


def changes(streams: Streams) -> list[tuple[int, Change]]:
    return [(n, wave[0]) for n, wave in enumerate(streams.changes) if wave[0] != Change.NONE]


def test_low_scores_change_nothing_and_are_learned() -> None:
    streams = one_stream([0.0, 0.3, 0.99] * 9)
    assert changes(streams) == []
    assert all(learned == [True] for learned in streams.learned)
    assert not is_restless(streams.scalars)


def test_an_alarm_opens_at_1_and_remembers_where() -> None:
    streams = Streams()
    streams.take([[0.2], [0.9]])
    streams.take([[1.0]], furthest=OpenedBy.RANGE)
    assert changes(streams) == [(2, Change.OPENED)]
    scalars = streams.scalars
    assert (scalars.opened_offset[0], scalars.opened_ms[0], scalars.opened_by[0]) == (102, 2_000, OpenedBy.RANGE)
    assert (scalars.length[0], scalars.peak[0], scalars.quiet[0]) == (1, 1.0, 0)
    assert is_restless(scalars)


def test_it_closes_after_calm_readings_in_a_row() -> None:
    streams = one_stream([2.0, 0.1, 0.1, 0.6, 0.1, 0.1, 0.49, 0.1])
    assert changes(streams) == [(0, Change.OPENED), (6, Change.RECOVERED)]
    assert [is_open[0] for is_open in streams.open] == [True] * 6 + [False] * 2


def test_the_lower_bound_itself_is_not_calm() -> None:
    assert changes(one_stream([1.0, 0.5, 0.5, 0.5, 0.5])) == [(0, Change.OPENED)]


def test_between_the_bounds_it_neither_opens_nor_closes() -> None:
    assert changes(one_stream([0.7] * 30)) == []
    assert changes(one_stream([1.0] + [0.7] * 8)) == [(0, Change.OPENED)]


def test_none_opens_while_it_rests() -> None:
    streams = one_stream([1.0, 0, 0, 0] + [5.0] * 6)
    assert changes(streams) == [(0, Change.OPENED), (3, Change.RECOVERED), (3 + CONFIG.rest + 1, Change.OPENED)]


def test_open_alarms_and_high_scores_teach_nothing() -> None:
    streams = one_stream([0.1, 3.0, 0.1, 0.1, 0.1, 0.1, 2.0, 0.1])
    assert [learned[0] for learned in streams.learned] == [True, False, False, False, False, True, False, True]


def test_what_lasts_is_closed_as_a_level_shift_and_learned_whatever_its_score() -> None:
    streams = one_stream([2.5] * 30)
    closed = CONFIG.adopt_after - 1
    assert changes(streams)[:3] == [
        (0, Change.OPENED),
        (closed, Change.LEVEL_SHIFT),
        (closed + CONFIG.relearn + 1, Change.OPENED),
    ]
    learned = [n for n, wave in enumerate(streams.learned) if wave[0]]
    assert learned[: CONFIG.relearn] == list(range(closed + 1, closed + 1 + CONFIG.relearn))
    assert closed + CONFIG.relearn + 1 not in learned


def test_calm_readings_at_the_very_end_recover_it_instead() -> None:
    streams = one_stream([2.0] * (CONFIG.adopt_after - CONFIG.close_after) + [0.1] * CONFIG.close_after)
    assert changes(streams)[-1] == (CONFIG.adopt_after - 1, Change.RECOVERED)


def test_the_level_is_the_mean_of_the_readings_since_it_opened() -> None:
    streams = Streams()
    streams.take([[0.1]], value=1_000.0)
    values = [3.0, 8.0, -2.0, 7.0]
    for value in values:
        streams.take([[2.0]], value=value)
    assert streams.channels.mean_in_alarm[0, 0] == pytest.approx(np.mean(values))
    streams.take([[0.1]] * 8, value=0.0)
    streams.take([[2.0]], value=40.0)
    assert streams.channels.mean_in_alarm[0, 0] == 40, "the next alarm's level is its own"


@pytest.mark.parametrize(
    ("score", "severity"),
    [
        (1.0, Severity.MINOR),
        (1.99, Severity.MINOR),
        (2.0, Severity.MAJOR),
        (4.0, Severity.CRITICAL),
        (9, Severity.CRITICAL),
    ],
)
def test_severity_is_that_of_the_peak(score: float, severity: Severity) -> None:
    assert one_stream([score]).scalars.severity[0] == severity
    assert one_stream([score, 1.0, 0.6]).scalars.severity[0] == severity


def test_only_what_becomes_more_severe_is_an_update() -> None:
    streams = one_stream([1.0, 1.5, 2.0, 3.9, 1.0, 4.0, 8.0])
    assert changes(streams) == [(0, Change.OPENED), (2, Change.UPDATED), (5, Change.UPDATED)]
    assert streams.scalars.peak[0] == 8.0


def test_a_new_alarm_starts_from_its_own_peak() -> None:
    streams = one_stream([8.0, 0, 0, 0, 0, 0, 0, 0, 1.1])
    assert changes(streams)[-1] == (8, Change.OPENED)
    assert (streams.scalars.peak[0], streams.scalars.severity[0], streams.scalars.length[0]) == (1.1, Severity.MINOR, 1)


def test_streams_in_one_wave_do_as_each_would_alone() -> None:
    random = np.random.default_rng(5)
    scores = np.where(random.random((400, 6)) < 0.15, random.uniform(1, 6, (400, 6)), random.uniform(0, 1, (400, 6)))
    scores[100:130, 2] = 3.0
    together = Streams(6)
    together.take(scores.tolist())
    for stream in range(6):
        own = one_stream(scores[:, stream].tolist())
        assert [wave[stream] for wave in together.changes] == [wave[0] for wave in own.changes]
        assert [wave[stream] for wave in together.learned] == [wave[0] for wave in own.learned]
        for name, found, expected in zip(SCALARS.names, together.scalars, own.scalars, strict=True):
            assert found[stream] == expected[0], name


def test_streams_at_rest_or_relearning_are_restless() -> None:
    streams = one_stream([1.0, 0, 0, 0])
    assert is_restless(streams.scalars)
    streams.take([[0.0]] * CONFIG.rest)
    assert not is_restless(streams.scalars)
    streams.take([[2.0]] * CONFIG.adopt_after)
    assert streams.scalars.alarm[0] == 0
    assert is_restless(streams.scalars)
    streams.take([[0.0]] * CONFIG.relearn)
    assert not is_restless(streams.scalars)
