"""What explanations and forecasts look like to clients: JSON over HTTP and on the command line.

Sizes: N readings shown, L layers, K steps. Numbers that are not known are null.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from models.data.arrays import Floats
from models.data.rfc3339 import rfc3339
from models.detection.detector import Detector, Readings, Verdicts
from models.detection.sensor_rules import SensorRules, Units, units_of
from models.insight.explanation import CAVEAT, Account, Explained, Gate, Layer, explain, trace
from models.insight.forecasting import Forecast, ForecastConfig, UnknownInterval, forecast
from service.input.reading_batch import StreamKey
from service.live.watching import NotNow, TooMuchAsked, View, Views
from service.log.port import Partition

AT_ONCE = 1  # answers that are computed side by side: the worker is on the same cores
WAIT_S = 2.0  # for one's turn
DIGITS = 5  # of a gate's activation


class ReadingSeen(msgspec.Struct, frozen=True):
    """A reading, and what was thought of it; the values are those of `features`, in their order."""

    offset: int
    time: str
    fate: str  # judged, late, duplicate
    values: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    score: float
    alarm: bool


class GateSeen(msgspec.Struct, frozen=True):
    """A gate at each of N readings: mean, 10 % and 90 % quantile over the layer's units."""

    name: str
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    units: list[list[float | None]] | UnsetType = UNSET  # (N, hidden units), where they were asked for


class LayerSeen(msgspec.Struct, frozen=True):
    """One layer at each of N readings."""

    gates: list[GateSeen]
    memory: list[float | None]  # mean absolute value of the cell state, or of h where there is no cell
    change: list[float | None]  # Euclidean norm of what the reading changed in it


class SwingSeen(msgspec.Struct, frozen=True):
    """How far a gate went from what was usual before, in usual spreads."""

    layer: int
    gate: str
    usual: float | None
    lowest: float
    highest: float
    drop: float | None
    rise: float | None


class ChannelSeen(msgspec.Struct, frozen=True):
    """A channel's part in an alarm. share: the score's own; weight: found by hiding the channel."""

    name: str
    share: float
    weight: float
    score_without: float  # had this channel been as expected
    score_alone: float  # had all others been


class AccountSeen(msgspec.Struct, frozen=True):
    """An alarm that opened or became more severe at a reading, and what led there since `begins`."""

    change: str  # opened, updated
    severity: str
    opened_by: str  # a witness: see anomaly.Anomaly
    score: float
    time: str
    opened_at: str
    begins: str
    channels: list[ChannelSeen]
    rank_correlation: float | None  # of weights and shares; null where there is no order
    same_first: bool  # both name the same channel first
    gates: list[SwingSeen]


class ExplanationSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's memory did at its latest readings. A diagnostic, not a cause."""

    stream: str
    checkpoint: str  # digest
    topic: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    caveat: str
    features: list[str]
    readings: list[ReadingSeen]
    layers: list[LayerSeen]  # bottom first
    alarms: list[AccountSeen]


class TraceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's readings since it is watched, or since the last that was seen, with what the memory did at each."""

    stream: str
    checkpoint: str  # digest of the one that judges it
    topic: str
    partition: int
    features: list[str]
    units: list[str | None]  # of each feature, as the rules of the sensors give it (detection.rules)
    reset: bool  # these are all there are: forget what was seen before
    readings: list[ReadingSeen]
    layers: list[LayerSeen]  # bottom first


class BandSeen(msgspec.Struct, frozen=True):
    """Where the value will be with this probability."""

    level: float
    lower: float | None
    upper: float | None


class ChannelAhead(msgspec.Struct, frozen=True):
    """One feature at one step ahead."""

    name: str
    median: float | None
    bands: list[BandSeen]  # narrowest first


class StepSeen(msgspec.Struct, frozen=True):
    """One reading to come."""

    time: str
    channels: list[ChannelAhead]


class ForecastSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's next readings, with the bands they will be in."""

    stream: str
    checkpoint: str  # digest
    topic: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    interval_s: float  # between two readings
    residuals: int  # of the stream's past that the paths were drawn with; 0: too few, a normal law instead
    tried_from: int  # places in the past from which the bands were tried out and their widths set; 0: untried
    steps: list[StepSeen]


class Model(NamedTuple):
    """What judges a stream."""

    detector: Detector
    digest: str  # the checkpoint's
    sensors: SensorRules | None = None  # the rules that the worker judges by

    def limited(self, key: StreamKey) -> Detector:
        """As it judges this stream."""
        return self.detector.limited(None if self.sensors is None else self.sensors.limits([key]))

    def units(self, key: StreamKey) -> Units:
        """Those of the stream's channels."""
        return units_of(self.sensors, key, len(self.detector.features))


NO_OTHERS: Mapping[str, Model] = MappingProxyType({})


class Insight:
    """Answers about live streams; called from HTTP's threads, never from the worker's."""

    def __init__(
        self,
        detector: Detector,
        digest: str,
        watching: Views,
        at_once: int = AT_ONCE,
        sensors: SensorRules | None = None,
        others: Mapping[str, Model] = NO_OTHERS,
        promoted: Callable[[str], Model | None] = lambda _digest: None,
    ) -> None:
        """digest: the checkpoint's. sensors: the rules that the worker judges by.

        others: by topic, of those that another checkpoint judges. promoted: by digest, one that took over since.
        """
        self._usual = Model(detector, digest, sensors)
        self._others = others
        self._promoted = promoted
        self._watching = watching
        self._turns = threading.BoundedSemaphore(at_once)

    def explanation(self, key: StreamKey, readings: int, units: bool = False) -> ExplanationSeen:
        """Of the latest readings since the stream is watched. Raises UnheldStream, NotNow and TooMuchAsked."""
        view = self._watching.look(key)
        model = self._model_of(view)
        detector = model.limited(key)
        with self._turn():
            explained = explain(detector, view.row_before, view.readings, readings)
            return seen_explanation(explained, detector.features, key, model.digest, view.partition, units)

    def expect(self, keys: Iterable[StreamKey]) -> None:
        """Keep the readings of streams that a client may want to look at soon, as far as there is room."""
        for key in keys:
            self._watching.expect(key)

    def trace(self, key: StreamKey, after: int | None = None) -> TraceSeen:
        """after: offset of the last reading that was seen. Raises UnheldStream, NotNow and TooMuchAsked.

        A few readings more cost little: judged again are those of the last part that was kept, not all of them.
        """
        view = self._watching.look(key)
        reset = after is None or bool(view.parts and int(view.readings.offsets[0]) > after)
        if after is not None and not reset:
            view = view.since(after + 1)
        model = self._model_of(view)
        detector = model.limited(key)
        with self._turn():
            traced = trace(detector, view.row_before, view.readings)
            seen = 0 if reset or after is None else int((view.readings.offsets <= after).sum())
            of_channels = model.units(key)
            return seen_trace(traced, seen, detector.features, of_channels, key, model.digest, view.partition, reset)

    def forecast(self, key: StreamKey, steps: int, interval_s: float | None = None) -> ForecastSeen:
        """Raises UnheldStream, NotNow and TooMuchAsked."""
        view = self._watching.look(key)
        interval_ms = None if interval_s is None else max(1, round(interval_s * 1000))
        model = self._model_of(view)
        detector = model.limited(key)
        with self._turn():
            try:
                ahead = forecast(detector, view.row_before, view.readings, ForecastConfig(steps=steps), interval_ms)
            except UnknownInterval as error:
                raise NotNow(f"{error}: readings are kept since the stream was first asked for") from error
            return seen_forecast(ahead, detector.features, key, model.digest, view.partition)

    def _model_of(self, view: View) -> Model:
        usual = self._others.get(view.partition.topic, self._usual)
        if view.checkpoint in ("", usual.digest):
            return usual
        found = self._promoted(view.checkpoint)
        if found is None:
            raise NotNow(f"checkpoint {view.checkpoint[:12]} judges this stream, and cannot be read here")
        return found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=WAIT_S):
            raise TooMuchAsked("other answers are being computed")
        try:
            yield
        finally:
            self._turns.release()


def seen_explanation(
    explained: Explained,
    features: Sequence[str],
    key: bytes,
    digest: str,
    partition: Partition | None = None,
    units: bool = False,
) -> ExplanationSeen:
    return ExplanationSeen(
        stream=key.decode(),
        checkpoint=digest,
        topic=partition.topic if partition else UNSET,
        partition=partition.number if partition else UNSET,
        caveat=CAVEAT,
        features=list(features),
        readings=list(_readings(explained.readings, explained.verdicts)),
        layers=[_layer(layer, units) for layer in explained.layers],
        alarms=[_account(one, explained.readings, features) for one in explained.accounts],
    )


def seen_trace(
    traced: Explained,
    seen: int,
    features: Sequence[str],
    units: Units,
    key: bytes,
    digest: str,
    partition: Partition,
    reset: bool,
) -> TraceSeen:
    """seen: how many of the readings, from the first, are left out: the client that asked knows them, or need not."""
    layers = [
        Layer(
            tuple(Gate(gate.name, gate.units[seen:]) for gate in layer.gates), layer.memory[seen:], layer.change[seen:]
        )
        for layer in traced.layers
    ]
    return TraceSeen(
        stream=key.decode(),
        checkpoint=digest,
        topic=partition.topic,
        partition=partition.number,
        features=list(features),
        units=list(units),
        reset=reset,
        readings=list(_readings(traced.readings, traced.verdicts))[seen:],
        layers=[_layer(layer, units=False) for layer in layers] if seen < len(traced.readings.offsets) else [],
    )


def seen_forecast(
    ahead: Forecast, features: Sequence[str], key: bytes, digest: str, partition: Partition | None = None
) -> ForecastSeen:
    steps = [
        StepSeen(
            rfc3339(time_ms),
            [
                ChannelAhead(
                    name,
                    float(ahead.median[k, f]),
                    [BandSeen(band.level, float(band.lower[k, f]), float(band.upper[k, f])) for band in ahead.bands],
                )
                for f, name in enumerate(features)
            ],
        )
        for k, time_ms in enumerate(ahead.times_ms.tolist())
    ]
    return ForecastSeen(
        stream=key.decode(),
        checkpoint=digest,
        topic=partition.topic if partition else UNSET,
        partition=partition.number if partition else UNSET,
        interval_s=ahead.interval_ms / 1000,
        residuals=ahead.residuals,
        tried_from=ahead.origins,
        steps=steps,
    )


def _readings(readings: Readings, verdicts: Verdicts) -> Iterator[ReadingSeen]:
    fates = np.select([verdicts.fate.late.numpy(), verdicts.fate.duplicate.numpy()], ["late", "duplicate"], "judged")
    for offset, time_ms, fate, *columns in zip(
        readings.offsets.tolist(),
        readings.times_ms.tolist(),
        fates.tolist(),
        readings.values.tolist(),
        verdicts.expected.tolist(),
        verdicts.lower.tolist(),
        verdicts.upper.tolist(),
        verdicts.score.tolist(),
        verdicts.alarm.tolist(),
        strict=True,
    ):
        yield ReadingSeen(offset, rfc3339(time_ms), fate, *columns)


def _layer(layer: Layer, units: bool) -> LayerSeen:
    gates = [
        GateSeen(
            gate.name,
            _rounded(gate.mean),
            _rounded(gate.low),
            _rounded(gate.high),
            np.round(gate.units.astype(np.float64), DIGITS).tolist() if units else UNSET,
        )
        for gate in layer.gates
    ]
    return LayerSeen(gates, _rounded(layer.memory), _rounded(layer.change))


def _rounded(values: Floats) -> list[float | None]:
    rounded: list[float | None] = np.round(values.astype(np.float64), DIGITS).tolist()
    return rounded


def _account(one: Account, readings: Readings, features: Sequence[str]) -> AccountSeen:
    transition = one.transition
    times_ms = readings.times_ms
    columns = zip(features, transition.share, one.weight, one.without, one.alone, strict=True)
    return AccountSeen(
        change=transition.change.name.lower(),
        severity=transition.severity.name.lower(),
        opened_by=transition.opened_by.name.lower(),
        score=transition.score,
        time=rfc3339(int(times_ms[transition.reading])),
        opened_at=rfc3339(transition.opened_ms),
        begins=rfc3339(int(times_ms[one.begin])),
        channels=[ChannelSeen(*column) for column in columns],
        rank_correlation=one.rank_correlation,
        same_first=one.same_first,
        gates=[SwingSeen(*swing) for swing in one.swings],
    )
