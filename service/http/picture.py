"""A stream's past as a PNG: each reading in its band, its score, and where an alarm was open. For notifications.

Drawn at twice the size and made smaller, as the library draws lines without smoothing them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from models.data.rfc3339 import milliseconds_of, rfc3339
from models.output.palette import PALETTE
from service.live.insights import ReadingSeen

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

LIBRARY = "PIL"
MISSING = "pictures need Pillow, which is not installed: pip install 'telltale[pictures]'"
WIDTH, LEFT, RIGHT, TOP = 960, 90, 24, 64
CHANNEL_HEIGHT, SCORE_HEIGHT, GAP = 150, 80, 26
LINE_HEIGHT, TEXT_SIZE = 19, 14
FINER = 2
MOST_CHANNELS = 3
SCORE_ROOM = 1.1  # what the score's axis spans, of the highest
SHARE_SHOWN = 0.2  # of the score, from which on a channel is shown beside the first
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")  # else the library's own, which has ASCII alone
OLDER_GONE = "the topic keeps nothing that is older"


class _Share(msgspec.Struct):
    name: str
    share: float


class _Changed(msgspec.Struct):
    channels: tuple[_Share, ...]
    opened_at: str
    severity: str


class _Event(msgspec.Struct):
    data: _Changed


class _Trace(msgspec.Struct):
    """Of TraceSeen what is drawn."""

    stream: str
    features: list[str]
    units: list[str | None]
    readings: list[ReadingSeen]


class PastShown(msgspec.Struct):
    """Of what is known of a stream's past, as service.inspect answers it, what is in the picture."""

    trace: _Trace
    older: str
    events: tuple[_Event, ...]
    remarks: tuple[str, ...]


class Curve(NamedTuple):
    """What is drawn of one channel, or of the score: numbers by reading, None where there is none."""

    name: str
    observed: Sequence[float | None]
    expected: Sequence[float | None] = ()
    lower: Sequence[float | None] = ()
    upper: Sequence[float | None] = ()


class _Panel(NamedTuple):
    """Where a curve is, in pixels, and what its axis spans."""

    top: int
    bottom: int
    lowest: float
    highest: float

    def y(self, value: float) -> float:
        inside = min(max(value, self.lowest), self.highest)
        return self.bottom - (inside - self.lowest) / (self.highest - self.lowest) * (self.bottom - self.top)


def can_draw() -> bool:
    return find_spec(LIBRARY) is not None


def picture_of(past: bytes, around_ms: int) -> bytes:
    """A PNG. past: as service.inspect answers it, in JSON; around_ms: the event time that was asked for."""
    seen = msgspec.json.decode(past, type=PastShown)
    readings = [one for one in seen.trace.readings if one.fate == "judged"]
    if not readings:
        return picture_of_words(seen.trace.stream, ["the topic has no reading of it", *seen.remarks])
    times_ms = [milliseconds_of(one.time) for one in readings]
    remarks = [*seen.remarks, *([OLDER_GONE] if seen.older == "gone" else [])]
    if not times_ms[0] <= around_ms <= times_ms[-1]:
        remarks.append(f"{rfc3339(around_ms)}, which was asked for, is not among them")
    curves = [*_channels(seen, readings), Curve("score", [one.score for one in readings])]
    heights = [*[CHANNEL_HEIGHT] * (len(curves) - 1), SCORE_HEIGHT]
    height = TOP + sum(heights) + GAP * len(heights) + LINE_HEIGHT * (1 + len(remarks))
    x = _across(times_ms)

    def draw(pen: "_Pen") -> None:
        pen.text(LEFT, 12, seen.trace.stream, "ink", size=18)
        pen.text(LEFT, 38, _subtitle(seen, times_ms, around_ms), "faint")
        top = TOP
        for curve, tall in zip(curves, heights, strict=True):
            panel = _Panel(top, top + tall, *_span(curve))
            _draw_alarms(pen, panel, x, readings)
            _draw_curve(pen, panel, x, curve)
            if times_ms[0] <= around_ms <= times_ms[-1]:
                at = _across(times_ms, [around_ms])[0]
                pen.line([(at, panel.top), (at, panel.bottom)], "critical")
            top += tall + GAP
        pen.text(LEFT, top - GAP + 6, rfc3339(times_ms[0]), "faint")
        pen.text(WIDTH - RIGHT, top - GAP + 6, rfc3339(times_ms[-1]), "faint", anchor="ra")
        for n, remark in enumerate(remarks):
            pen.text(LEFT, top - GAP + 6 + LINE_HEIGHT * (n + 1), remark, "major")

    return _png(height, draw)


def picture_of_words(stream: str, words: Sequence[str]) -> bytes:
    """Where there is nothing to be drawn: why."""

    def draw(pen: "_Pen") -> None:
        pen.text(LEFT, 12, stream, "ink", size=18)
        for n, line in enumerate(words):
            pen.text(LEFT, 44 + LINE_HEIGHT * n, line, "major")

    return _png(60 + LINE_HEIGHT * len(words), draw)


def _subtitle(seen: PastShown, times_ms: Sequence[int], around_ms: int) -> str:
    """With the anomaly that opened at the time asked for, as its last event says; else the last one shown."""
    shown = [one.data for one in seen.events if times_ms[0] <= milliseconds_of(one.data.opened_at) <= times_ms[-1]]
    asked = [one for one in shown if milliseconds_of(one.opened_at) == around_ms]
    if not shown:
        return f"{len(times_ms)} readings"
    (*_, one) = asked or shown
    return f"{len(times_ms)} readings; anomalous since {one.opened_at}, {one.severity}"


def _channels(seen: PastShown, readings: Sequence[ReadingSeen]) -> Iterator[Curve]:
    """Those with most share in the anomaly; the first ones, where there is none."""
    shares = {one.name: one.share for event in seen.events for one in event.data.channels}  # the latest counts
    features = seen.trace.features
    ranked = sorted(range(len(features)), key=lambda n: -shares.get(features[n], 0.0))
    shown = [n for place, n in enumerate(ranked) if not place or shares.get(features[n], 1.0) >= SHARE_SHOWN]
    for n in shown[:MOST_CHANNELS]:
        columns = ([getattr(one, name)[n] for one in readings] for name in ("values", "expected", "lower", "upper"))
        unit = seen.trace.units[n]
        yield Curve(f"{features[n]}, {unit}" if unit else features[n], *columns)


def _across(times_ms: Sequence[int], at_ms: Sequence[int] | None = None) -> list[float]:
    """Pixels of times: of those shown, or of others."""
    begin, span = times_ms[0], max(1, max(times_ms) - times_ms[0])
    return [LEFT + (one - begin) / span * (WIDTH - LEFT - RIGHT) for one in (times_ms if at_ms is None else at_ms)]


def _span(curve: Curve) -> tuple[float, float]:
    """What an axis spans: all that was observed, and of the band as much again above and below."""
    observed = [one for one in curve.observed if one is not None]
    around = [one for ends in (curve.lower, curve.upper) for one in ends if one is not None]
    if curve.name == "score" and not around:
        return 0.0, max(1.25, SCORE_ROOM * max(observed, default=0.0))
    lowest, highest = min(observed or around or [0.0]), max(observed or around or [1.0])
    room = highest - lowest or abs(highest) or 1.0
    lowest = min(lowest, *(max(one, lowest - room) for one in around)) if around else lowest
    highest = max(highest, *(min(one, highest + room) for one in around)) if around else highest
    edge = 0.06 * (highest - lowest or 1.0)
    return lowest - edge, highest + edge


def _draw_alarms(pen: "_Pen", panel: _Panel, x: Sequence[float], readings: Sequence[ReadingSeen]) -> None:
    begin: float | None = None
    for n, one in enumerate(readings):
        if one.alarm and begin is None:
            begin = x[n]
        if begin is not None and (not one.alarm or n == len(readings) - 1):
            pen.area([(begin, panel.top), (x[n], panel.top), (x[n], panel.bottom), (begin, panel.bottom)], "alarm")
            begin = None


def _draw_curve(pen: "_Pen", panel: _Panel, x: Sequence[float], curve: Curve) -> None:
    for run in _runs(x, curve.lower, curve.upper):
        upper = [(at, panel.y(high)) for at, _, high in run]
        pen.area([*upper, *((at, panel.y(low)) for at, low, _ in reversed(run))], "band")
    pen.line([(LEFT, panel.bottom), (WIDTH - RIGHT, panel.bottom)], "line")
    if curve.name == "score" and not curve.lower:
        pen.line([(LEFT, panel.y(1.0)), (WIDTH - RIGHT, panel.y(1.0))], "critical")
        pen.text(LEFT - 8, panel.y(1.0) - 8, "1", "critical", anchor="ra")
        if panel.highest > 2.0:  # else there is no room for it
            pen.text(LEFT - 8, panel.top, f"{panel.highest / SCORE_ROOM:.4g}", "faint", anchor="ra")
    else:
        edge = 0.06 / 1.12 * (panel.highest - panel.lowest)
        for value, below in ((panel.highest - edge, 0), (panel.lowest + edge, 14)):
            pen.text(LEFT - 8, panel.y(value) - below, f"{value:.4g}", "faint", anchor="ra")
    for name, values in (("expected", curve.expected), ("reading", curve.observed)):
        for run in _runs(x, values):
            points = [(at, panel.y(value)) for at, value in run]
            pen.line(points if len(points) > 1 else [*points, (points[0][0] + 1, points[0][1])], name, 2)
    pen.text(LEFT + 6, panel.top + 2, curve.name, "ink")


def _runs(x: Sequence[float], *columns: Sequence[float | None]) -> Iterator[list[tuple[float, ...]]]:
    """Neighbours of which nothing is missing."""
    run: list[tuple[float, ...]] = []
    for row in zip(x, *columns, strict=False):
        if None in row:
            if run:
                yield run
            run = []
        else:
            run.append(row)
    if run:
        yield run


class _Pen:
    """Draws in pixels of the picture, with the names of the palette's colours."""

    def __init__(self, draw: "ImageDraw") -> None:
        self._draw = draw

    def text(self, x: float, y: float, text: str, colour: str, size: int = TEXT_SIZE, anchor: str = "la") -> None:
        font, writes_all = _lettering(size * FINER)
        shown = text if writes_all else _in_ascii(text)
        self._draw.text((x * FINER, y * FINER), shown, _colours()[colour], font, anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> None:
        self._draw.line([(x * FINER, y * FINER) for x, y in points], _colours()[colour], width * FINER, "curve")

    def area(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        if len(points) > 2:
            self._draw.polygon([(x * FINER, y * FINER) for x, y in points], _colours()[colour])


def _png(height: int, draw: Callable[[_Pen], None]) -> bytes:
    from PIL import Image, ImageDraw  # noqa: PLC0415  (only where pictures are asked for)

    image = Image.new("RGB", (WIDTH * FINER, height * FINER), _colours()["sheet"][:3])
    draw(_Pen(ImageDraw.Draw(image, "RGBA")))
    written = BytesIO()
    image.resize((WIDTH, height), Image.Resampling.BOX).save(written, "PNG")
    return written.getvalue()


class _Lettering(NamedTuple):
    font: "FreeTypeFont | Any"
    writes_all: bool  # else ASCII alone


@cache
def _lettering(size: int) -> _Lettering:
    from PIL import ImageFont  # noqa: PLC0415

    for name in FONTS:
        with suppress(OSError):
            return _Lettering(ImageFont.truetype(name, size), True)
    return _Lettering(ImageFont.load_default(size), False)


def _in_ascii(text: str) -> str:
    """Letters without what stands above them, and ? for the others."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return plain.encode("ascii", "replace").decode()


@cache
def _colours() -> dict[str, tuple[int, ...]]:
    """Those of the page's light theme, by name: red, green, blue, and opacity."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}|rgb\([^)]*\)),", PALETTE.read_text())
    return {name: _colour(value) for name, value in found}


def _colour(value: str) -> tuple[int, ...]:
    if value.startswith("#"):
        return (*bytes.fromhex(value[1:]), 255)
    red, green, blue, opacity = re.findall(r"[\d.]+", value)
    return int(red), int(green), int(blue), round(255 * float(opacity))
