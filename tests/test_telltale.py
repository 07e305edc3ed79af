"""Telltale from Python: the figures are those of the commands, to the last bit."""

import doctest
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch.overrides import TorchFunctionMode

import telltale
from models.checkpoints import checkpoint, checkpoint_header
from models.data.series import Series, read_series
from models.data.synthetic import plant, to_frame
from models.detection.detector import Detector
from models.detection.priming import prime
from models.net.forecaster import Forecaster, ForecasterConfig
from service.cli.scoring import Scored, score
from service.input.file_log import FileLog
from service.pipeline import Pipeline
from telltale import UnusableData, _detector, _judging
from tests.data import QUICK, faulty

if TYPE_CHECKING:
    from tests.command_line import Telltale

CHANNELS = ("flow", "pressure")
START_MS = 1_700_000_000_000


def history(seed: int, readings: int = 1_500) -> pl.DataFrame:
    """Streams with everything that can go wrong, late and repeated readings too."""
    streams, (_, times, values) = faulty(len(CHANNELS), seed, streams=6, readings=readings)
    return pl.DataFrame(
        {
            "timestamp": times.numpy() + START_MS,
            "stream": [f"pump {stream}" for stream in streams.tolist()],
            **{name: values[:, place].numpy() for place, name in enumerate(CHANNELS)},
        }
    )


def described(detector: Detector) -> telltale.Detector:
    nothing = checkpoint_header.TrainingMetrics(
        epochs=0, best_epoch=0, loss=None, validation_loss=None, persistence_loss=None, seconds=0.0, ended="epochs"
    )
    data = checkpoint_header.TrainingData(files=0, streams=1, readings=1, first_ms=0, last_ms=0)
    return telltale.Detector(
        detector, checkpoint_header.describe(detector, "2026-01-05T00:00:00+00:00", {}, data, nothing)
    )


@pytest.fixture(scope="module")
def models_detector() -> Detector:
    """Untrained, but with weights that do something; it knows one of the streams."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        forecaster = Forecaster(ForecasterConfig(CHANNELS, hidden=16))
        for parameter in forecaster.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    random = np.random.default_rng(5)
    times = START_MS - 10**9 + np.arange(400) * 60_000
    known = Series(
        "pump 1", Path("past"), CHANNELS, np.arange(400), times, random.normal(3, 1, (400, 2)), np.zeros(400, bool)
    )
    return prime(forecaster, QUICK, [known])


@pytest.fixture
def detector(models_detector: Detector) -> telltale.Detector:
    return described(models_detector)


def scored(detector: Detector, frame: pl.DataFrame, folder: Path, events: io.StringIO | None = None) -> Scored:
    """What `telltale score` makes of the same readings in a file; no stream tells that another is silent."""
    path = folder / "history.parquet"
    frame.write_parquet(path)
    series = read_series([path])
    return score(FileLog(series, events, partition_of=crc32), series, Pipeline(detector, "d" * 64, 86_400_000))


def to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns})


def test_a_frame_is_judged_as_telltale_score_judges_the_file(
    models_detector: Detector, detector: telltale.Detector, tmp_path: Path
) -> None:
    frame = history(1)
    expected = scored(models_detector, frame, tmp_path)
    assert min(expected.late, expected.duplicate, expected.anomalies) >= 5
    assert expected.table["score"].max() > 1.0  # type: ignore[operator]
    assert detector.judge(frame, order="keep").equals(expected.table)


def test_a_frame_of_pandas_is_judged_alike_and_keeps_its_index(
    models_detector: Detector, detector: telltale.Detector, tmp_path: Path
) -> None:
    frame = history(2)
    expected = scored(models_detector, frame, tmp_path).table
    given = to_pandas(frame)
    given.index = given.index[::-1] * 2
    judged = detector.judge(given, order="keep")
    assert judged.index.equals(given.index)
    assert judged.columns.tolist() == expected.columns
    assert judged["timestamp"].tolist() == expected["timestamp"].to_list()
    for name in expected.columns[2:]:
        np.testing.assert_array_equal(judged[name].to_numpy(), expected[name].to_numpy())


def test_many_streams_are_judged_in_stretches_as_in_one(
    detector: telltale.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = history(3)
    whole = detector.judge(frame, order="keep")
    monkeypatch.setattr(_judging, "AT_ONCE", 40)
    assert detector.judge(frame, order="keep").equals(whole)


@pytest.mark.slow
def test_readings_observed_one_at_a_time_are_judged_and_remembered_as_the_frame_is(
    models_detector: Detector, detector: telltale.Detector
) -> None:
    frame = history(4, readings=700)
    judged = detector.judge(frame, order="keep")
    changes = []
    for given, expected in zip(frame.iter_rows(named=True), judged.iter_rows(named=True), strict=True):
        verdict = detector.observe(given["timestamp"], given, given["stream"])
        bands = {
            f"{part}_{name}": getattr(verdict, part)[name]
            for name in CHANNELS
            for part in ("expected", "lower", "upper")
        }
        found = {"stream": verdict.stream, "timestamp": verdict.time_ms, "score": verdict.score, "alarm": verdict.alarm}
        assert {**found, **bands} == expected
        changes.append(verdict.change)
    assert changes.count("opened") == len(detector.anomalies(frame, order="keep")) >= 2
    at_once = described(models_detector)
    at_once.observe_frame(frame, order="keep")
    assert remembered(detector) == remembered(at_once)


def remembered(detector: telltale.Detector) -> dict[bytes, tuple[bytes, ...]]:
    """What it remembers of each stream it has observed, as bytes: its row, and the offset of its last reading."""
    slab = detector._slab
    keys = sorted(key for key in slab.keys if key is not None)
    slots = slab.find(keys)
    columns = [*slab.gather(slots), slab.applied[slots]]
    return {key: tuple(column[n].numpy().tobytes() for column in columns) for n, key in enumerate(keys)}


@pytest.mark.parametrize("place", ["first", "in an alarm", "last"])
def test_a_frame_cut_in_two_is_judged_and_remembered_as_the_whole(models_detector: Detector, place: str) -> None:
    frame = history(5)
    whole, halves = described(models_detector), described(models_detector)
    expected = whole.observe_frame(frame, order="keep")
    opened = int(expected["alarm"].arg_true()[0])
    cut = {"first": 1, "in an alarm": opened + 1, "last": len(frame) - 1}[place]
    found = [halves.observe_frame(half, order="keep") for half in (frame[:cut], frame[cut:])]
    assert pl.concat(found).equals(expected)
    assert remembered(halves) == remembered(whole)
    assert len(remembered(whole)) == frame["stream"].n_unique()


def test_a_frame_observed_in_pieces_is_judged_as_the_whole(detector: telltale.Detector) -> None:
    frame = history(5)
    pieces = [detector.observe_frame(frame[begin : begin + 331], order="keep") for begin in range(0, len(frame), 331)]
    assert pl.concat(pieces).equals(detector.judge(frame, order="keep"))


def test_judging_changes_nothing_and_what_was_observed_can_be_forgotten(detector: telltale.Detector) -> None:
    frame = history(6, readings=400)
    first = detector.judge(frame, order="keep")
    assert detector.judge(frame, order="keep").equals(first)
    assert detector.observe_frame(frame, order="keep").equals(first)
    assert detector.judge(frame, order="keep").equals(first)
    one, others = frame["stream"] == "pump 0", frame["stream"] != "pump 0"
    detector.forget("pump 0")
    again = detector.observe_frame(frame, order="keep")
    assert again.filter(one).equals(first.filter(one))
    assert not again.filter(others).equals(first.filter(others))
    detector.forget()
    assert detector.observe_frame(frame, order="keep").equals(first)


def rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_anomalies_are_those_that_telltale_score_tells(
    models_detector: Detector, detector: telltale.Detector, tmp_path: Path
) -> None:
    frame, events = history(7, readings=3_000), io.StringIO()
    frame = frame.head(1 + int(detector.judge(frame, order="keep")["alarm"].arg_true()[-1]))  # one alarm is still open
    scored(models_detector, frame, tmp_path, events)
    last: dict[str, dict[str, Any]] = {}
    for line in events.getvalue().splitlines():
        event = json.loads(line)["data"]
        last[event["anomaly"]] = event
    expected = {(one["stream"], one["opened_at"]): one for one in last.values()}
    found = detector.anomalies(frame, order="keep")
    assert len(found) == len(expected) > 5
    assert set(found["status"]) == {"open", "recovered", "level_shift"}
    for row in found.iter_rows(named=True):
        event = expected[row["stream"], rfc3339(row["start"])]
        assert (row["severity"], row["kind"]) == (event["severity"], event["kind"])
        assert row["status"] == (event["closed_as"] or "open")
        if event["closed_as"]:
            assert (row["peak"], rfc3339(row["end"])) == (event["peak"], event["closed_at"])
        else:
            assert row["peak"] >= event["peak"]
            assert row["end"] == frame.filter(stream=row["stream"])["timestamp"][-1]
        assert set(row["channels"].split(", ")) <= {*CHANNELS, ""}
    assert found["start"].is_sorted()


def test_anomalies_of_a_pandas_frame_have_its_times_and_none_is_a_frame_too(detector: telltale.Detector) -> None:
    frame = history(7)
    given = to_pandas(frame).assign(timestamp=lambda f: pd.to_datetime(f["timestamp"], unit="ms", utc=True))
    found = detector.anomalies(given.set_index("timestamp"), order="keep")
    expected = detector.anomalies(frame, order="keep")
    assert [int(time.timestamp() * 1000 + 0.5) for time in found["start"]] == expected["start"].to_list()
    assert found["channels"].tolist() == expected["channels"].to_list()
    none = detector.anomalies(given.head(1), order="keep")
    assert (len(none), none.columns.tolist()) == (0, found.columns.tolist())
    assert none.dtypes["channels"] == found.dtypes["channels"]


def test_sorted_readings_are_judged_in_the_order_of_their_times(detector: telltale.Detector) -> None:
    frame = to_frame(plant(2, 1_500, 1)).rename({"temperature": "flow"}).drop("label", "part", "vibration")
    shuffled = frame.with_row_index("row").sample(fraction=1.0, shuffle=True, seed=1)
    with pytest.raises(UnusableData, match="order='sort' sorts them"):
        detector.judge(shuffled)
    judged = detector.judge(shuffled, order="sort")
    assert judged[shuffled["row"].arg_sort()].equals(detector.judge(frame))
    found = detector.anomalies(shuffled, order="sort")
    assert len(found) > 0
    assert found.equals(detector.anomalies(frame))


def test_what_is_saved_is_what_was_loaded_and_what_judges(detector: telltale.Detector, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    detector.save(first)
    loaded = telltale.load(str(first))
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert (loaded.channels, loaded.streams) == (CHANNELS, ("pump 1",))
    frame = history(8, readings=300)
    expected = detector.judge(frame, order="keep")
    assert telltale.judge(frame, second, order="keep").equals(expected)
    assert telltale.judge(frame, loaded, order="keep").equals(expected)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def float64_is_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class ThreadsSeen(TorchFunctionMode):
    """How many threads torch has whenever it computes while this is entered."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.counts.append(torch.get_num_threads())
        return func(*args, **(kwargs or {}))


def test_a_frame_and_a_reading_are_judged_with_one_thread_and_the_callers_threads_stay(
    detector: telltale.Detector, two_threads: None
) -> None:
    frame = history(9, readings=50)
    with ThreadsSeen() as seen:
        detector.judge(frame, order="keep")
        detector.observe(START_MS, [1.0, 2.0])
    assert len(seen.counts) > 100
    assert set(seen.counts) == {1}
    assert torch.get_num_threads() == 2


class OutOfMemory(ThreadsSeen):
    """torch that computes a number of times and then no more."""

    def __init__(self, computations: int) -> None:
        super().__init__()
        self.computations = computations

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if len(self.counts) == self.computations:
            raise MemoryError
        return super().__torch_function__(func, types, args, kwargs)


def test_an_error_while_a_frame_is_observed_leaves_threads_and_memory_as_they_were(
    detector: telltale.Detector, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_judging, "AT_ONCE", 400)
    first, second = history(9, readings=600)[:300], history(9, readings=600)[300:]
    detector.observe_frame(first, order="keep")
    before = remembered(detector)
    with ThreadsSeen() as whole:
        detector.judge(second, order="keep")
    with pytest.raises(MemoryError), OutOfMemory(len(whole.counts) // 2):
        detector.observe_frame(second, order="keep")
    assert torch.get_num_threads() == 2
    assert remembered(detector) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::telltale.PoorTraining")
def test_streams_are_primed_with_one_thread_and_trained_with_the_callers(two_threads: None) -> None:
    frame = history(9, readings=400)
    with ThreadsSeen() as seen:
        telltale.train(frame, order="keep", hidden=16, epochs=1)
    trained = len(seen.counts) - seen.counts[::-1].index(2)
    assert set(seen.counts[:trained]) == {2}
    assert len(seen.counts[trained:]) > 100
    assert torch.get_num_threads() == 2


def test_a_caller_who_works_with_float64_gets_the_same_bits(
    detector: telltale.Detector, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    frame, path = history(9, readings=300), tmp_path / "plant.safetensors"
    expected = detector.judge(frame, order="keep")
    detector.save(path)
    request.getfixturevalue("float64_is_default")
    loaded = telltale.load(path)
    assert loaded.judge(frame, order="keep").equals(expected)
    assert loaded.observe_frame(frame, order="keep").equals(expected)
    assert torch.get_default_dtype() == torch.float64


BAD_VALUES: Sequence[tuple[Any, str]] = [
    (1.0, "values: 1, expected 2: flow, pressure"),
    ([1.0, 2.0, 3.0], "values: 3, expected 2: flow, pressure"),
    ({"flow": 1.0}, "values: no channel pressure, found flow; None is a missing value"),
    ([1.0, "2"], "values: pressure is '2', expected a number, or None where it is missing"),
    ([1.0, 1e39], r"column pressure, row 0 is 1e\+39, expected at most 3.4e\+38 either side of 0"),
]


@pytest.mark.parametrize(("values", "said"), BAD_VALUES)
def test_a_reading_that_cannot_be_judged_is_refused_and_changes_nothing(
    detector: telltale.Detector, values: Any, said: str
) -> None:
    with pytest.raises(UnusableData, match=said):
        detector.observe(START_MS, values, "pump 3")
    assert detector.observe(START_MS, [1.0, None], "pump 3").judged


def test_the_name_and_the_time_of_a_reading_are_checked(detector: telltale.Detector) -> None:
    with pytest.raises(UnusableData, match="stream='' cannot be a stream's name"):
        detector.observe(START_MS, [1.0, 2.0], "")
    with pytest.raises(UnusableData, match="looks like seconds: expected milliseconds; time_unit='s' reads it"):
        detector.observe(START_MS // 1000, [1.0, 2.0])
    assert detector.observe(START_MS // 1000, [1.0, 2.0], time_unit="s").time_ms == START_MS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hidden": 20}, "hidden is 20, expected a multiple of 16"),
        ({"cell": "transformer"}, "cell 'transformer' is not known, expected one of feedforward"),
        ({"epochs": 0}, "epochs is 0, expected more than 0"),
        ({"budget_s": -1.0}, "budget_s is -1.0, expected more than 0"),
        ({"values": ["heat"]}, "frame: no column `heat`; expected the channels heat, found timestamp, stream, flow"),
        ({"time": "when"}, "frame: no column `when`, as time='when' says"),
    ],
)
def test_training_refuses_what_it_cannot_do_before_it_begins(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        telltale.train(history(1), order="keep", **given)


def test_training_needs_streams_that_are_long_enough() -> None:
    with pytest.raises(UnusableData, match="no stream has 32 readings to train on; of 5 streams the longest has 12"):
        telltale.train(history(1, readings=30), order="keep")


@pytest.mark.slow
def test_training_on_a_frame_makes_the_checkpoint_of_telltale_train(
    telltale_command: "Telltale", tmp_path: Path
) -> None:
    frame = to_frame(plant(streams=2, readings=700, seed=3, fault_every=300, first_fault_after=500))
    data, mine, theirs, scores = (tmp_path / name for name in ("a.parquet", "mine.st", "theirs.st", "scores.parquet"))
    frame.write_parquet(data)
    lines: list[str] = []
    detector = telltale.train(frame, hidden=16, epochs=2, seed=4, progress=lines.append)
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    detector.save(mine)
    settings = ("--hidden", 16, "--epochs", 2, "--seed", 4, "--device", "cpu")
    telltale_command.does("train", "--data", data, "--out", theirs, *settings)
    assert "good" in telltale_command.does("checkpoint", "verify", mine)
    found, expected = (checkpoint.load(path).description for path in (mine, theirs))
    assert found.tensors_sha256 == expected.tensors_sha256
    assert found.training == expected.training
    assert found.data == expected.data.model_copy(update={"files": 0})
    telltale_command.does("score", "--checkpoint", mine, "--data", data, "--out", scores)
    assert detector.judge(frame).equals(pl.read_parquet(scores))


@pytest.fixture
def telltale_command(request: pytest.FixtureRequest) -> "Telltale":
    command: Telltale = request.getfixturevalue("telltale")
    return command


@pytest.mark.slow
def test_poor_training_is_warned_of_in_the_words_of_arguments() -> None:
    frame = pl.DataFrame({"timestamp": START_MS + np.arange(200) * 60_000, "flow": np.arange(200) % 2 * 1.0})
    with pytest.warns(telltale.PoorTraining) as warned:
        telltale.train(frame, hidden=16, epochs=1, learning_rate=1.0)
    assert any("Try a smaller learning_rate than 1" in str(one.message) for one in warned)
    assert not any("--" in str(one.message) for one in warned)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "least"), [(telltale, 12), (_detector, 9)])
def test_the_examples_in_the_documentation_are_true_and_import_what_they_use(module: ModuleType, least: int) -> None:
    found = doctest.testmod(module, globs={})
    assert found.attempted >= least
    assert found.failed == 0


@pytest.mark.slow
def test_pandas_need_not_be_there() -> None:
    program = """
import sys
sys.modules["pandas"] = None
import telltale, polars
try:
    telltale.train(polars.DataFrame({"timestamp": [1], "flow": [1.0]}))
except telltale.UnusableData as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("no stream has 32 readings")


def test_every_public_name_is_documented() -> None:
    assert {name for name in vars(telltale) if not name.startswith("_")} == {*telltale.__all__}
    assert all(getattr(telltale, name).__doc__ for name in telltale.__all__)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::telltale.PoorTraining")
def test_the_examples_on_the_page_run_one_after_the_other(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(blocks) >= 6
    assert len(names["anomalies"]) > 0
    assert names["scores"].index.equals(names["table"]["when"].pipe(pd.Index))
    assert "order='sort' sorts them" in capsys.readouterr().out
    assert repr(names["again"]) == repr(names["detector"])
    assert (own_folder / "plant.safetensors").is_file()
    for column in ("score", "alarm", *names["anomalies"].columns):
        assert f"`{column}`" in page
