"""Centre and spread of every channel of every stream, from that stream's own calm readings only.

The scale of a stream moves at fixed ages (its 2nd, 4th, 8th, ... reading), so that it comes with the first readings,
settles soon, and follows slowly after that; and when a lasting anomaly is adopted as the new normal. Between those
readings it is constant: only so can many readings of a stream go through the net in one call.

Only +, -, *, / and square root work on statistics here: they are rounded exactly (IEEE 754), so no batch size,
vector width or library changes a bit. Sizes: T waves, S streams, F features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.rows import Channels, Scalars

SMALLEST_SPREAD = 1e-9  # of a channel that never moved, beside one millionth of its level


class Held(NamedTuple):
    """Readings with every missing value replaced by the channel's last known one."""

    values: Tensor  # (T, S, F)
    present: Tensor | None  # (T, S, F) bool; None: nothing is missing


def hold(values: Tensor, last: Tensor) -> Held:
    """A missing value (NaN) is the last known value to the net, and neither scored nor learned from.

    values: (T, S, F), last: (S, F).
    """
    missing = values.isnan()
    if not missing.any():
        return Held(values, None)
    held = values.clone()
    for wave in range(len(held)):
        before = held[wave - 1] if wave else last
        held[wave] = torch.where(missing[wave], before, held[wave])
    return Held(held, ~missing)


def learn_scale(values: Tensor, weight: Tensor, channels: Channels[Tensor]) -> None:
    """Take one wave into mean and squared distance (Welford 1962). values, weight (0 or 1): (S, F)."""
    channels.known.add_(weight)
    distance = values - channels.mean
    channels.mean.add_(distance * weight / channels.known.clamp(min=1))
    channels.square.add_(distance * (values - channels.mean) * weight)


def move_scale(due: Tensor, channels: Channels[Tensor], scalars: Scalars[Tensor]) -> None:
    """Derive centre and spread anew for the streams in `due` (S,) bool; their residual statistics are re-expressed."""
    spread = spread_of(channels)
    shrink = torch.nan_to_num(channels.spread / spread, nan=1.0, posinf=1.0)
    due_channels = due.unsqueeze(1)
    for statistic, new in (
        (channels.centre, channels.mean),
        (channels.spread, spread),
        (channels.bias, channels.bias * shrink),
        (channels.noise, channels.noise * shrink * shrink),
    ):
        statistic.copy_(torch.where(due_channels, new, statistic))
    scalars.rescale_at.copy_(torch.where(due, scalars.rescale_at * 2, scalars.rescale_at))


def spread_of(channels: Channels[Tensor]) -> Tensor:
    """Standard deviation of what was learned, (S, F); infinite while fewer than two values are known."""
    spread = (channels.square / (channels.known - 1).clamp(min=1)).sqrt()
    floor = channels.mean.abs() * 1e-6 + SMALLEST_SPREAD
    return torch.where(channels.known >= 2, torch.maximum(spread, floor), torch.inf)


def adopt_level(adopted: Tensor, channels: Channels[Tensor], scalars: Scalars[Tensor]) -> None:
    """The level since the alarm opened is the normal one from now on, for the streams in `adopted` (S,) bool.

    Centre, mean and range start from there; the spread and all residual statistics stay.
    """
    weight = torch.minimum(scalars.length.unsqueeze(1), channels.known)
    variance = channels.square / channels.known.clamp(min=1)
    for statistic, new in (
        (channels.centre, channels.level),
        (channels.mean, channels.level),
        (channels.known, weight),
        (channels.square, variance * weight),
        (channels.low, channels.level),
        (channels.high, channels.level),
    ):
        statistic.copy_(torch.where(adopted.unsqueeze(1), new, statistic))
