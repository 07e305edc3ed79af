"""`telltale produce`: readings from files or from the simulated plant, to a topic."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.data.arrays import Doubles
from models.data.series import Series
from models.data.synthetic import FEATURES, START_MS, Plant, PlantSimulator
from service.errors import RefusedInput
from service.input.file_log import FileLog
from service.input.formats import InputFormat
from service.input.wire import Decoder
from service.input.writing import encode_readings
from service.kafka import topics as kafka_topics
from service.log.port import Fetched, Partition, Record
from service.settings.settings import Settings, client_options

PLANT_STEP_S = 300.0
PLANT_TRAINING_READINGS = 2 * 7 * 288  # of each stream: two weeks without a fault, then faults begin
PLANT_FAULT_EVERY = 3_000.0  # readings of a stream between two faults
SLICE_READINGS = 12  # of each stream, simulated at once
PROGRESS_EVERY = 100  # readings between two reports of progress
PACE_S = 0.02  # shortest wait when a rate is kept


def select(series: Sequence[Series], part: str) -> list[Series]:
    """The `part` (all, train or test) of every series; series without such rows are left out."""
    kept = [one if part == "all" else one.select(one.test == (part == "test")) for one in series]
    kept = [one for one in kept if len(one.times_ms)]
    if not kept:
        raise RefusedInput(f"no row of the files has part = {part}")
    return kept


class SentReading(NamedTuple):
    """A reading that is to be sent."""

    stream: str
    time_ms: int
    values: Doubles  # (F,)


def file_readings(series: Sequence[Series]) -> Iterator[SentReading]:
    """In the order in which FileLog reads them."""
    for stream, place in zip(*(column.tolist() for column in FileLog(series).places), strict=True):
        one = series[stream]
        yield SentReading(one.key, int(one.times_ms[place]), one.values[place])


def records_of(
    readings: Iterable[SentReading], features: Sequence[str], written: InputFormat = InputFormat.JSON, most: int = 1
) -> Iterator[Record]:
    """The readings as records: `most` of a stream in each, those that are left over at the end in smaller ones."""
    held: dict[str, list[SentReading]] = {}
    for reading in readings:
        mine = held.setdefault(reading.stream, [])
        mine.append(reading)
        if len(mine) == most:
            yield _record(held.pop(reading.stream), features, written)
    yield from (_record(mine, features, written) for mine in held.values())


def _record(readings: Sequence[SentReading], features: Sequence[str], written: InputFormat) -> Record:
    """Of readings of one stream."""
    values = np.stack([reading.values for reading in readings]) if len(readings) > 1 else readings[0].values[None]
    times_ms = [reading.time_ms for reading in readings]
    return Record(readings[0].stream.encode(), encode_readings(written, features, times_ms, values))


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


def simulated_readings(streams: int, readings: int, seed: int, after_ms: int = 0) -> Iterator[SentReading]:
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
        yield from plant_readings(simulator.advance(some))


def plant_readings(piece: Plant) -> Iterator[SentReading]:
    """What the plant sends, in the order of time."""
    streams, places = np.nonzero(piece.present)
    for n in np.argsort(piece.times_ms[streams, places], kind="stable").tolist():
        stream, place = streams[n], places[n]
        yield SentReading(piece.keys[stream], int(piece.times_ms[stream, place]), piece.values[stream, place])


def sent_until_ms(settings: Settings) -> int:
    """The time of the latest reading at the ends of the first input topic's partitions; 0 where there is none.

    Of a topic that the simulated plant filled, in whatever format.
    """
    kafka = settings.kafka
    values = kafka_topics.last_values(kafka.bootstrap_servers, kafka.topics[0], client_options(settings))
    if not values:
        return 0
    count = len(values)
    offsets, times_ms = np.arange(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    last = Fetched(Partition(kafka.topics[0], 0), [b"plant"] * count, [*values], offsets, times_ms, count, count)
    batch, rejects = Decoder(FEATURES, 0).decode(last)
    if rejects:
        raise RefusedInput(f"{kafka.topics[0]}: its last records are not the simulated plant's")
    return int(batch.readings.times_ms.max())


def feed(
    readings: Iterator[SentReading],
    as_records: Callable[[Iterator[SentReading]], Iterator[Record]],
    settings: Settings,
    rate: float | None,
    progress: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> tuple[int, float]:
    """Send readings to the first input topic, `rate` a second. Returns how many were sent, and in how many seconds.

    The time is that of sending: what it takes to make the first reading, such as to simulate what came before, is not
    in it. progress: is called with the number of readings taken so far. stop: when set, no more is taken, and what was
    taken is sent.
    """
    kafka = settings.kafka
    kafka_topics.check_topics(kafka.bootstrap_servers, kafka.topics, (), client_options(settings))
    first = list(islice(readings, 1))
    stop = stop or threading.Event()
    every = chain(first, readings)
    began = time.monotonic()
    taken = 0

    def note(count: int) -> None:
        nonlocal taken
        taken = count
        progress(count)

    chosen = _counted(paced(every, rate, stop) if rate else every, note, stop)
    records = ((record, None) for record in as_records(chosen))
    kafka_topics.produce(kafka.bootstrap_servers, kafka.topics[0], records, client_options(settings))
    return taken, time.monotonic() - began


def _counted(
    readings: Iterator[SentReading], progress: Callable[[int], None], stop: threading.Event
) -> Iterator[SentReading]:
    count = 0
    for reading in readings:
        if stop.is_set():
            break
        yield reading
        count += 1
        if count % PROGRESS_EVERY == 0:
            progress(count)
    progress(count)


def paced(readings: Iterator[SentReading], rate: float, stop: threading.Event) -> Iterator[SentReading]:
    """The same readings, no faster than `rate` a second, until `stop` is set."""
    began = time.monotonic()
    sent = 0
    while some := list(islice(readings, max(1, int(rate * PACE_S)))):
        yield from some
        sent += len(some)
        stop.wait(max(0.0, began + sent / rate - time.monotonic()))
