"""The compiled judge: its bits are those of its source, and its code is kept."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from models.detection import compiling, judge
from models.detection.detector import ROOM, Detector, Readings
from tests.data import QUICK, Batch, Judged, batch_of, some_forecaster, some_kinds
from tests.data import judge as judge_batch
from tests.models.detection.interpreted import without_compiler

ROOT = Path(compiling.__file__).parents[2]

ONE_READING = """
import numpy as np, torch
from models.detection import judge
from models.detection.detector import ROOM, Detector, Readings
from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.packing import pack

detector = Detector.cold(Forecaster(ForecasterConfig(("a",), hidden=16)))
readings = Readings(torch.arange(2), torch.arange(2) * 60_000, torch.ones(2, 1, dtype=torch.float64))
detector.observe(readings, pack(torch.zeros(2, dtype=torch.int64)), detector.rows_for([b"a"]))
print("loaded" if sum(judge.judge_block.stats.cache_hits.values()) else "compiled")
"""


def eventful(features: int) -> Batch:
    """Faults of every kind, missing values, late and duplicate readings."""
    random = np.random.default_rng(features)
    values = random.normal(0, 1, (700, features))
    values[150:158] += 12
    values[200:300, 0] = values[200, 0]
    values[330:400] += 9
    values[450:470, -1] = np.nan
    values[500] = -0.0
    values[501:503] = 1e12
    values[random.random(values.shape) < 0.02] = np.nan
    batch = batch_of(values)
    times = batch.readings.times_ms.clone()
    times[600] = times[599]
    times[620:626] -= 3_000_000
    again = batch.readings.values.clone()
    again[600] = again[599]
    return batch._replace(readings=batch.readings._replace(times_ms=times, values=again))


def judge_two_readings() -> None:
    detector = Detector.cold(some_forecaster(1), QUICK)
    judge_batch(detector, batch_of([1.0, 2.0]), detector.rows_for([b"a"]))


def bits(column: Tensor) -> bytes:
    return column.contiguous().numpy().tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("features", [1, 2, 9])
def test_compiled_and_interpreted_the_judge_has_the_same_bits(features: int) -> None:
    """What a fused multiply-add, another order or a shortcut of the compiler changed would be seen."""
    detector, batch = Detector.cold(some_forecaster(features), QUICK).with_kinds(some_kinds()), eventful(features)

    def judged() -> Judged:
        return judge_batch(detector, batch, detector.rows_for([b"alone"]), [100, 101, 333])

    compiled = judged()
    with without_compiler():
        interpreted = judged()
    assert compiled.transitions
    assert compiled.late.any()
    assert compiled.duplicate.any()
    assert compiled.transitions == interpreted.transitions
    for name in ("late", "duplicate", "score", "alarm", "expected", "lower", "upper"):
        assert bits(getattr(compiled, name)) == bits(getattr(interpreted, name)), name
    for found, expected in zip(compiled.rows, interpreted.rows, strict=True):
        assert bits(found) == bits(expected)


@pytest.mark.slow
def test_more_events_than_there_was_room_for_are_kept() -> None:
    detector, streams, waves = Detector.cold(some_forecaster(1), QUICK).with_kinds(some_kinds()), 24, 130
    values = np.random.default_rng(3).normal(0, 1, (waves, streams))
    values[120] += 30
    of = torch.arange(streams).repeat(waves)
    number = torch.arange(streams * waves)
    batch = Batch(of, Readings(number, number // streams * 60_000, torch.from_numpy(values).reshape(-1, 1)))
    rows = detector.rows_for([b"%d" % stream for stream in range(streams)])
    found = judge_batch(detector, batch, rows)
    assert len(found.transitions) >= streams > ROOM
    with without_compiler():
        assert judge_batch(detector, batch, rows).transitions == found.transitions


@pytest.mark.slow
@pytest.mark.parametrize("function", [judge.admit, judge.hold, judge.judge_block])
def test_no_multiply_and_add_is_fused_and_no_function_is_an_approximation(function: Any) -> None:
    judge_two_readings()
    fresh = numba.njit(**compiling.OPTIONS)(function.py_func)  # of code that was loaded nothing is shown
    fresh.compile(function.signatures[0])
    (machine_code,), (llvm,) = fresh.inspect_asm().values(), fresh.inspect_llvm().values()
    assert not re.search(r"\bv?fn?m(add|sub)", machine_code)
    assert not re.search(r"\bf(add|sub|mul|div) (fast|contract|reassoc|arcp|afn)", llvm)
    assert "llvm.fma" not in llvm
    assert "llvm.fmuladd" not in llvm
    assert function is not judge.judge_block or "sqrt" in machine_code


def run(folder: Path, code: str = ONE_READING) -> str:
    """What a program prints that keeps compiled code in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.thorough
@pytest.mark.slow
def test_the_next_start_loads_what_was_compiled_even_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    assert run(folder) == "compiled"
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run(folder) == "loaded"


def test_what_was_compiled_from_other_sources_is_not_loaded(tmp_path: Path) -> None:
    stamp = compiling.KeptCode(bits, __file__).get_source_stamp()
    (tmp_path / "other.py").write_text("")
    assert compiling.KeptCode(bits, str(tmp_path / "other.py")).get_source_stamp() != stamp


@pytest.mark.thorough
@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_judged_all_the_same() -> None:
    assert run(Path("/proc/nothing")) == "compiled"


def test_whatever_the_strides_of_the_readings_are_one_compiled_function_takes_them() -> None:
    detector, batch = Detector.cold(some_forecaster(2), QUICK), batch_of(np.random.default_rng(0).normal(size=(40, 2)))
    found = judge_batch(detector, batch, detector.rows_for([b"a"]))
    functions: list[Any] = [judge.admit, judge.hold, judge.judge_block]
    compiled = [len(function.signatures) for function in functions]  # other tests call them in ways of their own
    turned = batch.readings.values.T.contiguous().T
    assert not turned.is_contiguous()
    other = batch._replace(readings=batch.readings._replace(values=turned))
    assert bits(judge_batch(detector, other, detector.rows_for([b"a"])).score) == bits(found.score)
    assert [len(function.signatures) for function in functions] == compiled


def test_the_code_is_for_any_processor_of_the_kind() -> None:
    judge_two_readings()
    _, processor, features = judge.judge_block.targetctx.codegen().magic_tuple()  # type: ignore[attr-defined]
    assert (processor, features) == ("x86-64-v2" if platform.machine() == "x86_64" else "generic", "")
