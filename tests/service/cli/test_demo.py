"""What the demo prints of an anomaly."""

from models.detection.alarm import OpenedBy
from service.cli.demo import ReportedAnomaly, _line
from service.input.reading_batch import StreamKey
from service.log.port import Partition
from service.state.ended_alarms import Silent, silent_event
from service.state.open_alarms import HeldAlarm


def test_a_stream_that_is_silent_has_a_line_though_it_has_no_channel() -> None:
    alarm = HeldAlarm(StreamKey(b"line-1/pump-1"), -7, 1_767_571_200_000, "minor", 1.0, OpenedBy.SILENT)
    event = silent_event(alarm, Silent(1_767_570_900_000, 3_600.0), Partition("demo", 0), 7, "digest")
    said = _line(ReportedAnomaly(event, None))
    assert "line-1/pump-1" in said
    assert "silent" in said
    assert "no fault: a false alarm" in said
