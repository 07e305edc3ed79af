"""The warning that many records are refused: one an episode."""

from typing import Any

from structlog.testing import capture_logs
from structlog.typing import EventDict

from service.input.reasons import Reason
from service.input.rejects import Reject
from service.live.refusals import WINDOW, Refusals
from service.log.port import Commit, Partition
from service.pipeline import Processed

BATCH = 1_000
PLANT = Partition("plant", 3)


def batch(refused: int, records: int = BATCH, reason: Reason = Reason.BAD_JSON) -> Processed:
    nothing: Any = None
    rejects = [Reject(n, reason, f"detail {n}") for n in range(refused)]
    return Processed(Commit(PLANT, records), nothing, None, rejects, [], {}, {"records": records}, "")


def logged(*batches: Processed) -> list[EventDict]:
    refusals = Refusals()
    with capture_logs() as logs:
        for one in batches:
            refusals.add([one])
    return logs


def test_a_hundred_of_the_last_ten_thousand_are_one_warning_with_reasons_and_what_helps() -> None:
    first = [batch(40), *[batch(0)] * 8]
    assert logged(*first, batch(59)) == []
    assert logged(*first, batch(60, reason=Reason.BAD_KEY), *[batch(30)] * 30) == [
        {
            "event": "many_records_refused",
            "log_level": "warning",
            "refused": 100,
            "of_the_last": WINDOW,
            "reasons": {"bad_key": 60, "bad_json": 40},
            "detail": "detail 59",
            "topic": "plant",
            "partition": 3,
            "see": "telltale input try --topic plant",
        }
    ]


def test_an_episode_ends_when_half_as_many_are_refused_and_then_another_may_begin() -> None:
    logs = logged(batch(100), *[batch(5)] * 10, batch(4), *[batch(0)] * 10, batch(100))
    assert [one["event"] for one in logs] == ["many_records_refused", "few_records_refused", "many_records_refused"]
    assert logs[1]["refused"] == 49


def test_records_that_were_refused_long_ago_do_not_count() -> None:
    assert logged(*([batch(9)] * 50)) == []
    assert logged(batch(99), *[batch(0)] * 10, batch(99)) == []


def test_a_batch_that_is_larger_than_the_window_counts_by_its_share() -> None:
    assert logged(batch(199, 2 * WINDOW)) == []
    assert logged(batch(200, 2 * WINDOW))[0]["of_the_last"] == 2 * WINDOW


def test_a_few_records_that_are_all_refused_are_not_yet_many() -> None:
    assert logged(batch(99, 99)) == []
    assert len(logged(batch(99, 99), batch(1, 1))) == 1
