"""A head is taught with faults that are put into calm series, and counted on series it has not seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.series import Series, UnusableData
from models.detection.alarm import Change
from models.detection.detector import Detector, DetectorConfig, Readings
from models.detection.kinds import KINDS, SYMPTOMS, VOTES, KindsHead
from models.detection.priming import prime
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack
from models.training import kinds_training
from models.training.kinds_training import KindsConfig, evaluate_kinds, fit_kinds, learn_kinds, scores, watchful
from tests.data import QUICK, some_forecaster

pytestmark = pytest.mark.slow

QUICKLY = KindsConfig(faults=480, judged=120, epochs=60, cold=160)
FEATURES = 2


def plant(streams: int, seed: int, readings: int = 700) -> list[Series]:
    """Two channels that follow a load, each with noise of its own; every machine with another level and spread."""
    random = np.random.default_rng(seed)
    series = []
    for n in range(streams):
        place = np.arange(readings)
        load = np.sin(place / random.uniform(8, 20)) + np.convolve(random.normal(size=readings), np.ones(9) / 9, "same")
        values = np.stack([load, -0.5 * load], axis=1) + random.normal(0, 0.2, (readings, FEATURES))
        values = random.uniform(20, 80, FEATURES) + values * random.uniform(0.5, 2, FEATURES)
        times = 1_700_000_000_000 + place * 60_000
        name = f"machine-{seed}-{n}"
        features = tuple(f"f{k}" for k in range(FEATURES))
        series.append(Series(name, Path(name), features, place, times, values, np.zeros(readings, bool)))
    return series


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Untrained, it expects no change: what is told of kinds then comes from the residual alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        forecaster = Forecaster(ForecasterConfig(("f0", "f1"), hidden=16))
    return prime(forecaster.eval(), QUICK, plant(4, seed=1))


@pytest.fixture(scope="module")
def taught(detector: Detector) -> Detector:
    return detector.with_kinds(fit_kinds(detector, plant(4, seed=1), QUICKLY, seed=0))


def test_kinds_are_named_on_machines_that_were_never_seen(taught: Detector) -> None:
    report = evaluate_kinds(taught, plant(3, seed=2), QUICKLY, seed=1)
    assert report.at_end.sum() >= 0.8 * QUICKLY.judged
    assert (report.at_end.sum(1) >= 10).all(), "every kind is among them"
    assert scores(report.at_end).macro_f1 >= 0.8
    told = report.at_alarm[:, :-1]
    assert told.sum() >= 0.3 * report.at_alarm.sum()
    assert (report.at_alarm.sum(1) == report.at_end.sum(1)).all(), "each fault is counted once in either"
    assert told.trace() / told.sum() > 0.7, "chance is a sixth"


def test_the_same_seed_is_the_same_head_and_the_same_report(detector: Detector) -> None:
    few = KindsConfig(faults=60, judged=24, epochs=3, cold=160)
    one, again = (fit_kinds(detector, plant(4, seed=1), few, seed=3) for _ in range(2))
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    reports = [evaluate_kinds(detector.with_kinds(one), plant(1, seed=5), few, seed=4) for _ in range(2)]
    assert [column.tolist() for column in reports[0]] == [column.tolist() for column in reports[1]]


def test_the_head_in_service_is_the_one_that_was_trained(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaling of the evidence is inside the weights: the trained module has the same answers."""
    seen: list[kinds_training._SeenStream] = []
    learned: list[tuple[kinds_training._HeadInTraining, torch.Tensor, torch.Tensor]] = []
    usual_look, usual_end = kinds_training._look, kinds_training._kinds_head

    def look(*arguments: object) -> kinds_training._SeenStream:
        seen.append(usual_look(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    def end(head: kinds_training._HeadInTraining, centre: torch.Tensor, spread: torch.Tensor) -> KindsHead:
        learned.append((head, centre, spread))
        return usual_end(head, centre, spread)

    monkeypatch.setattr(kinds_training, "_look", look)
    monkeypatch.setattr(kinds_training, "_kinds_head", end)
    head = fit_kinds(detector, plant(4, seed=1), KindsConfig(faults=60, epochs=3), seed=3)
    module, centre, spread = learned[0]
    for one in seen[:20]:
        with torch.no_grad():
            evidence, memory = torch.from_numpy(one.evidence).float(), torch.from_numpy(one.memory).float()
            pairs = module.eval()(((evidence - centre) / spread)[None], memory[None]).flatten().softmax(0)
        expected = pairs.reshape(-1, len(KINDS)).sum(0).numpy()
        units = np.maximum(one.evidence @ head.evidence.T + head.memory @ one.memory + head.bias, 0)
        likely = np.exp(units @ head.out.T + head.out_bias)
        np.testing.assert_allclose(likely.sum(0) / likely.sum(), expected, atol=1e-4)


def test_what_a_detector_knows_is_the_same_but_for_the_symptoms(detector: Detector) -> None:
    watcher = watchful(detector, plant(4, seed=1))
    assert watcher.known == detector.known
    before, after = detector.known_rows, watcher.known_rows
    assert torch.equal(after.channels[:, : -len(SYMPTOMS)], before.channels)
    assert torch.equal(after.scalars[:, : -len(VOTES)], before.scalars)
    assert not after.votes.any()
    assert torch.equal(after.hidden, before.hidden)
    symptoms = dict(zip(SYMPTOMS.names, after.symptoms.unbind(1), strict=True))
    mean = before.channel("mean")
    spread = before.channel("spread")
    assert ((symptoms["base"] - mean).abs() < spread).all()
    assert (symptoms["baseline_abs_diff"] > 0).all()
    assert not symptoms["missing_64"].any()


def test_a_known_stream_goes_on_after_its_last_reading_at_the_same_time_of_the_week(detector: Detector) -> None:
    one = plant(4, seed=1)[0]
    again = kinds_training._warm(detector, one, 300)
    clock = detector.known_rows.scalar("time_ms")[0]
    assert again.times_ms[0] > clock == one.times_ms[-1]
    assert ((again.times_ms - one.times_ms[-300:]) % kinds_training.WEEK_MS == 0).all()
    np.testing.assert_array_equal(again.values, one.values[-300:])


def test_what_is_named_is_what_the_service_tells(taught: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is looked at after the batch, a transition is told in the middle of one: the words are the same.

    But for the last word of an alarm, which is not about that moment alone.
    """
    told = []
    usual = kinds_training._look

    def look(*arguments: object) -> kinds_training._SeenStream:
        seen: kinds_training._SeenStream = usual(*arguments)  # type: ignore[arg-type]
        if seen.transition is not None and seen.transition.change in (Change.OPENED, Change.UPDATED):
            told.append((seen.guess, seen.transition.guess))
        return seen

    monkeypatch.setattr(kinds_training, "_look", look)
    evaluate_kinds(taught, plant(2, seed=6), KindsConfig(judged=60, cold=160), seed=1)
    assert len(told) > 20
    assert all(seen == heard for seen, heard in told)


@pytest.mark.parametrize("streams", [2, 5])
def test_a_head_is_judged_on_what_it_was_not_taught_with(detector: Detector, streams: int) -> None:
    parts = plant(streams, seed=1)
    primed = prime(detector.forecaster, QUICK, parts)
    named, report, judged_on = learn_kinds(primed, parts, KindsConfig(faults=60, judged=24, epochs=3), seed=0)
    assert judged_on == (2 if streams < 4 else 1)
    assert named.kinds is not None
    assert report.at_end.sum() > 0
    assert named.known_rows.symptoms.shape[1] == len(SYMPTOMS)
    one = parts[0]
    readings = Readings(
        torch.tensor([10]), torch.from_numpy(one.times_ms[-1:] + 60_000), torch.ones(1, FEATURES).double()
    )
    verdicts, _ = named.observe(readings, pack(torch.tensor([0])), named.rows_for([one.key.encode()]))
    assert verdicts.fate.judged.all()


def test_series_in_which_nothing_moves_teach_nothing() -> None:
    still = [one._replace(values=np.full_like(one.values, 7.0)) for one in plant(2, seed=1)]
    with pytest.raises(
        UnusableData, match="no calm stretch was found to put a fault of these kinds into: spike, level"
    ):
        fit_kinds(prime(some_forecaster(FEATURES), DetectorConfig(), still), still, QUICKLY, seed=0)


def test_a_detector_without_a_head_cannot_be_judged(detector: Detector) -> None:
    with pytest.raises(ValueError, match="no head that names kinds"):
        evaluate_kinds(detector, plant(1, seed=2), QUICKLY, seed=0)


def test_scores_are_those_of_the_textbook() -> None:
    confusion = np.zeros((6, 7), np.int64)
    confusion[0] = [6, 2, 0, 0, 0, 0, 4]  # 4 opened no alarm: nothing was said of them
    confusion[1] = [3, 9, 0, 0, 0, 0, 0]
    found = scores(confusion)
    assert found.precision[:2] == pytest.approx([6 / 9, 9 / 11])
    assert found.recall[:2] == pytest.approx([6 / 8, 9 / 12])
    assert found.f1[:2] == pytest.approx([2 * 6 / (9 + 8), 2 * 9 / (11 + 12)])
    assert found.macro_f1 == pytest.approx((12 / 17 + 18 / 23) / 2), "over the kinds there are"
    assert scores(np.zeros((6, 6), np.int64)).macro_f1 == 0
    assert scores(np.eye(6, dtype=np.int64) * 3).macro_f1 == 1
