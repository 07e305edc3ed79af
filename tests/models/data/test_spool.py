import gc
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data import spool, text_files
from models.data.series import Series, UnusableData, read_series
from models.training.loop import usable

Columns = Mapping[str, Sequence[object]]


@pytest.fixture(params=[".csv", ".parquet"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1, 2, 7, 10_000])
def piece_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of Parquet rows, of CSV about as many."""
    rows = int(request.param)
    cut_into(monkeypatch, rows)
    return rows


def cut_into(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(spool, "_piece_readings", lambda features: rows)
    monkeypatch.setattr(text_files, "PIECE_BYTES", 10 * rows)


def write(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=3)
    else:
        frame.write_csv(path)
    return path


def read(*paths: Path) -> list[Series]:
    return spool.read(spool.look(paths))


def assert_same(found: Sequence[Series], expected: Sequence[Series]) -> None:
    """What may be trained on: keys, times and values, to the bit."""
    assert [one.key for one in found] == [one.key for one in expected]
    for one, other in zip(found, expected, strict=True):
        train = other.select(~other.test)
        assert (one.path, one.features) == (other.path, other.features)
        np.testing.assert_array_equal(one.times_ms, train.times_ms)
        np.testing.assert_array_equal(one.values, train.values)
        assert len(one.rows) == len(one.test) == len(train.times_ms)
        assert not one.test.any()


def mixed(rows: int, streams: int, seed: int) -> dict[str, Sequence[object]]:
    random = np.random.default_rng(seed)
    values = random.normal(0, 1e3, rows)
    return {
        "timestamp": (10**12 + random.integers(0, 10**6, rows)).tolist(),
        "x": [None if random.random() < 0.2 else value for value in values],
        "n": random.integers(-5, 5, rows).tolist(),
        "stream": [f"s{n}" for n in random.integers(0, streams, rows)],
        "part": random.choice(["train", "test"], rows, p=[0.8, 0.2]).tolist(),
        "label": random.integers(0, 2, rows).tolist(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 3, 40])
def test_it_holds_what_is_read_at_once_without_the_test_part(
    tmp_path: Path, suffix: str, piece_rows: int, streams: int
) -> None:
    path = write(tmp_path / f"a{suffix}", mixed(60, streams, seed=streams))
    assert_same(read(path), read_series([path]))


@pytest.mark.slow
def test_several_files_are_read_one_after_another(tmp_path: Path, suffix: str, piece_rows: int) -> None:
    for n in range(3):
        columns = {**mixed(20, 2, seed=n), "stream": [f"file-{n}"] * 20}
        if n == 0:
            del columns["stream"]
        write(tmp_path / f"{n}{suffix}", columns)
    assert_same(read(tmp_path), read_series([tmp_path]))


BAD: list[Columns] = [
    {"when": [1], "x": [1.0]},
    {"timestamp": [1, 2], "x": ["warm", "cold"]},
    {"timestamp": [1, 2, 3], "x": [None, None, "cold"]},
    {"timestamp": [1, 2], "x": [True, False]},
    {"timestamp": [1, 2], "label": [0, 1]},
    {"timestamp": [1, None, None], "x": [1.0, 2, 3]},
    {"timestamp": [1.5, 2.5], "x": [1.0, 2]},
    {"timestamp": [5, 6, -7, -9], "x": [1.0, 2, 3, 4]},
    {"timestamp": ["2026-01-31T23:59:00Z", "yesterday"], "x": [1.0, 2]},
    {"timestamp": ["2026-01-31T23:58:00Z", "2026-01-31T23:59:00Z", "2026-01-31T23:59:00"], "x": [1.0, 2, 3]},
    {"timestamp": [1, 2, 3], "x": [1.0, 2, 3], "stream": ["a", "a", None]},
    {"timestamp": [1, 2, 1_767_571_200], "x": [1.0, 2, 3]},
    {"timestamp": [1_767_571_200, 1_767_571_200_000], "x": [1.0, 2]},
    {"timestamp": [1, 2, 1_767_571_200_000_000], "x": [1.0, 2, 3]},
    {"timestamp": [1, 2, 3], "x": [1.0, 2, 3], "stream": ["a", "a", '"b"']},
    {"timestamp": [], "x": []},
]


@pytest.mark.parametrize("columns", BAD)
def test_what_cannot_be_used_is_named_as_when_it_is_read_at_once(
    tmp_path: Path, suffix: str, piece_rows: int, columns: Columns
) -> None:
    path = write(tmp_path / f"a{suffix}", columns)
    with pytest.raises(UnusableData) as expected:
        read_series([path])
    with pytest.raises(UnusableData) as refused:
        read(path)
    assert str(refused.value) == str(expected.value)


def test_an_empty_stream_name_is_refused_with_its_row(tmp_path: Path, piece_rows: int) -> None:
    path = write(tmp_path / "a.parquet", {"timestamp": [1, 2, 3], "x": [1.0, 2, 3], "stream": ["a", "a", ""]})
    with pytest.raises(UnusableData, match="row 2 has an empty stream name"):
        read(path)


CELLS = st.sampled_from(["", "1", "-2", "0.5", "1e300", "NaN", "inf", "12345678901", "3."])


@pytest.mark.thorough
@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(10**11, 10**13), CELLS, CELLS, st.integers(0, 3)), min_size=1, max_size=20),
    piece_rows=st.integers(1, 5),
)
def test_types_of_csv_columns_are_inferred_from_all_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str, int]], piece_rows: int
) -> None:
    """Streams are numbers here, and values look like whole numbers at first, or are missing at first."""
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    lines = ["timestamp,x,y,stream", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_into(monkeypatch, piece_rows)
        assert_same(read(path), read_series([path]))


@pytest.mark.slow
def test_a_line_break_inside_quotes_ends_no_row(tmp_path: Path, piece_rows: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text('timestamp,x,stream,part\n1,2.5,pump,"train\n1"\n2,3.5,pump,"train\n1"\n3,4.5,other,test')
    found = read(path)
    assert_same(found, read_series([path]))
    assert [(one.key, len(one.times_ms)) for one in found] == [("pump", 2), ("other", 0)]


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("a.parquet", b"PAR1 and no more")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableData, match=rf"{name}: cannot be read as "):
        read(tmp_path / name)


def test_all_files_have_the_features_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", {"timestamp": [1], "x": [1.0], "y": [2.0]})
    second = write(tmp_path / "b.csv", {"y": [4.0], "x": [3.0], "timestamp": [1]})
    other = write(tmp_path / "c.csv", {"timestamp": [1], "x": [1.0], "z": [2.0]})
    assert [one.values.tolist() for one in read(first, second)] == [[[1, 2]], [[3, 4]]]
    with pytest.raises(UnusableData, match=r"c.csv: found features x, z; expected y as well"):
        read(first, other)


def test_a_stream_goes_on_in_a_later_file(tmp_path: Path, suffix: str, piece_rows: int) -> None:
    write(tmp_path / f"part-1{suffix}", {"timestamp": [1, 3, 2], "x": [1.0, 2, 3], "stream": ["a", "a", "b"]})
    write(tmp_path / f"part-2{suffix}", {"timestamp": [4, 3, 5], "x": [4.0, 5, 6], "stream": ["a", "b", "c"]})
    write(tmp_path / f"part-3{suffix}", {"timestamp": [9], "x": [7.0], "stream": ["a"]})
    found = {one.key: one for one in read(tmp_path)}
    assert [found["a"].times_ms.tolist(), found["a"].values[:, 0].tolist()] == [[1, 3, 4, 9], [1, 2, 4, 7]]
    assert [found["b"].times_ms.tolist(), found["b"].values[:, 0].tolist()] == [[2, 3], [3, 5]]
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize("time", [0, 2, 3])
def test_a_stream_that_goes_on_before_its_end_is_refused(
    tmp_path: Path, suffix: str, piece_rows: int, time: int
) -> None:
    """Two files of one time would be two sensors with one name, or parts in the wrong order. Test rows count too."""
    write(
        tmp_path / f"part-1{suffix}",
        {"timestamp": [3, 1], "x": [1.0, 2], "stream": ["a", "a"], "part": ["test", "train"]},
    )
    write(tmp_path / f"part-2{suffix}", {"timestamp": [9, time], "x": [1.0, 2], "stream": ["a", "a"]})
    message = (
        rf"part-2{suffix}: stream a is in .*part-1{suffix} already, up to 1970-01-01T00:00:00.003Z; "
        rf"found 1970-01-01T00:00:00.00{time}Z, expected it to go on with later readings"
    )
    with pytest.raises(UnusableData, match=message):
        read(tmp_path)


def test_a_disk_without_room_is_found_out_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", mixed(10, 2, seed=0))
    (table,) = spool.look([path])
    with pytest.raises(UnusableData, match=r"bytes are free, 56,000,000,000,000,000 are needed .*TMPDIR"):
        spool.read([table._replace(file=table.file._replace(rows=10**15))])


def test_more_readings_than_were_expected_find_room(piece_rows: int) -> None:
    random = np.random.default_rng(3)
    keys = [f"s{n}" for n in random.integers(0, 5, 200).tolist()]
    times_ms, values = np.arange(200), random.normal(size=(200, 2))
    small, large = (spool.Spool(("x", "y"), capacity) for capacity in (3, 200))
    for one in (small, large):
        for begin in range(0, 200, 7):
            part = slice(begin, begin + 7)
            one.append(one.number(keys[part]), times_ms[part], values[part])
    found, expected = (one.series(lambda _: Path("topic")) for one in (small, large))
    assert_same(found, expected)
    assert sum(len(one.times_ms) for one in found) == 200


@pytest.mark.slow
def test_no_named_file_is_left_and_the_space_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    path = write(tmp_path / "a.parquet", mixed(1_000, 3, seed=0))
    found = read(path)
    assert list((tmp_path / "spool").iterdir()) == []
    held = mapped(tmp_path)
    assert held, "the readings are in files"
    del found
    gc.collect()
    assert mapped(tmp_path) == []


def mapped(folder: Path) -> list[str]:
    """Files below a folder that this process has mapped."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """300 MB of readings as float64, of 200 streams by turns, in two parts."""
    folder = tmp_path_factory.mktemp("large")
    random, rows, features = np.random.default_rng(0), 1_150_000, 16
    streams = pl.Series([f"s{n}" for n in range(200)]).gather(np.arange(rows) % 200)
    for part in range(2):
        times = pl.Series(10**12 + np.arange(part * rows, (part + 1) * rows) * 1_000)
        values = {f"x{n}": random.normal(size=rows).astype(np.float32) for n in range(features)}
        frame = pl.DataFrame({"timestamp": times, "stream": streams, **values})
        frame.write_parquet(folder / f"part-{part}.parquet", row_group_size=200_000, statistics=False)
    yield folder
    for path in folder.iterdir():
        path.unlink()


TRAIN_LARGE = """
import json, sys, threading
from pathlib import Path
import numpy as np
import torch
from models.data import spool, text_files
from models.net.forecaster import ForecasterConfig
from models.data.series import Series
from models.training.loop import fit, usable
from models.training.run import TrainingConfig

def anonymous_kb():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])

class Peak(threading.Thread):
    kb, over = 0, threading.Event()
    def run(self):
        while not self.over.wait(0.002):
            self.kb = max(self.kb, anonymous_kb())

def train(parts):
    config = TrainingConfig(epochs=1, budget_s=0.0, side_by_side=16, lane_readings=256, validation_share=0.05)
    return fit(parts, ForecasterConfig(parts[0].features, hidden=16), config, torch.device("cpu"))

torch.set_num_threads(1)
n = np.arange(600)  # the optimiser brings modules with it when it is first used: that is not the data's memory
train([Series("first", Path("first"), ("x",), n, n * 1_000, np.sin(n)[:, None], n < 0)])
before, peak = anonymous_kb(), Peak(daemon=True)
peak.start()
parts = usable(spool.read(spool.look([Path(sys.argv[1])])))
fitted = train(parts)
peak.over.set()
peak.join()
data = sum(one.values.nbytes for one in parts)
print(json.dumps({"data": data, "used": (peak.kb - before) * 1024, "ended": fitted.ended}))
"""


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which memory is anonymous")
def test_training_on_300_megabytes_takes_less_memory_than_that(large: Path) -> None:
    """Memory that the system cannot take back (anonymous); what is only looked at in the files does not count."""
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN_LARGE, str(large)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(ran.stdout)
    assert found["data"] > 290e6
    assert found["ended"] == "budget"
    assert found["used"] < 200e6  # ten times as much data takes no more


def test_a_stream_of_test_rows_alone_is_there_and_left_out_of_training(tmp_path: Path) -> None:
    rows = 40
    path = write(
        tmp_path / "a.parquet",
        {
            "timestamp": list(range(2 * rows)),
            "x": [math.sin(n) for n in range(2 * rows)],
            "stream": ["judged"] * rows + ["learned"] * rows,
            "part": ["test"] * rows + ["train"] * rows,
        },
    )
    found = read(path)
    assert [(one.key, len(one.times_ms)) for one in found] == [("judged", 0), ("learned", rows)]
    assert [one.key for one in usable(found)] == ["learned"]
