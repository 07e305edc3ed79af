"""A run of training as a file, from which an interrupted run is resumed to the same bits. Never pickle.

One safetensors file: tensors, and in the header's `telltale-training` entry everything else as JSON: the run's values,
and its identity, which a run must have in common with the one that it resumes.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.data.series import Series
from models.output.output_file import UnwrittenOutput, write_or_keep, write_whole
from models.output.tensor_file import sha256_of_tensors

SCHEMA_VERSION = 2  # 1 had other names, and is read too: see _named_as_now()
HEADER = "telltale-training"
MAX_WHOLE = 2**128  # the largest number in the state of a random generator
MAX_HEADER_BYTES = 64 * 2**20
HASHED_READINGS = 65_536  # at once: no more of a series on disk is in memory


class UnusableState(ValueError):
    """A file is not a state that this run can resume: says which value was found and which was expected."""


class SavedRun(NamedTuple):
    """The state of a run between two groups of lanes, as plain values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]  # numbers, texts, lists and dictionaries of them


Identity = Mapping[str, str | int | float]


class Keeper:
    """Holds the newest state of a run and writes it to a file every `every_s`: between two writes it costs a copy."""

    def __init__(self, path: Path | None, identity: Identity, every_s: float) -> None:
        self._path = path
        self._identity = identity
        self._every_s = every_s
        self._newest: SavedRun | None = None
        self._written_s = time.monotonic()

    def note(self, take: Callable[[], SavedRun]) -> None:
        """Take the run's state and keep it; write it if the last write is `every_s` ago."""
        if self._path is None:
            return
        self._newest = take()
        if time.monotonic() - self._written_s >= self._every_s:
            self.write()

    def write(self) -> None:
        """Write the newest state, in one piece: the file is the old one or the new one, whole.

        A full disk does not end the run: the next write tries again.
        """
        if self._path is not None and self._newest is not None:
            with suppress(OSError):
                write_whole(self._path, pack(self._newest, self._identity))
            self._written_s = time.monotonic()

    def finish(self) -> str | None:
        """Write it a last time. Returns a message where that fails, which says where the state is instead."""
        if self._path is None or self._newest is None:
            return None
        try:
            write_or_keep(self._path, pack(self._newest, self._identity))
        except UnwrittenOutput as error:
            return str(error)
        return None


def pack(state: SavedRun, identity: Identity) -> bytes:
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    header = {
        "schema_version": SCHEMA_VERSION,
        "identity": dict(identity),
        "values": state.values,
        "tensors_sha256": sha256_of_tensors(save_tensors(tensors)),
    }
    return save_tensors(tensors, metadata={HEADER: json.dumps(header)})


def unpack(path: Path, content: bytes, identity: Identity) -> SavedRun:
    """path: where the content is from, for messages. Raises UnusableState."""
    header = _header(path, content)
    version = header.get("schema_version")
    if version not in (1, SCHEMA_VERSION):
        raise UnusableState(f"{path}: schema version {version}, this version of Telltale reads 1 and {SCHEMA_VERSION}")
    if header.get("tensors_sha256") != sha256_of_tensors(content):
        raise UnusableState(f"{path}: the tensors are not those that were written: the file was damaged or changed")
    found, values = header.get("identity"), header.get("values")
    if not isinstance(found, dict) or not isinstance(values, dict):
        raise UnusableState(f"{path}: not the state of a run of training: its identity or its values are no object")
    for name in sorted(found.keys() | identity.keys()):
        if found.get(name) != identity.get(name):
            raise UnusableState(
                f"{path}: the run in it has {name} {found.get(name)}, this one has {identity.get(name)}: "
                "an interrupted run is resumed only with the same settings and data"
            )
    return SavedRun(load_tensors(content), _named_as_now(values) if version == 1 else values)


def _named_as_now(values: dict[str, Any]) -> dict[str, Any]:
    """Schema version 1 says `slower` for `lr_scheduler`, `cut` for `clipped` and `clipped_share`."""
    epochs = values.get("epochs")
    return {
        **{"lr_scheduler" if name == "slower" else name: value for name, value in values.items()},
        "sums": _renamed(values.get("sums"), "cut", "clipped"),
        "epochs": [_renamed(one, "cut", "clipped_share") for one in epochs] if isinstance(epochs, list) else epochs,
    }


def _renamed(fields: object, old: str, new: str) -> object:
    return {new if name == old else name: of for name, of in fields.items()} if isinstance(fields, dict) else fields


def require_like(path: Path, found: object, expected: object, name: str = "values") -> None:
    """Refuse values that are not of the kind that a run writes: the same names, and numbers where numbers are."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            raise UnusableState(f"{path}: {name} holds other fields than expected: {', '.join(expected)}")
        for key, value in expected.items():
            require_like(path, found[key], value, f"{name}.{key}")
    elif isinstance(expected, (bool, int, float)):
        good = isinstance(found, (bool, int, float)) and (isinstance(expected, float) or isinstance(found, int))
        if not good or (isinstance(found, int) and abs(found) > MAX_WHOLE):
            raise UnusableState(f"{path}: {name} is {found!r:.80}, expected a number")
    elif type(found) is not type(expected):
        raise UnusableState(f"{path}: {name} is {found!r:.80}, expected {type(expected).__name__}")


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of a net's weights."""
    return sha256_of_tensors(save_tensors(dict(weights)))


def fingerprint(series: Sequence[Series]) -> dict[str, str | int]:
    """Differs for data that differ in any bit of any value; one pass over them."""
    digest = hashlib.blake2b(digest_size=16)
    for one in series:
        digest.update(json.dumps([one.key, one.features, len(one.times_ms)]).encode())
        for begin in range(0, len(one.times_ms), HASHED_READINGS):
            for column in (one.times_ms, one.values):
                digest.update(np.ascontiguousarray(column[begin : begin + HASHED_READINGS]).data)
    readings = sum(len(one.times_ms) for one in series)
    return {"data.streams": len(series), "data.readings": readings, "data.digest": digest.hexdigest()}


def _header(path: Path, content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    try:
        if len(content) < 8 + length or length > MAX_HEADER_BYTES:
            raise ValueError(f"{len(content)} bytes, {length} of them of the header")
        load_tensors(content)  # checks the whole layout
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][HEADER])
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UnusableState(f"{path}: not the state of a run of training, or not a whole one: {error}") from error
    if not isinstance(header, dict):
        raise UnusableState(f"{path}: not the state of a run of training: its header is not an object")
    return header
