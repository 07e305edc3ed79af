"""`telltale train` under torchrun, as docs/how-to/train.md has it, against `telltale train` alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.checkpoints.checkpoint import Checkpoint, load
from tests.command_line import command_line

pytestmark = pytest.mark.slow

TRAIN = ("train", "--simulate", "3", "--epochs", "2", "--hidden", "16", "--device", "cpu", "--out")
RELATIVE = 1e-4
"""The sums are the same, added up in another order, some two hundred steps long."""


@pytest.mark.thorough
def test_two_processes_under_torchrun_write_the_checkpoint_that_one_writes(tmp_path: Path) -> None:
    two, one = (tmp_path / f"{name}.safetensors" for name in ("two", "one"))
    telltale = Path(sys.executable).with_name("telltale")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    us = {name: value for name, value in os.environ.items() if not name.startswith("TELLTALE_")}
    ran = subprocess.run(
        [*command, str(telltale), *TRAIN, str(two)], env=us, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("readings to train on") == 1, "the first process tells, and no other"
    with command_line() as alone:
        alone.does(*TRAIN, one)
    assert_alike(load(two), load(one))


def assert_alike(found: Checkpoint, expected: Checkpoint) -> None:
    for name in ("loss", "validation_loss", "persistence_loss"):
        value = getattr(expected.description.metrics, name)
        assert getattr(found.description.metrics, name) == pytest.approx(value, rel=RELATIVE), name
    weights = expected.detector.forecaster.state_dict()
    for name, weight in found.detector.forecaster.state_dict().items():
        assert weight.numpy() == pytest.approx(weights[name].numpy(), rel=RELATIVE, abs=RELATIVE), name
    assert found.detector.known == expected.detector.known
