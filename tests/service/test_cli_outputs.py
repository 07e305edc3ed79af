"""Commands whose output finds no room: told before the work, and what was made is kept where it fails all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

from models.checkpoints import checkpoint
from tests.command_line import Telltale
from tests.small_disk import SmallDisk, names_in

pytestmark = pytest.mark.usefixtures("own_folder")
TRAIN = ("train", "--data", "pump.csv", "--hidden", 16, "--epochs", 2, "--chunk", 16)


@pytest.fixture(autouse=True)
def data(own_folder: None) -> None:
    times = 1_700_000_000_000 + np.arange(200) * 60_000
    part = ["train"] * 150 + ["test"] * 50
    label = [0] * 190 + [1] * 10
    flow = np.sin(np.arange(200) / 9)
    Path("set").mkdir()
    pl.DataFrame({"timestamp": times, "flow": flow}).write_csv("pump.csv")
    pl.DataFrame({"timestamp": times, "flow": flow, "part": part, "label": label}).write_csv("set/pump.csv")


@contextmanager
def full_after_a_step(disk: SmallDisk) -> Iterator[None]:
    """The disk fills up when training has begun."""
    hook = register_optimizer_step_post_hook(lambda *_: disk.fill())
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize("option", ["--out", "--report", "--resume"])
def test_train_says_before_it_begins_that_there_is_no_room(telltale: Telltale, disk: SmallDisk, option: str) -> None:
    disk.fill()
    places = {"--out": "here.safetensors", option: disk.folder / "there"}
    arguments = [part for place in places.items() for part in place]
    said = telltale.refuses(*TRAIN, *arguments, code=1)
    assert said == f"telltale: {disk.folder / 'there'}: cannot be written: No space left on device"
    assert names_in(disk.folder) == ["ballast"]


def test_train_estimates_what_it_needs(telltale: Telltale, disk: SmallDisk) -> None:
    disk.fill(leave=16_384)
    ran = telltale(*TRAIN, "--out", disk.folder / "a.safetensors")
    assert ran.code == 1
    assert "bytes are needed)" in ran.err
    assert "epoch" not in ran.out


@pytest.mark.slow
@pytest.mark.usefixtures("disk")
def test_the_estimate_is_about_what_a_checkpoint_takes(telltale: Telltale) -> None:
    telltale.does(*TRAIN, "--out", "a.safetensors")
    loaded = checkpoint.load(Path("a.safetensors"))
    expected, _ = checkpoint.expected_bytes(loaded.detector.forecaster.config, ["pump"])
    size = Path("a.safetensors").stat().st_size
    assert size <= expected <= size + checkpoint.HEADER_BYTES


@pytest.mark.slow
def test_a_model_that_finds_no_room_at_the_end_is_kept_and_so_is_its_report(
    telltale: Telltale, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out, resume = disk.folder / "a.safetensors", disk.folder / "run"
    with full_after_a_step(disk):
        ran = telltale(*TRAIN, "--out", out, "--resume", resume, "--report", "a.html")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    (kept,) = tmp_path.glob("telltale-*/a.safetensors")
    (run,) = tmp_path.glob("telltale-*/run")
    said = " ".join(ran.err.split())
    for path, instead in ((out, kept), (resume, run)):
        assert f"{path}: cannot be written: No space left on device; it is kept in {instead}" in said
    assert names_in(disk.folder) == ["ballast"]
    assert checkpoint.load(kept).description.metrics.epochs == 2
    assert Path("a.html").read_text().rstrip().endswith("</html>")
    assert list(Path().glob("plotly-*.min.js")), "the report's charts"
    telltale.does(*TRAIN, "--out", "again.safetensors", "--resume", run)


@pytest.mark.slow
def test_commands_on_files_say_before_they_begin_that_there_is_no_room(telltale: Telltale, disk: SmallDisk) -> None:
    telltale.does(*TRAIN, "--out", "a.safetensors")
    disk.fill()
    known = ("--checkpoint", "a.safetensors", "--data", "pump.csv")
    for command in (
        ("score", *known, "--out", disk.folder / "s.parquet"),
        ("score", *known, "--out", "s.parquet", "--anomalies", disk.folder / "a.jsonl"),
        ("inspect", *known, "--stream", "pump", "--out", disk.folder / "a.html"),
        ("forecast", *known, "--stream", "pump", "--out", disk.folder / "a.html"),
        ("gradients", "--data", "pump.csv", "--out", disk.folder),
        ("memory-tasks", "--out", disk.folder),
        ("compare", "--data", "set/pump.csv", "--out", disk.folder),
        ("evaluate", "set/pump.csv", "--out", disk.folder),
    ):
        said = telltale.refuses(*command, code=1)
        assert f"telltale: {disk.folder}" in said, command
        assert "cannot be written: No space left on device" in said, command
        assert names_in(disk.folder) == ["ballast"], command
    assert not Path("s.parquet").exists()


@pytest.mark.slow
def test_score_estimates_what_it_needs(telltale: Telltale, disk: SmallDisk) -> None:
    telltale.does(*TRAIN, "--out", "a.safetensors")
    disk.fill(leave=8192)
    pl.DataFrame({"timestamp": 1_700_000_000_000 + np.arange(2_000) * 60_000, "flow": np.arange(2_000.0)}).write_csv(
        "long.csv"
    )
    said = telltale.refuses(
        "score", "--checkpoint", "a.safetensors", "--data", "long.csv", "--out", disk.folder / "s.parquet", code=1
    )
    assert "(32,000 bytes are needed)" in said
    assert names_in(disk.folder) == ["ballast"]


@pytest.mark.slow
def test_what_score_has_found_is_written_or_not_there(telltale: Telltale) -> None:
    telltale.does(*TRAIN, "--out", "a.safetensors")
    telltale.does(
        "score", "--checkpoint", "a.safetensors", "--data", "pump.csv", "--out", "s.parquet", "--anomalies", "/dev/null"
    )
    assert len(pl.read_parquet("s.parquet")) == 200
    assert Path("/dev/null").is_char_device()


def test_a_net_that_cannot_be_saved_is_refused_before_it_is_trained(telltale: Telltale) -> None:
    ran = telltale(*TRAIN[:3], "--hidden", 2048, "--out", "a.safetensors")
    assert ran.code != 0
    assert "hidden" in ran.err
    assert "1024" in ran.err
    assert "Traceback" not in ran.err
    assert not Path("a.safetensors").exists()


def test_a_model_with_nothing_to_validate_on_is_saved(telltale: Telltale) -> None:
    pl.read_csv("pump.csv").head(33).write_csv("short.csv")
    telltale.does("train", "--data", "short.csv", "--hidden", 16, "--epochs", 1, "--out", "a.safetensors")
    telltale.does("checkpoint", "verify", "a.safetensors")
