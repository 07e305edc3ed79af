"""How many incidents a day are sent to people, and which: the rest of the budget is kept for what is worse.

A token bucket in event time. It fills at the budget's rate, up to a quarter of a day's. A minor incident is sent while
the bucket is at least half full, a major one while a fifth is left, a critical one while there is a token. So where
there is more than the budget allows, a day's tokens are all spent, and what is minor is held back first.
"""

from dataclasses import dataclass, field

from models.data.time_units import DAY_MS

CAPACITY_DAYS = 0.25  # what may come at once after a quiet time: 5 % of a week, with an outbreak on each side of it
KEPT_SHARE = (0.5, 0.2, 0.0)  # of the bucket, for what is more severe; by severity


@dataclass(slots=True)
class Budget:
    """tokens: as they were at event time at_ms; None: the bucket is full, and no time has passed yet.

    groups: of each group of streams a budget of its own beside it, of group_per_day; one that is full may be missing.
    """

    per_day: int | None  # None: no limit
    tokens: float = 0.0
    at_ms: int | None = None
    group_per_day: int | None = None
    groups: dict[str, "Budget"] = field(default_factory=dict)

    def take(self, severity: int, now_ms: int, group: str = "") -> bool:
        """Whether an incident of this severity is sent now. now_ms: event time, never before an earlier call's."""
        asked = [] if self.per_day is None else [self]
        if self.group_per_day is not None:
            asked.append(self.groups.setdefault(group, Budget(self.group_per_day)))
        for one in asked:
            one.tokens, one.at_ms = one.tokens_at(now_ms), now_ms
        if any(one.tokens < max(1.0, one.capacity * KEPT_SHARE[severity]) for one in asked):
            return False
        for one in asked:
            one.tokens -= 1.0
        return True

    def drop_full(self, now_ms: int) -> None:
        """Groups that are as if they had never been asked. What is decided later is the same."""
        self.groups = {group: one for group, one in self.groups.items() if one.tokens_at(now_ms) < one.capacity}

    @property
    def capacity(self) -> float:
        return max(1.0, (self.per_day or 0) * CAPACITY_DAYS)

    def tokens_at(self, now_ms: int) -> float:
        if self.at_ms is None:
            return self.capacity
        return min(self.capacity, self.tokens + (now_ms - self.at_ms) * (self.per_day or 0) / DAY_MS)
