"""A net that begins as one that was trained before, for other channels and a finer clock.

Sizes: I inputs of a lane, H hidden units.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.net.forecaster import Forecaster, ForecasterConfig

MAY_DIFFER = ("features", "day_harmonics", "week_harmonics", "time_zone")
SHOWN = "recurrence.fused.weight_ih_l0"  # (4 * H, I): the one tensor whose shape depends on the clock


def can_begin_as(earlier: ForecasterConfig, config: ForecasterConfig) -> bool:
    """Whether both are LSTMs that read every channel by itself, and the clock is as fine as the earlier one's."""
    return (
        config.channelwise
        and config.cell == "lstm"
        and replace(config, **{name: getattr(earlier, name) for name in MAY_DIFFER}) == earlier
        and set(earlier.periods_a_week) <= set(config.periods_a_week)
    )


def weights_to_begin_with(earlier: Forecaster, config: ForecasterConfig) -> dict[str, Tensor]:
    """Weights of a net as in `config` that expects what `earlier` does: what it alone is shown has the weight 0.

    See can_begin_as().
    """
    weights = {name: weight.detach().clone() for name, weight in earlier.state_dict().items()}
    known, shown = earlier.config.periods_a_week, config.periods_a_week
    clock = earlier.config.inputs - earlier.config.clock_inputs
    columns = torch.zeros(len(weights[SHOWN]), config.inputs)
    columns[:, :clock] = weights[SHOWN][:, :clock]
    for n, periods in enumerate(known):
        there, here = clock + 2 * n, clock + 2 * shown.index(periods)
        columns[:, here : here + 2] = weights[SHOWN][:, there : there + 2]
    return {**weights, SHOWN: columns}
