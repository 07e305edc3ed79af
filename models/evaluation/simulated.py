"""How a detector does on simulated series: nine plain families, healthy plants, constants, machines with faults.

No data is needed and nothing is learned from these series before they are judged, unless a net is trained on the
plants' first fortnight. A series with a fault has a healthy twin with the same draws, so it is known what the fault
did and what would have been there by chance.

- found: an alarm opens in the fault, or up to GRACE_READINGS after its end, and none in that stretch of the twin;
- by chance: one opens in that stretch of the twin;
- false: an alarm that opens in a healthy series; of plants, in their second fortnight;
- loss and band: see steps; after the first third of a series, or in the second fortnight;
- edge: mean error where the level leaps, over the mean size of the noise.

Sizes: R readings of a series.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from models.checkpoints.checkpoint import load_net
from models.data.arrays import Bools
from models.data.families import FAULTS_FROM, Simulated, families, series_of
from models.data.plants import constants, plants
from models.data.synthetic import FEATURES, Plant, plant
from models.data.time_units import DAY_MS
from models.detection.detector import Detector, DetectorConfig
from models.detection.priming import prime
from models.detection.sensor_rules import SensorRule, SensorRules
from models.evaluation.baselines import UNTRAINED_HIDDEN
from models.evaluation.evaluation import Judged, backtest, openings
from models.evaluation.steps import one_step_loss, share_in_band
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import fit, usable
from models.training.run import Ending, TrainingConfig

FEATURE = ("value",)  # of a detector that is made here
GRACE_READINGS = 36  # an alarm may need a few readings more than a fault lasts
LEARNING_SHARE = 1 / 3  # of a series without a training part, before its steps are measured
MACHINES_A_SEED = 4  # of each kind of plant
FAULTY_MACHINES = 40  # a seed
FAULTY_STEP_S = 300.0
FAULTY_DAYS = (14, 14)  # to learn from, with faults
FAULTY_EVERY = 500.0
ASKED = (10, 30, 90)  # days in which a healthy stream may raise one false alarm
ASKED_MACHINES = 20  # a seed
ASKED_DAYS = (14, 60)  # to learn from, judged


class SimulatedRun(NamedTuple):
    """What became of one series, or of one fault of a machine; NaN: there is nothing to measure."""

    set: str
    family: str
    fault: str  # "" healthy
    seed: int
    readings: int = 0  # in which a false alarm would count
    days: float = 0.0
    false: int = 0
    found: float = math.nan  # 1 or 0
    by_chance: float = math.nan
    delay: float = math.nan  # readings
    loss: float = math.nan
    band: float = math.nan
    edge_error: float = math.nan
    noise: float = math.nan  # mean absolute


def simulate(detector_of: Callable[[int], Detector], seeds: int, sets: Sequence[str] = ()) -> Iterator[SimulatedRun]:
    """Judge every set, or those named, `seeds` times with draws of their own.

    detector_of: the detector of a seed. A stream that it was trained on goes on from there; all others begin cold.
    """
    for seed in range(seeds):
        detector = detector_of(seed)
        for name in sets or SETS:
            yield from SETS[name](detector, seed)


def series_to_write(seeds: int) -> dict[str, pl.DataFrame]:
    """The series with faults and their twins, by file name: for `telltale train` and `evaluate` on files.

    Labels say where the fault is. Of a series without a training part, what comes before the first fault may be one.
    """
    files = {}
    for seed in range(seeds):
        for name, made in (("families", families(FEATURE, 1, seed)), ("plants", _plants_of(FEATURE, seed))):
            for one in made:
                files[f"{name}/{one.series.key}.parquet"] = _to_frame(one)
    return files


def _to_frame(one: Simulated) -> pl.DataFrame:
    series, number = one.series, np.arange(len(one.label))
    test = number >= FAULTS_FROM * len(number) if series.test.all() else series.test
    return pl.DataFrame(
        {
            "timestamp": series.times_ms,
            FEATURE[0]: series.values[:, 0],
            "label": one.label.astype(np.int8),
            "part": pl.Series(["train", "test"]).gather(test.astype(np.int64)),
        }
    )


def untrained() -> Detector:
    """It expects the last value, and knows nothing of any stream."""
    return Detector.cold(Forecaster(ForecasterConfig(FEATURE, hidden=UNTRAINED_HIDDEN, channelwise=True)))


def trained_on_plants(hidden: int, training: TrainingConfig, device: torch.device) -> Detector:
    """Trained on the first fortnight of the plants of its seed, as `telltale train` does."""
    parts = usable([one.series for one in _plants_of(FEATURE, training.seed)])
    start = load_net(parts[0].features).detector.forecaster
    fitted = fit(parts, suited_to(parts, hidden=hidden, start=start.config), training, device, start=start)
    if fitted.ended is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    return prime(fitted.forecaster, DetectorConfig(), parts)


def _families(detector: Detector, seed: int) -> Iterator[SimulatedRun]:
    yield from _with_twins("families", detector, list(families(detector.features, 1, seed)), seed)


def _plants(detector: Detector, seed: int) -> Iterator[SimulatedRun]:
    yield from _with_twins("plants", detector, _plants_of(detector.features, seed), seed)


def _plants_of(features: Sequence[str], seed: int) -> list[Simulated]:
    return list(plants(features, MACHINES_A_SEED, seed))


def _constants(detector: Detector, seed: int) -> Iterator[SimulatedRun]:
    """They are the same whatever the seed."""
    if seed == 0:
        yield from _with_twins("constants", detector, list(constants(detector.features)), seed)


def _with_twins(name: str, detector: Detector, made: Sequence[Simulated], seed: int) -> Iterator[SimulatedRun]:
    """A healthy series comes before those with its faults."""
    healthy: Bools = np.zeros(0, np.bool_)
    for one, judged in zip(made, backtest(detector, [one.series for one in made]), strict=True):
        opens = openings(judged)
        if one.fault is None:
            healthy = opens
            yield healthy_run(name, one, seed, judged)
        else:
            yield faulty_run(name, one, seed, opens, healthy)


def healthy_run(name: str, one: Simulated, seed: int, judged: Judged) -> SimulatedRun:
    times_ms, whole = judged.series.times_ms, judged.series.rows[0] == 0
    counts = np.arange(len(times_ms)) >= (LEARNING_SHARE * len(times_ms) if whole else 0)
    values, expected, upper = (column[:, :1] for column in (judged.series.values, judged.expected, judged.upper))
    error = np.abs(values - expected)[one.edge[one.series.test] & counts]
    return SimulatedRun(
        name,
        one.family,
        "",
        seed,
        readings=len(times_ms),
        days=float(np.ptp(times_ms)) / DAY_MS,
        false=int(openings(judged).sum()),
        loss=one_step_loss(values, expected, counts),
        band=share_in_band(values, expected, upper, counts),
        edge_error=float(np.nanmean(error)) if np.isfinite(error).any() else math.nan,
        noise=one.noise,
    )


def faulty_run(name: str, one: Simulated, seed: int, opens: Bools, healthy: Bools) -> SimulatedRun:
    fault = np.flatnonzero(one.label[one.series.test])
    window = slice(int(fault[0]), int(fault[-1]) + 1 + GRACE_READINGS)
    at, by_chance = np.flatnonzero(opens[window]), bool(healthy[window].any())
    found = len(at) > 0 and not by_chance
    return SimulatedRun(
        name,
        one.family,
        str(one.fault),
        seed,
        found=float(found),
        by_chance=float(by_chance),
        delay=float(at[0]) if found else math.nan,
    )


def _machines(detector: Detector, seed: int) -> Iterator[SimulatedRun]:
    """The plant of `telltale demo`: a machine is a stream of three channels, as the service has it.

    A net that reads all channels at once, and has been trained on fewer, judges each as a stream; any alarm counts.
    """
    learning, faulty = (int(days * DAY_MS / 1_000 / FAULTY_STEP_S) for days in FAULTY_DAYS)
    made = plant(
        FAULTY_MACHINES,
        learning + faulty,
        seed,
        step_s=FAULTY_STEP_S,
        fault_every=FAULTY_EVERY,
        first_fault_after=learning,
    )
    opened = _open_in_plant(_of_machines(detector), made)
    near = np.zeros_like(opened)
    for fault in made.faults:
        window = slice(fault.start, fault.end + GRACE_READINGS)
        near[fault.stream, window] = True
        at = np.flatnonzero(opened[fault.stream, window])
        yield SimulatedRun(
            "machines",
            fault.kind,
            fault.kind,
            seed,
            found=float(len(at) > 0),
            delay=float(at[0]) if len(at) else math.nan,
        )
    judged = np.broadcast_to(np.arange(learning + faulty) >= learning, near.shape) & ~near
    false, readings = int((opened & judged).sum()), int(judged.sum())
    yield SimulatedRun("machines", "none", "", seed, readings, readings * FAULTY_STEP_S * 1_000 / DAY_MS, false)


def _asked(detector: Detector, seed: int) -> Iterator[SimulatedRun]:
    """Each channel of healthy machines as a stream, judged as if that many false alarms were asked for."""
    learning, judged = (int(days * DAY_MS / 1_000 / FAULTY_STEP_S) for days in ASKED_DAYS)
    made = plant(ASKED_MACHINES, learning + judged, seed, step_s=FAULTY_STEP_S, fault_every=None)
    streams = [
        series_of(f"{key}/{name}", detector.features, times_ms[present], values[present, channel])
        for key, times_ms, present, values in zip(made.keys, made.times_ms, made.present, made.values, strict=True)
        for channel, name in enumerate(FEATURES)
    ]
    for days in ASKED:
        sensors = SensorRules([SensorRule(false_alarm_ms=days * DAY_MS)], detector.features)
        for one in backtest(detector, streams, sensors):
            false = int(openings(one)[learning:].sum())
            yield SimulatedRun("asked", f"{days} days", "", seed, judged, float(ASKED_DAYS[1]), false)


def _of_machines(detector: Detector) -> Detector:
    """With a channel for each of a machine, where the net has the same weights for all."""
    config = detector.forecaster.config
    if not config.channelwise or len(config.features) >= len(FEATURES):
        return detector
    widened = Forecaster(replace(config, features=FEATURES))
    widened.load_state_dict(detector.forecaster.state_dict())
    return Detector.cold(widened, detector.config)


def _open_in_plant(detector: Detector, made: Plant) -> Bools:
    """The readings of every machine at which an alarm opens, (S, T)."""
    width = len(FEATURES) if len(detector.features) >= len(FEATURES) else 1
    opened = np.zeros(made.present.shape, np.bool_)
    series, places = [], []
    for machine, present in enumerate(made.present):
        for first in range(0, len(FEATURES), width):
            values = made.values[machine, present]
            one = series_of(made.keys[machine], detector.features, made.times_ms[machine, present], values[:, first])
            one.values[:, :width] = values[:, first : first + width]
            series.append(one)
            places.append((machine, np.flatnonzero(present)))
    for judged, (machine, present) in zip(backtest(detector, series), places, strict=True):
        opened[machine, present] |= openings(judged)
    return opened


SETS: Mapping[str, Callable[[Detector, int], Iterator[SimulatedRun]]] = {
    "families": _families,
    "plants": _plants,
    "constants": _constants,
    "machines": _machines,
    "asked": _asked,
}
