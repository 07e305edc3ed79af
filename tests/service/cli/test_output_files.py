"""What a command is to write is checked before its work begins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.output_files import check_outputs, check_room
from service.errors import RefusedInput
from tests.small_disk import SmallDisk, names_in


def test_an_output_that_can_be_written_leaves_no_trace_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    check_outputs(tmp_path / "new", None, tmp_path / "old", Path("/dev/null"), force=True)
    check_room({tmp_path / "new": 1_000_000})
    assert names_in(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    check_outputs(tmp_path / "a" / "b" / "c.html")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_full_disk_is_told_with_the_path_and_the_reason(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(RefusedInput, match=r"disk/a\.html: cannot be written: No space left on device"):
        check_outputs(disk.folder / "a.html")


def test_files_that_fit_alone_but_not_together_are_refused(disk: SmallDisk) -> None:
    check_room({disk.folder / "a": 700_000})
    with pytest.raises(RefusedInput, match=r"disk/b: cannot be written: No space left on device \(700,000 bytes are"):
        check_room({disk.folder / "a": 700_000, disk.folder / "b": 700_000})
    assert names_in(disk.folder) == []


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="it is a folder, expected a file"):
        check_outputs(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedInput, match=r"file/a\.html: cannot be written: (File exists|Not a directory)"):
        check_outputs(tmp_path / "file" / "a.html")


def test_a_name_too_long_for_its_temporary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="File name too long"):
        check_outputs(tmp_path / ("a" * 252))


LIMITED = """
import resource, sys
from pathlib import Path
from service.cli.output_files import check_room
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    check_room({Path(sys.argv[1]): 200_000})
except Exception as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_seen(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == f"{tmp_path / 'a'}: cannot be written: File too large (200,000 bytes are needed)"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where others may not")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RefusedInput, match="Permission denied"):
        check_outputs(tmp_path / "a")
