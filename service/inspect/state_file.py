"""What some streams remember as one file, to be taken to another cluster or group: safetensors, never pickle.

Tensors: the columns of the rows, and `applied`, the offset of each stream's last reading. The header's `telltale_state`
entry is Manifest as JSON. Reading takes the file once, checks it, and refuses what it does not know, saying what was
found and what was expected.
"""

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.data.stream_key import MAX_KEY_BYTES
from models.detection.rows import CHANNELS, SCALARS, Rows
from models.output.output_file import write_or_keep
from models.output.tensor_file import sha256_of_tensors
from models.output.wording import counted
from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.state.changelog import Layout

VERSION = 1
HEADER = "telltale_state"
MAX_BYTES = 2**30
MAX_HEADER_BYTES = 256 * 2**20  # 1,000,000 streams with the longest names
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float64, torch.int64)


Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class From(msgspec.Struct, frozen=True):
    """Where a stream's row comes from."""

    stream: str
    topic: str
    topic_id: str
    partition: Offset
    page: Offset
    next_offset: Offset  # every reading of the stream before it is in the row
    replay_from: Offset  # from where the changelog's pages had to be brought up to that


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself. streams: in the order of the rows."""

    version: int = VERSION
    group: str
    checkpoint: str  # digest
    numerics: str
    names: int  # Layout.names
    shapes: tuple[tuple[int, ...], ...]  # of one row's columns
    channels: tuple[str, ...] = CHANNELS.stored_names
    scalars: tuple[str, ...] = SCALARS.stored_names
    streams: tuple[From, ...]
    tensors_sha256: str = ""


class StateExport(NamedTuple):
    """The rows of S streams, and what is known of them."""

    manifest: Manifest
    rows: Rows
    applied: Tensor  # (S,) int64

    @property
    def keys(self) -> list[StreamKey]:
        return [StreamKey(one.stream.encode()) for one in self.manifest.streams]


def save(path: Path, exported: StateExport) -> None:
    """Write the file in one piece: it is whole or it is not there. Raises UnwrittenOutput."""
    tensors = {name: column.contiguous() for name, column in zip(Rows._fields, exported.rows, strict=True)}
    tensors["applied"] = exported.applied.contiguous()
    manifest = msgspec.structs.replace(exported.manifest, tensors_sha256=sha256_of_tensors(save_tensors(tensors)))
    content = save_tensors(tensors, metadata={HEADER: msgspec.json.encode(manifest).decode()})
    write_or_keep(path, content)


def load(path: Path, layout: Layout) -> StateExport:
    """Read a file of rows that this layout gives a meaning to. Raises RefusedInput."""
    content = _read(path)
    manifest = _manifest(path, content)
    _require_layout(path, manifest, layout)
    found = sha256_of_tensors(content)
    if found != manifest.tensors_sha256:
        raise RefusedInput(
            f"{path}: the tensors' SHA-256 is {found[:12]}…, the header says {manifest.tensors_sha256[:12]}…: the file"
            " was damaged or changed"
        )
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:  # the others: of its reader
        raise RefusedInput(f"{path}: not a safetensors file: {error}") from error
    streams = len(manifest.streams)
    columns = []
    for name, shape, dtype in zip((*Rows._fields, "applied"), (*layout.shapes, ()), DTYPES, strict=True):
        column = tensors.get(name)
        if column is None or (column.shape, column.dtype) != (torch.Size((streams, *shape)), dtype):
            raise RefusedInput(
                f"{path}: tensor {name} is not {dtype} {(streams, *shape)}, as its {streams} streams need"
            )
        statistics = name in ("channels", "scalars")  # unknown spreads and ranges are infinite there
        if column.isnan().any() or not (statistics or column.isfinite().all()):
            raise RefusedInput(f"{path}: tensor {name} holds values that are not finite")
        columns.append(column)
    return StateExport(manifest, Rows(*columns[:4]), columns[4])


def _require_layout(path: Path, manifest: Manifest, layout: Layout) -> None:
    if manifest.version != VERSION:
        raise RefusedInput(f"{path}: of version {manifest.version}, this version of Telltale reads {VERSION}")
    if manifest.checkpoint != layout.checkpoint:
        raise RefusedInput(
            f"{path}: its rows are checkpoint {manifest.checkpoint[:12]}'s and mean nothing to"
            f" {layout.checkpoint[:12]}, the one given"
        )
    expected = layout.names, layout.shapes, CHANNELS.stored_names, SCALARS.stored_names
    if (manifest.names, manifest.shapes, manifest.channels, manifest.scalars) != expected:
        raise RefusedInput(f"{path}: its rows hold other quantities than this version's: export it again")
    keys = [one.stream for one in manifest.streams]
    if not keys or len(keys) != len(set(keys)) or not all(1 <= len(key.encode()) <= MAX_KEY_BYTES for key in keys):
        raise RefusedInput(f"{path}: names {counted(len(keys), 'stream')}, expected at least one, and none twice")


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise RefusedInput(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    return path.read_bytes()


def _manifest(path: Path, content: bytes) -> Manifest:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, MAX_HEADER_BYTES):
        raise RefusedInput(f"{path}: {len(content)} bytes, not a whole safetensors file")
    try:
        header = json.loads(content[8 : 8 + length])
        return msgspec.json.decode(header["__metadata__"][HEADER], type=Manifest)
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise RefusedInput(f"{path}: not a file of exported state: {error!r}") from error
