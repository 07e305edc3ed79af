from dataclasses import replace

import pytest
import torch

from models.net.forecaster import Forecaster, ForecasterConfig
from models.net.warm_start import can_begin_as, weights_to_begin_with
from models.training.generic import generic_architecture

COARSE = generic_architecture(16)
FINE = replace(COARSE, features=("a",), day_harmonics=24, week_harmonics=6)


def begun_as(earlier: Forecaster, config: ForecasterConfig) -> Forecaster:
    net = Forecaster(config)
    net.load_state_dict(weights_to_begin_with(earlier, config))
    return net


def earlier_net(seed: int = 0) -> Forecaster:
    torch.manual_seed(seed)
    net = Forecaster(COARSE)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn(weight.shape) * 0.2)
    return net


@torch.no_grad()
def expected_of(net: Forecaster) -> torch.Tensor:
    """Expectation and spread after each of 200 readings of three streams, a quarter of an hour apart."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(200, 3, 1, generator=generator)
    step = torch.full((3, 1), 0.5)
    times_ms = 1_700_000_000_000 + torch.arange(200).unsqueeze(1).expand(-1, 3) * 900_000
    inputs = net.inputs(values, values[0], step, torch.full((200, 3), 900.0), times_ms)
    memory, _ = net.observe(inputs, net.fresh(3))
    return torch.stack([net.predict(memory, values, step), net.spread(memory, step)])


def test_a_net_with_a_finer_clock_expects_what_the_one_expected_that_it_begins_as() -> None:
    earlier = earlier_net()
    torch.testing.assert_close(expected_of(begun_as(earlier, FINE)), expected_of(earlier), rtol=1e-5, atol=1e-6)


def test_what_it_alone_is_shown_can_be_learned_from() -> None:
    net = begun_as(earlier_net(), FINE)
    before = net.get_parameter("recurrence.fused.weight_ih_l0")
    net.observe(torch.ones(5, 2, FINE.inputs), net.fresh(2))[0].sum().backward()  # type: ignore[no-untyped-call]
    unused = (before == 0).all(0)
    assert int(unused.sum()) == FINE.inputs - COARSE.inputs
    assert before.grad is not None
    assert (before.grad[:, unused] != 0).any()


@pytest.mark.parametrize(
    ("other", "can"),
    [
        (FINE, True),
        (replace(FINE, time_zone="Europe/Berlin"), True),
        (replace(FINE, features=("a", "b")), True),
        (replace(FINE, channelwise=False), False),
        (replace(FINE, hidden=32), False),
        (replace(FINE, layers=2), False),
        (replace(FINE, cell="gru"), False),
        (replace(FINE, spreads=False), False),
        (replace(FINE, day_harmonics=2), False),
    ],
)
def test_a_net_begins_as_another_if_only_channels_and_clock_differ(other: ForecasterConfig, can: bool) -> None:
    assert can_begin_as(COARSE, other) == can
