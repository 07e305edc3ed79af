"""Transactional ids: whatever groups and instances are called, no two have the same, and no prefix is another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.kafka.transactional_ids import import_id, prefix_of, worker_id

NAMES = st.text(st.sampled_from("ab-/%é"), min_size=1, max_size=6)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_workers_have_the_same(group: str, instance: str, other_group: str, other_instance: str) -> None:
    same = (group, instance) == (other_group, other_instance)
    assert (worker_id(group, instance) == worker_id(other_group, other_instance)) == same


@pytest.mark.slow
@given(NAMES, NAMES, NAMES)
def test_all_ids_of_a_group_begin_as_no_other_groups_do(group: str, other: str, instance: str) -> None:
    for name in (worker_id(group, instance), import_id(group)):
        assert name.startswith(prefix_of(group))
        assert name.startswith(prefix_of(other)) == (group == other)


@given(NAMES, NAMES)
def test_an_import_has_no_workers_id(group: str, instance: str) -> None:
    assert import_id(group).count("/") != worker_id(group, instance).count("/")


def test_names_as_they_mostly_are_can_be_read_in_it() -> None:
    assert worker_id("plant-2", "worker_1.example") == "plant-2/worker_1.example"
    assert worker_id("tx", "b-c") != worker_id("tx-b", "c")
