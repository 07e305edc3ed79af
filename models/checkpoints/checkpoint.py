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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.checkpoints.checkpoint_header import (
    HEADER,
    NET_HEADER,
    Architecture,
    Description,
    NetDescription,
    TrainingData,
    TrainingMetrics,
    UnusableCheckpoint,
    describe,
    description_of,
    metadata_of,
    validated,
    versions,
)
from models.data.stream_key import MAX_KEY_BYTES
from models.detection.alarm import AlarmConfig
from models.detection.detector import Detector, DetectorConfig
from models.detection.kinds import TENSORS, KindsHead, shapes, with_symptoms
from models.detection.rows import Rows, fresh
from models.detection.scoring import ScoreConfig
from models.net.forecaster import Forecaster, ForecasterConfig
from models.output.output_file import write_or_keep
from models.output.tensor_file import sha256_of_tensors

MAX_BYTES = 4 * 2**30
MOST_READINGS = 10_000_000  # that a count in the judgement may be
LARGEST_FACTOR = 1e6  # that a weight, share or threshold in it may be
DEFAULT = Path("telltale.safetensors")  # a checkpoint's name where none is given
GENERIC = Path(__file__).parents[1] / "generic.safetensors"  # a net file, made by `telltale train --generic`
HEADER_BYTES = 65_536  # about what the description takes, and a head that names kinds

C = TypeVar("C", ScoreConfig, AlarmConfig)


class Checkpoint(NamedTuple):
    """A loaded file. digest: SHA-256 of the whole file, 64 hexadecimal digits."""

    detector: Detector
    description: Description
    digest: str
    path: Path


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
        versions=versions(),
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
    description = description_of(path, content)
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
    return NET_HEADER in metadata_of(path, _read(path))


def load_net(features: Sequence[str], path: Path = GENERIC) -> Checkpoint:
    """A detector of these channels that knows no stream, from a net file. Raises UnusableCheckpoint.

    Its digest is of the file and the channels: with others, a stream's row is another.
    """
    content = _read(path)
    description = validated(path, content, NET_HEADER, NetDescription)
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
