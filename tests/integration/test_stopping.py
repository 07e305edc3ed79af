"""SIGTERM while the broker hangs: a real one, stopped with all its connections open."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import FreshProcess
from tests.faults.broker import OwnBroker
from tests.integration.test_end_to_end import Service, made_topics, plant_records, quick, service
from tests.integration.test_end_to_end import wait_until as wait_for

__all__ = ["quick"]  # a fixture
WITHIN_S = 5.0
RECORDS = plant_records(streams=40, readings=6_000)
SMALL_STEPS = {"TELLTALE_KAFKA__MAX_POLL_RECORDS": "100"}
AT_ONCE = {"TELLTALE_STATE__FLUSH_INTERVAL_S": "0.5"}


@pytest.fixture(scope="module")
def own(java: None) -> Iterator[OwnBroker]:
    with OwnBroker() as own:
        yield own


def terminated(running: Service) -> tuple[int, float]:
    """The exit code, and seconds from SIGTERM to the end."""
    began = time.monotonic()
    running.process.signal(signal.SIGTERM)
    code = running.process.ended()
    return code, time.monotonic() - began


@pytest.mark.thorough
def test_idle_and_all_written_it_ends_in_good_order_though_the_broker_hangs(own: OwnBroker, quick: Path) -> None:
    names = made_topics(own.broker)
    own.broker.produce(names.topic, RECORDS[:300])
    with service(own.broker, quick, names, FreshProcess, **AT_ONCE) as running:
        running.until_judged(300)
        wait_for(lambda: all(p["unwritten_s"] == 0 for p in running.status()["partitions"]), "all pages written")
        own.stop()
        try:
            code, seconds = terminated(running)
        finally:
            own.resume()
    assert code == 0, running.process.err
    assert seconds <= WITHIN_S


@pytest.mark.thorough
@pytest.mark.parametrize("hung_s", [0.0, 2.0], ids=["at the same moment", "while a commit waits"])
def test_under_load_it_says_that_not_all_is_written(own: OwnBroker, quick: Path, hung_s: float) -> None:
    names = made_topics(own.broker)
    own.broker.produce(names.topic, RECORDS)
    with service(own.broker, quick, names, FreshProcess, **SMALL_STEPS) as running:
        running.until_judged(500)
        own.stop()
        try:
            until_s = time.monotonic() + hung_s
            wait_for(lambda: time.monotonic() >= until_s, "the broker has hung for a while")
            code, seconds = terminated(running)
        finally:
            own.resume()
    assert code == 1
    (line,) = running.lines("stop_cut_short")
    assert "judged again at the next start" in line["detail"]
    assert seconds <= WITHIN_S


@pytest.mark.thorough
def test_while_it_connects_it_ends_at_once(own: OwnBroker, quick: Path) -> None:
    names = made_topics(own.broker)
    own.stop()
    try:
        with service(own.broker, quick, names, FreshProcess) as running:
            code, seconds = terminated(running)
    finally:
        own.resume()
    assert code == 128 + signal.SIGTERM
    assert seconds <= 1.0
