"""What people called anomalies, beside what the topic of anomalies says of them."""

from pathlib import Path

import numpy as np

from models.data.label_windows import read_label_windows
from service.process.anomalies import ToldAnomaly, gathered
from service.process.labels import as_csv, said_windows
from service.stages.incidents.changes import AnomalyChange
from service.stages.incidents.controls import Label
from tests.service.stages.incidents.plant import NOW_MS, time_at, who

WHO = who("anna")


def change(anomaly: str, at_s: int, severity: int = 0, *, is_open: bool = True, channel: str = "flow") -> AnomalyChange:
    time_ms = NOW_MS + 1000 * at_s
    return AnomalyChange(anomaly, f"line/{anomaly}", is_open, severity, "level", 1.0, NOW_MS, time_ms, channel=channel)


def told(*changes: AnomalyChange) -> dict[str, ToldAnomaly]:
    return gathered(changes)


def test_an_anomaly_is_as_severe_as_it_ever_was_and_its_channel_is_that_of_its_first_event() -> None:
    one = told(change("a", 0), change("a", 5, 2, channel="speed"), change("a", 9, 1, is_open=False))["a"]
    assert one == ToldAnomaly(
        "a", "line/a", "level", "flow", 2, NOW_MS, NOW_MS + 9_000, is_open=False, return_period_s=0.0
    )


def test_the_export_is_read_as_the_stretches_of_the_anomalies_that_were_labelled(tmp_path: Path) -> None:
    found = told(change("a", 0), change("a", 9, is_open=False), change("b*", 0), change("c", 0), change("c", 2))

    def span(label: str, streams: list[str], note: str = "") -> Label:
        return Label(label=label, streams=streams, begins=time_at(-1), until=time_at(1), note=note, **WHO)

    said = said_windows(
        {
            "z": Label(label="fault", anomaly="a", **WHO),
            "y": Label(label="fault", anomaly="gone", **WHO),
            "x": span("known", ["*"]),
            "w": span("fault", ["line/b*"], "it leaked, twice"),
            "v": span("fault", ["other/*", "more"]),
        },
        found,
    )
    assert said.unknown == 1
    assert {(one.control, one.label, one.anomaly) for one in said.windows} == {
        ("z", "fault", "a"),
        ("w", "fault", "b*"),
        ("x", "known", "c"),
        ("v", "fault", ""),
    }
    path = tmp_path / "labels.csv"
    path.write_bytes(as_csv(said.windows))
    windows = read_label_windows(path)
    seconds = np.arange(-2, 12)

    def faults(stream: str) -> list[int]:
        return [int(second) for second in seconds[windows.faults(stream, NOW_MS + 1000 * seconds)]]

    assert faults("line/a") == list(range(9)), "the reading at which it closed was normal again"
    assert faults("line/b*") == [0]
    assert faults("line/bc") == faults("line/c") == []
    assert faults("other/1") == faults("more") == [-1, 0]
