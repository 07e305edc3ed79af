"""What the header of a trained model's file says, how it is written, and how it is read and checked.

A file's `telltale` entry is a Description as JSON, a net file's `telltale-net` entry a NetDescription. What is not
known is refused, saying what was found and what was expected.
"""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.detection.detector import Detector
from models.detection.kinds import KINDS, SYMPTOMS, VOTES
from models.detection.rows import CHANNELS, SCALARS
from models.net.forecaster import MOST_DAY_HARMONICS, MOST_WEEK_HARMONICS, ForecasterConfig

SCHEMA_VERSION = 1
MAX_HEADER_BYTES = 8 * 2**20
MAX_FEATURES = 4096
MAX_NAME = 256  # characters
MAX_HIDDEN = 1024
MAX_LAYERS = 4
MAX_COUNT = 2**53
MAX_MESSAGE = 2_000  # characters: what was found is quoted, and may be anything
HEADER = "telltale"
NET_HEADER = "telltale-net"

D = TypeVar("D", bound=BaseModel)


class UnusableCheckpoint(ValueError):
    """A file is not a checkpoint this version can run: says what was found and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…")


class _HeaderPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Text = Annotated[str, Field(max_length=MAX_NAME)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Architecture(_HeaderPart):
    features: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    cell: Text
    hidden: Annotated[int, Field(ge=16, le=MAX_HIDDEN)]
    layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    day_harmonics: Annotated[int, Field(ge=1, le=MOST_DAY_HARMONICS)] = 1
    week_harmonics: Annotated[int, Field(ge=1, le=MOST_WEEK_HARMONICS)] = 1
    time_zone: Text = "UTC"
    channelwise: bool = False
    spreads: bool = False


class Judgement(_HeaderPart):
    """How residuals become alarms: the fields of ScoreConfig and AlarmConfig."""

    score: dict[str, float | int]
    alarm: dict[str, float | int]


class TrainingData(_HeaderPart):
    """What the forecaster was trained on."""

    files: Count
    streams: Count
    readings: Count
    first_ms: Count
    last_ms: Count


class TrainingMetrics(_HeaderPart):
    """How training ended. Losses: Huber, one step ahead, in spreads; in steps of a net that reads channels apart."""

    epochs: Count
    best_epoch: Count
    loss: float | None
    validation_loss: float | None
    persistence_loss: float | None  # of "the same as before" on the validation part
    seconds: float
    ended: Text


class Kinds(_HeaderPart):
    """How well the head names kinds of fault in series it has not learned from. Counts: a row a true kind."""

    names: tuple[str, ...]  # of the rows and columns
    streams: Count  # that it was judged on
    at_end: tuple[tuple[Count, ...], ...]  # by its guess when a fault ends, alarm or not
    at_alarm: tuple[tuple[Count, ...], ...]  # by its last guess in the fault's alarm; last column: there was none
    macro_f1_at_end: float
    macro_f1_at_alarm: float  # of the faults that opened an alarm


class Versions(_HeaderPart):
    telltale: Text
    torch: Text
    python: Text


class Description(_HeaderPart):
    """The description of a checkpoint, in its own header."""

    schema_version: Literal[1]
    created: Text
    architecture: Architecture
    judgement: Judgement
    row: dict[str, tuple[str, ...]]  # the names of a row's statistics, in their order
    training: dict[str, float | int | str]  # settings of the run
    data: TrainingData
    metrics: TrainingMetrics
    kinds: Kinds | None = None  # None: the checkpoint has no such head
    versions: Versions
    tensors_sha256: str


class NetDescription(_HeaderPart):
    """The description of a net file, in its own header."""

    schema_version: Literal[1]
    created: Text
    architecture: Architecture
    training: dict[str, float | int | str]  # settings of the run
    data: TrainingData
    metrics: TrainingMetrics
    versions: Versions
    tensors_sha256: str


def describe(
    detector: Detector,
    created: str,
    training: Mapping[str, float | int | str],
    data: TrainingData,
    metrics: TrainingMetrics,
    kinds: Kinds | None = None,
) -> Description:
    """created: RFC 3339. kinds: of a detector with such a head, and of no other. save() fills in the tensors' hash."""
    if (kinds is None) != (detector.kinds is None):
        raise ValueError("a head for kinds and its report: expected both or neither")
    config = detector.forecaster.config
    return Description(
        schema_version=1,
        created=created,
        architecture=Architecture(**asdict(config)),
        judgement=Judgement(score=asdict(detector.config.score), alarm=asdict(detector.config.alarm)),
        row=_row_names(detector.kinds is not None),
        training=dict(training),
        data=data,
        metrics=metrics,
        kinds=kinds,
        versions=versions(),
        tensors_sha256="",
    )


def require_savable(architecture: ForecasterConfig) -> None:
    """Refuse, before it is trained, a net that no checkpoint may hold. Raises UnusableCheckpoint."""
    try:
        Architecture(**asdict(architecture))
    except ValidationError as error:
        raise UnusableCheckpoint(f"a net that cannot be saved: {_first_of(error)}") from error


def metadata_of(path: Path, content: bytes) -> dict[str, Any]:
    metadata = _header(path, content).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def validated(path: Path, content: bytes, entry: str, kind: type[D]) -> D:
    """What an entry of the header describes."""
    metadata = metadata_of(path, content)
    if entry not in metadata:
        raise UnusableCheckpoint(f"{path}: a safetensors file without a `{entry}` entry: not a Telltale checkpoint")
    try:
        parsed = json.loads(metadata[entry], parse_float=_finite, parse_constant=_NotFinite)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnusableCheckpoint(f"{path}: its description is not JSON: {error}") from error
    version = parsed.get("schema_version") if isinstance(parsed, dict) else None
    if version != SCHEMA_VERSION:
        raise UnusableCheckpoint(f"{path}: schema version {version}, this version of Telltale reads {SCHEMA_VERSION}")
    try:
        return kind.model_validate(parsed)
    except ValidationError as error:
        raise UnusableCheckpoint(f"{path}: description, {_first_of(error)}") from error


def description_of(path: Path, content: bytes) -> Description:
    description = validated(path, content, HEADER, Description)
    if description.row != _row_names(description.kinds is not None):
        raise UnusableCheckpoint(f"{path}: its rows hold other statistics than this version's: train again")
    if description.kinds is not None and description.kinds.names != KINDS:
        raise UnusableCheckpoint(
            f"{path}: its head names {', '.join(description.kinds.names)}, expected {', '.join(KINDS)}"
        )
    return description


class _NotFinite:
    """A placeholder for NaN and infinity, which every field of a description refuses."""

    def __init__(self, written: str) -> None:
        self._written = written

    def __repr__(self) -> str:
        return self._written


def _finite(written: str) -> "float | _NotFinite":
    value = float(written)
    return value if math.isfinite(value) else _NotFinite(written)


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r:.80}"


def _header(path: Path, content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES and length <= len(content) - 8:
        raise UnusableCheckpoint(f"{path}: a header of {length:,} bytes, expected at most {MAX_HEADER_BYTES:,}")
    if len(content) < 8 or length > len(content) - 8:
        raise UnusableCheckpoint(f"{path}: {len(content)} bytes, not a whole safetensors file")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise UnusableCheckpoint(f"{path}: not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise UnusableCheckpoint(f"{path}: not a safetensors file: its header is not an object")
    return header


def _row_names(has_kinds: bool) -> dict[str, tuple[str, ...]]:
    names = {"channels": CHANNELS.stored_names, "scalars": SCALARS.stored_names}
    return {**names, "symptoms": SYMPTOMS.stored_names, "votes": VOTES.stored_names} if has_kinds else names


def versions() -> Versions:
    return Versions(
        telltale=_version(),
        torch=str(torch.__version__).split("+", maxsplit=1)[0],
        python=platform.python_version(),
    )


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (only here)

    return version("telltale")
