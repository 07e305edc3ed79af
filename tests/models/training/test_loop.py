import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from models.data import windows
from models.data.series import Series, UnusableData
from models.detection.alarm import AlarmConfig
from models.detection.detector import Detector, DetectorConfig
from models.detection.priming import prime
from models.detection.scoring import ScoreConfig
from models.net.cells import CELLS
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.generic import generic_architecture
from models.training.loop import SHORTEST_SERIES, Fitted, Progress, fit, training_mode, usable
from models.training.run import HOPELESS, Epoch, TrainingConfig, TrainingRun, Validation
from tests.data import Batch, batch_of, judge, some_forecaster, statistics

CPU = torch.device("cpu")
NET = ForecasterConfig(("a",), hidden=16)
FAST = TrainingConfig(
    epochs=3, epoch_steps=1, chunk_readings=32, lane_readings=300, side_by_side=16, learning_rate=1e-2
)


def series(values: NDArray[np.float64], key: str = "s", test_from: int | None = None) -> Series:
    readings = len(values)
    table = values.reshape(readings, -1)
    names = tuple("abc"[: table.shape[1]])
    test = np.arange(readings) >= (readings if test_from is None else test_from)
    return Series(key, Path(f"{key}.csv"), names, np.arange(readings), np.arange(readings) * 60_000, table, test)


def noisy_sine(readings: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return 50 + 10 * np.sin(np.arange(readings) / 4 + seed) + random.normal(0, 0.5, readings)


def some_series(readings: int = 600) -> list[Series]:
    return [series(noisy_sine(readings, seed), f"s{seed}") for seed in range(3)]


def weights_of(forecaster: Forecaster) -> list[torch.Tensor]:
    return [weight.detach() for weight in forecaster.parameters()]


def assert_same_net(one: Forecaster, other: Forecaster) -> None:
    for found, expected in zip(weights_of(one), weights_of(other), strict=True):
        assert torch.equal(found, expected)


@pytest.fixture(scope="module")
def learned() -> Fitted:
    return fit(some_series(900), NET, replace(FAST, epochs=12, side_by_side=8), CPU)


def test_it_learns_a_noisy_sine_better_than_expecting_no_change(learned: Fitted) -> None:
    assert learned.best is not None
    assert learned.best.validation_loss < 0.5 * learned.persistence_loss
    assert learned.epochs[-1].loss < learned.epochs[0].loss
    assert not learned.forecaster.training


def test_the_loss_of_expecting_no_change_is_that_of_the_differences(learned: Fitted) -> None:
    residuals = []
    for one in some_series(900):
        values = (one.values[:, 0] - one.values.mean()) / one.values.std(ddof=1)
        residuals.append(np.abs(np.diff(values)[-int(900 * 0.15) :]))
    residual = np.concatenate(residuals)
    huber = np.where(residual < 1, residual**2 / 2, residual - 0.5).mean()
    assert learned.persistence_loss == pytest.approx(huber, rel=1e-3)


@pytest.mark.slow
def test_the_forecaster_is_that_of_the_best_epoch(learned: Fitted) -> None:
    assert learned.best == min(learned.epochs, key=lambda epoch: epoch.proven_loss)
    assert [epoch.number for epoch in learned.epochs] == list(range(1, len(learned.epochs) + 1))
    again = fit(some_series(900), NET, replace(FAST, epochs=learned.best.number, side_by_side=8), CPU)
    assert_same_net(again.forecaster, learned.forecaster)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same = (fit(some_series(), NET, FAST, CPU) for _ in range(2))
    other = fit(some_series(), NET, replace(FAST, seed=1), CPU)
    assert_same_net(one.forecaster, same.forecaster)
    assert one.epochs == same.epochs
    assert not torch.equal(one.forecaster.head_weight, other.forecaster.head_weight)


def test_test_rows_are_never_trained_on() -> None:
    usual, changed = some_series(), some_series()
    for n, one in enumerate(changed):
        changed[n] = one._replace(test=np.arange(600) >= 450, values=one.values.copy())
        usual[n] = usual[n]._replace(test=changed[n].test)
        changed[n].values[450:] = np.nan if n else 1e12
    fitted, other = fit(usable(usual), NET, FAST, CPU), fit(usable(changed), NET, FAST, CPU)
    assert_same_net(fitted.forecaster, other.forecaster)
    assert fitted.epochs == other.epochs
    primed, primed_other = (prime(some_forecaster(1), DetectorConfig(), usable(one)) for one in (usual, changed))
    for found, expected in zip(primed.known_rows, primed_other.known_rows, strict=True):
        assert torch.equal(found, expected)


def test_parts_too_short_to_learn_from_are_left_out() -> None:
    long, short = series(noisy_sine(SHORTEST_SERIES, 0), "long"), series(noisy_sine(200, 0), "short", test_from=31)
    assert [one.key for one in usable([short, long])] == ["long"]
    with pytest.raises(UnusableData, match="no stream has 32 readings to train on; of 1 stream the longest has 31"):
        usable([short])


def test_an_interrupt_returns_the_best_so_far() -> None:
    finished: list[Epoch] = []

    def tell(progress: Progress) -> None:
        if progress.epoch:
            finished.append(progress.epoch)
        elif len(finished) == 2:
            raise KeyboardInterrupt

    interrupted = fit(some_series(), NET, replace(FAST, epochs=50), CPU, tell)
    assert interrupted.ended == "interrupted"
    assert interrupted.epochs == finished
    assert interrupted.best == min(finished, key=lambda epoch: epoch.proven_loss)
    calm = fit(some_series(), NET, replace(FAST, epochs=interrupted.best.number), CPU)
    assert_same_net(interrupted.forecaster, calm.forecaster)


def test_an_interrupt_in_the_first_epoch_returns_what_expects_no_change() -> None:
    def tell(_: Progress) -> None:
        raise KeyboardInterrupt

    interrupted = fit(some_series(), NET, FAST, CPU, tell)
    assert (interrupted.ended, interrupted.best, interrupted.epochs) == ("interrupted", None, [])
    assert not interrupted.forecaster.head_weight.any()


def test_progress_rises_to_the_end_of_each_epoch() -> None:
    told: list[Progress] = []
    fit(some_series(), NET, replace(FAST, epochs=2, side_by_side=2), CPU, told.append)
    ends = [n for n, progress in enumerate(told) if progress.epoch]
    assert len(ends) == 2
    for begin, end in zip([0, ends[0] + 1], ends, strict=True):
        done = [progress.done for progress in told[begin:end]]
        assert done == sorted(done)
        assert done[-1] == 1.0
        assert len(done) > 1


def test_it_ends_when_the_budget_is_spent() -> None:
    fitted = fit(some_series(), NET, replace(FAST, epochs=50, budget_s=0.0), CPU)
    assert (fitted.ended, len(fitted.epochs)) == ("budget", 1)


def test_it_ends_when_it_gets_no_better() -> None:
    noise = [series(np.random.default_rng(0).normal(size=300))]
    fitted = fit(noise, NET, replace(FAST, epochs=200, patience=2, learning_rate=0.1), CPU)
    assert fitted.ended == "converged"
    assert fitted.best is not None
    assert len(fitted.epochs) == fitted.best.number + 2


def test_it_ends_after_the_epochs_asked_for(learned: Fitted) -> None:
    assert fit(some_series(), NET, FAST, CPU).ended == "epochs"
    assert learned.seconds > 0


def test_without_a_part_to_validate_on_it_trains_all_the_same() -> None:
    fitted = fit(some_series(), NET, replace(FAST, validation_share=0.0), CPU)
    assert len(fitted.epochs) == FAST.epochs
    assert fitted.forecaster.head_weight.any()


@pytest.mark.slow
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_in_bfloat16_it_learns_as_in_float32(cell: str) -> None:
    """The recurrence is rounded to 8 bits while it learns; weights, head and validation are not.

    The peephole's equations and those with an exponential gate are computed in float32 all the same.
    """
    net, short = replace(NET, cell=cell), replace(FAST, remembers=0)
    fine, coarse = (fit(some_series(), net, replace(short, precision=name), CPU) for name in ("float32", "bfloat16"))
    assert (coarse.epochs == fine.epochs) == (cell in ("lstm-peephole", "xlstm"))
    for found, expected in zip(coarse.epochs, fine.epochs, strict=True):
        assert found.loss == pytest.approx(expected.loss, rel=0.05)
        assert found.validation_loss == pytest.approx(expected.validation_loss, rel=0.05)
    assert all(weight.dtype == torch.float32 for weight in weights_of(coarse.forecaster))


def test_on_a_cpu_the_default_is_float32_and_what_is_not_known_is_refused() -> None:
    usual, asked = fit(some_series(), NET, FAST, CPU), fit(some_series(), NET, replace(FAST, precision="float32"), CPU)
    assert usual.epochs == asked.epochs
    with pytest.raises(ValueError, match="precision is 'half', expected one of auto, float32, bfloat16"):
        replace(FAST, precision="half")


def test_what_is_expected_while_it_learns_is_what_is_expected_in_service() -> None:
    forecaster = some_forecaster(5, hidden=64)
    memory, scaled = torch.randn(40, 64), torch.randn(40, 5)
    learning = forecaster.predict(memory, scaled, torch.ones(5))
    with torch.inference_mode():
        serving = forecaster.predict(memory, scaled, torch.ones(5))
    torch.testing.assert_close(learning.detach(), serving, atol=1e-6, rtol=1e-6)


def test_the_reach_is_that_of_the_chain_rule_written_out() -> None:
    """dL/dh backwards through h' = tanh(W x + U h + b), reading by reading, in float64."""
    chunk = 24
    part = series(noisy_sine(2 * chunk, 0))
    training = replace(FAST, epochs=1, chunk_readings=chunk, validation_share=0.0)
    fitted = fit([part], replace(NET, cell="rnn-tanh"), training, CPU)
    scaled = torch.from_numpy(windows.scaled(part).stretch(0, 2 * chunk)).unsqueeze(1)
    times = torch.from_numpy(part.times_ms).unsqueeze(1)
    elapsed = torch.full((2 * chunk, 1), 60.0)
    elapsed[0] = 0
    inputs = fitted.forecaster.inputs(scaled, scaled[0], torch.ones(1, 1), elapsed, times).double().numpy()[:, 0]
    weights = {name: weight.double().numpy() for name, weight in fitted.forecaster.state_dict().items()}
    w, u, b, c = (weights[f"recurrence.fused.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    memory = [np.zeros(16)]
    for one in inputs[:-1]:
        memory.append(np.tanh(w @ one + b + u @ memory[-1] + c))
    values = scaled.double().numpy()[:, 0, 0]
    expected = weights["persistence"][0] * values[-2] + weights["head_weight"][0] @ memory[-1] + weights["head_bias"][0]
    newest = oldest = np.clip(expected - values[-1], -1, 1) * weights["head_weight"][0]
    for after in reversed(memory[chunk + 1 :]):
        oldest = u.T @ (oldest * (1 - after**2))
    assert fitted.epochs[0].reach == pytest.approx(np.linalg.norm(oldest) / np.linalg.norm(newest), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_gradient_is_taken_through_a_net_in_training_mode(cell: str) -> None:
    """cuDNN refuses any other. A CPU does not, so that the mode itself is looked at."""
    modes: set[tuple[bool, bool]] = set()

    def look(module: nn.Module, _: object) -> None:
        if isinstance(module, Forecaster | CELLS[cell] | nn.RNNBase):
            modes.add((torch.is_grad_enabled(), module.training))

    hook = register_module_forward_pre_hook(look)
    try:
        fitted = fit(some_series(), replace(NET, cell=cell), replace(FAST, epochs=2), CPU)
    finally:
        hook.remove()
    assert math.isfinite(fitted.epochs[-1].reach)
    assert modes >= {(True, True), (False, False)}  # it learned, and it was validated
    assert (True, False) not in modes
    assert not any(module.training for module in fitted.forecaster.modules())


@pytest.mark.parametrize("before", [True, False])
def test_training_mode_is_left_as_it_was_found(before: bool) -> None:
    forecaster = some_forecaster(1).train(before)

    def interrupted() -> None:
        with training_mode(forecaster):
            assert all(module.training for module in forecaster.modules())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(module.training == before for module in forecaster.modules())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_on_a_gpu_it_learns_as_on_a_cpu_and_goes_on_where_it_was_interrupted(
    cell: str, precision: str, tmp_path: Path
) -> None:
    net, gpu = replace(NET, cell=cell), torch.device("cuda")
    on_cpu = fit(some_series(), net, replace(FAST, precision="float32"), CPU)
    training = replace(FAST, precision=precision)
    on_gpu = fit(some_series(), net, training, gpu)
    assert [epoch.validation_loss for epoch in on_gpu.epochs] == pytest.approx(
        [epoch.validation_loss for epoch in on_cpu.epochs], rel=0.05
    )
    assert all(math.isfinite(epoch.reach) for epoch in on_gpu.epochs)
    assert {weight.device.type for weight in weights_of(on_gpu.forecaster)} == {"cpu"}

    def interrupt(progress: Progress) -> None:
        if progress.epoch:
            raise KeyboardInterrupt

    while (fitted := fit(some_series(), net, training, gpu, interrupt, tmp_path / "run")).ended == "interrupted":
        pass
    assert [epoch.loss for epoch in fitted.epochs] == pytest.approx([epoch.loss for epoch in on_gpu.epochs], rel=0.01)


@pytest.mark.slow
def test_memory_is_flat_over_epochs(tmp_path: Path) -> None:
    resident: list[int] = []
    process = psutil.Process()

    def tell(progress: Progress) -> None:
        if progress.epoch:
            resident.append(process.memory_info().rss)

    training = replace(FAST, epochs=30, patience=30)
    fit(some_series(), NET, training, CPU, tell, tmp_path / "run", save_every_s=0)
    assert len(resident) == 30
    assert max(resident[10:]) - resident[9] < 3 * 2**20


def test_missing_values_and_dead_channels_are_no_harm() -> None:
    values = np.stack([noisy_sine(400, 0), np.full(400, 7.0), np.full(400, np.nan)], axis=1)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    net = ForecasterConfig(("a", "b", "c"), hidden=16)
    fitted = fit([series(values)], net, FAST, CPU)
    assert math.isfinite(fitted.epochs[-1].loss)
    assert all(weight.isfinite().all() for weight in weights_of(fitted.forecaster))
    detector = prime(fitted.forecaster, DetectorConfig(), [series(values)])
    assert detector.known_rows.hidden.isfinite().all()


def test_known_streams_start_warm() -> None:
    parts = some_series()
    detector = prime(some_forecaster(1), DetectorConfig(), parts)
    assert set(detector.known) == {b"s0", b"s1", b"s2"}
    rows = detector.rows_for([b"s1", b"new"])
    assert detector.count_warming(rows) == 0
    went_on = batch_of(noisy_sine(700, 1)[600:], first_ms=600 * 60_000)
    known = judge(detector, went_on, rows.take(torch.tensor([0])))
    new = judge(detector, went_on, rows.take(torch.tensor([1])))
    assert known.score[0] > 0
    assert known.expected.isfinite().all()
    assert not new.score.any()
    spike = went_on._replace(readings=went_on.readings._replace(values=went_on.readings.values + 1_000))
    assert judge(detector, spike, rows.take(torch.tensor([0]))).alarm[0]


def test_their_scale_is_that_of_their_own_readings() -> None:
    parts = some_series()
    detector = prime(some_forecaster(1), DetectorConfig(), parts)
    channels, scalars = statistics(detector.known_rows)
    for stream, part in enumerate(parts):
        known = part.values[:512]  # it is derived at ages that double
        assert channels.centre[stream, 0] == pytest.approx(known.mean(), rel=0.02)
        assert channels.spread[stream, 0] == pytest.approx(known.std(ddof=1), rel=0.05)
        assert channels.known[stream, 0] <= len(part.values), "a short part counts as many readings as it has"
        assert scalars.time_ms[stream] == part.times_ms[-1]
        assert scalars.age[stream] == 600


def test_they_go_on_as_streams_that_the_service_saw_from_their_first_reading_on() -> None:
    """The whole part in one go, from a row that knows nothing, is the oracle of priming piece by piece."""
    parts = [series(noisy_sine(1_300, 0), "long"), series(noisy_sine(40, 1), "short")]
    detector = prime(some_forecaster(1), DetectorConfig(), parts)
    cold = Detector.cold(detector.forecaster)
    for stream, part in enumerate(parts):
        oracle = judge(cold, batch_of(part.values), cold.rows_for([b"x"])).rows
        for name in ("hidden", "cell", "channels"):
            assert torch.equal(getattr(detector.known_rows, name)[stream], getattr(oracle, name)[0]), name
        of_part = detector.known_rows.scalar("learned")[stream]
        assert of_part == detector.config.score.long_readings, "what was normal is replaced slowly"
        assert oracle.scalar("learned")[0] < of_part


def test_an_alarm_still_open_at_the_end_of_training_is_forgotten() -> None:
    values = noisy_sine(600, 0)
    values[580:] += 5_000
    config = DetectorConfig(ScoreConfig(), AlarmConfig())
    part = series(values, "s0")
    detector = prime(some_forecaster(1), config, [part])
    _, scalars = statistics(detector.known_rows)
    for name in ("alarm", "opened_ms", "peak", "length", "rest"):
        assert getattr(scalars, name)[0] == 0, name
    assert scalars.opened_offset[0] == -1


def test_priming_gives_each_stream_what_it_would_get_alone() -> None:
    parts = [*some_series(), series(noisy_sine(64, 9), "short")]
    together = prime(some_forecaster(1), DetectorConfig(), parts)
    for part in parts:
        alone = prime(some_forecaster(1), DetectorConfig(), [part])
        rows = together.rows_for([part.key.encode()])
        for found, expected in zip(rows, alone.known_rows, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.slow
def test_a_backtest_goes_on_where_training_ended_with_hardly_a_false_alarm() -> None:
    whole = noisy_sine(1_200, 0)
    part = series(whole, test_from=800)
    parts = usable([part])
    fitted = fit(parts, NET, replace(FAST, epochs=8), CPU)
    detector = prime(fitted.forecaster, DetectorConfig(), parts)
    rest = part.select(part.test)
    batch: Batch = batch_of(rest.values, first_ms=int(rest.times_ms[0]))
    judged = judge(detector, batch, detector.rows_for([b"s"]))
    assert not judged.late.any()
    assert judged.expected.isfinite().all()
    assert judged.alarm.double().mean() < 0.05


@pytest.mark.slow
def test_a_net_that_begins_as_another_keeps_it_unless_an_epoch_is_better() -> None:
    start, config = Forecaster(generic_architecture(16)), replace(generic_architecture(16), features=("a",))
    better = fit(some_series(900), config, replace(FAST, epochs=4, side_by_side=8), CPU, start=start)
    assert better.best
    assert better.start_loss
    assert better.start_loss == pytest.approx(better.persistence_loss), "the one it began as expects no change"
    assert better.best.validation_loss < better.start_loss

    again = fit(
        some_series(900), config, replace(FAST, epochs=4, patience=2, learning_rate=1.0), CPU, start=better.forecaster
    )
    assert again.start_loss == pytest.approx(better.best.validation_loss)
    assert again.best is None
    assert (again.ended, len(again.epochs)) == ("converged", 2)
    assert_same_net(again.forecaster, better.forecaster)


def test_the_best_epoch_is_the_one_that_has_proven_most_whatever_it_loses_elsewhere() -> None:
    run = TrainingRun(NET, FAST, CPU)
    run.persistence_loss = 1.0
    for loss, proven in ((1.0, 0.5), (1.2, 0.4), (0.9, 0.45), (1.1, 0.4), (1.3, 0.4), (HOPELESS, 0.1), (math.nan, 0.1)):
        run.end_epoch(Validation(loss, proven), reach=0.5)
    assert [epoch.best for epoch in run.epochs] == [True, True, False, True, False, False, False]


def test_a_stream_on_which_a_net_does_harm_counts_as_if_nothing_had_been_expected_to_change() -> None:
    """One climbs by a step at every reading, the other up and down by one; the net expects both to climb."""
    climbing = Forecaster(replace(generic_architecture(16), features=("a",)))
    with torch.no_grad():
        climbing.head_bias.fill_(1.0)
    up, both_ways = np.arange(400.0), np.arange(400.0) % 2
    made = [series(up, "up"), series(both_ways, "both")]
    short = replace(FAST, epochs=1, learning_rate=1e-12, validation_share=0.25)
    fitted = fit(made, climbing.config, short, CPU, start=climbing)
    assert fitted.persistence_loss == pytest.approx(0.5)
    assert fitted.start_loss == pytest.approx((0 + 0.75) / 2, rel=1e-3)
    assert fitted.epochs[0].validation_loss == pytest.approx(fitted.start_loss, rel=1e-3)
    assert fitted.epochs[0].proven_loss == pytest.approx((0 + 0.5) / 2, rel=1e-3)


def test_a_net_that_cannot_begin_as_another_begins_as_ever() -> None:
    start = Forecaster(generic_architecture(16))
    fitted, plain = (fit(some_series(), NET, FAST, CPU, start=one) for one in (start, None))
    assert fitted.start_loss is None
    assert_same_net(fitted.forecaster, plain.forecaster)
