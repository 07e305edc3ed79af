"""Arithmetic of the judge, every bit of it known: +, -, *, /, square root and comparison are rounded exactly."""

import math

import numpy as np

from models.data.arrays import Doubles, Floats, Int64s
from models.detection.compiling import compiled

SQRT_HALF, LN_2 = 0.7071067811865476, 0.6931471805599453


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
def count_until(numbers: Int64s, last: int) -> int:
    """How many of the numbers, which rise, are not above the last."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] <= last:
            low = middle + 1
        else:
            high = middle
    return low


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


@compiled
def dot(one: Floats, other: Floats) -> float:
    """Sum of products, in float32, as eight sums side by side. Lengths are a multiple of 8."""
    nothing = np.float32(0)
    a, b, c, d, e, f, g, h = nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing
    for n in range(0, len(one), 8):
        a, b = a + one[n] * other[n], b + one[n + 1] * other[n + 1]
        c, d = c + one[n + 2] * other[n + 2], d + one[n + 3] * other[n + 3]
        e, f = e + one[n + 4] * other[n + 4], f + one[n + 5] * other[n + 5]
        g, h = g + one[n + 6] * other[n + 6], h + one[n + 7] * other[n + 7]
    return float(np.float64(((a + b) + (c + d)) + ((e + f) + (g + h))))


@compiled
def logarithm(number: float) -> float:
    """Natural, of a finite number above 0: a series, since a library's last bit differs from machine to machine."""
    fraction, exponent = math.frexp(number)
    if fraction < SQRT_HALF:
        fraction, exponent = fraction * 2, exponent - 1
    ratio = (fraction - 1) / (fraction + 1)
    square, terms = ratio * ratio, 0.0
    for n in range(21, 0, -2):
        terms = terms * square + 1 / n
    return exponent * LN_2 + 2 * ratio * terms


@compiled
def exponential(number: float) -> float:
    """Of a number between -700 and 700: a series, as above."""
    exponent = math.floor(number / LN_2 + 0.5)
    rest, terms = number - exponent * LN_2, 1.0
    for n in range(15, 0, -1):
        terms = terms * rest / n + 1
    return math.ldexp(terms, int(exponent))
