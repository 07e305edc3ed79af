"""From producing a reading to reading the anomaly that it opened, of one worker at a given load.

Producer, broker, worker and reader run on this machine, each in a process of its own. What is told of an anomaly holds
the time of its reading, which is when it was produced.
"""

import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from models.data.rfc3339 import milliseconds_of
from service.input.events import decode_event
from tests.bench import load

SPIKE = 1e12
LEAD_S = 5.0  # readings of the first seconds are not counted: their streams were silent since they were trained on
QUIET_S = 5.0  # without an anomaly, after the last reading was produced: then there are no more


class Load(NamedTuple):
    """What is produced, and what is asked of it."""

    what: str
    streams: int
    channels: int
    rate: int  # readings a second, of all streams
    spike_every: int  # readings of a stream: so rare that each is told
    p50_ms: float | None  # asked at most
    p99_ms: float


LOADS = (
    Load("1,000 streams, 10,000 readings a second", 1_000, 1, 10_000, 151, 10.0, 40.0),
    Load("6 streams of 8 channels at 1 kHz each", 6, 8, 6_000, 997, None, 30.0),
)


class Latencies(NamedTuple):
    """Of the anomalies that were opened."""

    ms: list[float]
    rate: float  # readings a second that were produced

    def share(self, share: float) -> float:
        return sorted(self.ms)[int(len(self.ms) * share)]


def measure(servers: str, topic: str, anomalies_topic: str, asked: Load, seconds: float) -> Latencies:
    """Produce readings of which some are spikes, and wait for the anomalies that they open."""
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="latest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    partitions = [TopicPartition(anomalies_topic, n) for n in sorted(consumer.partitions_for_topic(anomalies_topic))]
    consumer.assign(partitions)
    consumer.seek_to_end(*partitions)
    for partition in partitions:
        consumer.position(partition)
    numbers = (asked.streams, asked.channels, asked.rate, asked.spike_every)
    producer = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.bench.latency", servers, topic, *map(str, numbers), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: list[tuple[float, float]] = []  # when a reading was sent, and when its anomaly was read
    quiet_since = time.monotonic()
    while producer.poll() is None or time.monotonic() - quiet_since < QUIET_S:
        for records in consumer.poll(100).values():
            quiet_since, now_ms = time.monotonic(), time.time() * 1000
            opened = [event for record in records if (event := decode_event(record.value)).change == "opened"]
            seen += [(float(milliseconds_of(event.time)), now_ms) for event in opened]
    consumer.close()
    said, _ = producer.communicate()
    if producer.returncode:
        raise SystemExit(f"the producer ended with {producer.returncode}")
    began_ms, rate = map(float, said.split())
    took_ms = [read_ms - sent_ms for sent_ms, read_ms in seen if sent_ms >= began_ms + LEAD_S * 1000]
    if not took_ms:
        raise SystemExit(f"no anomaly was opened after the first {LEAD_S:.0f} s, {len(seen)} within them")
    return Latencies(took_ms, rate)


def produce(servers: str, topic: str, streams: int, channels: int, rate: int, spike_every: int, seconds: float) -> None:
    """Readings of all streams in turn, each when it is due or as soon as it can be.

    Prints when it began, in ms, and how many a second they were.
    """
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=1)
    noise = np.random.default_rng(3).normal(size=(65_536, channels)).round(4).tolist()
    values_form = ",".join(f'"{name}":%r' for name in load.features(channels))
    form = '{"timestamp":%d,"values":{' + values_form + "}}"
    keys = [load.key(stream) for stream in range(streams)]
    n, began_ms, began = 0, time.time() * 1000, time.monotonic()
    while (passed_s := time.monotonic() - began) < seconds:
        if passed_s * rate < n:
            time.sleep(n / rate - passed_s)
        wave, stream = divmod(n, streams)
        values = noise[n * 7_919 % len(noise)]
        if (wave + stream * 13) % spike_every == spike_every - 1:
            values = [SPIKE, *values[1:]]
        producer.send(topic, (form % (int(time.time() * 1000), *values)).encode(), keys[stream])
        n += 1
    producer.close()
    print(began_ms, n / seconds, flush=True)


def line(asked: Load, found: Latencies) -> str:
    return (
        f"latency, {asked.what}: p50 {found.share(0.5):.1f} ms, p99 {found.share(0.99):.1f} ms,"
        f" longest {max(found.ms):.1f} ms over {len(found.ms):,} anomalies at {found.rate:,.0f} readings a second"
    )


if __name__ == "__main__":
    where, into, *numbers, how_long = sys.argv[1:]
    streams, channels, rate, spike_every = map(int, numbers)
    produce(where, into, streams, channels, rate, spike_every, float(how_long))
