"""How many incidents a day are sent to people, and which: the rest of the budget is kept for what is worse.

A token bucket in event time. It fills at the budget's rate, up to a quarter of a day's. A minor incident is sent while
the bucket is at least half full, a major one while a fifth is left, a critical one while there is a token. So where
there is more than the budget allows, a day's tokens are all spent, and what is minor is held back first.
"""

from dataclasses import dataclass

from models.data.time_units import DAY_MS

CAPACITY_DAYS = 0.25  # what may come at once after a quiet time: 5 % of a week, with an outbreak on each side of it
KEPT_SHARE = (0.5, 0.2, 0.0)  # of the bucket, for what is more severe; by severity


@dataclass(slots=True)
class Budget:
    """tokens: as they were at event time at_ms; None: the bucket is full, and no time has passed yet."""

    per_day: int | None  # None: no limit
    tokens: float = 0.0
    at_ms: int | None = None

    def take(self, severity: int, now_ms: int) -> bool:
        """Whether an incident of this severity is sent now. now_ms: event time, never before an earlier call's."""
        if self.per_day is None:
            return True
        capacity = max(1.0, self.per_day * CAPACITY_DAYS)
        if self.at_ms is None:
            self.tokens = capacity
        else:
            self.tokens = min(capacity, self.tokens + (now_ms - self.at_ms) * self.per_day / DAY_MS)
        self.at_ms = now_ms
        if self.tokens < max(1.0, capacity * KEPT_SHARE[severity]):
            return False
        self.tokens -= 1.0
        return True
