"""A second head: what kind of fault an anomaly looks like, read from the stream's memory when its alarm changes.

A stream whose checkpoint has this head remembers more: per channel, short means of seven signals at three speeds, so
that what happened in the last hundred readings can still be distinguished when the alarm closes. They are O(1), causal
and exactly rounded (see rows). The head itself is asked at few of an alarm's readings, of a few streams together; it
works element by element and sums along a stream's own axes, so its bits do not depend on a batch either. What it says
is kept while the alarm is open, as a vote: when the alarm closes the symptoms have faded, and the votes have not.
Sizes: S streams, F features, H hidden units, E symptoms a channel, D pieces of evidence a channel, U units of the head.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles
from models.detection.rows import Field, Rows, Table

FARTHEST_SYMPTOM = 16.0  # spreads, or standard deviations of the residual: further off says no more about the kind
SPEEDS = (4, 16, 64)  # readings that a mean goes back, about; powers of two, so that their inverses are exact
PEAK_SPEEDS = (64, 256)
SIGNALS = {
    "z": "push",
    "abs_z": "shake",
    "abs_diff": "stir",
    "unchanged": "still",
    "missing": "gone",
    "zero": "nought",
    "offset": "offset",
}
"""Each with its name in stored rows.

z: the residual in its standard deviations; abs_z: that without its sign; abs_diff: the change from the reading before,
in spreads; unchanged: 1 where there was none; missing: 1 where the value is; zero: 1 where it is exactly 0; offset: how
far the value is from `base`, in spreads.
"""
WITH_BASELINE = ("abs_diff", "unchanged", "zero")  # signals whose calm value must be known to say what is much
BASELINE_READINGS = 512  # calm readings that the baseline goes back
BASE_READINGS = 128  # calm readings that the base goes back
DECIMALS = 3  # of a probability
VOTE_EVERY = 8  # readings of an open alarm: the head costs more than judging the reading does
ASKED_TOGETHER = 64  # streams: bounds the memory it takes


class Kind(StrEnum):
    """What may be wrong with a sensor, or with what it watches."""

    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    STUCK = "stuck"
    NOISE = "noise"
    DROPOUT = "dropout"


KINDS = tuple(Kind)


def _symptom(name: str, meaning: str, stored_name: str = "") -> Field:
    return Field(name, 0.0, "", meaning, stored_name or name)


SYMPTOMS = Table(
    (
        *(
            _symptom(f"{signal}_{speed}", f"mean over about {speed} readings", f"{stored}_{speed}")
            for speed in SPEEDS
            for signal, stored in SIGNALS.items()
        ),
        *(_symptom(f"baseline_{signal}", "calm mean", f"usual_{SIGNALS[signal]}") for signal in WITH_BASELINE),
        _symptom("base", "short mean of the calm readings, in the sensor's units: what `offset` is counted from"),
        *(
            _symptom(f"peak_{speed}", "largest `abs_z` of late, fading, so that its age shows", f"jolt_{speed}")
            for speed in PEAK_SPEEDS
        ),
    )
)
"""What is remembered a channel beside rows.Channels; each (S, F) float64."""
BASELINE_SIGNALS = tuple(list(SIGNALS).index(signal) for signal in WITH_BASELINE)  # their places among the signals


VOTES = Table(tuple(_symptom(f"votes_{kind}", "of the last alarm, in thousandths") for kind in KINDS))
"""What is remembered a stream beside rows.Scalars; each (S,) float64.

How likely each kind was at the readings of the last alarm at which the head was asked, added up, in thousandths: whole
numbers, so that the last bits of an exponential stay out of the row.
"""


class Guess(NamedTuple):
    """The kind that is most likely, and how likely the head takes it to be among the six."""

    kind: Kind
    probability: float  # rounded

    @classmethod
    def of(cls, likely: Doubles) -> Self:
        """likely: (kinds,), in the proportions of the probabilities."""
        best = int(likely.argmax())
        return cls(KINDS[best], round(float(likely[best] / np.add.reduce(likely)), DECIMALS))


def with_symptoms(rows: Rows) -> Rows:
    """Rows that can also remember symptoms and votes; these are as of streams that have never been seen."""
    streams, _, features = rows.channels.shape
    symptoms = rows.channels.new_zeros(streams, len(SYMPTOMS), features)
    votes = rows.scalars.new_zeros(streams, len(VOTES))
    channels, scalars = torch.cat([rows.channels, symptoms], dim=1), torch.cat([rows.scalars, votes], dim=1)
    return rows._replace(channels=channels, scalars=scalars)


def vote_of(likely: Doubles) -> Doubles:
    """What is added to the votes. likely: (..., kinds)."""
    vote: Doubles = np.rint(likely * 10**DECIMALS)
    return vote


def evidence_of(symptoms: Doubles) -> Doubles:
    """What the head is shown of each channel: symptoms whatever the sensor's unit, direction and habits, (..., F, D).

    symptoms: (E, ..., F).
    """

    def means(signal: str) -> list[Doubles]:
        return [symptoms[SYMPTOMS.places[f"{signal}_{speed}"]] for speed in SPEEDS]

    baseline = {signal: symptoms[SYMPTOMS.places[f"baseline_{signal}"]] for signal in WITH_BASELINE}
    offsets = means("offset")
    direction = np.where(offsets[1] < 0, -1.0, 1.0)  # up or down is the same kind
    pieces = [
        *(np.log1p(np.abs(mean)) for mean in means("z")),
        *(np.log1p(mean) for mean in means("abs_z")),
        *(np.log(mean + 0.01) - np.log(baseline["abs_diff"] + 0.01) for mean in means("abs_diff")),
        *(mean - baseline["unchanged"] for mean in means("unchanged")),
        *means("missing"),
        *(np.maximum(mean - baseline["zero"], 0.0) for mean in means("zero")),
        *(np.arcsinh(mean * direction) for mean in offsets),
        np.arcsinh((offsets[0] - offsets[2]) * direction),
        *(np.log1p(peak) for peak in symptoms[SYMPTOMS.places[f"peak_{PEAK_SPEEDS[0]}"] :]),
        np.log(baseline["abs_diff"] + 0.01),
        baseline["unchanged"],
    ]
    return np.stack(pieces, axis=-1)


EVIDENCE = len(SIGNALS) * len(SPEEDS) + len(PEAK_SPEEDS) + 3  # D


@dataclass(frozen=True, slots=True)
class KindsHead:
    """One hidden layer for every channel alike, then one softmax over every pair of a channel and a kind.

    A kind's probability is the sum over the channels, so the head need not know which of them has the fault.
    """

    evidence: Doubles  # (U, D)
    memory: Doubles  # (U, H)
    bias: Doubles  # (U,)
    out: Doubles  # (kinds, U)
    out_bias: Doubles  # (kinds,)

    @classmethod
    def blank(cls, hidden: int) -> Self:
        """A head that knows nothing: every kind is as likely. What it is for is that streams remember symptoms."""
        return cls(*(np.zeros(shape) for shape in shapes(hidden, units=1)))

    def name(self, symptoms: Doubles, memory: Doubles) -> Guess:
        """Of one stream. symptoms: (E, F); memory: (H,), what the top layer's h is now."""
        return Guess.of(self.probabilities(symptoms, memory))

    def probabilities(self, symptoms: Doubles, memory: Doubles) -> Doubles:
        """How likely each kind is, (..., kinds), of one stream or several: the bits are the same.

        symptoms: (E, ..., F); memory: (..., H). Multiply and sum, not a matrix product: see forecaster.
        """
        shown = evidence_of(symptoms)
        remembered = np.add.reduce(self.memory * memory[..., None, :], axis=-1) + self.bias
        weighted = np.add.reduce(shown[..., None, :] * self.evidence, axis=-1)
        units = np.maximum(weighted + remembered[..., None, :], 0.0)
        logits = np.add.reduce(units[..., None, :] * self.out, axis=-1) + self.out_bias
        likely = np.exp(logits - logits.max(axis=(-2, -1), keepdims=True))
        of_kinds: Doubles = np.add.reduce(likely, axis=-2)
        of_kinds /= np.add.reduce(of_kinds, axis=-1, keepdims=True)
        return of_kinds

    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint keeps it."""
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in TENSORS}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Self:
        return cls(**{name: tensors[name].numpy().copy() for name in TENSORS})


TENSORS = ("evidence", "memory", "bias", "out", "out_bias")


def shapes(hidden: int, units: int) -> tuple[tuple[int, ...], ...]:
    """Of a head's tensors, in their order."""
    return (units, EVIDENCE), (units, hidden), (units,), (len(KINDS), units), (len(KINDS),)
