"""The table of `make bench-peers`: medians, and how they stand to the bare loop of the same run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.peers.contenders import BARE, Contender


@dataclass
class Result:
    """A contender's runs, all with as many readings. failure: of the first run that gave no figure."""

    contender: Contender
    readings: int
    rates: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def median(self) -> float | None:
        """None where a run failed: the others' figures do not count then either."""
        return None if self.failure or not self.rates else statistics.median(self.rates)


def table(results: Sequence[Result], left_out: Sequence[tuple[str, str]]) -> str:
    """One line a contender, the fastest first; then those without a figure, with the reason."""
    bare = next((result.median for result in results if result.contender is BARE), None)
    ranked = sorted(
        (result for result in results if result.median is not None), key=lambda result: -(result.median or 0.0)
    )
    lines = [f"{'':<20}{'readings':>11}{'a second':>11}{'of bare':>9}  what it does; all rounds"]
    lines += [_line(result, bare) for result in ranked]
    lines += [f"{result.contender.name:<20}failed: {result.failure}" for result in results if result.failure]
    lines += [f"{name:<20}left out: {reason}" for name, reason in left_out]
    return "\n".join(lines)


def _line(result: Result, bare: float | None) -> str:
    assert result.median is not None
    share = f"{result.median / bare:.2f}" if bare else "?"
    rounds = ", ".join(f"{rate:,.0f}" for rate in result.rates)
    contender = result.contender
    return f"{contender.name:<20}{result.readings:>11,}{result.median:>11,.0f}{share:>9}  {contender.what}; {rounds}"
