"""Sizes: T waves, S streams, F features."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from models.detection.net_arithmetic import NetArithmetic
from models.detection.rows import Rows, RowsInPlace, fresh
from models.net.forecaster import Forecaster, ForecasterConfig

WAVES, STREAMS = 5, 200


class Given(NamedTuple):
    rows: Rows
    times_ms: Tensor  # (T, S)
    elapsed_ms: Tensor  # (T, S)
    held: Tensor  # (T, S, F)
    memory: Tensor  # (T + 1, S, M * H), that before the first wave first

    def part(self, waves: slice, streams: slice) -> "Given":
        """Some waves of some streams; the rows' last values are those before the first of them."""
        rows = Rows(*(column[streams].clone() for column in self.rows))
        if waves.start:
            rows.channel("last").copy_(self.held[waves.start - 1, streams])
        times_ms, elapsed_ms, held = (
            column[waves, streams].contiguous() for column in (self.times_ms, self.elapsed_ms, self.held)
        )
        return Given(rows, times_ms, elapsed_ms, held, self.memory[waves.start : waves.stop + 1, streams].contiguous())


def given(net: Forecaster) -> Given:
    """Every seventh stream has no scale yet, some values stay as they were, and some are far out."""
    random, features = torch.Generator().manual_seed(1), len(net.config.features)
    rows = fresh(STREAMS, net.config)
    for name in ("last", "centre"):
        rows.channel(name).copy_(torch.randn(STREAMS, features, generator=random))
    for name in ("spread", "step"):
        rows.channel(name).copy_(torch.rand(STREAMS, features, generator=random) + 0.01)
    for name, unknown in (("spread", math.inf), ("step", math.inf), ("centre", 0.0)):
        rows.channel(name)[::7] = unknown
    held = torch.randn(WAVES, STREAMS, features, generator=random, dtype=torch.float64)
    held[:, 3], held[2, 5] = rows.channel("last")[3], 3.4e38
    return Given(
        rows,
        torch.randint(0, 4_102_444_800_000, (WAVES, STREAMS), generator=random),
        torch.rand(WAVES, STREAMS, generator=random, dtype=torch.float64) ** 8 * 1e10,
        held,
        torch.randn(WAVES + 1, STREAMS, net.config.memory_width, generator=random),
    )


def computed(net: Forecaster, given: Given) -> tuple[Tensor, Tensor]:
    """Inputs, (T, S, M * I), and expectations, (T, S, F)."""
    arithmetic, held = NetArithmetic.of(net), given.held.numpy()
    rows = RowsInPlace.of(given.rows, torch.arange(len(given.rows.channels)))
    leaps = np.zeros(given.times_ms.shape, np.int64)
    inputs = arithmetic.inputs(given.times_ms.numpy(), leaps, given.elapsed_ms.numpy(), held, rows)
    predicted = arithmetic.predict(given.memory[0], given.memory[1:], held, rows)
    return inputs.reshape(*given.times_ms.shape, -1), torch.from_numpy(predicted)


NETS = [
    ForecasterConfig(("a",), day_harmonics=24, week_harmonics=6, time_zone="America/New_York"),
    ForecasterConfig(("a", "b", "c")),
    ForecasterConfig(("a", "b"), time_zone="Europe/Berlin", channelwise=True),
]


@pytest.mark.parametrize("config", NETS)
def test_it_computes_what_the_net_computes_in_training(config: ForecasterConfig) -> None:
    net = fine_net(config)
    one = given(net)
    inputs, predicted = computed(net, one)

    channel = one.rows.channel
    scaled = (one.held - channel("centre")) / channel("spread")
    before = (channel("last") - channel("centre")) / channel("spread")
    step = torch.where(channel("spread").isfinite(), channel("step") / channel("spread"), 1.0)
    shown = net.inputs(scaled, before, step, one.elapsed_ms / 1000, one.times_ms)
    torch.testing.assert_close(inputs, shown.reshape(inputs.shape), atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        said = net.predict(one.memory[:-1], torch.cat([before.unsqueeze(0), scaled[:-1]]), step)
    torch.testing.assert_close(predicted, said.double(), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("config", NETS)
@pytest.mark.parametrize("streams", [1, 2, 3, 7, 64])
def test_a_streams_bits_depend_neither_on_the_others_nor_on_where_a_batch_ends(
    config: ForecasterConfig, streams: int
) -> None:
    net = fine_net(config)
    one = given(net)
    everything = computed(net, one)
    for some in (slice(0, streams), slice(STREAMS - streams, STREAMS)):
        for waves in (slice(0, WAVES), slice(0, 1), slice(2, WAVES)):
            for few, all_of_them in zip(computed(net, one.part(waves, some)), everything, strict=True):
                assert torch.equal(few, all_of_them[waves, some])


def fine_net(config: ForecasterConfig) -> Forecaster:
    net = Forecaster(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 8
            )
    return net
