"""The self-test at start: that it passes where it should is little; each way of not being steady must make it fail."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import models.detection.judge
from models.data.arrays import Doubles
from models.detection import numerics
from models.detection.compiling import is_kept
from models.detection.detector import Detector
from models.detection.net_arithmetic import NetArithmetic
from models.detection.numerics import (
    COUNTS,
    NET,
    RULES,
    STREAMS,
    UnsteadyNumerics,
    check_steady,
    company,
    fingerprint,
    golden,
    judge,
    self_test,
)
from models.detection.records import Block, Rules, Sheet
from models.detection.rows import CHANNELS, SCALARS, RowsInPlace
from models.net import cells
from models.net.cells import CELLS, LSTM, CellState
from models.net.forecaster import Forecaster
from tests.data import fine_forecaster, some_forecaster

ROOT = Path(__file__).parents[3]
LONGEST_S = 0.5
JUDGE_BLOCK = models.detection.judge.judge_block
# Kernels of a processor with nothing later than SSE 4.1: their bits depend on the number of rows.
OLD_PROCESSOR = {"DNNL_MAX_CPU_ISA": "SSE41"}
# Functions without vector instructions: other bits, the same in every batch.
PLAIN_FUNCTIONS = {"ATEN_CPU_CAPABILITY": "default"}
only_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="libraries take that on x86 only")


def cold(features: int = 1, hidden: int = 64, layers: int = 1, seed: int = 0) -> Detector:
    return Detector.cold(some_forecaster(features, hidden, layers, seed))


def in_another_process(program: str, environment: dict[str, str]) -> str:
    """The last line that it says."""
    start = (
        "import torch\nfrom models.detection import numerics\nfrom tests.models.detection.test_numerics import cold\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"{start}torch.set_num_threads(1)\n{program}"],
        env={**os.environ, "PYTHONHASHSEED": "7", **environment},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return ran.stdout.strip().splitlines()[-1]


@pytest.fixture
def subnormal_numbers_are_zero() -> Iterator[None]:
    assert torch.set_flush_denormal(True), "this processor cannot"
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("hidden", [16, 64, 128])
@pytest.mark.parametrize("features", [1, 3, 19])
def test_every_net_that_a_checkpoint_may_hold_is_steady(features: int, hidden: int, layers: int) -> None:
    check_steady(some_forecaster(features, hidden, layers))


@pytest.mark.slow
@pytest.mark.parametrize("cell", sorted(CELLS.keys() - {"lstm"}))
@pytest.mark.parametrize(("features", "hidden", "layers"), [(1, 16, 1), (8, 32, 2), (38, 64, 1), (1, 64, 2)])
def test_so_is_every_other_cell(features: int, hidden: int, layers: int, cell: str) -> None:
    check_steady(some_forecaster(features, hidden, layers, cell=cell))


@pytest.mark.parametrize("cell", sorted(CELLS.keys() - {"lstm"}))
def test_a_cell_whose_rows_are_not_padded_is_refused(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "ROW_MULTIPLE", 1)
    with pytest.raises(UnsteadyNumerics, match=r"^(hidden|expected) of golden stream"):
        check_steady(some_forecaster(3, hidden=64, cell=cell))


def test_the_golden_readings_take_every_way_through_the_arithmetic() -> None:
    forecaster = some_forecaster(3)
    given = golden(forecaster.config)
    outcome = judge(Detector.cold(forecaster, RULES), given, torch.arange(STREAMS))
    before, after = (dict(zip(SCALARS.names, rows.T, strict=False)) for rows in (given.rows.scalars, outcome.scalars))
    fresh, lived = before["age"] == 0, before["age"] > RULES.score.warm_up
    assert fresh.sum() > 100
    assert lived.sum() > 500
    assert given.values.isnan().any(-1).any(0).sum() > 100
    tiny = (given.values != 0) & (given.values.abs() < np.finfo(np.float64).smallest_normal)
    assert tiny.sum() > 100

    was_open, now_open = before["alarm"] > 0, after["alarm"] > 0
    ever_open = outcome.alarm.any(1)
    assert (was_open & ~now_open & (after["rest"] < 0)).any(), "an anomaly that lasts is adopted"
    assert (~was_open & now_open).any(), "an alarm is open at the end"
    assert (~was_open & ever_open & ~now_open & (after["rest"] >= 0)).any(), "an alarm opens and recovers"
    assert (after["blocks"].trunc() > before["blocks"].trunc()).any(), "a calibration block is full"
    spread = CHANNELS.places["spread"]
    moved = (outcome.channels[:, spread] != given.rows.channels[:, spread]).any(1)[lived]
    assert moved.any(), "a scale moves"
    assert (~moved).sum() > 500, "and most do not"
    assert len(set(outcome.score[lived].flatten().tolist())) > 1_000
    assert outcome.expected[fresh].isnan().any()
    assert outcome.expected[lived].isfinite().all()


def test_what_is_judged_for_the_fingerprint_is_the_same_everywhere() -> None:
    """A copied digest, on purpose: only then does another fingerprint mean another arithmetic."""
    offsets, times_ms, values, rows = golden(NET)
    digest = hashlib.sha256()
    for column in (
        offsets,
        times_ms,
        values.nan_to_num(nan=0.125),
        *rows,
        *numerics.golden_net().state_dict().values(),
    ):
        digest.update(column.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == "c024b01ad83d04ec"


@pytest.mark.slow
def test_the_fingerprint_is_the_same_in_two_processes() -> None:
    program = "print(numerics.self_test(cold()))"
    assert in_another_process(program, {}) == fingerprint()


@pytest.mark.slow
def test_the_fingerprint_is_of_the_machine_and_not_of_the_checkpoint() -> None:
    first = self_test(cold())
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert self_test(cold(features=3, hidden=32, layers=2, seed=1)) == first == fingerprint()


@pytest.mark.slow
def test_each_cell_has_its_own_kernels_and_so_its_own_fingerprint() -> None:
    found = {cell: self_test(Detector.cold(some_forecaster(1, cell=cell))) for cell in CELLS}
    assert len(set(found.values())) == len(CELLS)
    assert found == {cell: fingerprint(cell) for cell in CELLS}
    assert found["lstm"] == fingerprint()


@pytest.mark.slow
@only_x86
def test_functions_with_other_bits_have_another_fingerprint() -> None:
    there = in_another_process("print(numerics.fingerprint('gru'))", PLAIN_FUNCTIONS)
    assert re.fullmatch("[0-9a-f]{16}", there)
    assert there != fingerprint("gru")


@pytest.mark.slow
@only_x86
def test_an_lstms_inputs_and_head_use_none_of_those_functions() -> None:
    assert in_another_process("print(numerics.fingerprint())", PLAIN_FUNCTIONS) == fingerprint()


@pytest.mark.usefixtures("subnormal_numbers_are_zero")
def test_a_processor_told_to_leave_subnormal_numbers_out_has_another_fingerprint() -> None:
    unusual = fingerprint()
    torch.set_flush_denormal(False)
    assert unusual != fingerprint()


@pytest.mark.slow
def test_a_sum_in_another_order_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fingerprint()

    right = NetArithmetic.predict

    def from_behind(self: NetArithmetic, first: Tensor, memory: Tensor, held: Doubles, rows: RowsInPlace) -> Doubles:
        behind = self._replace(head_weight=np.ascontiguousarray(self.head_weight[:, ::-1]))
        return right(behind, first.flip(-1), memory.flip(-1), held, rows)

    monkeypatch.setattr(NetArithmetic, "predict", from_behind)
    check_steady(some_forecaster(1, hidden=64))
    assert fingerprint() != usual


def test_nothing_is_drawn_and_no_weight_is_changed() -> None:
    detector = cold()
    weights = {name: weight.clone() for name, weight in detector.forecaster.state_dict().items()}
    drawn = torch.get_rng_state()
    self_test(detector)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(weight, weights[name]) for name, weight in detector.forecaster.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("features", [1, 3])
def test_spreads_a_fine_clock_and_lanes_of_a_channel_each_are_steady_too(features: int, channelwise: bool) -> None:
    check_steady(fine_forecaster(features, channelwise=channelwise))


def matrix_product(self: NetArithmetic, first: Tensor, memory: Tensor, *_: Doubles) -> Doubles:
    before = torch.cat([first.unsqueeze(0), memory[:-1]])
    weight, bias = torch.from_numpy(self.head_weight), torch.from_numpy(self.head_bias)
    product: Doubles = torch.nn.functional.linear(before, weight, bias).double().numpy()
    return product


def step_by_step(self: LSTM, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    memory = []
    for wave in inputs:
        state, _ = self.step(wave, state)
        memory.append(state.hidden[-1])
    return torch.stack(memory), state


def forgetful(self: Forecaster, inputs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    """Every call starts from nothing: right for a whole history in one call, and only there."""
    return self.recurrence(inputs, self.fresh(inputs.shape[1]))


def score_of_all(rules: Rules, block: Block, channels: Doubles, scalars: Doubles, *rest: Any) -> tuple[int, int]:
    """A score with a statistic across streams in it, far below what anyone would see."""
    found: tuple[int, int] = JUDGE_BLOCK(rules, block, channels, scalars, *rest)
    sheet: Sheet = rest[1]
    sheet.score[block.readings] *= 1 + 1e-15 * len(scalars)
    return found


@pytest.mark.parametrize(
    ("where", "name", "wrong", "seen"),
    [
        (NetArithmetic, "predict", matrix_product, "expected"),
        (LSTM, "forward", step_by_step, "hidden"),
        (Forecaster, "observe", forgetful, "hidden"),
        (models.detection.judge, "judge_block", score_of_all, "score"),
    ],
)
def test_whatever_makes_a_bit_depend_on_the_batch_is_found(
    where: object, name: str, wrong: Callable[..., object], seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises(UnsteadyNumerics, match=f"^{seen} of golden stream"):
        self_test(cold(features=3))


def test_a_last_digit_in_a_single_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where 64 streams are judged together, and only in the last of them."""
    right = NetArithmetic.predict

    def nearly(self: NetArithmetic, first: Tensor, memory: Tensor, held: Doubles, rows: RowsInPlace) -> Doubles:
        predicted = right(self, first, memory, held, rows)
        if held.shape[1] == 64:
            predicted[-1, -1, -1] *= 1 + 2**-40
        return predicted

    monkeypatch.setattr(NetArithmetic, "predict", nearly)
    with pytest.raises(UnsteadyNumerics, match=r"golden stream 935: judged among 64 streams, 5 of 5 waves"):
        check_steady(some_forecaster(1, hidden=64))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # flags() puts back what was never set
@pytest.mark.parametrize("layers", [1, 2])
def test_the_kernel_that_torch_has_without_onednn_is_refused(layers: int) -> None:
    detector = cold(layers=layers)
    with torch.backends.mkldnn.flags(enabled=False), pytest.raises(UnsteadyNumerics, match=r"^hidden of golden stream"):
        self_test(detector)


@pytest.mark.slow
@only_x86
def test_a_processor_whose_kernels_are_not_steady_is_refused() -> None:
    said = in_another_process("numerics.self_test(cold())", OLD_PROCESSOR)
    assert "UnsteadyNumerics: hidden of golden stream" in said


@pytest.mark.usefixtures("two_threads")
def test_more_than_one_thread_is_refused() -> None:
    with pytest.raises(UnsteadyNumerics, match="torch computes with 2 threads, expected 1"):
        self_test(cold())


def test_a_refusal_says_how_many_rows_and_which_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(rules: Rules, block: Block, channels: Doubles, scalars: Doubles, *rest: Any) -> tuple[int, int]:
        found: tuple[int, int] = JUDGE_BLOCK(rules, block, channels, scalars, *rest)
        rest[1].score[block.readings] = 1e-9 * len(scalars)
        return found

    monkeypatch.setattr(models.detection.judge, "judge_block", counted)
    message = (
        r"score of golden stream (\d+): judged among 1 stream, 5 of 5 waves a call, it is (\S+), "
        r"among 1000 in one call it is (\S+), expected the same bits \(torch .+\)"
    )
    with pytest.raises(ValueError, match=message) as refused:
        self_test(cold())
    found = re.fullmatch(message, str(refused.value))
    assert found
    assert float(found[3]) == pytest.approx(1_000 * float(found[2]))


def test_no_stream_is_in_a_company_twice() -> None:
    for count in COUNTS:
        assert len(set(company(count).tolist())) == count


@pytest.mark.slow
def test_the_service_starts_half_a_second_later_at_most() -> None:
    """In the processor's time, not the wall's: what else runs on the machine is not the self-test's."""
    detector = cold()
    took_s = []
    for _ in range(5):
        began = time.thread_time()
        self_test(detector)
        took_s.append(time.thread_time() - began)
    assert min(took_s) < LONGEST_S, took_s


@pytest.mark.slow
def test_an_image_keeps_the_code_that_judges_and_the_code_that_forecasts() -> None:
    numerics.keep_code()
    assert models.detection.judge.is_compiled()
    assert is_kept(models.detection.judge.expect_next)
