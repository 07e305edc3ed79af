"""The judge without its compiler: the same source, run by Python, a function at a time.

Its arithmetic is an oracle of the compiled one's bits, and its parts can be called by themselves.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np

import models.detection.judge
import models.detection.net_arithmetic
from models.data.arrays import Doubles
from models.detection.alarm import AlarmConfig
from models.detection.records import Block, Events, Look, Rules, Scratch, Sheet, record_of
from models.detection.rows import CHANNELS, RELATIONS, SCALARS, fresh_relation
from models.detection.scoring import ScoreConfig

# The modules of the judge, each after those that it imports.
MADE_OF = (
    "arithmetic",
    "net_arithmetic",
    "rhythm",
    "expectation",
    "residual",
    "thresholds",
    "witnesses",
    "pauses",
    "relation",
    "alarm_step",
    "learning",
    "events",
    "judge",
)

F = TypeVar("F", bound=Callable[..., Any])


def _as_it_is(function: F) -> F:
    return function


def _interpreted() -> tuple[Any, ...]:
    """Each module, interpreted, stands in for the compiled one while those that import it are loaded."""
    with (
        patch("models.detection.compiling.compiled", _as_it_is),
        patch("models.detection.compiling.kept", _as_it_is),
        patch.dict(sys.modules),
    ):
        names = [f"models.detection.{name}" for name in MADE_OF]
        for name in names:
            sys.modules[name] = _loaded(name)
        return tuple(sys.modules[name] for name in names)


def _loaded(name: str) -> Any:
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    spec = spec_from_file_location(f"interpreted_{name.rpartition('.')[2]}", found.origin)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


(
    ARITHMETIC,
    NET_ARITHMETIC,
    RHYTHM,
    EXPECTATION,
    RESIDUAL,
    THRESHOLDS,
    WITNESSES,
    PAUSES,
    RELATION,
    ALARM_STEP,
    LEARNING,
    EVENTS,
    JUDGE,
) = _interpreted()
"""The modules of MADE_OF, interpreted."""


class Record:
    """One record of an array, whose fields are attributes; numpy's own has methods of the same names."""

    __slots__ = ("_fields",)

    def __init__(self, fields: np.void) -> None:
        object.__setattr__(self, "_fields", fields)

    def __getattr__(self, name: str) -> Any:
        return self._fields[name]

    def __setattr__(self, name: str, value: float) -> None:
        self._fields[name] = value


class Records:
    """An array of them."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype = array, array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, n: int) -> Record:
        return Record(self.array[n])

    def __setitem__(self, n: int, record: Record) -> None:
        self.array[n] = record._fields


def records(scratch: Scratch) -> Any:
    """The same memory, as the interpreted judge takes it."""
    views: dict[str, Any] = {
        name: Records(getattr(scratch, name)) for name in ("stream", "channels", "looks", "relation")
    }
    return scratch._replace(**views)


class OneStream:
    """A fresh stream's records, and the rules it is judged by; `channels` and `looks` by feature."""

    def __init__(self, features: int = 1, score: ScoreConfig | None = None, alarm: AlarmConfig | None = None) -> None:
        self.rules = Rules.of(score or ScoreConfig(), alarm or AlarmConfig())
        self.scratch = records(Scratch.of(features))
        self.scratch.stream_numbers[:] = SCALARS.initial().numpy()
        self.scratch.channel_numbers[:] = CHANNELS.initial().numpy()
        self.scratch.relation_numbers[:] = RELATIONS.initial().numpy()
        self.relation = np.tile(fresh_relation(features).numpy()[:, None], features)
        for look in self.looks:
            look.present = look.counts = look.level_counts = look.relation_counts = look.lasting_counts = 1.0

    @property
    def stream(self) -> Any:
        return self.scratch.stream[0]

    @property
    def channels(self) -> list[Any]:
        return [*self.scratch.channels]

    @property
    def looks(self) -> list[Any]:
        return [*self.scratch.looks]

    def numbers(self) -> dict[str, Doubles]:
        """A copy of everything that is remembered, by name."""
        of_channels = zip(CHANNELS.names, self.scratch.channel_numbers.T.copy(), strict=True)
        of_stream = zip(SCALARS.names, self.scratch.stream_numbers.T.copy(), strict=True)
        return dict(of_channels) | dict(of_stream)


def a_look(**fields: float) -> Any:
    look = Record(np.zeros(1, record_of(Look))[0])
    look.present = look.counts = look.level_counts = look.relation_counts = look.lasting_counts = 1.0
    for name, value in fields.items():
        setattr(look, name, value)
    return look


@contextmanager
def without_compiler() -> Iterator[None]:
    """Detectors judge by the interpreted judge."""
    exact = np.errstate(all="ignore")
    with (
        patch.multiple(
            models.detection.judge,
            admit=JUDGE.admit,
            waves_until_scale_moves=JUDGE.waves_until_scale_moves,
            hold=JUDGE.hold,
            judge_block=_judge_block,
        ),
        patch.multiple(
            models.detection.net_arithmetic, show=exact(NET_ARITHMETIC.show), predict=exact(NET_ARITHMETIC.predict)
        ),
    ):
        yield


def _judge_block(
    rules: Rules,
    block: Block,
    channels: Doubles,
    scalars: Doubles,
    scratch: Scratch,
    sheet: Sheet,
    events: Events,
    place: int,
    count: int,
) -> Any:
    with np.errstate(all="ignore"):
        read: Any = Records(events.records)
        room = events._replace(records=read)
        return JUDGE.judge_block(rules, block, channels, scalars, records(scratch), sheet, room, place, count)
