"""Counts and comparisons in words, so that none reads "1 streams" or "-697 % below"."""

from collections.abc import Mapping


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """1 stream; 2,000 streams. plural: of a noun that takes more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed_counts(counts: Mapping[str, int]) -> str:
    """2,000 late, 3 duplicate: what there is any of, or nothing."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def compared(value: float, reference: float, what: str) -> str:
    """How far a loss is from another one, both 0 or more: 12 % below WHAT, 697 % above WHAT, or the same as WHAT."""
    if not reference > 0:
        return f"nothing to compare with: {what} is {reference:.3g}"
    percent = round(100 * (value / reference - 1))
    if percent == 0:
        return f"the same as {what}"
    return f"{abs(percent):,} % {'above' if percent > 0 else 'below'} {what}"
