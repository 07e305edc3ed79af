import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from models.detection.rows import fresh
from models.net.cells import CellState
from models.net.forecaster import CLIP, FARTHEST, Forecaster, ForecasterConfig
from tests.data import fine_forecaster, some_forecaster


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
        ({"day_harmonics": 0}, "day_harmonics is 0, expected 1 to 48"),
        ({"week_harmonics": 7}, "week_harmonics is 7, expected 1 to 6"),
        ({"time_zone": "Mars/North"}, "time zone 'Mars/North' is not known here, expected an IANA name"),
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
    torch.testing.assert_close(forecaster.predict(memory, scaled, torch.ones(2)), scaled, atol=0, rtol=0)


def test_an_expectation_is_what_is_kept_and_what_the_memory_adds() -> None:
    forecaster = some_forecaster(3)
    scaled, memory = torch.randn(4, 5, 3), torch.randn(4, 5, 16)
    weight, bias = forecaster.head_weight, forecaster.head_bias
    oracle = forecaster.persistence * scaled + torch.nn.functional.linear(memory, weight, bias)
    torch.testing.assert_close(forecaster.predict(memory, scaled, torch.ones(3)), oracle)


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
    shown = forecaster.inputs(
        scaled, before, torch.ones_like(before), elapsed_s, torch.arange(12).reshape(4, 3) * 7_777_777
    )
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
    shown = forecaster.inputs(nothing.unsqueeze(-1), nothing, nothing, nothing, torch.tensor([[time]]))
    turn = 2 * math.pi
    expected = [math.sin(day * turn), math.cos(day * turn), math.sin(week * turn), math.cos(week * turn)]
    np.testing.assert_allclose(shown[0, 0, -4:], expected, atol=1e-6)


def test_phases_are_those_of_the_calendar_at_any_minute() -> None:
    forecaster = some_forecaster(1)
    times = np.random.default_rng(1).integers(0, 4_102_444_800_000, 300)  # up to 2100
    nothing = torch.zeros(len(times), 1)
    shown = forecaster.inputs(
        nothing.unsqueeze(-1), nothing[:1], nothing[:1], nothing, torch.from_numpy(times).unsqueeze(1)
    )
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
    nothing = torch.zeros(3, 1)
    shown = forecaster.inputs(far, nothing[:1], torch.ones(1, 1), nothing, nothing.long())
    assert shown[:, 0, 0].tolist() == [CLIP, -CLIP, 9.0]
    assert shown[:, 0, 1].tolist() == [CLIP, -CLIP, CLIP]
    assert shown.isfinite().all()


def test_what_leaps_further_than_the_net_sees_is_still_there_to_be_expected() -> None:
    """A machine that is off at weekends leaps by 30 steps: cut at CLIP, two thirds of it could not be learned."""
    forecaster = fine_forecaster(1, channelwise=True)
    with torch.no_grad():
        forecaster.head_weight.zero_()
        forecaster.head_bias.fill_(30)
    step, nothing = torch.full((1, 1), 0.5), torch.zeros(1, 1)
    memory = torch.zeros(1, forecaster.config.memory_width)
    leap = torch.tensor([[15.0]])
    assert forecaster.predict(memory, nothing, step).tolist() == [[15.0]]
    assert forecaster.residuals(memory, nothing, leap, step).tolist() == [[0.0]]
    assert forecaster.residuals(memory, nothing, leap * 1e30, step).tolist() == [[FARTHEST - 30]]


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 7, 12, 64, 333])
@pytest.mark.parametrize("features", [1, 3, 38])
@pytest.mark.parametrize("channelwise", [False, True])
def test_an_expectations_bits_do_not_depend_on_how_many_others_there_are(
    streams: int, features: int, channelwise: bool
) -> None:
    forecaster = fine_forecaster(features, channelwise=channelwise)
    generator = torch.Generator().manual_seed(streams)
    memory = torch.randn(2, 1_000, forecaster.config.memory_width, generator=generator)
    scaled = torch.randn(2, 1_000, features, generator=generator, dtype=torch.float64)
    step = torch.rand(1_000, features, generator=generator, dtype=torch.float64)

    def say(waves: slice, some: slice) -> tuple[torch.Tensor, torch.Tensor]:
        given = memory[waves, some].contiguous()
        return (
            forecaster.predict(given, scaled[waves, some].contiguous(), step[some]),
            forecaster.spread(given, step[some]),
        )

    with torch.inference_mode():
        everyone = say(slice(0, 2), slice(0, 1_000))
        for first in (0, 1_000 - streams):
            some = slice(first, first + streams)
            for waves in (slice(0, 2), slice(1, 2)):
                for few, all_of_them in zip(say(waves, some), everyone, strict=True):
                    assert torch.equal(few, all_of_them[waves, some])


@pytest.mark.parametrize("streams", [1, 2, 3, 7, 8, 9, 64])
@pytest.mark.parametrize("channelwise", [False, True])
def test_the_bits_of_what_the_net_is_shown_do_not_depend_on_how_many_others_there_are(
    streams: int, channelwise: bool
) -> None:
    forecaster = fine_forecaster(2, channelwise=channelwise)
    generator = torch.Generator().manual_seed(streams)
    scaled = torch.randn(5, 200, 2, generator=generator, dtype=torch.float64)
    before, step = torch.rand(2, 200, 2, generator=generator, dtype=torch.float64)
    elapsed_s = torch.rand(5, 200, generator=generator, dtype=torch.float64) * 1e5
    times = torch.randint(0, 2**41, (5, 200), generator=generator)
    everyone = forecaster.inputs(scaled, before, step, elapsed_s, times).reshape(5, 200, -1)
    some = slice(0, streams)
    few = forecaster.inputs(scaled[:, some], before[some], step[some], elapsed_s[:, some], times[:, some])
    assert torch.equal(few.reshape(5, streams, -1), everyone[:, some])
    last = forecaster.inputs(scaled[4:], scaled[3], step, elapsed_s[4:], times[4:])
    assert torch.equal(last.reshape(1, 200, -1), everyone[4:])


@pytest.mark.parametrize("features", [1, 3])
def test_channelwise_every_channel_is_read_as_if_it_were_a_stream_of_its_own(features: int) -> None:
    together, alone = fine_forecaster(features, channelwise=True), fine_forecaster(1, channelwise=True)
    alone.load_state_dict(together.state_dict())
    generator = torch.Generator().manual_seed(0)
    scaled = torch.randn(6, 4, features, generator=generator, dtype=torch.float64)
    before, step = torch.rand(2, 4, features, generator=generator, dtype=torch.float64)
    elapsed_s = torch.rand(6, 4, generator=generator, dtype=torch.float64) * 100
    times = torch.randint(0, 2**41, (6, 4), generator=generator)

    def read(net: Forecaster, channels: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shown = net.inputs(scaled[..., channels], before[:, channels], step[:, channels], elapsed_s, times)
        memory, after = net.observe(shown, net.fresh(4))
        said = net.predict(memory, scaled[..., channels], step[:, channels]), net.spread(memory, step[:, channels])
        assert torch.equal(memory[-1], after.hidden[-1])
        return memory, *said

    with torch.inference_mode():
        memory, predicted, spread = read(together, slice(None))
        for f in range(features):
            its_memory, its_predicted, its_spread = read(alone, slice(f, f + 1))
            assert torch.equal(memory[..., f * 64 : (f + 1) * 64], its_memory)
            assert torch.equal(predicted[..., f], its_predicted[..., 0])
            assert torch.equal(spread[..., f], its_spread[..., 0])


def test_a_spread_is_positive_and_about_the_exponential_of_what_the_head_says() -> None:
    forecaster = Forecaster(ForecasterConfig(("a",), hidden=16, spreads=True))
    for said in (-1e9, -1.0, -0.1, 0.0, 0.1, 1.0, 1e9):
        with torch.no_grad():
            forecaster.spread_bias.fill_(said)
            spread = float(forecaster.spread(torch.zeros(1, 16), torch.ones(1, 1, dtype=torch.float64)))
        assert 0 < spread < 300
        if abs(said) <= 1:
            assert spread == pytest.approx(math.exp(said) + 0.01, rel=0.04)


def test_a_net_that_says_nothing_of_spreads_leaves_them_at_one() -> None:
    spread = some_forecaster(2).spread(torch.randn(3, 5, 16), torch.full((5, 2), 0.25, dtype=torch.float64))
    assert torch.equal(spread, torch.ones(3, 5, 2, dtype=torch.float64))


def test_a_spread_is_learned_where_the_likelihood_of_residuals_is_largest() -> None:
    """Of a Laplace distribution that is their mean absolute value."""
    forecaster = Forecaster(ForecasterConfig(("a",), hidden=16, spreads=True))
    residuals = torch.randn(500, 1, generator=torch.Generator().manual_seed(0)) * 3
    memory = torch.zeros(500, 16)
    optimiser = torch.optim.Adam([forecaster.spread_bias], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        forecaster.unlikelihoods(memory, residuals).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = float(forecaster.spread(memory[:1], torch.ones(1, 1)).detach())
    assert found == pytest.approx(float(residuals.abs().mean()), rel=0.01)


def test_the_clock_that_is_shown_has_the_harmonics_and_the_time_zone_of_the_config() -> None:
    config = ForecasterConfig(("a",), hidden=16, day_harmonics=24, week_harmonics=6, time_zone="America/New_York")
    times = np.random.default_rng(2).integers(0, 4_102_444_800_000, 300)
    nothing = torch.zeros(len(times), 1)
    shown = Forecaster(config).inputs(
        nothing.unsqueeze(-1), nothing[:1], nothing[:1], nothing, torch.from_numpy(times).unsqueeze(1)
    )
    assert shown.shape == (300, 1, config.inputs) == (300, 1, 3 + 2 * 30)
    for found, time in zip(shown[:, 0, 3:].tolist(), times.tolist(), strict=True):
        when = datetime.fromtimestamp(time // 1_000, ZoneInfo("America/New_York"))
        day = (when.hour * 60 + when.minute) / 1_440
        week = (when.weekday() + day) / 7
        turns = [day, week, *(n * day for n in range(2, 25)), *(n * week for n in range(2, 7))]
        expected = [of(turn * math.tau) for turn in turns for of in (math.sin, math.cos)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


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
