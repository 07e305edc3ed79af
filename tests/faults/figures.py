"""What a row of the suite found, and how it is shown."""

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.oracle import Differences
from tests.faults.scene import Outcome
from tests.kafka import Broker
from tests.nursery import Nursery


class Cast(NamedTuple):
    """With what a row is played: the same seed, the same schedule."""

    broker: Broker
    nursery: Nursery
    seed: int


@dataclass(slots=True)
class Figures:
    """faults: how many there were. failures: what was required and is not so."""

    row: str
    faults: int
    readings: int
    differences: Differences
    extra: dict[str, object] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    expects_differences: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, row: str, faults: int, outcome: Outcome) -> "Figures":
        return cls(row, faults, outcome.readings, outcome.differences)

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.failures.append(what)

    @property
    def passed(self) -> bool:
        return not self.failures and self.differences.none != self.expects_differences

    def add(self, more: "Figures") -> None:
        """Take in the same row, played elsewhere."""
        self.faults += more.faults
        self.readings += more.readings
        self.differences.add(more.differences)
        self.failures += more.failures
        for name, value in more.extra.items():
            mine = self.extra.get(name)
            if isinstance(mine, int | float) and isinstance(value, int | float):
                self.extra[name] = mine + value
            elif isinstance(mine, dict) and isinstance(value, dict):
                self.extra[name] = {k: mine.get(k, 0) + value.get(k, 0) for k in sorted({*mine, *value})}
            else:
                self.extra[name] = value if mine is None else [mine, value]

    def line(self) -> str:
        """One line of the table, and one more for the details."""
        d = self.differences
        cells = [
            f"{self.row:<44}",
            *(f"{n:>9,}" for n in (self.faults, self.readings, d.lost, d.twice, d.different + d.disorder, d.state)),
        ]
        notes = [f"{name} {value}" for name, value in self.extra.items()]
        notes += [f"NOT SO: {failure}" for failure in self.failures]
        notes += [] if self.expects_differences else [f"FOUND: {other}" for other in d.other[:8]]
        verdict = "passed" if self.passed else "FAILED"
        return "".join(cells) + f"{self.seconds:>8.0f} s  {verdict}\n    " + "; ".join(notes)


HEADING = (
    f"{'fault':<44}"
    + "".join(f"{name:>9}" for name in ("faults", "readings", "lost", "twice", "other", "state"))
    + f"{'took':>10}"
)
