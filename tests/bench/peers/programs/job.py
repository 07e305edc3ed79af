"""The job of every peer written in Python: its arguments, the rule that makes an anomaly, and its account at the end.

Standard library alone, since each peer has an environment of its own. The rule is deliberately little: a mean and a
variance a stream, both weighted exponentially. The Java peers do the same in java/job.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

WEIGHT = 0.02  # of a reading in mean and variance; the first fifty count alike
WARM_UP = 8  # readings of a stream that are not judged
LIMIT = 3.0  # standard deviations
IDLE_S = 30.0  # without a record: the readings that are missing will not come


class Job(NamedTuple):
    """What the runner asks for. folder: empty, for state on disk. weights: a file, of the LSTM."""

    servers: str
    topic: str
    anomalies: str
    group: str
    readings: int
    folder: Path
    weights: Path


class Statistics(NamedTuple):
    """All that is remembered of a stream."""

    seen: int = 0
    mean: float = 0.0
    variance: float = 0.0


NOTHING_SEEN = Statistics()


def judge(seen: Statistics, value: float) -> tuple[Statistics, float]:
    """The statistics after this value, and its distance from the mean before it, in standard deviations.

    The order of the operations is part of the rule: numpy and Java come to the same bits.
    """
    count, mean, variance = seen
    delta = value - mean
    score = abs(delta) / math.sqrt(variance) if count >= WARM_UP and variance > 0 else 0.0
    weight = max(1.0 / (count + 1), WEIGHT)
    return Statistics(count + 1, mean + weight * delta, (1.0 - weight) * (variance + weight * delta * delta)), score


class Account:
    """Counts what a peer judges, and times it.

    The first fifth is not timed: compilers, caches and the first flush of a store are then through. Time ends with
    the last reading judged, not with its commit: what that leaves out is to the peer's advantage.
    """

    def __init__(self, readings: int) -> None:
        self.readings = readings
        self.judged = 0
        self.anomalies = 0
        self._next = self._untimed = readings // 5
        self._began = self._ended = 0.0

    def add(self, judged: int = 1) -> bool:
        """Count readings that were judged; whether they are all."""
        self.judged += judged
        if self.judged >= self._next:
            self._mark()
        return self.judged >= self.readings

    def _mark(self) -> None:
        self._ended = time.perf_counter()
        if not self._began:
            self._began, self._untimed, self._next = self._ended, self.judged, self.readings

    def close(self) -> None:
        """Print the account as the last line of the program; exit with 1 unless every reading was judged once."""
        seconds = self._ended - self._began
        timed = self.judged - self._untimed
        print(json.dumps({"judged": self.judged, "anomalies": self.anomalies, "timed": timed, "seconds": seconds}))
        if self.judged != self.readings:
            sys.exit(f"judged {self.judged:,} readings, expected {self.readings:,}")


def read_job() -> Job:
    parser = argparse.ArgumentParser(description="one peer, started by python -m tests.bench.peers")
    for name in Job._fields:
        parser.add_argument(f"--{name}", required=True, type=Job.__annotations__[name])
    return Job(**vars(parser.parse_args()))


def anomaly(stream: str, timestamp: int, value: float, score: float) -> dict[str, object]:
    return {"stream": stream, "timestamp": timestamp, "value": value, "score": score}
