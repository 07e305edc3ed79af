"""SenML packs read all at once: what each is by itself, or it is left."""

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from service.input.documents import json_documents
from service.input.senml import records_of
from service.input.senml_columns import walk_of
from tests.fuzzing import INPUTS
from tests.service.input import walking
from tests.service.input.walking import harmed, root_of

NAMES = ("n", "t", "v", "vs", "vb", "vd", "s", "u", "ut", "bn", "none")
SHAPES = (root_of(*((name,) for name in NAMES)), root_of(("n",), ("t",), values=("v",), features=("value",)))
PLAIN = root_of(("n",), ("t",), ("v",))
T = 1_767_571_200
ODD: tuple[Any, ...] = (None, True, "x", 5, 5.5, -1, 0, 2**28, 2**28 - 1, 2**70, [], {}, "p" * 300, 1e308, T)


def compared(root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    walk = walk_of(root)
    assert walk is not None
    return walking.compared(walk, lambda value: records_of(json_documents(value)), root, values)


def record_of(rng: Random, odd: float) -> dict[str, Any]:
    sound: dict[str, Any] = {
        "bn": rng.choice(("p7/", "°/", "")),
        "bt": rng.choice((T, T + 0.5, 0)),
        "bv": rng.choice((20, -1.5)),
        "n": rng.choice(("temp", "größe", "")),
        "t": rng.choice((0, T)),
        "v": rng.choice((61, 4.1, -0.0, 1e3)),
        "vs": "on",
        "vb": False,
        "s": 1,
        "u": rng.choice(("Cel", None)),
        "x": [1, {"y": "°"}],
        "bver": 10,
    }
    often = {"n": 0.9, "v": 0.8}
    kept = {name: value for name, value in sound.items() if rng.random() < often.get(name, 0.15)}
    return {name: rng.choice(ODD) if rng.random() < odd else value for name, value in kept.items()}


def pack_of(rng: Random, odd: float) -> bytes:
    first = {"bn": "p7/", "bt": rng.choice((T, T, 0))}
    records = [record_of(rng, odd) for _ in range(rng.randrange(4))]
    return msgspec.json.encode([{**first, **records[0]}, *records[1:]] if records and rng.random() < 0.7 else records)


@pytest.mark.slow
@pytest.mark.parametrize("root", SHAPES)
def test_packs_sound_or_harmed_are_read_as_each_is_by_itself(root: Any) -> None:
    rng = Random(11)
    sound = [pack_of(rng, 0.0) for _ in range(10_000)]
    assert compared(root, sound)[0] > 3_000
    assert compared(root, [pack_of(rng, 0.1) for _ in range(20_000)])[0] > 3_000
    assert compared(root, [harmed(rng, rng.choice(sound)) for _ in range(2 * INPUTS)])[0] > 300


def test_a_pack_that_is_left_leaves_no_other() -> None:
    good, relative = b'[{"bn":"p7/","n":"temp","v":61}]', b'[{"n":"temp","v":61,"t":-5}]'
    assert compared(PLAIN, [good] * 9 + [relative] + [good] * 8) == (17, 0)
    assert compared(PLAIN, [relative, b"", b"{}", b"[]", b"[1]", b'[{"v":null}]']) == (0, 0)


def test_bases_are_those_of_the_pack_and_hold_until_the_next() -> None:
    pack = (
        b'[{"v":1},{"bn":"a/","bt":%d,"bv":1},{"n":"x","v":1},{"bn":"b/","n":"y","v":2.5},{"n":"z","v":3,"vs":"t"}]' % T
    )
    assert compared(PLAIN, [pack, b'[{"n":"alone","v":2}]', b"[]", pack]) == (3, 0)


def test_lines_of_a_record_each_and_shapes_within_a_field_are_left() -> None:
    assert compared(PLAIN, [b'{"n":"a","v":1}\n{"n":"b","v":2}']) == (0, 1)
    assert walk_of(root_of(("v", "x"))) is None
