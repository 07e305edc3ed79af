"""Readings of a stream that come one by one, of one metric each, joined into one by their time.

Event time is cut into windows. A window's reading has the last value of each feature in it; where there is none, the
last known one, unless that is older than it may be. Its time is that of the latest reading in the window. It is written

- when every feature has a value in the window, or
- when the stream's own time is past the window's end and what late ones are given, or
- when the stream has sent nothing for as long, on the clock of the records that are read.

No clock of the machine is asked: what comes out depends on the order of what goes in, and on nothing else.

Sizes: F features.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from service.stages.rekey.readings import RekeyedReading


class JoinRules(NamedTuple):
    window_ms: int
    late_ms: int  # that a window stays open beyond its end
    expire_ms: int  # for which a value stands in where there is none

    @property
    def patience_ms(self) -> int:
        """How long nothing more comes of a stream whose windows are over."""
        return self.window_ms + self.late_ms


class Window(msgspec.Struct):
    """What has come of a stream in a window that is not written yet."""

    begin_ms: int
    time_ms: int  # of the latest reading
    record_time_ms: int  # of that one's record; -1: unknown
    source: str  # of that one
    values: list[float | None]  # (F,)
    times_ms: list[int]  # (F,), of each value
    sources: list[str]  # (F,), of each value


class JoinedStream(msgspec.Struct):
    """What is known of a stream."""

    heard_ms: int  # on the clock of the records, when a reading came last
    latest_ms: int  # time of the latest reading
    written_ms: int  # everything before it is written
    values: list[float | None]  # (F,), the last known ones
    times_ms: list[int]  # (F,), of each
    windows: list[Window]  # by their time


class Join:
    """The streams of all topics that are read."""

    def __init__(self, features: int, rules: JoinRules) -> None:
        self._features, self._rules = features, rules
        self.clock_ms = 0  # the latest time of a record that was read
        self.late = 0  # readings that came when their window was written and newer values were known
        self.dirty: set[bytes] = set()  # streams that have changed since this was cleared
        self._streams: OrderedDict[bytes, JoinedStream] = OrderedDict()  # the one that sent last is last
        self._open: OrderedDict[bytes, None] = OrderedDict()  # of these, those with windows; in the same order

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, key: bytes) -> JoinedStream | None:
        return self._streams.get(key)

    def restore(self, clock_ms: int, streams: Iterable[tuple[bytes, JoinedStream]]) -> None:
        """Begin with what was known."""
        self.clock_ms = clock_ms
        self._streams = OrderedDict(sorted(streams, key=lambda one: (one[1].heard_ms, one[0])))
        self._open = OrderedDict.fromkeys(key for key, stream in self._streams.items() if stream.windows)

    def add(self, reading: RekeyedReading) -> list[RekeyedReading]:
        """Take a reading in; what it completes, in the order of time."""
        key, time_ms = reading.key, reading.time_ms
        self.clock_ms = max(self.clock_ms, time_ms if reading.record_time_ms < 0 else reading.record_time_ms)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = JoinedStream(0, 0, 0, [None] * self._features, [0] * self._features, [])
        stream.heard_ms = self.clock_ms
        self._streams.move_to_end(key)
        self.dirty.add(key)
        begin_ms = time_ms - time_ms % self._rules.window_ms
        if begin_ms < stream.written_ms:
            self.late += not _learn(stream, reading.values, [time_ms] * self._features)
            return []
        _put(self._window(stream, begin_ms), reading)
        stream.latest_ms = max(stream.latest_ms, time_ms)
        found = []
        while stream.windows and self._is_ready(stream, stream.windows[0]):
            found.append(self._write(key, stream))
        self._open.pop(key, None)
        if stream.windows:
            self._open[key] = None
        return found

    def end(self, key: bytes) -> list[RekeyedReading]:
        """The readings of all windows of a stream, of which nothing more is awaited."""
        stream = self._streams.get(key)
        if stream is None or not stream.windows:
            return []
        del self._open[key]
        self.dirty.add(key)
        return [self._write(key, stream) for _ in range(len(stream.windows))]

    def idle(self, most: int) -> list[RekeyedReading]:
        """At most that many readings of streams that have sent nothing for long enough. Call it after each record."""
        found: list[RekeyedReading] = []
        while self._open and len(found) < most:
            key = next(iter(self._open))
            stream = self._streams[key]
            if stream.heard_ms + self._rules.patience_ms > self.clock_ms:
                break
            found.append(self._write(key, stream))
            self.dirty.add(key)
            if not stream.windows:
                del self._open[key]
        self._forget()
        return found

    def _forget(self) -> None:
        """Streams of which nothing is left to be told: all their values are too old to stand in."""
        limit_ms = self.clock_ms - self._rules.patience_ms - self._rules.expire_ms
        while self._streams:
            key, stream = next(iter(self._streams.items()))
            if stream.windows or stream.heard_ms > limit_ms:
                return
            del self._streams[key]
            self.dirty.add(key)

    def _window(self, stream: JoinedStream, begin_ms: int) -> Window:
        windows = stream.windows
        at = len(windows)
        while at and windows[at - 1].begin_ms > begin_ms:
            at -= 1
        if at and windows[at - 1].begin_ms == begin_ms:
            return windows[at - 1]
        features = self._features
        windows.insert(at, Window(begin_ms, -1, -1, "", [None] * features, [0] * features, [""] * features))
        return windows[at]

    def _is_ready(self, stream: JoinedStream, window: Window) -> bool:
        return None not in window.values or window.begin_ms + self._rules.patience_ms <= stream.latest_ms

    def _write(self, key: bytes, stream: JoinedStream) -> RekeyedReading:
        """The reading of the stream's first window, which is closed."""
        window = stream.windows.pop(0)
        stream.written_ms = window.begin_ms + self._rules.window_ms
        _learn(stream, window.values, window.times_ms)
        oldest_ms = window.time_ms - self._rules.expire_ms
        known = zip(stream.values, stream.times_ms, strict=True)
        values = [value if time_ms >= oldest_ms else None for value, time_ms in known]
        sources = [source for source in window.sources if source] or [window.source]
        return RekeyedReading(key, window.time_ms, values, window.record_time_ms, ",".join(dict.fromkeys(sources)))


def _put(window: Window, reading: RekeyedReading) -> None:
    """Of values of the same time the one that came last is taken."""
    if reading.time_ms >= window.time_ms:
        window.time_ms, window.record_time_ms, window.source = reading.time_ms, reading.record_time_ms, reading.source
    for n, value in enumerate(reading.values):
        if value is not None and reading.time_ms >= window.times_ms[n]:
            window.values[n], window.times_ms[n], window.sources[n] = value, reading.time_ms, reading.source


def _learn(stream: JoinedStream, values: Iterable[float | None], times_ms: Iterable[int]) -> bool:
    """Know the values that are not older than those that are known; False: there were none."""
    some = False
    for n, (value, time_ms) in enumerate(zip(values, times_ms, strict=True)):
        if value is not None and time_ms >= stream.times_ms[n]:
            stream.values[n], stream.times_ms[n] = value, time_ms
            some = True
    return some
