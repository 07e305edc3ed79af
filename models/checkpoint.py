"""A trained detector's file: one safetensors file, its description in the header. Never pickle.

Tensors: `forecaster.*` (weights), `streams.*` (the rows of the streams it was trained on, and their keys) and, where it
has a head that names kinds of fault, `kinds.*`. The header's `telltale` entry is the Description as JSON. Loading reads
the file once, hashes and parses the same bytes, and refuses what it does not know, saying what was found and what was
expected.

A net file is the weights alone, of a net that reads one channel and knows no stream: with it, streams of any channels
are judged from their first reading on. What a row holds may change and it can still be read. One comes with Telltale.
"""

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.data.stream_key import MAX_KEY_BYTES
from models.detection.alarm import AlarmConfig
from models.detection.detector import Detector, DetectorConfig
from models.detection.kinds import KINDS, SYMPTOMS, TENSORS, VOTES, KindsHead, shapes, with_symptoms
from models.detection.rows import CHANNELS, SCALARS, Rows, fresh
from models.detection.scoring import ScoreConfig
from models.net.forecaster import MOST_DAY_HARMONICS, MOST_WEEK_HARMONICS, Forecaster, ForecasterConfig
from models.output.output_file import write_or_keep
from models.output.tensor_file import sha256_of_tensors

SCHEMA_VERSION = 1
MAX_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 8 * 2**20
MAX_FEATURES = 4096
MAX_NAME = 256  # characters
MAX_HIDDEN = 1024
MAX_LAYERS = 4
MAX_COUNT = 2**53
MAX_MESSAGE = 2_000  # characters: what was found is quoted, and may be anything
MOST_READINGS = 10_000_000  # that a count in the judgement may be
LARGEST_FACTOR = 1e6  # that a weight, share or threshold in it may be
HEADER = "telltale"
NET_HEADER = "telltale-net"
DEFAULT = Path("telltale.safetensors")  # a checkpoint's name where none is given
GENERIC = Path(__file__).parent / "generic.safetensors"  # a net file, made by `telltale train --generic`
HEADER_BYTES = 65_536  # about what the description takes, and a head that names kinds

C = TypeVar("C", ScoreConfig, AlarmConfig)
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


class Checkpoint(NamedTuple):
    """A loaded file. digest: SHA-256 of the whole file, 64 hexadecimal digits."""

    detector: Detector
    description: Description
    digest: str
    path: Path


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
        versions=_versions(),
        tensors_sha256="",
    )


def save_net(
    path: Path,
    forecaster: Forecaster,
    created: str,
    training: Mapping[str, float | int | str],
    data: TrainingData,
    metrics: TrainingMetrics,
) -> str:
    """Write a net file in one piece. Returns its digest. Raises UnwrittenOutput."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in forecaster.state_dict().items()}
    described = NetDescription(
        schema_version=1,
        created=created,
        architecture=Architecture(**asdict(forecaster.config)),
        training=dict(training),
        data=data,
        metrics=metrics,
        versions=_versions(),
        tensors_sha256=sha256_of_tensors(save_tensors(tensors)),
    )
    content = save_tensors(tensors, metadata={NET_HEADER: described.model_dump_json()})
    write_or_keep(path, content)
    return hashlib.sha256(content).hexdigest()


def save(path: Path, detector: Detector, description: Description) -> str:
    """Write the file in one piece: it is whole or it is not there. Returns its digest. Raises UnwrittenOutput."""
    tensors = {f"forecaster.{name}": weight for name, weight in detector.forecaster.state_dict().items()}
    tensors |= {f"streams.{name}": column for name, column in zip(Rows._fields, detector.known_rows, strict=True)}
    keys = sorted(detector.known, key=detector.known.__getitem__)
    if detector.kinds is not None:
        tensors |= {f"kinds.{name}": tensor for name, tensor in detector.kinds.tensors().items()}
    tensors["streams.keys"] = torch.frombuffer(bytearray(b"".join(keys) or b"\0"), dtype=torch.uint8)
    tensors["streams.key_lengths"] = torch.tensor([len(key) for key in keys], dtype=torch.int64)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    described = description.model_copy(update={"tensors_sha256": sha256_of_tensors(save_tensors(tensors))})
    left_out = {"kinds"} if described.kinds is None else None  # so that it reads as it did before there were heads
    content = save_tensors(tensors, metadata={HEADER: described.model_dump_json(exclude=left_out)})
    write_or_keep(path, content)
    return hashlib.sha256(content).hexdigest()


def require_savable(architecture: ForecasterConfig) -> None:
    """Refuse, before it is trained, a net that no checkpoint may hold. Raises UnusableCheckpoint."""
    try:
        Architecture(**asdict(architecture))
    except ValidationError as error:
        raise UnusableCheckpoint(f"a net that cannot be saved: {_first_of(error)}") from error


def expected_bytes(architecture: ForecasterConfig, keys: Iterable[str], *, kinds: bool = False) -> tuple[int, int]:
    """About how large the file of a forecaster will be that knows these streams, and of its weights alone."""
    with torch.random.fork_rng():
        weights = sum(weight.nbytes for weight in Forecaster(architecture).state_dict().values())
    row = fresh(1, architecture)
    each = (with_symptoms(row) if kinds else row).bytes_per_stream + torch.int64.itemsize
    return weights + sum(each + len(key.encode()) for key in keys) + HEADER_BYTES, weights


def load(path: Path) -> Checkpoint:
    """Read, verify and rebuild a detector. Raises UnusableCheckpoint."""
    content = _read(path)
    description = _description(path, content)
    tensors = _tensors(path, content, description.tensors_sha256)
    try:
        architecture = ForecasterConfig(**description.architecture.model_dump())
        config = DetectorConfig(
            _config(ScoreConfig, description.judgement.score), _config(AlarmConfig, description.judgement.alarm)
        )
    except (TypeError, ValueError) as error:
        raise UnusableCheckpoint(f"{path}: {error}") from error
    detector = _rebuild(path, tensors, architecture, config, description.kinds is not None)
    return Checkpoint(detector, description, hashlib.sha256(content).hexdigest(), path)


def open_checkpoint(path: Path | None, features: Sequence[str] = ()) -> Checkpoint:
    """The checkpoint, or a detector of these features from a net file; path None: of the net that Telltale brings.

    With neither a path nor features it is the checkpoint DEFAULT. Raises UnusableCheckpoint.
    """
    if path is None and features:
        return load_net(features)
    path = path or DEFAULT
    if not is_net(path):
        if features:
            raise UnusableCheckpoint(
                f"{path}: a checkpoint says itself which features it judges, expected none beside it; without a "
                "checkpoint the net that comes with Telltale judges them"
            )
        return load(path)
    if not features:
        raise UnusableCheckpoint(f"{path}: a net for any features, expected `features` beside it")
    return load_net(features, path)


def is_net(path: Path) -> bool:
    """Whether this is a net file. Raises UnusableCheckpoint where it is no safetensors file."""
    return NET_HEADER in _metadata(path, _read(path))


def load_net(features: Sequence[str], path: Path = GENERIC) -> Checkpoint:
    """A detector of these channels that knows no stream, from a net file. Raises UnusableCheckpoint.

    Its digest is of the file and the channels: with others, a stream's row is another.
    """
    content = _read(path)
    description = _validated(path, content, NET_HEADER, NetDescription)
    tensors = _tensors(path, content, description.tensors_sha256)
    try:
        config = replace(ForecasterConfig(**description.architecture.model_dump()), features=tuple(features))
    except (TypeError, ValueError) as error:
        raise UnusableCheckpoint(f"{path}: {error}") from error
    if not config.channelwise:
        raise UnusableCheckpoint(f"{path}: its net reads all channels at once, expected one that reads each by itself")
    with torch.device("meta"):  # shapes alone
        weights = Forecaster(config).state_dict()
    _check_tensors(path, tensors, {name: (weight.shape, weight.dtype) for name, weight in weights.items()})
    forecaster = Forecaster(config)
    forecaster.load_state_dict(tensors)
    detector = Detector.cold(forecaster)
    described = describe(detector, description.created, description.training, description.data, description.metrics)
    named = json.dumps(config.features).encode()
    return Checkpoint(detector, described, hashlib.sha256(content + named).hexdigest(), path)


def _tensors(path: Path, content: bytes, expected: str) -> dict[str, Tensor]:
    """expected: their SHA-256, as the header says it."""
    found = sha256_of_tensors(content)
    if found != expected:
        raise UnusableCheckpoint(
            f"{path}: the tensors' SHA-256 is {found[:12]}…, the header says {expected[:12]}…: "
            "the file was damaged or changed"
        )
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:  # the others: of its reader
        raise UnusableCheckpoint(f"{path}: not a safetensors file: {error}") from error


def _config(kind: type[C], given: Mapping[str, float | int]) -> C:
    """Every field, and no other: a default of today is not what was in force when the checkpoint was made."""
    names = {field.name for field in fields(kind)}
    if given.keys() != names:
        raise ValueError(f"judgement: found {', '.join(sorted(given))}; expected {', '.join(sorted(names))}")
    for field in fields(kind):
        found, whole = given[field.name], field.type in (int, "int")
        most = MOST_READINGS if whole else LARGEST_FACTOR
        if isinstance(found, bool) or (whole and not isinstance(found, int)) or not 0 <= found <= most:
            expected = f"a whole number from 0 to {most:,}" if whole else f"a number from 0 to {most:,.0f}"
            raise ValueError(f"judgement, {field.name} is {found!r}, expected {expected}")
    return kind(**given)  # type: ignore[arg-type]


def _rebuild(
    path: Path, tensors: dict[str, Tensor], architecture: ForecasterConfig, config: DetectorConfig, has_kinds: bool
) -> Detector:
    """Takes no more memory than the file has bytes for: what the header asks for is compared with its tensors."""
    lengths = tensors.get("streams.key_lengths", torch.empty(0, dtype=torch.int64))
    streams = lengths.numel()
    with torch.device("meta"):  # shapes alone
        weights = Forecaster(architecture).state_dict()
    rows = fresh(0, architecture)
    rows = with_symptoms(rows) if has_kinds else rows
    keys = tensors.get("streams.keys", torch.empty(0, dtype=torch.uint8))
    expected = {
        "streams.keys": (torch.Size([keys.numel()]), torch.uint8),
        "streams.key_lengths": (torch.Size([streams]), torch.int64),
    }
    expected |= {f"forecaster.{name}": (weight.shape, weight.dtype) for name, weight in weights.items()}
    expected |= {
        f"streams.{name}": (torch.Size([streams, *column.shape[1:]]), column.dtype)
        for name, column in zip(Rows._fields, rows, strict=True)
    }
    if has_kinds:
        sizes = shapes(architecture.memory_width, units=tensors.get("kinds.bias", torch.empty(0)).numel())
        expected |= {f"kinds.{n}": (torch.Size(size), torch.float64) for n, size in zip(TENSORS, sizes, strict=True)}
    _check_tensors(path, tensors, expected)
    kinds = KindsHead.of({name: tensors[f"kinds.{name}"] for name in TENSORS}) if has_kinds else None
    known = _split(path, bytes(keys.numpy()), lengths.tolist())
    forecaster = Forecaster(architecture)
    forecaster.load_state_dict({name: tensors[f"forecaster.{name}"] for name in weights})
    return Detector(forecaster, config, known, Rows(*(tensors[f"streams.{name}"] for name in Rows._fields)), kinds)


def _check_tensors(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[torch.Size, torch.dtype]]
) -> None:
    if missing := sorted(expected.keys() - tensors.keys()):
        raise UnusableCheckpoint(f"{path}: tensor {missing[0]} is missing")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise UnusableCheckpoint(f"{path}: tensor {unknown[0]} is not known, expected {', '.join(sorted(expected))}")
    for name, (shape, dtype) in expected.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != dtype:
            raise UnusableCheckpoint(
                f"{path}: tensor {name} is {found.dtype} {tuple(found.shape)}, expected {dtype} {tuple(shape)}"
            )
        statistics = name in ("streams.channels", "streams.scalars")  # unknown spreads and ranges are infinite there
        if found.isnan().any() or not (statistics or found.isfinite().all()):
            raise UnusableCheckpoint(f"{path}: tensor {name} holds values that are not finite")


def _split(path: Path, joined: bytes, lengths: Sequence[int]) -> dict[bytes, int]:
    """Each stream's key, and its place among the rows."""
    if wrong := [length for length in lengths if not 1 <= length <= MAX_KEY_BYTES]:
        raise UnusableCheckpoint(f"{path}: a stream key of {wrong[0]} bytes, expected 1 to {MAX_KEY_BYTES}")
    if sum(lengths) != (len(joined) if lengths else 0):
        raise UnusableCheckpoint(
            f"{path}: the stream keys are {len(joined)} bytes, their lengths add to {sum(lengths)}"
        )
    keys: dict[bytes, int] = {}
    begin = 0
    for place, length in enumerate(lengths):
        key = joined[begin : begin + length]
        if key in keys:
            raise UnusableCheckpoint(f"{path}: stream {key.decode(errors='replace')} is there twice")
        keys[key] = place
        begin += length
    return keys


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnusableCheckpoint(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UnusableCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error


def _metadata(path: Path, content: bytes) -> dict[str, Any]:
    metadata = _header(path, content).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _validated(path: Path, content: bytes, entry: str, kind: type[D]) -> D:
    """What an entry of the header describes."""
    metadata = _metadata(path, content)
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


def _description(path: Path, content: bytes) -> Description:
    description = _validated(path, content, HEADER, Description)
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


def _versions() -> Versions:
    return Versions(
        telltale=_version(),
        torch=str(torch.__version__).split("+", maxsplit=1)[0],
        python=platform.python_version(),
    )


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (only here)

    return version("telltale")
