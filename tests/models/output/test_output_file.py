"""Files that commands write: whole or not there, and kept elsewhere where there is no room."""

import os
import threading
from pathlib import Path

import pytest

from models.output.output_file import UnwrittenOutput, write_each, write_or_keep, write_whole
from tests.small_disk import SmallDisk, names_in


def test_a_file_is_written_and_nothing_is_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "folder" / "a.txt", "22 °C")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "22 °C".encode()
    assert names_in(tmp_path / "new" / "folder") == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_whole_and_nothing_beside_it(disk: SmallDisk) -> None:
    path = disk.folder / "a.bin"
    write_whole(path, b"old")
    disk.fill(leave=8192)
    with pytest.raises(OSError, match="No space left") as refused:
        write_whole(path, bytes(100_000))
    assert refused.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names_in(disk.folder) == ["a.bin", "ballast"]


def test_what_finds_no_room_is_kept_in_the_temporary_folder(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    disk.fill()
    path = disk.folder / "plant.safetensors"
    with pytest.raises(UnwrittenOutput) as refused:
        write_or_keep(path, b"weights")
    (kept,) = tmp_path.glob("telltale-*/plant.safetensors")
    assert str(refused.value) == (
        f"{path}: cannot be written: No space left on device; it is kept in {kept}: move it to where you want it"
    )
    assert kept.read_bytes() == b"weights"
    assert not path.exists()


def test_where_nothing_has_room_the_message_says_both(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    disk.fill()
    with pytest.raises(UnwrittenOutput, match="nor could it be kept in the temporary folder: No space left on device"):
        write_or_keep(disk.folder / "a", bytes(10_000))


def test_one_output_that_fails_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    good, bad = tmp_path / "good", [tmp_path / "file" / name for name in "ab"]
    with pytest.raises(UnwrittenOutput) as refused:
        write_each(
            lambda: write_or_keep(bad[0], b"a"),
            lambda: write_or_keep(good, b"good"),
            lambda: write_or_keep(bad[1], b"b"),
        )
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == [str(one) for one in bad]
    assert good.read_bytes() == b"good"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"through")
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()
