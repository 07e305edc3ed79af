"""Every row of the fault suite, in the size that CI has time for. `python -m tests.faults` plays the full ones."""

import os
import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults import suite
from tests.faults.figures import HEADING, Cast, Figures
from tests.kafka import Broker
from tests.nursery import Nursery

# Of a connection that is refused or broken off, the client leaves the socket to the garbage collector.
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.timeout(1_800),
]

SEED = int(os.environ.get("TELLTALE_TEST_FAULT_SEED") or random.SystemRandom().randrange(2**31))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with closing(Nursery(suite.ROLES)) as nursery:
        yield nursery


def found(row: str, broker: Broker, nursery: Nursery) -> Figures:
    """Play a row; its figures are printed, and shown when it fails."""
    print(f"TELLTALE_TEST_FAULT_SEED={SEED} plays this again\n{HEADING}")
    figures = suite.play(row, Cast(broker, nursery, SEED), full=False)
    print(figures.line())
    return figures


def test_a_kill_at_any_point_changes_nothing(kafka: Broker, nursery: Nursery) -> None:
    assert found("kills", kafka, nursery).passed


def test_a_supervised_worker_that_is_killed_is_back_in_seconds_and_changes_nothing(
    kafka: Broker, nursery: Nursery
) -> None:
    assert found("supervised", kafka, nursery).passed


def test_a_kill_during_the_recovery_from_a_kill_changes_nothing(kafka: Broker, nursery: Nursery) -> None:
    assert found("recovery", kafka, nursery).passed


def test_a_worker_that_was_stopped_for_longer_than_its_session_is_fenced(kafka: Broker, nursery: Nursery) -> None:
    assert found("stops", kafka, nursery).passed


def test_the_oracle_finds_what_is_told_twice_when_offsets_go_without_a_generation(
    kafka: Broker, nursery: Nursery
) -> None:
    figures = found("control", kafka, nursery)
    assert figures.passed
    assert figures.differences.twice > 0


def test_workers_that_join_and_leave_change_nothing_and_work_goes_on(kafka: Broker, nursery: Nursery) -> None:
    assert found("members", kafka, nursery).passed


@pytest.mark.usefixtures("java")
def test_a_broker_or_a_network_that_fails_changes_nothing_and_work_goes_on_after_it(
    kafka: Broker, nursery: Nursery
) -> None:
    assert found("outages", kafka, nursery).passed


def test_a_late_end_of_a_transaction_shows_no_part_of_another(kafka: Broker, nursery: Nursery) -> None:
    assert found("late-end", kafka, nursery).passed


def test_a_worker_that_is_told_to_stop_does_so_in_time_and_leaves_nothing_to_be_replayed(
    kafka: Broker, nursery: Nursery
) -> None:
    assert found("sigterm", kafka, nursery).passed


def test_what_people_say_of_learning_holds_from_one_offset_on_through_kills(kafka: Broker, nursery: Nursery) -> None:
    assert found("pauses", kafka, nursery).passed


def test_promotions_and_rollbacks_are_there_once_whatever_ends_the_worker(kafka: Broker, nursery: Nursery) -> None:
    assert found("promotions", kafka, nursery).passed


def test_incidents_and_what_people_say_are_there_once_whatever_ends_it(kafka: Broker, nursery: Nursery) -> None:
    assert found("incidents", kafka, nursery).passed


def test_damaged_pages_lose_their_own_streams_and_no_others(kafka: Broker, nursery: Nursery) -> None:
    assert found("pages", kafka, nursery).passed


def test_new_keys_in_great_number_leave_memory_and_known_streams_as_they_are(kafka: Broker, nursery: Nursery) -> None:
    assert found("new-keys", kafka, nursery).passed


def test_many_readings_a_record_are_judged_together_or_not_at_all(kafka: Broker, nursery: Nursery) -> None:
    assert found("many-readings", kafka, nursery).passed


def test_readings_that_are_keyed_by_stream_are_there_once_whatever_ends_it(kafka: Broker, nursery: Nursery) -> None:
    assert found("rekey", kafka, nursery).passed


def test_metrics_that_are_joined_are_the_same_readings_whatever_ends_it(kafka: Broker, nursery: Nursery) -> None:
    assert found("join", kafka, nursery).passed


def test_data_by_alias_is_the_same_readings_whatever_ends_it(kafka: Broker, nursery: Nursery) -> None:
    assert found("births", kafka, nursery).passed


def test_batch_borders_polls_and_schedules_change_no_byte(kafka: Broker, nursery: Nursery) -> None:
    assert found("schedules", kafka, nursery).passed
