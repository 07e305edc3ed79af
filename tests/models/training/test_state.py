import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch.optim.optimizer import register_optimizer_step_post_hook

from models.data.series import Series
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.generic import generic_architecture
from models.training.loop import Fitted, Progress, fit
from models.training.run import TrainingConfig
from models.training.state import UnusableState
from tests.models.training.test_loop import assert_same_net, series

CPU = torch.device("cpu")
NET = ForecasterConfig(("a", "b"), hidden=16)
SHORT = TrainingConfig(epochs=3, epoch_steps=1, chunk_readings=16, lane_readings=64, side_by_side=2, learning_rate=1e-2)


def some_series() -> list[Series]:
    random = np.random.default_rng(5)
    made = [random.normal(size=(readings, 2)).cumsum(0) for readings in (150, 100, 60)]
    made[0][40:44, 1] = np.nan
    return [series(values, f"s{n}") for n, values in enumerate(made)]


def assert_same_run(found: Fitted, expected: Fitted) -> None:
    """To the last bit."""
    assert found.epochs == expected.epochs
    assert (found.best, found.ended, found.persistence_loss) == (
        expected.best,
        expected.ended,
        expected.persistence_loss,
    )
    assert_same_net(found.forecaster, expected.forecaster)


@pytest.fixture(scope="module")
def calm() -> Fitted:
    return fit(some_series(), NET, SHORT, CPU)


@contextmanager
def interrupted_after_steps(steps: int) -> Iterator[None]:
    """Ctrl-C in the middle of a group of lanes, the weights on their way."""
    left = iter(range(steps))

    def stop(*_: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    hook = register_optimizer_step_post_hook(stop)
    try:
        yield
    finally:
        hook.remove()


def interrupt(_: Progress) -> None:
    raise KeyboardInterrupt


def test_a_run_interrupted_at_every_border_comes_to_the_same_bits(calm: Fitted, tmp_path: Path) -> None:
    parts = 0
    while (fitted := fit(some_series(), NET, SHORT, CPU, interrupt, tmp_path / "run")).ended == "interrupted":
        parts += 1
    assert parts == 3 * (3 + 1)  # three epochs of three groups of lanes, and the end of each
    assert_same_run(fitted, calm)


@pytest.mark.parametrize("steps", [0, 1, 5, 11, 17])
def test_a_run_interrupted_amid_a_group_comes_to_the_same_bits(calm: Fitted, tmp_path: Path, steps: int) -> None:
    with interrupted_after_steps(steps):
        assert fit(some_series(), NET, SHORT, CPU, run_file=tmp_path / "run").ended == "interrupted"
    assert_same_run(fit(some_series(), NET, SHORT, CPU, run_file=tmp_path / "run"), calm)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["rnn-relu", "gru"])
def test_it_is_so_with_other_cells(tmp_path: Path, cell: str) -> None:
    net, short = replace(NET, cell=cell, layers=2), replace(SHORT, epochs=2)
    with interrupted_after_steps(9):
        fit(some_series(), net, short, CPU, run_file=tmp_path / "run")
    assert_same_run(fit(some_series(), net, short, CPU, run_file=tmp_path / "run"), fit(some_series(), net, short, CPU))


PROGRAM = """
import sys
from pathlib import Path
import torch
from models.training.loop import fit
from tests.models.training.test_state import CPU, NET, SHORT, some_series
torch.set_num_threads(1)
fit(some_series(), NET, SHORT, CPU, lambda _: print("on", flush=True), Path(sys.argv[1]), save_every_s=0)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_comes_to_the_same_bits(calm: Fitted, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(6):
            assert process.stdout.readline() == "on\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    told: list[Progress] = []
    assert_same_run(fit(some_series(), NET, SHORT, CPU, told.append, tmp_path / "run"), calm)
    assert len(told) <= 12 - 6


@pytest.mark.slow
def test_sigterm_ends_a_run_as_ctrl_c_does(calm: Fitted, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    fitted = fit(some_series(), NET, SHORT, CPU, stop, tmp_path / "run")
    assert (fitted.ended, fitted.epochs) == ("interrupted", calm.epochs[:1])
    assert signal.getsignal(signal.SIGTERM) is before
    assert_same_run(fit(some_series(), NET, SHORT, CPU, run_file=tmp_path / "run"), calm)


@pytest.mark.slow
def test_a_run_in_instalments_of_its_budget_comes_to_the_same_bits(calm: Fitted, tmp_path: Path) -> None:
    """What a spent budget cut short counts as an epoch, but goes on where it was cut when more is given."""
    spent = fit(some_series(), NET, replace(SHORT, budget_s=0.0), CPU, run_file=tmp_path / "run")
    assert (spent.ended, len(spent.epochs)) == ("budget", 1)
    assert spent.epochs[0] != calm.epochs[0]
    assert_same_run(fit(some_series(), NET, SHORT, CPU, run_file=tmp_path / "run"), calm)


@pytest.mark.slow
def test_a_run_that_is_done_goes_on_with_more_epochs_and_otherwise_is_as_it_was(calm: Fitted, tmp_path: Path) -> None:
    one = fit(some_series(), NET, replace(SHORT, epochs=1), CPU, run_file=tmp_path / "run")
    assert one.epochs == calm.epochs[:1]
    assert_same_run(fit(some_series(), NET, SHORT, CPU, run_file=tmp_path / "run"), calm)
    told: list[Progress] = []
    assert_same_run(fit(some_series(), NET, SHORT, CPU, told.append, tmp_path / "run"), calm)
    assert not told


def test_another_run_is_refused_and_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "run"
    fit(some_series(), NET, replace(SHORT, epochs=1), CPU, run_file=path)
    for net, training, message in (
        (replace(NET, cell="gru"), SHORT, "the run in it has cell lstm, this one has gru"),
        (NET, replace(SHORT, learning_rate=0.5), "the run in it has learning_rate 0.01, this one has 0.5"),
        (NET, replace(SHORT, precision="bfloat16"), "has precision float32, this one has bfloat16"),
    ):
        with pytest.raises(UnusableState, match=message):
            fit(some_series(), net, training, CPU, run_file=path)
    fewer, changed = some_series()[:2], some_series()
    changed[1].values[3, 0] = np.nextafter(changed[1].values[3, 0], 1e9)
    with pytest.raises(UnusableState, match=r"data\.digest"):
        fit(changed, NET, SHORT, CPU, run_file=path)
    with pytest.raises(UnusableState, match=r"data\.digest|data\.readings 310, this one has 250"):
        fit(fewer, NET, SHORT, CPU, run_file=path)


def as_version_1(content: bytes) -> bytes:
    """The same run as the first schema version wrote it, with the names of then."""
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8:length])["__metadata__"]["telltale-training"])
    assert header.pop("schema_version") == 2
    values = header["values"]
    values["slower"] = values.pop("lr_scheduler")
    values["sums"]["cut"] = values["sums"].pop("clipped")
    for epoch in values["epochs"]:
        epoch["cut"] = epoch.pop("clipped_share")
    return save(load(content), metadata={"telltale-training": json.dumps({"schema_version": 1, **header})})


@pytest.mark.slow
def test_a_run_kept_by_the_first_schema_version_is_resumed_to_the_same_bits(calm: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with interrupted_after_steps(11):
        assert fit(some_series(), NET, SHORT, CPU, run_file=path).epochs
    path.write_bytes(as_version_1(path.read_bytes()))
    assert_same_run(fit(some_series(), NET, SHORT, CPU, run_file=path), calm)


@pytest.mark.slow
def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    fit(some_series(), NET, replace(SHORT, epochs=1), CPU, run_file=path)
    whole = path.read_bytes()
    for content in (b"{}", whole[:-1], whole[:100], whole[:-9] + b"\x01" + whole[-8:]):
        path.write_bytes(content)
        with pytest.raises(UnusableState, match=r"damaged|not a whole one"):
            fit(some_series(), NET, SHORT, CPU, run_file=path)


def test_a_run_that_began_as_another_net_is_resumed_only_with_that_one(tmp_path: Path) -> None:
    config = generic_architecture(16)
    one, other = Forecaster(config), Forecaster(config)
    values = np.random.default_rng(5).normal(size=150).cumsum()
    learned = [series(values, "s")._replace(features=config.features)]
    whole = fit(learned, config, SHORT, CPU, start=one)
    fit(learned, config, replace(SHORT, epochs=1), CPU, run_file=tmp_path / "run", start=one)
    with pytest.raises(UnusableState, match="the run in it has start"):
        fit(learned, config, SHORT, CPU, run_file=tmp_path / "run", start=other)
    resumed = fit(learned, config, SHORT, CPU, run_file=tmp_path / "run", start=one)
    assert_same_run(resumed, whole)
    assert resumed.start_loss == whole.start_loss
