import math
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from models.detection.rows import fresh
from models.net.cells import CellState
from models.net.forecaster import CLIP, Forecaster, ForecasterConfig
from tests.data import some_forecaster


def time_ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "gru2"}, "cell 'gru2' is not known, expected one of .*lstm"),
        ({"hidden": 20}, "hidden is 20, expected a multiple of 16"),
        ({"hidden": 0}, "hidden is 0, expected a multiple of 16"),
        ({"hidden": -16}, "hidden is -16, expected a multiple of 16"),
        ({"layers": 0}, "layers is 0, expected at least 1"),
        ({"features": ()}, r"features are \(\), expected at least one, each named once"),
        ({"features": ("a", "b", "a")}, r"features are \('a', 'b', 'a'\), expected at least one, each named once"),
    ],
)
def test_a_wrong_config_says_what_was_found_and_what_was_expected(wrong: dict[str, object], message: str) -> None:
    right: dict[str, object] = {"features": ("a",)}
    with pytest.raises(ValueError, match=message):
        ForecasterConfig(**(right | wrong))  # type: ignore[arg-type]


def test_untrained_it_expects_no_change() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(ForecasterConfig(("a", "b"), hidden=32, layers=2))
    scaled, memory = torch.randn(50, 2), torch.randn(50, 32)
    torch.testing.assert_close(forecaster.predict(memory, scaled), scaled, atol=0, rtol=0)


def test_an_expectation_is_what_is_kept_and_what_the_memory_adds() -> None:
    forecaster = some_forecaster(3)
    scaled, memory = torch.randn(4, 5, 3), torch.randn(4, 5, 16)
    weight, bias = forecaster.head_weight, forecaster.head_bias
    oracle = forecaster.persistence * scaled + torch.nn.functional.linear(memory, weight, bias)
    torch.testing.assert_close(forecaster.predict(memory, scaled), oracle)


def test_a_fresh_memory_is_empty() -> None:
    hidden, cell = some_forecaster(1, layers=2).fresh(7)
    assert hidden.shape == cell.shape == (2, 7, 16)
    assert not hidden.any()
    assert not cell.any()
    assert hidden.data_ptr() != cell.data_ptr()


@pytest.mark.parametrize("cell", ["feedforward", "rnn-tanh", "rnn-relu", "gru"])
def test_a_memory_without_a_cell_has_no_numbers_in_it(cell: str) -> None:
    forecaster = some_forecaster(1, layers=2, cell=cell)
    state = forecaster.fresh(7)
    assert (state.hidden.shape, state.cell.shape) == ((2, 7, 16), (2, 7, 0))
    _, after = forecaster.observe(torch.zeros(3, 7, forecaster.config.inputs), state)
    assert (after.hidden.shape, after.cell.shape) == ((2, 7, 16), (2, 7, 0))
    rows = fresh(7, forecaster.config)
    assert (rows.hidden.shape, rows.cell.shape) == ((7, 2, 16), (7, 2, 0))
    assert rows.bytes_per_stream == fresh(7, some_forecaster(1, layers=2).config).bytes_per_stream - 2 * 16 * 4


def test_the_net_is_shown_values_differences_elapsed_time_and_phases() -> None:
    forecaster = some_forecaster(2)
    scaled = torch.randn(4, 3, 2, dtype=torch.float64)
    before = torch.randn(3, 2, dtype=torch.float64)
    elapsed_s = torch.rand(4, 3, dtype=torch.float64) * 1e6
    shown = forecaster.inputs(scaled, before, elapsed_s, torch.arange(12).reshape(4, 3) * 7_777_777)
    assert shown.shape == (4, 3, forecaster.config.inputs) == (4, 3, 9)
    assert shown.dtype == torch.float32
    torch.testing.assert_close(shown[..., :2], scaled.float())
    torch.testing.assert_close(shown[0, :, 2:4], (scaled[0] - before).float())
    torch.testing.assert_close(shown[1:, :, 2:4], scaled.diff(dim=0).float())
    np.testing.assert_allclose(shown[..., 4], np.log1p(elapsed_s.numpy()) / 10, rtol=1e-6)


@pytest.mark.parametrize(
    ("time", "day", "week"),
    [
        (time_ms(2026, 1, 5), 0.0, 0.0),  # a Monday
        (time_ms(2026, 1, 5, 12), 0.5, 0.5 / 7),
        (time_ms(2026, 1, 8), 0.0, 3 / 7),
        (time_ms(2026, 1, 11), 0.0, 6 / 7),  # a Sunday
        (time_ms(2026, 1, 11, 23, 59) + 59_999, 1 - 1 / 1_440, 1 - 1 / 10_080),
        (time_ms(2026, 1, 12), 0.0, 0.0),
        (time_ms(1970, 1, 1), 0.0, 3 / 7),  # a Thursday
        (time_ms(2024, 2, 29, 6), 0.25, 3.25 / 7),  # a Thursday
    ],
)
def test_phases_are_those_of_the_day_and_of_the_week_from_monday_in_utc(time: int, day: float, week: float) -> None:
    forecaster = some_forecaster(1)
    nothing = torch.zeros(1, 1)
    shown = forecaster.inputs(nothing.unsqueeze(-1), nothing, nothing, torch.tensor([[time]]))
    turn = 2 * math.pi
    expected = [math.sin(day * turn), math.cos(day * turn), math.sin(week * turn), math.cos(week * turn)]
    np.testing.assert_allclose(shown[0, 0, -4:], expected, atol=1e-6)


def test_phases_are_those_of_the_calendar_at_any_minute() -> None:
    forecaster = some_forecaster(1)
    times = np.random.default_rng(1).integers(0, 4_102_444_800_000, 300)  # up to 2100
    nothing = torch.zeros(len(times), 1)
    shown = forecaster.inputs(nothing.unsqueeze(-1), nothing[:1], nothing, torch.from_numpy(times).unsqueeze(1))
    for found, time in zip(shown[:, 0, -4:].tolist(), times.tolist(), strict=True):
        when = datetime.fromtimestamp(time // 1_000, UTC)
        day = (when.hour * 60 + when.minute) / 1_440
        week = (when.weekday() + day) / 7
        np.testing.assert_allclose(
            [math.atan2(*found[:2]) % math.tau, math.atan2(*found[2:]) % math.tau],
            [day * math.tau, week * math.tau],
            atol=1e-5,
        )


def test_the_net_sees_no_further_than_the_clip() -> None:
    forecaster = some_forecaster(1)
    far = torch.tensor([[[3.4e38]], [[-3.4e38]], [[9.0]]], dtype=torch.float64)
    shown = forecaster.inputs(far, torch.zeros(1, 1), torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.int64))
    assert shown[:, 0, 0].tolist() == [CLIP, -CLIP, 9.0]
    assert shown[:, 0, 1].tolist() == [CLIP, -CLIP, CLIP]
    assert shown.isfinite().all()


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 7, 12, 64, 333])
@pytest.mark.parametrize("features", [1, 3, 38])
def test_an_expectations_bits_do_not_depend_on_how_many_others_there_are(streams: int, features: int) -> None:
    forecaster = some_forecaster(features, hidden=64)
    generator = torch.Generator().manual_seed(streams)
    memory = torch.randn(2, 1_000, 64, generator=generator)
    scaled = torch.randn(2, 1_000, features, generator=generator, dtype=torch.float64)
    with torch.inference_mode():
        everyone = forecaster.predict(memory, scaled)
        for first in (0, 1_000 - streams):
            some = slice(first, first + streams)
            few = forecaster.predict(memory[:, some].contiguous(), scaled[:, some].contiguous())
            assert torch.equal(few, everyone[:, some])
            one = forecaster.predict(memory[1:, some].contiguous(), scaled[1:, some].contiguous())
            assert torch.equal(one[0], everyone[1, some])


@pytest.mark.parametrize("streams", [1, 2, 3, 7, 8, 9, 64])
def test_the_bits_of_what_the_net_is_shown_do_not_depend_on_how_many_others_there_are(streams: int) -> None:
    forecaster = some_forecaster(2)
    generator = torch.Generator().manual_seed(streams)
    scaled = torch.randn(5, 200, 2, generator=generator, dtype=torch.float64)
    before = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    elapsed_s = torch.rand(5, 200, generator=generator, dtype=torch.float64) * 1e5
    times = torch.randint(0, 2**41, (5, 200), generator=generator)
    everyone = forecaster.inputs(scaled, before, elapsed_s, times)
    few = forecaster.inputs(scaled[:, :streams], before[:streams], elapsed_s[:, :streams], times[:, :streams])
    assert torch.equal(few, everyone[:, :streams])
    last = forecaster.inputs(scaled[4:], scaled[3], elapsed_s[4:], times[4:])
    assert torch.equal(last, everyone[4:])


def test_memory_after_a_chunk_is_the_memory_before_the_next() -> None:
    forecaster = some_forecaster(1, layers=2)
    inputs = torch.randn(30, 4, forecaster.config.inputs)
    with torch.inference_mode():
        whole, after = forecaster.observe(inputs, forecaster.fresh(4))
        first, between = forecaster.observe(inputs[:11], forecaster.fresh(4))
        second, last = forecaster.observe(inputs[11:], CellState(*between))
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(last.hidden, after.hidden)
    assert torch.equal(last.cell, after.cell)


@pytest.mark.parametrize("name", ['temp "C"', "a\\b", "tab\tname"])
def test_a_name_that_json_would_have_to_escape_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without quotes, backslashes and control characters"):
        ForecasterConfig((name,))
