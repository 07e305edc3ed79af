"""Files with headers that no one wrote: an error that says what is wrong, within the memory that the file needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.checkpoints.checkpoint import save
from models.training.loop import fit
from tests.models.checkpoints.test_checkpoint import described, redescribed, refused, some_detector
from tests.models.training.test_state import NET, SHORT, some_series

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


@pytest.fixture
def content(path: Path) -> bytes:
    detector = some_detector()
    save(path, detector, described(detector))
    return path.read_bytes()


ROOM_BYTES = 256 * 2**20

LOADS = """
import json, resource, sys
from pathlib import Path
from tests.models.checkpoints.test_checkpoint import join, split
from models.checkpoints.checkpoint import UnusableCheckpoint, load
from tests.mutations import mutations
path, room = Path(sys.argv[1]), int(sys.argv[2])
content = path.read_bytes()
load(path)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + room, held + room))
header, tensors = split(content)
description = json.loads(header["__metadata__"]["telltale"])
tried = refused = 0
def read(what):
    global tried, refused
    tried += 1
    try:
        load(path)
    except UnusableCheckpoint as error:
        refused += 1
        assert str(error).startswith(f"{path}: "), (what, error)
        assert len(str(error)) <= 2_000, what
    except BaseException as error:
        raise SystemExit(f"{what}: {error!r:.500}")
for what, changed in mutations(description):
    header["__metadata__"]["telltale"] = json.dumps(changed)
    path.write_bytes(join(header, tensors))
    read(what)
header["__metadata__"]["telltale"] = json.dumps(description)
for what, changed in mutations({name: one for name, one in header.items() if name != "__metadata__"}):
    path.write_bytes(join({"__metadata__": header["__metadata__"], **changed}, tensors))
    read(what)
print(tried, refused)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("names_kinds", [False, True])
def test_whatever_a_checkpoint_says_it_is_read_or_refused_within_its_memory(
    tmp_path: Path, *, names_kinds: bool
) -> None:
    file = tmp_path / "a.safetensors"
    detector = some_detector(names_kinds=names_kinds)
    save(file, detector, described(detector))
    ran = subprocess.run(
        [sys.executable, "-c", LOADS, str(file), str(ROOM_BYTES)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    tried, refusals = map(int, ran.stdout.split())
    assert tried > 1_000
    assert refusals > tried / 2


@pytest.mark.parametrize(
    ("section", "name", "value", "expected"),
    [
        ("score", "warm_up", float("nan"), "judgement.score.warm_up"),
        ("score", "smooth_readings", 0, "smooth_readings"),
        ("score", "block_readings", 64.5, "block_readings is 64.5, expected a whole number from 0 to 10,000,000"),
        ("score", "lowest_threshold", float("inf"), "judgement.score.lowest_threshold"),
        ("score", "range_share", 0, "range_share"),
        ("score", "residual_weight", -1, "residual_weight is -1, expected a number from 0 to 1,000,000"),
        ("alarm", "close_below", float("nan"), "judgement.alarm.close_below"),
        ("alarm", "adopt_after", 10**12, "adopt_after is 1000000000000, expected a whole number from 0 to 10,000,000"),
    ],
)
def test_a_judgement_that_is_no_sensible_number_is_refused_by_name(
    path: Path,
    content: bytes,
    section: str,
    name: str,
    value: float,
    expected: str,
) -> None:
    changed = redescribed(content, lambda description: description["judgement"][section].update({name: value}))
    assert expected in refused(path, changed)


def test_a_million_features_are_refused_before_anything_is_allocated(path: Path, content: bytes) -> None:
    names = [f"f{n}" for n in range(300_000)]
    changed = redescribed(content, lambda description: description["architecture"].update(features=names))
    assert "architecture.features: Tuple should have at most 4096 items" in refused(path, changed)


RESUMES = """
import json, resource, sys
from pathlib import Path
import torch
from models.training.loop import fit
from models.training.state import HEADER, UnusableState
from tests.models.checkpoints.test_checkpoint import join, split
from tests.models.training.test_state import NET, SHORT, some_series
from tests.mutations import mutations
from dataclasses import replace
path = Path(sys.argv[1])
content = path.read_bytes()
header, tensors = split(content)
said = json.loads(header["__metadata__"][HEADER])
series, done = some_series(), replace(SHORT, budget_s=0.0)
tried = refused = 0
for what, changed in mutations(said):
    if what.startswith("identity."):
        continue
    header["__metadata__"][HEADER] = json.dumps(changed)
    path.write_bytes(join(header, tensors))
    tried += 1
    if tried % 3:
        continue
    try:
        fit(series, NET, done, torch.device("cpu"), run_file=path)
    except UnusableState as error:
        refused += 1
        assert str(error).startswith(f"{path}: "), (what, error)
    except BaseException as error:
        import traceback; traceback.print_exc()
        raise SystemExit(f"{what}: {error!r:.500}")
print(tried, refused)
"""


@pytest.mark.thorough
def test_whatever_a_run_of_training_says_it_goes_on_or_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run"
    fit(some_series(), NET, SHORT, torch.device("cpu"), run_file=file)
    ran = subprocess.run([sys.executable, "-c", RESUMES, str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    tried, refusals = map(int, ran.stdout.split())
    assert tried > 100
    assert refusals > tried / 6
