"""What a stream remembers to tell kinds of fault apart, and the head. Sizes: T readings, S streams, F features."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.arrays import Doubles
from models.detection.alarm import Change
from models.detection.detector import Detector
from models.detection.kinds import (
    EVIDENCE,
    FARTHEST_SYMPTOM,
    KINDS,
    SIGNALS,
    SPEEDS,
    SYMPTOMS,
    VOTES,
    WITH_BASELINE,
    Guess,
    Kind,
    KindsHead,
    evidence_of,
    shapes,
    with_symptoms,
)
from models.detection.records import Step
from models.training.injection import InjectedFault, disturb
from tests.data import QUICK, Judged, batch_of, judge, some_forecaster, some_kinds
from tests.models.detection.interpreted import EVENTS, OneStream

READINGS, STREAMS, FEATURES = 300, 3, 2


def of_one_channel(
    standardised: Doubles, values: Doubles, weight: Doubles, spread: float, last: float
) -> dict[str, float]:
    """The symptoms of one channel as they are defined, reading by reading in plain Python. values: NaN: missing."""
    found = dict.fromkeys(SYMPTOMS.names, 0.0)
    known, held = 0.0, last
    for z, value, learns in zip(standardised.tolist(), values.tolist(), weight.tolist(), strict=True):
        missing = value != value
        before, held = held, held if missing else value
        signals = {
            "z": min(max(z, -FARTHEST_SYMPTOM), FARTHEST_SYMPTOM),
            "abs_z": min(abs(z), FARTHEST_SYMPTOM),
            "abs_diff": min(abs(held - before) / spread, FARTHEST_SYMPTOM),
            "unchanged": float(held == before and not missing),
            "missing": float(missing),
            "zero": float(held == 0 and not missing),
            "offset": min(max((held - found["base"]) / spread, -FARTHEST_SYMPTOM), FARTHEST_SYMPTOM),
        }
        for signal in SIGNALS:
            for speed in SPEEDS:
                found[f"{signal}_{speed}"] += (signals[signal] - found[f"{signal}_{speed}"]) / speed
        for speed in (64, 256):
            found[f"peak_{speed}"] = max(found[f"peak_{speed}"] * (1 - 1 / speed), signals["abs_z"])
        if learns:
            known += 1
            for signal in WITH_BASELINE:
                found[f"baseline_{signal}"] += (signals[signal] - found[f"baseline_{signal}"]) / min(known, 512)
            found["base"] += (held - found["base"]) / min(known, 128)
    return found


def test_symptoms_are_what_their_names_say() -> None:
    random = np.random.default_rng(0)
    shape = (READINGS, STREAMS, FEATURES)
    standardised, values = random.normal(size=shape) * 4, np.round(random.normal(size=shape) * 2)
    values[random.random(shape) < 0.1] = np.nan
    present = ~np.isnan(values)
    standardised[~present] = 0.0
    weight = np.where(present & (random.random(shape) < 0.7), 1.0, 0.0)
    symptoms = np.zeros((STREAMS, len(SYMPTOMS), FEATURES))
    for stream in range(STREAMS):
        one = OneStream(FEATURES)
        for f, spread in enumerate((0.5, 2.0)):
            channel, look = one.channels[f], one.looks[f]
            channel.spread = spread
            for t in range(READINGS):
                look.present, look.residual_z = float(present[t, stream, f]), standardised[t, stream, f]
                look.before = look.value
                look.value = values[t, stream, f] if present[t, stream, f] else look.value
                learns = weight[t, stream, f]
                EVENTS.follow_symptoms(symptoms[stream], f, channel, look, Step(Change.NONE, 0.0, learns, learns))
                channel.known += learns
    for stream in range(STREAMS):
        for f, spread in enumerate((0.5, 2.0)):
            series = standardised[:, stream, f], values[:, stream, f], weight[:, stream, f]
            expected = of_one_channel(*series, spread, 0.0)
            for name, found in zip(SYMPTOMS.names, symptoms[stream, :, f], strict=True):
                assert found == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def test_rows_with_symptoms_are_the_same_rows_with_more_in_them() -> None:
    rows = Detector.cold(some_forecaster(FEATURES)).rows_for([b"a", b"b"])
    more = with_symptoms(rows)
    assert more.channels.shape == (2, rows.channels.shape[1] + len(SYMPTOMS), FEATURES)
    assert not more.symptoms.any()
    assert (more.channels[:, : -len(SYMPTOMS)] == rows.channels).all()
    assert more.scalars.shape == (2, rows.scalars.shape[1] + len(KINDS))
    assert not more.votes.any()
    assert (more.scalars[:, : -len(VOTES)] == rows.scalars).all()
    assert more.bytes_per_stream - rows.bytes_per_stream == (len(SYMPTOMS) * FEATURES + len(VOTES)) * 8


def watched(values: NDArray[np.float64]) -> Judged:
    detector = Detector.cold(some_forecaster(values.shape[1]), QUICK).with_kinds(some_kinds())
    return judge(detector, batch_of(values), detector.rows_for([b"alone"]))


def evidence_after(kind: Kind, size: float, length: int) -> tuple[Doubles, Doubles]:
    """Of the channel with the fault and of the one without, right after it."""
    values = np.random.default_rng(2).normal(100, 1, (400 + length, 2))
    disturb(values, np.ones(2), InjectedFault(kind, 400, 400 + length, (1,), size), np.random.default_rng(3))
    found = evidence_of(watched(values).rows.symptoms[0].numpy())
    assert found.shape == (2, EVIDENCE)
    assert np.isfinite(found).all()
    return found[1], found[0]


@pytest.mark.parametrize(
    ("kind", "size", "length"),
    [
        (Kind.SPIKE, 10.0, 1),
        (Kind.LEVEL_SHIFT, 6.0, 80),
        (Kind.DRIFT, 8.0, 120),
        (Kind.STUCK, 0.0, 60),
        (Kind.NOISE, 4.0, 40),
        (Kind.DROPOUT, 0.0, 30),
        (Kind.DROPOUT, float("nan"), 30),
    ],
)
def test_every_kind_leaves_evidence_on_its_channel_and_on_no_other(kind: Kind, size: float, length: int) -> None:
    faulty, healthy = evidence_after(kind, size, length)
    calm = evidence_after(Kind.SPIKE, 0.0, 1)[1]
    assert np.abs(faulty - calm).max() > 2 * np.abs(healthy - calm).max()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e6])
def test_the_evidence_is_the_same_in_any_unit_and_in_either_direction(unit: float) -> None:
    values = np.random.default_rng(2).normal(0, 1, (500, 1)) * unit
    values[470:] += 9 * unit
    rows = [watched(sign * values).rows for sign in (1, -1)]
    up, down = (evidence_of(one.symptoms[0].numpy()) for one in rows)
    offset = slice(6 * len(SPEEDS), 6 * len(SPEEDS) + 4)
    np.testing.assert_allclose(up[0, offset], down[0, offset], rtol=0.05)
    assert up[0, offset][0] == pytest.approx(np.arcsinh(9 * unit / values[:470].std()), rel=0.2)


def test_a_head_is_a_hidden_layer_and_a_softmax_over_channels_and_kinds() -> None:
    head, random = some_kinds(), np.random.default_rng(4)
    symptoms, memory = random.random((len(SYMPTOMS), 3)), random.normal(size=16)
    shown = evidence_of(symptoms)
    logits = np.maximum(shown @ head.evidence.T + head.memory @ memory + head.bias, 0) @ head.out.T + head.out_bias
    expected = (np.exp(logits) / np.exp(logits).sum()).sum(0)
    np.testing.assert_allclose(head.probabilities(symptoms, memory), expected, rtol=1e-9)
    guess = head.name(symptoms, memory)
    assert guess.kind is KINDS[int(expected.argmax())]
    assert guess.probability == pytest.approx(expected.max(), abs=0.0005)


@pytest.mark.parametrize("features", [1, 3, 38])
def test_streams_that_are_asked_of_together_get_the_bits_that_each_gets_alone(features: int) -> None:
    head, random = some_kinds(units=32), np.random.default_rng(5)
    symptoms, memory = random.gamma(1, 2, (len(SYMPTOMS), 67, features)), random.normal(size=(67, 16))
    alone = np.stack([head.probabilities(symptoms[:, n], memory[n]) for n in range(67)])
    for together in (1, 2, 7, 8, 64, 67):
        some = random.permutation(67)[:together]
        np.testing.assert_array_equal(head.probabilities(symptoms[:, some], memory[some]), alone[some])


def test_a_guess_is_the_likeliest_kind_and_its_share() -> None:
    assert Guess.of(np.array([0.5, 0.25, 2.0, 1.0, 0.25, 0.0])) == Guess(Kind.DRIFT, 0.5)
    assert Guess.of(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 2.0])) == Guess(Kind.DROPOUT, 0.667)


def test_a_blank_head_takes_every_kind_to_be_as_likely() -> None:
    head = KindsHead.blank(16)
    ones = np.ones((len(SYMPTOMS), 3)), np.ones(16)
    np.testing.assert_allclose(head.probabilities(*ones), np.full(len(KINDS), 1 / len(KINDS)))


def test_a_heads_tensors_are_the_head() -> None:
    head = some_kinds()
    tensors = head.tensors()
    assert tuple(tuple(tensor.shape) for tensor in tensors.values()) == shapes(16, units=8)
    again = KindsHead.of(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(getattr(again, name), tensor.numpy())
