"""The section of re-keying: which topics go into which."""

from pathlib import Path

import pytest

from service.errors import RefusedSetting
from service.process.rekey import run_rekey
from service.settings.loading import load
from service.settings.settings import shown
from tests.service.settings.refusals import refusal


def test_what_is_shown_can_be_read_again(file: Path, tmp_path: Path) -> None:
    file.write_text("rekey: {topics: [telegraf, plc], topic: readings, wait_s: 2}")
    settings = load(file, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(settings))
    assert load(again, {}).rekey == settings.rekey
    assert settings.rekey.topics == ("telegraf", "plc")


def test_no_topic_is_written_to_itself() -> None:
    assert "rekey.topic: found 'a', expected another topic than those" in refusal(
        None, rekey__topics=["a"], rekey__topic="a"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, r"rekey\.topics: found none, expected the topics"),
        ({"rekey.topics": ["a"], "rekey.topic": "telltale.anomalies"}, "a topic that nothing else is written to"),
        (
            {"rekey.topics": ["a"], "input.topics": {"telltale.readings": {"time_unit": "s"}}},
            r"input\.topics\.telltale\.readings: expected no mapping",
        ),
        (
            {"rekey.topics": ["a"], "input.topics": {"a": {"labels": {"site": "site"}}}},
            r"input\.topics\.a\.labels: expected none, as `telltale rekey` writes readings without labels",
        ),
    ],
)
def test_topics_that_do_not_fit_are_refused_before_anything_is_begun(
    overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(RefusedSetting, match=message):
        run_rekey(load(None, overrides))


METRIC = {"plc": {"metric": "name", "values": "value"}}


def test_metrics_are_joined_by_windows_that_are_set(file: Path) -> None:
    file.write_text(
        "rekey: {topics: [plc], join_window_s: 10, join_expire_s: 60}\ninput: {topics: {plc: {metric: name}}}"
    )
    rekey = load(file, {}).rekey
    assert (rekey.join_window_s, rekey.join_late_s, rekey.join_expire_s) == (10, 0, 60)


def test_records_of_one_metric_each_are_not_written_one_by_one() -> None:
    with pytest.raises(RefusedSetting, match=r"rekey\.join_window_s: found null.*input\.topics\.plc\.metric"):
        run_rekey(load(None, {"rekey.topics": ["plc"], "input.topics": METRIC}))


def test_records_of_one_metric_each_are_not_judged() -> None:
    with pytest.raises(RefusedSetting, match=r"input\.topics\.plc\.metric: expected none, as plc is read to be judged"):
        load(None, {"kafka.topics": ["plc"], "input.topics": METRIC})


def test_a_metric_has_one_value() -> None:
    with pytest.raises(RefusedSetting, match=r"input\.topics\.plc\.values: .*expected one path, as metric says"):
        load(None, {"input.topics": {"plc": {"metric": "name", "values": {"temp": "t"}}}})
