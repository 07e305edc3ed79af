"""The file of rows: it holds what was put into it, and is refused when it is damaged anywhere."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from models.detection.detector import Detector
from service.errors import RefusedInput
from service.inspect import state_file
from service.inspect.state_file import StateExport
from service.state.changelog import Layout
from tests.data import some_forecaster
from tests.mutations import mutations
from tests.service.onlooker import DIGEST, NUMERICS, WANTED, same_bits


def test_a_file_holds_what_was_put_into_it(tmp_path: Path, exported: StateExport, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, exported)
    found = state_file.load(path, layout)
    assert same_bits(found.rows, exported.rows)
    assert found.applied.tolist() == exported.applied.tolist()
    assert found.keys == WANTED
    assert found.manifest.streams == exported.manifest.streams
    assert (found.manifest.numerics, found.manifest.checkpoint) == (NUMERICS, DIGEST)


def test_a_file_holds_streams_without_a_cell_too(tmp_path: Path, exported: StateExport) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = Detector.cold(some_forecaster(2, cell="gru")).rows_for([b"a", b"b"])
    rows.hidden.copy_(torch.randn(rows.hidden.shape, generator=generator))
    layout = Layout.of(DIGEST, rows)
    path = tmp_path / "rows.state"
    manifest = msgspec.structs.replace(exported.manifest, names=layout.names, shapes=layout.shapes)
    state_file.save(path, StateExport(manifest, rows, exported.applied))
    found = state_file.load(path, layout)
    assert same_bits(found.rows, rows)
    assert found.rows.cell.shape == (2, 1, 0)


def test_a_file_that_is_damaged_anywhere_is_refused(tmp_path: Path, exported: StateExport, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, exported)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for place in (0, 20, 8 + header // 2, *range(8 + header, len(whole), 97), len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(RefusedInput, match=r"rows\.state"):
            state_file.load(path, layout)
    for length in (0, 7, 8, 100, 8 + header, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RefusedInput, match=r"rows\.state"):
            state_file.load(path, layout)


@pytest.mark.slow
def test_whatever_a_file_says_it_is_read_or_refused(tmp_path: Path, exported: StateExport, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, exported)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    said = json.loads(header["__metadata__"][state_file.HEADER])
    tried, said_of_it = 0, list[str]()
    described = ({"__metadata__": {state_file.HEADER: json.dumps(one)}} for _, one in mutations(said))
    shaped = (one for _, one in mutations({name: header[name] for name in header if name != "__metadata__"}))
    for changed in (*described, *shaped):
        written = json.dumps({**header, **changed}).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + whole[8 + length :])
        tried += 1
        try:
            state_file.load(path, layout)
        except RefusedInput as error:
            said_of_it.append(str(error))
    assert tried > 500
    assert len(said_of_it) > tried / 2
    assert all(message.startswith(f"{path}: ") for message in said_of_it)


def test_a_state_that_is_no_number_is_refused(tmp_path: Path, exported: StateExport, layout: Layout) -> None:
    path = tmp_path / "rows.state"
    exported.rows.scalars[0, 0] = torch.nan
    state_file.save(path, exported)
    with pytest.raises(RefusedInput, match="tensor scalars holds values that are not finite"):
        state_file.load(path, layout)


def test_a_file_of_another_checkpoint_or_other_sizes_is_refused(
    tmp_path: Path, exported: StateExport, layout: Layout
) -> None:
    path = tmp_path / "rows.state"
    state_file.save(path, exported)
    with pytest.raises(RefusedInput, match=f"checkpoint {DIGEST[:12]}'s and mean nothing to ffff"):
        state_file.load(path, Layout("f" * 64, layout.shapes))
    with pytest.raises(RefusedInput, match="other quantities"):
        state_file.load(path, Layout(DIGEST, ((1, 32), *layout.shapes[1:])))
