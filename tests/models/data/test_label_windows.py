"""Stretches that people called a fault, normal or known, from a file."""

from pathlib import Path

import numpy as np
import pytest

from models.data.errors import UnusableData
from models.data.label_windows import read_label_windows
from models.data.series import Series

HEAD = "streams,from,until,label,note\n"
HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_764_288_000_000  # 2025-11-28


def hour(hours: int) -> str:
    return f"2025-11-28T{hours:02d}:00:00Z"


def written(folder: Path, *rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows))
    return path


def test_a_fault_is_from_its_beginning_until_before_its_end_in_the_streams_of_its_pattern(tmp_path: Path) -> None:
    rows = (
        f"a/*,{hour(2)},{hour(4)},fault,",
        f'b[*],{hour(0)},{hour(9)},fault,"x, y"',
        f"a/1,{hour(5)},{hour(6)},known,",
    )
    windows = read_label_windows(written(tmp_path, *rows))
    times_ms = MIDNIGHT_MS + HOUR_MS * np.arange(8)

    def hours(stream: str) -> list[int]:
        return np.flatnonzero(windows.faults(stream, times_ms)).tolist()

    assert hours("a/1") == hours("a/2") == [2, 3]
    assert (hours("b*"), hours("bc"), hours("c")) == (list(range(8)), [], [])


def test_streams_with_a_fault_are_kept_without_it_and_the_others_are_not_copied(tmp_path: Path) -> None:
    windows = read_label_windows(written(tmp_path, f"a,{hour(2)},{hour(4)},fault,"))
    times_ms = MIDNIGHT_MS + HOUR_MS * np.arange(6)
    values = np.arange(6.0)[:, None]
    a, b = (Series(key, Path("f"), ("x",), np.arange(6), times_ms, values, np.zeros(6, bool)) for key in "ab")
    kept_a, kept_b = windows.without_faults([a, b])
    assert kept_a.values[:, 0].tolist() == [0.0, 1.0, 4.0, 5.0]
    assert kept_a.times_ms.tolist() == times_ms[[0, 1, 4, 5]].tolist()
    assert kept_b is b


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((f"a,{hour(1)},{hour(2)},odd,",), "line 2: label is 'odd', expected one of fault, normal, known"),
        ((f"a,{hour(2)},{hour(2)},fault,",), "line 2: until is 2025-11-28T02:00:00Z, expected a time after from"),
        ((f"a,{hour(1)},{hour(2)},fault,", "a,noon,,fault,"), "line 3: from is 'noon', expected a time such as"),
        ((f"a,2025-11-28T08:00:00,{hour(2)},fault,",), "no offset from UTC"),
        ((f",{hour(1)},{hour(2)},fault,",), "line 2: streams is empty"),
        (("a",), "label is ''"),
    ],
)
def test_a_line_that_says_nothing_usable_is_named(tmp_path: Path, rows: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UnusableData, match=expected):
        read_label_windows(written(tmp_path, *rows))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("stream,begin\n")
    with pytest.raises(UnusableData, match="found no column streams, from, until, label, expected"):
        read_label_windows(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnusableData, match="cannot be read as text"):
        read_label_windows(path)
