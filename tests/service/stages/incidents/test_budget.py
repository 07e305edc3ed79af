"""The budget of incidents: how many a day are sent, and which."""

import random
from collections import Counter

import pytest

from models.data.time_units import DAY_MS
from service.stages.incidents.budget import Budget


def healthy_plant(a_day: int, days: int, seed: int = 0) -> list[tuple[int, int]]:
    """(event time, severity) of incidents that come by chance; most are minor."""
    chance, now_ms, found = random.Random(seed), 0.0, []
    while now_ms < days * DAY_MS:
        found.append((int(now_ms), chance.choices((0, 1, 2), (0.95, 0.04, 0.01))[0]))
        now_ms += chance.expovariate(a_day / DAY_MS)
    return found


def sent(budget: Budget, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(at_ms, severity) for at_ms, severity in found if budget.take(severity, at_ms)]


@pytest.mark.slow
def test_in_any_week_of_a_plant_with_far_too_many_incidents_the_budget_holds_within_a_fifth() -> None:
    for a_day in (200, 1_500, 5_000):
        taken = [at_ms for at_ms, _ in sent(Budget(144), healthy_plant(a_day, 30))]
        for begins in range(24):
            week = [at for at in taken if begins * DAY_MS <= at < (begins + 7) * DAY_MS]
            assert 0.8 * 7 * 144 <= len(week) <= 1.2 * 7 * 144, (a_day, begins)


def test_what_is_more_severe_is_sent_before_what_is_less() -> None:
    found = healthy_plant(1_500, 30)
    taken, offered = Counter(s for _, s in sent(Budget(144), found)), Counter(s for _, s in found)
    assert taken[2] == offered[2]
    assert taken[1] == offered[1]
    assert taken[0] < 0.1 * offered[0]


def test_of_a_plant_with_fewer_incidents_than_the_budget_all_are_sent() -> None:
    found = healthy_plant(50, 30)
    assert sent(Budget(144), found) == found


def test_without_a_budget_all_are_sent() -> None:
    found = healthy_plant(1_500, 2)
    assert sent(Budget(None), found) == found


def test_a_group_that_fails_again_and_again_leaves_the_budget_to_the_others() -> None:
    noisy = [(at_ms, severity, "noisy") for at_ms, severity in healthy_plant(3_000, 10)]
    others = [(at_ms, severity, f"line-{n % 20}") for n, (at_ms, severity) in enumerate(healthy_plant(100, 10, 1))]
    found = sorted([*noisy, *others])
    alone, shared = Budget(144), Budget(144, group_per_day=24)
    taken = {
        budget.group_per_day: Counter(group for at_ms, severity, group in found if budget.take(severity, at_ms, group))
        for budget in (alone, shared)
    }
    assert taken[24]["noisy"] <= 10 * 24 + 6, "ten days, and what there was at first"
    assert taken[24].total() - taken[24]["noisy"] > 0.95 * len(others)
    assert taken[None].total() - taken[None]["noisy"] < 0.5 * len(others)


def test_a_budget_of_a_group_that_is_full_again_need_not_be_kept() -> None:
    kept, dropped = Budget(144, group_per_day=8), Budget(144, group_per_day=8)
    for at_ms, severity in healthy_plant(200, 5):
        group = "a" if at_ms % (2 * DAY_MS) < DAY_MS else "b"
        assert kept.take(severity, at_ms, group) == dropped.take(severity, at_ms, group)
        dropped.drop_full(at_ms)
    assert kept.groups.keys() == {"a", "b"}
    assert len(dropped.groups) == 1
