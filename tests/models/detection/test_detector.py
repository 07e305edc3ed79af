"""What a detector promises. Sizes: N readings in offset order, S streams, F features."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from models.data.arrays import Doubles
from models.data.series import read_series
from models.detection.alarm import Change, OpenedBy, Severity
from models.detection.detector import Detector, DetectorConfig, Readings
from models.detection.kinds import SYMPTOMS, VOTES, Guess
from models.detection.priming import prime
from models.detection.records import BAND_DEVIATIONS, BAND_REACH, LATE_LIMIT, SMALLEST_VARIANCE
from models.detection.rows import Rows, fresh
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from models.training.loop import usable
from tests.data import (
    QUICK,
    Batch,
    Judged,
    batch_of,
    data_folder,
    faulty,
    judge,
    some_forecaster,
    some_kinds,
    some_machines,
    statistics,
)

STREAMS = 12
READINGS = 2_000
KEYS = [f"stream-{n}".encode() for n in range(STREAMS)]
SCALE_CHANNELS = ("known", "mean", "square", "centre", "spread")
BASELINE_CHANNELS = ("residual_mean", "residual_variance", "level_deviation_mean", "level_deviation_variance")
BASELINE_SCALARS = (
    "learned",
    "residual_strength_mean",
    "residual_strength_variance",
    "level_strength_mean",
    "level_strength_variance",
)


def same_bits(one: Tensor, other: Tensor) -> bool:
    as_integers = {torch.float64: torch.int64, torch.float32: torch.int32}
    if one.dtype in as_integers:
        one, other = one.contiguous().view(as_integers[one.dtype]), other.contiguous().view(as_integers[one.dtype])
    return torch.equal(one, other)


def assert_same_rows(one: Rows, other: Rows) -> None:
    for name, found, expected in zip(Rows._fields, one, other, strict=True):
        assert same_bits(found, expected), name


def assert_same(one: Judged, other: Judged) -> None:
    assert one.transitions == other.transitions
    for name, found, expected in zip(Judged._fields[:7], one, other, strict=False):
        assert same_bits(found, expected), name  # type: ignore[arg-type]
    assert_same_rows(one.rows, other.rows)


def of_stream(judged: Judged, batch: Batch, stream: int) -> Judged:
    """What was thought of one stream, as if there were no other."""
    mine = (batch.streams == stream).nonzero().squeeze(1)
    place = {n: k for k, n in enumerate(mine.tolist())}
    own = (replace(one, reading=place[one.reading]) for one in judged.transitions if one.reading in place)
    return judged._replace(
        **{name: getattr(judged, name)[mine] for name in Judged._fields[:7]},
        transitions=tuple(own),
        rows=judged.rows.take(torch.tensor([stream])),
    )


def changes(judged: Judged) -> list[tuple[int, Change]]:
    return [(one.reading, one.change) for one in judged.transitions]


def cold(features: int = 1, config: DetectorConfig = QUICK) -> Detector:
    return Detector.cold(some_forecaster(features), config)


def alone(detector: Detector, values: NDArray[np.float64] | Sequence[float], borders: Sequence[int] = ()) -> Judged:
    """Judge one new stream of evenly spaced readings."""
    return judge(detector, batch_of(values), detector.rows_for([b"alone"]), borders)


def calm(readings: int, seed: int = 0, features: int = 1) -> NDArray[np.float64]:
    """Readings within 96..104: never far outside the range that was seen before."""
    return np.random.default_rng(seed).uniform(96, 104, (readings, features))


def knowing(features: int, layers: int = 1, cell: str = "lstm", *, names_kinds: bool = False) -> Detector:
    """A detector that knows every other stream of `faulty` from before."""
    first = Detector.cold(some_forecaster(features, layers=layers, cell=cell), QUICK)
    if names_kinds:
        first = first.with_kinds(some_kinds(seed=1))
    before = faulty(features, seed=99, readings=600)
    offsets, times_ms, values = before.readings
    before = before._replace(readings=Readings(offsets - 10_000, times_ms - 10**10, values))
    rows = judge(first, before, first.rows_for(KEYS)).rows
    some = torch.arange(0, STREAMS, 2)
    known = {KEYS[n]: k for k, n in enumerate(some.tolist())}
    return Detector(first.forecaster, QUICK, known, rows.take(some), first.kinds)


class Case:
    """A history, and what is thought of it one reading at a time: the oracle."""

    def __init__(self, features: int, *, names_kinds: bool = False) -> None:
        self.detector = knowing(features, names_kinds=names_kinds)
        self.batch = faulty(features, seed=features, readings=READINGS)
        self.rows = self.detector.rows_for(KEYS)
        self.one_by_one = judge(self.detector, self.batch, self.rows, range(1, READINGS))


@pytest.fixture(scope="module", params=[1, 3], ids=["one channel", "three channels"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def named() -> Case:
    """With a head that names kinds, and so with rows that remember symptoms."""
    return Case(3, names_kinds=True)


@pytest.mark.slow
def test_the_history_has_everything_in_it_that_can_go_wrong(case: Case) -> None:
    judged = case.one_by_one
    assert {one.change for one in judged.transitions} >= {Change.OPENED, Change.RECOVERED, Change.LEVEL_SHIFT}
    assert {one.opened_by for one in judged.transitions} >= {OpenedBy.PREDICTION, OpenedBy.RANGE}
    assert judged.late.sum() > LATE_LIMIT
    assert judged.duplicate.sum() > 10
    assert case.batch.readings.values.isnan().any()
    assert judged.expected.isnan().any(), "some streams are new"
    assert len(case.detector.known) == STREAMS // 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 250, 5_000])
def test_batches_of_any_size_are_judged_as_one_reading_at_a_time(case: Case, size: int) -> None:
    assert_same(judge(case.detector, case.batch, case.rows, range(size, READINGS, size)), case.one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "waves"), [(1, 256), (3, 5)])
def test_blocks_of_any_width_and_length_are_judged_as_one_reading_at_a_time(
    case: Case, streams: int, waves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.detection.detector.WIDEST_BLOCK", streams)
    monkeypatch.setattr("models.detection.detector.LONGEST_BLOCK", waves)
    assert_same(judge(case.detector, case.batch, case.rows, [READINGS]), case.one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 5_000])
def test_kinds_are_named_and_symptoms_remembered_alike_in_batches_of_any_size(named: Case, size: int) -> None:
    judged = judge(named.detector, named.batch, named.rows, range(size, READINGS, size))
    assert_same(judged, named.one_by_one)
    guesses = [one.guess for one in judged.transitions]
    assert len({guess.kind for guess in guesses if guess is not None}) > 1
    assert None not in guesses


@pytest.mark.slow
def test_a_head_that_names_kinds_changes_nothing_else(named: Case) -> None:
    without = knowing(3)
    plain = judge(without, named.batch, without.rows_for(KEYS))
    judged = named.one_by_one
    assert [replace(one, guess=None) for one in judged.transitions] == list(plain.transitions)
    for name in Judged._fields[:7]:
        assert same_bits(getattr(judged, name), getattr(plain, name)), name
    channels = judged.rows.channels[:, : -len(SYMPTOMS)]
    scalars = judged.rows.scalars[:, : -len(VOTES)]
    assert_same_rows(judged.rows._replace(channels=channels, scalars=scalars), plain.rows)
    assert judged.rows.symptoms.shape[1] == len(SYMPTOMS)
    assert judged.rows.votes.shape[1] == len(VOTES)


def likely_now(detector: Detector, rows: Rows, stream: int) -> Doubles:
    """What the head says of a stream as its row is."""
    assert detector.kinds is not None
    symptoms = rows.symptoms[stream].numpy()
    return detector.kinds.probabilities(symptoms, rows.hidden[stream, -1].double().numpy())


@pytest.mark.slow
def test_an_open_anomaly_is_named_by_how_it_looks_and_a_closed_one_by_how_it_looked_all_along(named: Case) -> None:
    """All along: at its 1st, 9th, 17th, ... reading and wherever it became more severe, each as much."""
    rows, length = named.rows, [0] * STREAMS
    looked: list[list[Doubles]] = [[] for _ in range(STREAMS)]
    closed = long = faded = 0
    for n, stream in enumerate(named.batch.streams.tolist()):
        judged = judge(named.detector, named.batch.part(torch.tensor([n])), rows)
        rows = judged.rows
        told = judged.transitions[0] if judged.transitions else None
        change = told.change if told else Change.NONE
        if not told and not judged.alarm[0]:  # a reading that is dropped counts for nothing, too
            continue
        if change is Change.OPENED:
            looked[stream], length[stream] = [], 0
        length[stream] += 1
        now = likely_now(named.detector, rows, stream)
        if length[stream] % 8 == 1 or change is Change.UPDATED:
            looked[stream].append(np.round(now, 3))
        if told is None:
            continue
        closes = change in (Change.RECOVERED, Change.LEVEL_SHIFT)
        expected = Guess.of(np.mean(looked[stream], axis=0) if closes else now)
        assert told.guess is not None
        assert told.guess.kind is expected.kind
        assert told.guess.probability == pytest.approx(expected.probability, abs=1.5e-3), (
            "to a step of the last decimal"
        )
        closed += closes
        long += closes and len(looked[stream]) > 2
        faded += closes and Guess.of(now).kind is not expected.kind
    assert closed > 5
    assert long > 0
    assert faded > 0, "some would be named otherwise by how they look when they close"


@pytest.mark.slow
def test_a_stream_with_symptoms_is_judged_as_if_it_were_alone(named: Case) -> None:
    for stream in range(0, STREAMS, 3):
        mine = named.batch.part(named.batch.streams == stream)
        own = named.rows.take(torch.tensor([stream]))
        alone = judge(named.detector, mine._replace(streams=torch.zeros_like(mine.streams)), own)
        assert_same(alone, of_stream(named.one_by_one, named.batch, stream))


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(borders=st.lists(st.integers(1, READINGS - 1), max_size=30, unique=True).map(sorted))
def test_borders_may_fall_anywhere(case: Case, borders: list[int]) -> None:
    assert_same(judge(case.detector, case.batch, case.rows, borders), case.one_by_one)


@pytest.mark.slow
def test_a_stream_is_judged_as_if_it_were_alone(case: Case) -> None:
    for stream in range(STREAMS):
        mine = case.batch.part(case.batch.streams == stream)
        own = judge(
            case.detector,
            mine._replace(streams=torch.zeros_like(mine.streams)),
            case.rows.take(torch.tensor([stream])),
        )
        assert_same(own, of_stream(case.one_by_one, case.batch, stream))


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [3.4e38, -3.4e38, 0.0, float("nan"), 1e-300])
def test_neighbours_do_not_matter_whatever_they_send(case: Case, garbage: float) -> None:
    values = case.batch.readings.values.clone()
    values[case.batch.streams != 2] = garbage
    batch = case.batch._replace(readings=case.batch.readings._replace(values=values))
    judged = judge(case.detector, batch, case.rows, range(500, READINGS, 500))
    assert_same(of_stream(judged, batch, 2), of_stream(case.one_by_one, case.batch, 2))


@pytest.mark.slow
def test_slots_may_be_numbered_in_any_order(case: Case) -> None:
    order = torch.randperm(STREAMS, generator=torch.Generator().manual_seed(3))
    batch = case.batch._replace(streams=order.argsort()[case.batch.streams])
    judged = judge(case.detector, batch, case.rows.take(order), [1_000])
    assert_same(judged._replace(rows=judged.rows.take(order.argsort())), case.one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "layers"),
    [("lstm", 1), ("lstm", 2), ("lstm", 3), ("lstm-peephole", 2), ("gru", 1), ("xlstm", 2), ("feedforward", 1)],
)
def test_a_stream_is_judged_as_if_it_were_alone_whatever_the_net(cell: str, layers: int) -> None:
    detector, batch = knowing(1, layers, cell), faulty(1, seed=5, readings=400)
    rows = detector.rows_for(KEYS)
    together = judge(detector, batch, rows)
    assert_same(judge(detector, batch, rows, range(1, 400)), together)
    assert_same(judge(detector, batch, rows, range(40, 400, 40)), together)


@pytest.mark.slow
def test_the_default_config_is_judged_alike_in_batches_of_any_size() -> None:
    detector, batch = Detector.cold(some_forecaster(2, hidden=64)), faulty(2, seed=8, readings=2_500)
    rows = detector.rows_for(KEYS)
    together = judge(detector, batch, rows)
    assert Change.OPENED in {one.change for one in together.transitions}
    for size in (17, 640):
        assert_same(judge(detector, batch, rows, range(size, 2_500, size)), together)


def some_nab(folder: Path) -> list[Path]:
    names = ("realKnownCause__nyc_taxi", "realTraffic__TravelTime_387", "realTweets__Twitter_volume_AAPL")
    found = [path for name in names if (path := data_folder() / "nab" / f"{name}.parquet").exists()]
    assert len(found) >= 2
    return found


@pytest.mark.slow
@pytest.mark.parametrize("some_files", [some_machines, some_nab], ids=["plant", "nab"])
def test_whole_series_are_judged_alike_in_batches_of_any_size(
    some_files: Callable[[Path], list[Path]], tmp_path: Path
) -> None:
    series = read_series(some_files(tmp_path))
    features = len(series[0].features)
    detector = prime(some_forecaster(features), DetectorConfig(), usable(series))
    readings = 1_500
    rest = [one.select(one.test) for one in series]
    times = np.stack([one.times_ms[:readings] for one in rest], axis=1).ravel()
    values = np.stack([one.values[:readings] for one in rest], axis=1).reshape(-1, features)
    number = torch.arange(len(times))
    batch = Batch(number % len(series), Readings(number, torch.from_numpy(times), torch.from_numpy(values)))
    rows = detector.rows_for([one.key.encode() for one in series])
    together = judge(detector, batch, rows)
    for size in (11, 1_001):
        assert_same(judge(detector, batch, rows, range(size, len(times), size)), together)


@pytest.mark.slow
@pytest.mark.parametrize("after", [100, 1_200, 1_999])
def test_what_comes_later_changes_no_verdict(case: Case, after: int) -> None:
    values, times = case.batch.readings.values.clone(), case.batch.readings.times_ms.clone()
    random = np.random.default_rng(after)
    values[after:] = torch.from_numpy(random.choice([1e30, -7.0, np.nan, 0.0], (READINGS - after, values.shape[1])))
    times[after:] = torch.from_numpy(random.integers(0, 2 * 10**12, READINGS - after))
    batch = case.batch._replace(readings=case.batch.readings._replace(values=values, times_ms=times))
    judged = judge(case.detector, batch, case.rows)
    for name in Judged._fields[:7]:
        assert same_bits(getattr(judged, name)[:after], getattr(case.one_by_one, name)[:after]), name
    before = [one for one in case.one_by_one.transitions if one.reading < after]
    assert [one for one in judged.transitions if one.reading < after] == before


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(place=st.integers(2, 299), value=st.floats(-3.4e38, 3.4e38))
def test_a_reading_does_not_change_its_own_expectation(place: int, value: float) -> None:
    values = calm(300)
    usual = alone(cold(), values)
    values[place] = value
    other = alone(cold(), values)
    for name in ("expected", "lower", "upper"):
        assert same_bits(getattr(other, name)[: place + 1], getattr(usual, name)[: place + 1])


def test_the_band_lies_around_the_expectation_as_wide_as_the_streams_own_errors() -> None:
    detector = cold(2)
    before = alone(detector, calm(300, features=2))
    judged = alone(detector, calm(301, features=2))
    channels, _ = statistics(before.rows)
    half = torch.from_numpy(BAND_DEVIATIONS * channels.band / BAND_REACH * channels.spread)
    torch.testing.assert_close(judged.upper[-1:] - judged.expected[-1:], half)
    torch.testing.assert_close(judged.expected[-1:] - judged.lower[-1:], half)


def test_an_expectation_holds_what_the_net_is_always_off_by() -> None:
    """An untrained net expects no change; on a ramp it is off by one step, reading after reading."""
    values = np.arange(0.0, 600.0, 2.0)
    judged = alone(Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=16)), QUICK), values)
    torch.testing.assert_close(judged.expected[100:, 0], torch.from_numpy(values[100:]), atol=1e-4, rtol=0)
    assert not judged.transitions


@pytest.mark.parametrize("at", [20, 64, 100, 130, 200, 300, 450])
@pytest.mark.parametrize("fault", ["spikes", "stuck", "shift", "dropout"])
def test_a_fault_in_the_first_readings_makes_no_long_alarm_of_what_follows(fault: str, at: int) -> None:
    values = np.random.default_rng(at).normal(50, 1, 2_000)
    after = at + 80
    if fault == "spikes":
        values[at:after:16] += 60
    elif fault == "stuck":
        values[at:after] = values[at]
    elif fault == "shift":
        values[at:after] += 20
    else:
        values[at:after] = 0.0
    judged = alone(cold(config=DetectorConfig()), values)
    assert int(judged.alarm[after:].sum()) <= 192, changes(judged)


def test_nothing_is_scored_while_a_stream_warms_up() -> None:
    values = calm(300)
    warm_up = QUICK.score.warm_up
    values[5:warm_up:3] += 1e6
    judged = alone(cold(), values)
    assert not judged.score[:warm_up].any()
    assert judged.score[warm_up:].gt(0).any()
    assert not any(reading < warm_up for reading, _ in changes(judged))


def test_a_stream_counts_as_warming_until_it_is_scored() -> None:
    detector = cold()
    rows = detector.rows_for([b"alone"])
    assert detector.count_warming(rows) == 0, "it has not been seen"
    for readings in (1, QUICK.score.warm_up - 1, QUICK.score.warm_up):
        assert detector.count_warming(alone(detector, calm(readings)).rows) == 1
    assert detector.count_warming(alone(detector, calm(QUICK.score.warm_up + 1)).rows) == 0


@pytest.mark.parametrize("spike", [25.0, -25.0, 1e12])
def test_a_spike_is_found_at_its_reading(spike: float) -> None:
    values = calm(500, features=3)
    values[400, 1] += spike
    judged = alone(cold(3), values)
    opened = judged.transitions[0]
    assert (opened.reading, opened.change) == (400, Change.OPENED)
    assert opened.score == judged.score[400] >= 1
    assert opened.opened_offset == 400
    assert opened.opened_ms == 400 * 60_000
    assert sum(opened.share) == pytest.approx(1)
    assert np.argmax(opened.share) == 1
    assert not judged.alarm[:400].any()
    assert judged.score[:400].max() < 1


def assert_unmoved(one: Rows, other: Rows, channels: Sequence[str], scalars: Sequence[str]) -> None:
    for now, then, names in zip(statistics(one), statistics(other), (channels, scalars), strict=True):
        for name in names:
            np.testing.assert_array_equal(getattr(now, name), getattr(then, name), err_msg=name)


def test_an_anomaly_that_passes_leaves_no_trace_in_the_scale() -> None:
    detector, values = cold(2), calm(320, features=2)
    values[300:312] += 60
    before = alone(detector, values[:300])
    during = alone(detector, values[:312])
    assert during.alarm[300:].all()
    assert_unmoved(during.rows, before.rows, SCALE_CHANNELS, ())


def test_of_an_anomaly_only_the_first_readings_move_the_baseline() -> None:
    detector, values = cold(2), calm(320, features=2)
    values[300:312] += 60
    before, first, later = (alone(detector, values[:n]) for n in (300, 300 + QUICK.alarm.learn_first, 312))
    assert later.alarm[300:].all()
    assert_unmoved(later.rows, first.rows, BASELINE_CHANNELS, BASELINE_SCALARS)
    for name in ("learned", "residual_strength_mean", "residual_strength_variance"):
        then, now = (float(getattr(statistics(one.rows)[1], name)[0]) for one in (before, first))
        assert now > then, name


def test_a_reading_that_opens_an_alarm_is_not_learned_and_the_one_that_closes_it_neither() -> None:
    detector, values = cold(), calm(330)
    values[300] += 60
    judged = alone(detector, values)
    assert [change for _, change in changes(judged)] == [Change.OPENED, Change.RECOVERED]
    closed = changes(judged)[1][0]
    known = [float(statistics(alone(detector, values[:n]).rows)[0].known[0, 0]) for n in (300, closed, closed + 2)]
    assert known == [300, 300, 301]
    assert not judged.alarm[closed]
    assert judged.alarm[300:closed].all()


def test_an_alarm_closes_after_calm_readings_in_a_row_and_a_sudden_one_opens_while_it_rests() -> None:
    values = calm(400)
    spikes = [300, 303]
    values[spikes] += 200
    judged = alone(cold(), values)
    (opened, _), (closed, change) = changes(judged)
    assert (opened, change) == (300, Change.RECOVERED)
    calm_score = judged.score < QUICK.alarm.close_below
    calm_since = max(n for n in range(300, closed) if not calm_score[n])
    assert closed == calm_since + QUICK.alarm.close_after

    values[closed + 2] += 1_000
    again = alone(cold(), values)
    assert changes(again)[:3] == [(300, Change.OPENED), (closed, Change.RECOVERED), (closed + 2, Change.OPENED)]


def test_a_shift_that_lasts_is_closed_as_one_and_is_normal_after_that() -> None:
    values = calm(1_000)
    values[500:] += 100
    judged = alone(cold(), values)
    closed = 500 + QUICK.alarm.adopt_after - 1
    assert changes(judged)[0] == (500, Change.OPENED)
    assert [one for one in changes(judged) if one[1] in (Change.LEVEL_SHIFT, Change.RECOVERED)] == [
        (closed, Change.LEVEL_SHIFT)
    ]
    assert judged.alarm[500:closed].all()
    assert not judged.alarm[closed:].any()
    settled = closed + QUICK.alarm.relearn + QUICK.score.smooth_readings
    assert judged.score[settled:].max() < 1
    within = (judged.lower[settled:, 0] < 206) & (judged.upper[settled:, 0] > 194)
    assert within.all()


def test_a_shift_is_no_new_normal_before_it_has_lasted_long_enough_and_batches_do_not_matter() -> None:
    """A reading a minute: twice the 500 minutes before it are longer than 0.2 days, 288 minutes."""
    values = calm(1_000)
    values[500:] += 100
    patient = Detector.cold(
        some_forecaster(1), replace(QUICK, alarm=replace(QUICK.alarm, adopt_after=16, adopt_days=0.2))
    )
    judged = alone(patient, values)
    closed = [one for one in changes(judged) if one[1] in (Change.LEVEL_SHIFT, Change.RECOVERED)]
    assert closed == [(500 + 288, Change.LEVEL_SHIFT)]
    batch = batch_of(values)
    in_pieces = judge(patient, batch, patient.rows_for([b"x"]), borders=range(7, 1_000, 7))
    assert_same(in_pieces, judge(patient, batch, patient.rows_for([b"x"])))


def test_a_new_level_is_known_from_its_alarm_on() -> None:
    values = calm(500 + QUICK.alarm.adopt_after)
    values[500:] += 100
    channels, scalars = statistics(alone(cold(), values).rows)
    level = values[500:].mean()
    for name in ("centre", "mean", "low", "high"):
        assert getattr(channels, name)[0, 0] == pytest.approx(level), name
    before, _ = statistics(alone(cold(), values[:500]).rows)
    variance, expected = (one.square[0, 0] / (one.known[0, 0] - 1) for one in (channels, before))
    assert variance == pytest.approx(expected, rel=0.1)
    assert scalars.alarm[0] == 0


def test_where_the_level_opened_an_alarm_the_channels_are_those_that_left_theirs() -> None:
    """A slow drift of one channel, that an expectation of no change follows, and a residual of noise in both."""
    values = calm(600, features=2)
    values[400:, 1] += np.minimum(np.arange(200) * 0.25, 12)
    forecaster = Forecaster(ForecasterConfig(("steady", "drifting"), hidden=16))
    detector = Detector.cold(forecaster, replace(QUICK, score=replace(QUICK.score, range_share=2.0)))
    opened = next(one for one in alone(detector, values).transitions if one.reading >= 400)
    assert opened.opened_by is OpenedBy.LEVEL
    assert opened.share[1] > 0.7


def test_back_at_the_old_level_after_a_shift_is_an_anomaly() -> None:
    values = calm(1_000)
    values[500:800] += 100
    assert (800, Change.OPENED) in changes(alone(cold(), values))


@pytest.mark.slow
def test_a_spike_that_comes_every_day_is_told_on_a_few_days_and_is_normal_then() -> None:
    day, days, bigger = 288, 16, 14
    values = np.random.default_rng(0).normal(50, 1, day * days)[:, None]
    values[2 * day + 100 :: day] += 20
    values[bigger * day + 7] += 100
    detector = Detector.cold(Forecaster(ForecasterConfig(("value",), hidden=16)))
    judged = judge(detector, batch_of(values, step_ms=300_000), detector.rows_for([b"a"]))
    opened = {one.reading // day: one.score for one in judged.transitions if one.change == Change.OPENED}
    assert {2} < opened.keys() <= {2, 3, 4, 5, bigger}, "it is told on its first days, then it is normal"
    assert opened[bigger] > 1, "a spike of another size is not"


def test_an_alarm_that_grows_is_updated_and_never_becomes_milder() -> None:
    detector = cold()
    values = calm(330)
    channels, scalars = statistics(alone(detector, values[:300]).rows)
    width = float((channels.high - channels.low)[0, 0])
    noise = float((channels.spread * np.sqrt(channels.residual_variance + SMALLEST_VARIANCE))[0, 0])
    margin = max(QUICK.score.range_share * width, QUICK.score.range_spreads * noise) * float(scalars.range_threshold[0])
    top = float(channels.high[0, 0])
    for n, score in enumerate((1.6, 1.7, 6.0, 1.1, 50.0, 1.0)):
        values[300 + n] = top + score * margin
    judged = alone(detector, values[:306])
    assert judged.score[300] >= 1
    severities = [(one.change, one.severity) for one in judged.transitions]
    ranks = [severity for _, severity in severities]
    assert severities[0][0] == Change.OPENED
    assert {change for change, _ in severities[1:]} == {Change.UPDATED}
    assert ranks == sorted(set(ranks))
    assert ranks[-1] == Severity.CRITICAL
    peaks = [one.peak for one in judged.transitions]
    assert peaks == [float(judged.score[300 : one.reading + 1].max()) for one in judged.transitions]
    assert {one.opened_offset for one in judged.transitions} == {300}


def test_late_readings_are_dropped_and_change_nothing() -> None:
    detector, batch = cold(), batch_of(calm(300))
    late = torch.tensor([50, 51, 120, 299])
    times, values = batch.readings.times_ms.clone(), batch.readings.values.clone()
    times[late] -= 10 * 60_000
    values[late] = 1e9
    with_late = batch._replace(readings=batch.readings._replace(times_ms=times, values=values))
    on_time = torch.ones(300, dtype=torch.bool)
    on_time[late] = False
    judged = judge(detector, with_late, detector.rows_for([b"alone"]))
    without = judge(detector, with_late.part(on_time), detector.rows_for([b"alone"]))
    assert judged.late.nonzero().squeeze(1).tolist() == late.tolist()
    assert not judged.score[late].any()
    assert judged.expected[late].isnan().all()
    assert same_bits(judged.score[on_time], without.score)
    assert same_bits(judged.expected[on_time], without.expected)
    assert judged.rows.scalar("late_run")[0] == 1
    judged.rows.scalar("late_run")[:] = 0
    assert_same_rows(judged.rows, without.rows)


@pytest.mark.parametrize("borders", [[], [101, 110, 131, 132, 133]])
def test_so_many_late_readings_in_a_row_mean_that_the_clock_was_set_back(borders: list[int]) -> None:
    detector, batch = cold(), batch_of(calm(200))
    times = batch.readings.times_ms.clone()
    times[100:] -= 200 * 60_000 - 10**9
    times[:100] += 10**9
    judged = judge(
        detector, batch._replace(readings=batch.readings._replace(times_ms=times)), detector.rows_for([b"a"]), borders
    )
    assert judged.late.nonzero().squeeze(1).tolist() == list(range(100, 100 + LATE_LIMIT))
    assert statistics(judged.rows)[1].time_ms[0] == times[-1]
    assert judged.expected[100 + LATE_LIMIT :].isfinite().all()


def test_a_reading_in_time_ends_a_run_of_late_ones() -> None:
    detector, batch = cold(), batch_of(calm(200))
    times = batch.readings.times_ms.clone()
    times[100:200] -= 10**9
    times[120] = 121 * 60_000
    times += 2 * 10**9
    judged = judge(
        detector, batch._replace(readings=batch.readings._replace(times_ms=times)), detector.rows_for([b"a"])
    )
    late = [*range(100, 120), *range(121, 121 + LATE_LIMIT)]
    assert judged.late.nonzero().squeeze(1).tolist() == late


def test_duplicates_are_dropped_and_change_nothing() -> None:
    detector, batch = cold(2), batch_of(calm(300, features=2))
    batch.readings.values[70, 1] = torch.nan
    twice = torch.tensor([0, 70, 71, 150, 299]).repeat_interleave(3)
    place = torch.cat([torch.arange(300), twice]).sort().values
    again = batch.part(place)
    first = torch.cat([torch.tensor([True]), place.diff() > 0])
    judged = judge(detector, again, detector.rows_for([b"alone"]))
    once = judge(detector, batch, detector.rows_for([b"alone"]))
    assert torch.equal(judged.duplicate, ~first)
    assert same_bits(judged.score[first], once.score)
    assert_same_rows(judged.rows, once.rows)


def test_other_values_at_the_same_time_are_judged() -> None:
    detector, batch = cold(), batch_of(calm(300))
    times = batch.readings.times_ms.clone()
    times[200] = times[199]
    batch.readings.values[200] = 500.0
    judged = judge(
        detector, batch._replace(readings=batch.readings._replace(times_ms=times)), detector.rows_for([b"a"])
    )
    assert not judged.duplicate.any()
    assert not judged.late.any()
    assert changes(judged)[0] == (200, Change.OPENED)


FLOATS = st.one_of(
    st.floats(-3.4e38, 3.4e38), st.sampled_from([0.0, 1.0, 3.4e38, -3.4e38, 1e-300]), st.just(float("nan"))
)


@settings(max_examples=15, deadline=None)
@given(odd=st.lists(FLOATS, min_size=1, max_size=60), before=st.sampled_from([0, 1, 130]))
def test_whatever_is_read_symptoms_stay_finite_and_kinds_have_a_probability(odd: list[float], before: int) -> None:
    judged = alone(cold().with_kinds(some_kinds()), np.concatenate([calm(before)[:, 0], odd]))
    assert judged.rows.symptoms.isfinite().all()
    assert judged.rows.votes.isfinite().all()
    assert all(one.guess is not None and 1 / 6 < one.guess.probability <= 1 for one in judged.transitions)


@pytest.mark.parametrize("level", [0.0, 7.0, -1e6, 1e30])
def test_a_sensor_that_never_moves_is_silent_until_it_does(level: float) -> None:
    values = np.full(600, level)
    assert alone(cold(), values).score.max() < 1
    values[500:] += max(1.0, abs(level) / 100)
    assert changes(alone(cold(), values))[0] == (500, Change.OPENED)


def with_jumps(places: Sequence[int], height: float, readings: int = 4_000) -> NDArray[np.float64]:
    """A queue of errors that is always empty but at single readings."""
    values = np.zeros(readings)
    values[list(places)] = height
    return values


@pytest.mark.parametrize("first", [300, 2_100])
def test_what_a_sensor_that_never_moved_does_again_and_again_is_soon_normal(first: int) -> None:
    detector = cold(config=DetectorConfig())
    jumps = range(first, 6_000, 130)
    opened = [at for at, change in changes(alone(detector, with_jumps(jumps, 3.0, 6_000))) if change == Change.OPENED]
    assert opened[0] == first
    assert len(opened) <= 3, opened
    assert max(opened) < first + 1_500, opened


def test_a_larger_jump_is_told_beside_those_that_are_normal() -> None:
    values = with_jumps(range(300, 6_000, 130), 3.0, 6_000)
    values[5_400] = 60.0
    opened = [at for at, change in changes(alone(cold(config=DetectorConfig()), values)) if change == Change.OPENED]
    assert opened[-1] in (5_400, 5_401), "at the jump, or when it has come back"


def test_missing_values_are_told_and_teach_nothing() -> None:
    detector, values = cold(), calm(300)
    values[200:230] = np.nan
    judged = alone(detector, values)
    before, gap = alone(detector, values[:200]), alone(detector, values[:230])
    then, now = statistics(before.rows)[0], statistics(gap.rows)[0]
    for name in ("known", "mean", "square", "low", "high", "residual_mean", "residual_variance", "last"):
        np.testing.assert_array_equal(getattr(now, name), getattr(then, name), err_msg=name)
    assert {one.opened_by for one in judged.transitions} == {OpenedBy.MISSING}
    told = [at for at in changes(judged) if at[1] != Change.UPDATED]
    assert told == [(202, Change.OPENED), (230 + QUICK.alarm.close_after - 1, Change.RECOVERED)]
    assert judged.expected[200:].isfinite().all()


def test_a_missing_channel_does_not_hide_the_others() -> None:
    values = calm(300, features=3)
    values[150:, 0] = np.nan
    values[250, 2] += 100
    judged = alone(cold(3), values)
    assert changes(judged)[0] == (152, Change.OPENED)
    opened = judged.transitions[0]
    assert opened.opened_by is OpenedBy.MISSING
    assert list(opened.share) == [1, 0, 0]
    assert judged.score[249] < judged.score[250]


def test_a_value_that_stays_away_is_told_once_and_not_again_and_again() -> None:
    values = calm(2_000, features=2)
    values[150:, 0] = np.nan
    told = [one for one in alone(cold(2), values).transitions if one.change == Change.OPENED]
    assert [one.reading for one in told][:1] == [152]
    assert len(told) <= 5, "each time it has been away for twice as long"


def test_a_channel_that_never_comes_is_no_harm() -> None:
    values = calm(300, features=2)
    values[:, 0] = np.nan
    values[250] += 100
    judged = alone(cold(2), values)
    assert changes(judged)[0] == (250, Change.OPENED)
    assert judged.expected[:, 0].isnan().all()
    assert judged.score.isfinite().all()


def test_readings_that_hold_nothing_are_no_harm() -> None:
    judged = alone(cold(2), np.full((300, 2), np.nan))
    assert judged.score.max() < 0.5
    assert not judged.transitions
    assert judged.rows.hidden.isfinite().all()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    odd=st.lists(FLOATS, min_size=1, max_size=60),
    gaps_ms=st.lists(st.integers(0, 253_402_300_799_999), min_size=1, max_size=60),
    before=st.sampled_from([0, 1, 2, 60, 130]),
)
def test_whatever_is_read_the_memory_stays_finite(odd: list[float], gaps_ms: list[int], before: int) -> None:
    values = np.concatenate([calm(before, features=1)[:, 0], odd])
    batch = batch_of(values)
    times = batch.readings.times_ms.clone()
    times[before:] = torch.tensor([gaps_ms[n % len(gaps_ms)] for n in range(len(odd))])
    detector = cold()
    judged = judge(
        detector, batch._replace(readings=batch.readings._replace(times_ms=times)), detector.rows_for([b"a"])
    )
    assert judged.rows.hidden.isfinite().all()
    assert judged.rows.cell.isfinite().all()
    assert judged.score.isfinite().all()
    assert judged.score.ge(0).all()
    for names in statistics(judged.rows):
        for name, statistic in vars(names).items():
            assert not np.isnan(statistic).any(), name


def test_a_row_stays_as_small_as_it_was() -> None:
    detector = cold()
    sizes = {alone(detector, calm(readings)).rows.bytes_per_stream for readings in (1, 10, 3_000)}
    assert sizes == {detector.rows_for([b"alone"]).bytes_per_stream}


def test_new_streams_start_fresh_and_known_ones_where_they_were() -> None:
    detector = knowing(2)
    rows = detector.rows_for([b"stream-4", b"never seen", b"stream-0", b"stream-1"])
    nothing = fresh(1, detector.forecaster.config)
    for place, expected in (
        (0, detector.known_rows.take(torch.tensor([2]))),
        (1, nothing),
        (2, detector.known_rows.take(torch.tensor([0]))),
        (3, nothing),
    ):
        assert_same_rows(rows.take(torch.tensor([place])), expected)


def test_judging_changes_neither_the_rows_it_was_given_nor_the_detector() -> None:
    detector = knowing(1)
    rows = detector.rows_for(KEYS[:1])
    copy, known = Rows(*(part.clone() for part in rows)), Rows(*(part.clone() for part in detector.known_rows))
    batch = batch_of(calm(50), first_ms=2 * 10**12)
    detector.observe(batch.readings, pack(batch.streams), rows)
    assert_same_rows(rows, copy)
    assert_same_rows(detector.known_rows, known)


@pytest.mark.parametrize("repeated", [0, 3])
def test_in_place_the_rows_themselves_become_those_after_the_batch(repeated: int) -> None:
    """Also where some readings are duplicates, which are not judged."""
    detector = knowing(1)
    rows, batch = detector.rows_for(KEYS[:1]), batch_of(calm(50), first_ms=2 * 10**12)
    again = torch.cat([torch.arange(50), torch.full((repeated,), 49)])
    readings = Readings(torch.arange(len(again)), *(column[again] for column in batch.readings[1:]))
    verdicts, after = detector.observe(readings, pack(torch.zeros_like(again)), rows)
    in_place = detector.observe_in_place(readings, pack(torch.zeros_like(again)), rows)
    assert int(verdicts.fate.duplicate.sum()) == repeated
    assert same_bits(in_place.score, verdicts.score)
    assert_same_rows(rows, after)


@pytest.mark.parametrize("features", [1, 3])
def test_in_place_rows_between_others_become_those_after_the_batch_and_no_other_changes(features: int) -> None:
    """Streams of very different lengths, with late and duplicate readings, at slots in no order."""
    batch = faulty(features, seed=5, streams=12, readings=800)
    detector, slots = Detector.cold(some_forecaster(features), QUICK), torch.tensor([*range(29, 5, -2)])
    slab = detector.rows_for([b"%d" % n for n in range(40)])
    before, waves = slab.copy(), pack(slots[batch.streams])
    expected, after = detector.observe(batch.readings, waves, slab.take(waves.slots))
    found = detector.observe_in_place(batch.readings, waves, slab)
    assert expected.fate.late.any()
    assert expected.fate.duplicate.any()
    assert found.transitions == expected.transitions
    assert same_bits(found.score, expected.score)
    assert_same_rows(slab.take(waves.slots), after)
    others = torch.tensor([n for n in range(40) if n not in set(slots.tolist())])
    assert_same_rows(slab.take(others), before.take(others))


@pytest.mark.slow
def test_transitions_come_in_offset_order(case: Case) -> None:
    judged = judge(case.detector, case.batch, case.rows)
    places = [one.reading for one in judged.transitions]
    assert places == sorted(places)


@pytest.mark.slow
def test_what_alarms_say_fits_their_transitions(case: Case) -> None:
    """An alarm opens, is updated, closes, and is open in between, by the stream's own readings."""
    judged = case.one_by_one
    is_open = statistics(case.rows)[1].alarm > 0
    told = {one.reading: one for one in judged.transitions}
    for n, stream in enumerate(case.batch.streams.tolist()):
        if judged.late[n] or judged.duplicate[n]:
            continue
        if n in told:
            change = told[n].change
            assert is_open[stream] != (change == Change.OPENED)
            assert told[n].opened_offset <= case.batch.readings.offsets[n]
            is_open[stream] = change in (Change.OPENED, Change.UPDATED)
        assert judged.alarm[n] == is_open[stream], n


def test_the_scale_of_what_never_moved_is_derived_at_each_block_too() -> None:
    readings = QUICK.score.block_readings * 12
    values = np.full(readings, 5.0)
    values[readings // 2 + 3 :: 2] = 7.0
    detector, spreads = cold(), []
    rows = detector.rows_for([b"alone"])
    batch = batch_of(values)
    for n in range(readings):
        part = Readings(*(column[n : n + 1] for column in batch.readings))
        _, rows = detector.observe(part, pack(torch.zeros(1, dtype=torch.int64)), rows)
        spreads.append(float(statistics(rows)[0].spread[0, 0]))
    moved = [n + 1 for n in range(2, readings) if spreads[n] > 2 * spreads[n - 1]]
    assert len(moved) == 1
    assert moved[0] % QUICK.score.block_readings == 0
    assert readings // 2 + 3 < moved[0] <= readings // 2 + 3 + 2 * QUICK.score.block_readings


def test_the_scale_moves_at_powers_of_two_and_nowhere_else() -> None:
    detector, values = cold(), calm(70)
    moved = []
    rows = detector.rows_for([b"alone"])
    batch = batch_of(values)
    spread = [float("inf")]
    for n in range(70):
        part = Readings(*(column[n : n + 1] for column in batch.readings))
        _, rows = detector.observe(part, pack(torch.zeros(1, dtype=torch.int64)), rows)
        spread.append(float(statistics(rows)[0].spread[0, 0]))
        if spread[-1] != spread[-2]:
            moved.append(n + 1)
            assert spread[-1] == pytest.approx(values[: n + 1].std(ddof=1))
    assert moved == [2, 4, 8, 16, 32, 64]
