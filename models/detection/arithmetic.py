"""Arithmetic of the judge, every bit of it known: +, -, *, /, square root and comparison are rounded exactly."""

import math

from models.data.arrays import Doubles
from models.detection.compiling import compiled


@compiled
def at_least(number: float, least: float) -> float:
    """The greater of the two; what is no number stays so."""
    return number if number >= least or math.isnan(number) else least


@compiled
def at_most(number: float, most: float) -> float:
    return number if number <= most or math.isnan(number) else most


@compiled
def within(number: float, most: float) -> float:
    return at_most(at_least(number, -most), most)


@compiled
def one_if(condition: bool) -> float:
    return 1.0 if condition else 0.0


@compiled
def follow(mean: float, variance: float, value: float, rate: float) -> tuple[float, float]:
    """Exponentially weighted mean and variance (Finch 2009, eq. 124 and 143); rate 0 changes nothing."""
    distance = value - mean
    step = distance * rate
    return mean + step, (variance + distance * step) * (1 - rate)


@compiled
def proven(product: float, square: float, variance: float) -> float:
    """The share of a correction that is heeded: its least-squares factor less one standard error, from 0 to 1.

    product, square: sums of correction times what was left to explain, and of the correction's square.
    """
    sure = product - math.sqrt(square * variance)
    return at_most(sure / square, 1.0) if sure > 0 else 0.0


@compiled
def add(numbers: Doubles) -> float:
    """In blocks of 128, each as eight sums side by side, so that the error stays small."""
    total = 0.0
    for begin in range(0, len(numbers), 128):
        total += add_block(numbers[begin : begin + 128])
    return total


@compiled
def add_block(numbers: Doubles) -> float:
    total, rest = 0.0, len(numbers) % 8
    whole = len(numbers) - rest
    if whole > 0:
        a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for n in range(0, whole, 8):
            a, b, c, d = a + numbers[n], b + numbers[n + 1], c + numbers[n + 2], d + numbers[n + 3]
            e, f, g, h = e + numbers[n + 4], f + numbers[n + 5], g + numbers[n + 6], h + numbers[n + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for n in range(whole, len(numbers)):
        total += numbers[n]
    return total
