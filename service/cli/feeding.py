"""`telltale produce`: readings from files or from the simulated plant, to a topic."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from models.data.series import Series
from models.data.synthetic import FEATURES, START_MS, Plant, PlantSimulator
from service.errors import RefusedInput
from service.input.file_log import FileLog
from service.input.wire import encode_reading
from service.kafka import topics as kafka_topics
from service.log.port import Record
from service.settings.settings import Settings, client_options

PLANT_STEP_S = 300.0
PLANT_TRAINING_READINGS = 2 * 7 * 288  # of each stream: two weeks without a fault, then faults begin
PLANT_FAULT_EVERY = 3_000.0  # readings of a stream between two faults
SLICE_READINGS = 12  # of each stream, simulated at once
TOLD_EVERY = 100  # records between two words on progress
PACE_S = 0.02  # shortest wait when a rate is kept


def select(series: Sequence[Series], part: str) -> list[Series]:
    """The `part` (all, train or test) of every series; series without such rows are left out."""
    kept = [one if part == "all" else one.select(one.test == (part == "test")) for one in series]
    kept = [one for one in kept if len(one.times_ms)]
    if not kept:
        raise RefusedInput(f"no row of the files has part = {part}")
    return kept


def file_records(series: Sequence[Series], part: str) -> Iterator[Record]:
    """Side by side: the first reading of every stream, then the second of every stream, and so on."""
    return FileLog(select(series, part)).records()


def plant(streams: int, seed: int) -> PlantSimulator:
    """The plant that `train --simulate` learns and `produce --simulate` sends: the same for the same seed."""
    return PlantSimulator(
        streams,
        seed,
        step_s=PLANT_STEP_S,
        fault_every=PLANT_FAULT_EVERY,
        first_fault_after=PLANT_TRAINING_READINGS,
    )


def simulated_series(streams: int, seed: int) -> list[Series]:
    """The plant's first weeks, without a fault."""
    return plant_series(plant(streams, seed).advance(PLANT_TRAINING_READINGS))


def plant_series(piece: Plant) -> list[Series]:
    """A piece of the plant as if it had been read from a file."""
    rows = np.arange(piece.times_ms.shape[1])
    return [
        Series(key, Path("simulated"), FEATURES, rows[sent], times[sent], values[sent], np.zeros(sent.sum(), bool))
        for key, times, values, sent in zip(piece.keys, piece.times_ms, piece.values, piece.present, strict=True)
    ]


def simulated_records(streams: int, readings: int, seed: int, after_ms: int = 0) -> Iterator[Record]:
    """The plant from where training ended, or from the step after `after_ms` if that is later.

    readings: of each stream; 0: without end.
    """
    simulator = plant(streams, seed)
    gone = int((after_ms - START_MS) // (PLANT_STEP_S * 1000)) + 1
    for begin in range(0, max(gone, PLANT_TRAINING_READINGS), PLANT_TRAINING_READINGS):
        simulator.advance(min(PLANT_TRAINING_READINGS, max(gone, PLANT_TRAINING_READINGS) - begin))
    left = readings or -1
    while left:
        some = SLICE_READINGS if left < 0 else min(left, SLICE_READINGS)
        left -= some if left > 0 else 0
        yield from plant_records(simulator.advance(some))


def plant_records(piece: Plant) -> Iterator[Record]:
    """What the plant sends, in the order of time."""
    streams, places = np.nonzero(piece.present)
    for n in np.argsort(piece.times_ms[streams, places], kind="stable").tolist():
        stream, place = streams[n], places[n]
        value = encode_reading(FEATURES, int(piece.times_ms[stream, place]), piece.values[stream, place].tolist())
        yield Record(piece.keys[stream].encode(), value)


def sent_until_ms(settings: Settings) -> int:
    """The time of the latest reading at the ends of the first input topic's partitions; 0 where there is none.

    Of a topic that simulated_records filled: others may write their times otherwise.
    """
    kafka = settings.kafka
    values = kafka_topics.last_values(kafka.bootstrap_servers, kafka.topics[0], client_options(settings))
    try:
        return max((int(json.loads(value)["timestamp"]) for value in values), default=0)
    except (ValueError, TypeError, KeyError):
        raise RefusedInput(f"{kafka.topics[0]}: its last records are not the simulated plant's") from None


def feed(
    records: Iterator[Record],
    settings: Settings,
    rate: float | None,
    progress: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> tuple[int, float]:
    """Send records to the first input topic, `rate` a second. Returns how many were sent, and in how many seconds.

    The time is that of sending: what it takes to make the first record, such as to simulate what came before, is not in
    it. progress: is called with the number of records taken so far. stop: when set, no more is taken, and what was
    taken is sent.
    """
    kafka = settings.kafka
    kafka_topics.check_topics(kafka.bootstrap_servers, kafka.topics, (), client_options(settings))
    first = list(islice(records, 1))
    stop = stop or threading.Event()
    taken = chain(first, records)
    began = time.monotonic()
    sent = kafka_topics.produce(
        kafka.bootstrap_servers,
        kafka.topics[0],
        ((record, None) for record in _counted(paced(taken, rate, stop) if rate else taken, progress, stop)),
        client_options(settings),
    )
    return sent, time.monotonic() - began


def _counted(records: Iterator[Record], progress: Callable[[int], None], stop: threading.Event) -> Iterator[Record]:
    count = 0
    for record in records:
        if stop.is_set():
            return
        yield record
        count += 1
        if count % TOLD_EVERY == 0:
            progress(count)
    progress(count)


def paced(records: Iterator[Record], rate: float, stop: threading.Event) -> Iterator[Record]:
    """The same records, no faster than `rate` a second, until `stop` is set."""
    began = time.monotonic()
    sent = 0
    while some := list(islice(records, max(1, int(rate * PACE_S)))):
        yield from some
        sent += len(some)
        stop.wait(max(0.0, began + sent / rate - time.monotonic()))
