"""A stream's past as a picture, read back pixel by pixel."""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.data.rfc3339 import rfc3339
from service.http.picture import (
    CHANNEL_HEIGHT,
    GAP,
    LEFT,
    LINE_HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    picture_of,
    picture_of_words,
)

BEGINS_MS, EVERY_MS, READINGS = 1_768_986_000_000, 60_000, 101
READING, EXPECTED, SHADED, MAJOR = (0, 103, 165), (0, 129, 94), (248, 223, 214), (184, 74, 0)
OPEN = range(50, 71)
Pixels = NDArray[Any]
Flags = NDArray[np.bool_]


def past(
    values: Sequence[float | None],
    stream: str = "line-1/pump",
    older: str = "kept",
    remarks: Collection[str] = (),
    channels: Mapping[str, float] = MappingProxyType({"flow": 1.0}),
) -> bytes:
    """Readings a minute apart, expected to be 10, in a band from 8 to 12; an anomaly at OPEN.

    channels: with their shares.
    """
    many = len(channels)
    readings = [
        {
            "offset": n,
            "time": rfc3339(BEGINS_MS + n * EVERY_MS),
            "fate": "judged",
            "values": [value] * many,
            "expected": [10.0] * many,
            "lower": [8.0] * many,
            "upper": [12.0] * many,
            "score": 2.0 if n in OPEN else 0.1,
            "alarm": n in OPEN,
        }
        for n, value in enumerate(values)
    ]
    trace = {"stream": stream, "topic": "plant", "partition": 0, "features": list(channels), "reset": True}
    trace |= {"units": [None] * many}
    data = {"channels": [{"name": name, "share": share} for name, share in channels.items()], "severity": "major"}
    data |= {"opened_at": rfc3339(BEGINS_MS + OPEN[0] * EVERY_MS)}
    seen = {"trace": {**trace, "readings": readings, "layers": []}, "older": older, "newer": True}
    return json.dumps({**seen, "events": [{"data": data}], "remarks": list(remarks)}).encode()


def opened(png: bytes) -> Pixels:
    """(height, width, 3)."""
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.width) == ("PNG", WIDTH)
    return np.asarray(image.convert("RGB")).astype(int)


def near(pixels: Pixels, colour: tuple[int, int, int], within: int = 40) -> Flags:
    """Which of them have the colour."""
    return np.asarray(np.all(np.abs(pixels - np.array(colour)) <= within, axis=-1))


def x_of(reading: float) -> int:
    return round(LEFT + reading / (READINGS - 1) * (WIDTH - LEFT - RIGHT))


def of_channel(pixels: Pixels, colour: tuple[int, int, int]) -> tuple[Pixels, Pixels]:
    """Heights and places of the first channel's pixels of a colour, from the top."""
    behind_its_name = pixels[TOP : TOP + CHANNEL_HEIGHT, LEFT + 120 : WIDTH - RIGHT]
    heights, places = np.nonzero(near(behind_its_name, colour))
    return heights, places


def test_each_reading_is_where_its_time_and_its_value_are() -> None:
    values = [10.0] * READINGS
    values[20], values[80] = 20.0, 0.0
    heights, places = of_channel(opened(picture_of(past(values), BEGINS_MS + 90 * EVERY_MS)), READING)
    places = places + LEFT + 120
    assert abs(places[heights.argmin()] - x_of(20)) <= 2
    assert abs(places[heights.argmax()] - x_of(80)) <= 2
    at_rest = heights[np.abs(places - x_of(95)) <= 2]
    assert abs(at_rest.mean() - (heights.min() + heights.max()) / 2) <= 2, "10 is in the middle between 20 and 0"


def test_an_anomaly_is_shaded_while_it_is_open_and_the_time_asked_for_is_a_line() -> None:
    values: Sequence[float | None] = [10.0 + 6 * (n % 2) for n in range(READINGS)]
    row = opened(picture_of(past(values), BEGINS_MS + 30 * EVERY_MS))[TOP + CHANNEL_HEIGHT - 4]  # below what is drawn
    shaded = np.flatnonzero(near(row, SHADED, 8))
    assert abs(shaded[0] - x_of(OPEN[0])) <= 2
    assert abs(shaded[-1] - x_of(OPEN[-1] + 1)) <= 2, "it is open until the first reading at which it is not"
    assert len(shaded) == shaded[-1] - shaded[0] + 1
    others = [x for x in range(LEFT, WIDTH - RIGHT) if x not in shaded and not near(row[x], (255, 255, 255), 2)]
    assert others
    assert all(abs(x - x_of(30)) <= 2 or abs(x - shaded[0]) <= 2 or abs(x - shaded[-1]) <= 2 for x in others)


def test_what_is_missing_is_a_gap() -> None:
    values: list[float | None] = [10.0] * READINGS
    values[0], values[1], values[30:40] = 20.0, 0.0, [None] * 10
    pixels = opened(picture_of(past(values), BEGINS_MS))
    _, drawn = of_channel(pixels, READING)
    _, expected = of_channel(pixels, EXPECTED)
    missing = set(range(x_of(30), x_of(39)))
    assert not missing & set((drawn + LEFT + 120).tolist())
    assert missing <= set((expected + LEFT + 120).tolist())


def test_what_the_topic_keeps_no_more_is_said_below() -> None:
    values: Sequence[float | None] = [10.0, 12.0] * 50
    plain = opened(picture_of(past(values), BEGINS_MS + READINGS * EVERY_MS // 2))
    before_ms = BEGINS_MS - 1  # a line for this too
    told = opened(picture_of(past(values, older="gone", remarks=["no reading before that"]), before_ms))
    assert not near(plain, MAJOR).any()
    (lines, _) = np.nonzero(near(told, MAJOR))
    assert lines.min() >= len(plain) - LINE_HEIGHT
    assert len(told) == len(plain) + 3 * LINE_HEIGHT


def test_three_channels_are_shown_at_most_and_names_may_have_any_letters() -> None:
    values: Sequence[float | None] = [10.0, 12.0] * 50

    def shown(shares: Collection[float]) -> int:
        channels = {f"ф{n}": share for n, share in enumerate(shares)}
        tall = len(opened(picture_of(past(values, "Größe 温度/1", channels=channels), BEGINS_MS)))
        return (tall - len(opened(picture_of(past(values), BEGINS_MS)))) // (CHANNEL_HEIGHT + GAP) + 1

    assert [shown(one) for one in ([0.5, 0.5], [0.9, 0.1], [0.4, 0.3, 0.3], [0.25] * 4)] == [2, 1, 3, 3]


@pytest.mark.parametrize("values", [[], [None], [3.0], [5.0] * 3, [1e300, -1e300], [None, 1e-300]])
def test_whatever_the_values_are_there_is_a_picture(values: Sequence[float | None]) -> None:
    assert len(opened(picture_of(past(values), BEGINS_MS))) > 60


def test_where_nothing_can_be_drawn_it_says_why() -> None:
    assert near(opened(picture_of_words("pump", ["no service has judged it", "another line"])), MAJOR).any()
