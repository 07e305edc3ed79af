"""One small set, from its files to the figures: against computations of their own, and how runs are kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.data.label_windows import read_label_windows
from models.data.rfc3339 import rfc3339
from models.data.series import UnusableData, read_series
from models.data.synthetic import FEATURES, plant, to_frame
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.evaluation import benchmark
from models.evaluation.baselines import BASELINES
from models.evaluation.benchmark import (
    NET_ALONE,
    WHOLE,
    BenchmarkPlan,
    BenchmarkRun,
    Trained,
    evaluate,
    weigh,
)
from models.evaluation.evaluation import Judged, backtest, measure, openings, read_labels
from models.evaluation.evaluation_report import evaluation_report
from models.evaluation.evaluation_tables import OVER_SETS, summarise, write
from models.evaluation.grid import parse
from models.evaluation.kept_runs import find_sets
from models.evaluation.nab import PROFILES, nab_score, optimised
from models.evaluation.protocol import CHOSEN, judge_by_protocol
from models.evaluation.raw_scores import RAW_SCORES
from models.net.forecaster import Forecaster, ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import fit, usable
from models.training.run import TrainingConfig

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BRIEF = TrainingConfig(epochs=1)
PLAN = BenchmarkPlan(seeds=2, hidden=16, training=BRIEF)


@pytest.fixture(scope="module")
def halls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets: machines with three channels, and their temperatures alone."""
    folder = tmp_path_factory.mktemp("halls")
    whole = plant(3, 900, seed=3, step_s=300, fault_every=120, first_fault_after=400)
    frame = to_frame(whole)
    for name, columns in (("press", FEATURES), ("oven", FEATURES[:1])):
        (folder / name).mkdir()
        for (stream,), one in frame.group_by("stream", maintain_order=True):
            file = f"{str(stream).replace('/', '-')}.parquet"
            one.select("timestamp", *columns, "label", "part").write_parquet(folder / name / file)
    return folder


@pytest.fixture(scope="module")
def evaluated(halls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[BenchmarkRun]]:
    out = tmp_path_factory.mktemp("evaluation")
    return out, evaluate(find_sets([halls]), PLAN, out, CPU)


def test_every_detector_judges_every_set_and_nets_do_so_with_every_seed(
    evaluated: tuple[Path, list[BenchmarkRun]],
) -> None:
    of = [(run.set, run.detector, run.seed) for run in evaluated[1]]
    nets = [(WHOLE, 0), (WHOLE, 1), (NET_ALONE, 0), (NET_ALONE, 1)]
    simple = [(name, 0) for name in (*BASELINES, *RAW_SCORES)]
    assert [one[1:] for one in of if one[0] == "press"] == nets + simple
    assert [one[1:] for one in of if one[0] == "oven"] == nets + [one for one in simple if "PCA" not in one[0]]


def test_a_run_comes_to_what_training_and_a_backtest_come_to(
    halls: Path, evaluated: tuple[Path, list[BenchmarkRun]]
) -> None:
    series = read_series([halls / "press"])
    parts = usable(series)
    fitted = fit(parts, suited_to(parts, hidden=16), replace(BRIEF, seed=1), CPU)
    tested = backtest(prime(fitted.forecaster, DetectorConfig(), parts), series)
    labels = [label for label in read_labels([one.series for one in tested]) if label is not None]
    figures = measure(tested, labels)
    [run] = [run for run in evaluated[1] if (run.set, run.detector, run.seed) == ("press", WHOLE, 1)]
    found = {name: column.item() for name, column in weigh(run, np.ones((1, len(tested)))).items()}
    assert figures.events == 5
    assert figures.recall > 0, "else nothing was compared"
    assert {name: found[name] for name in figures._fields} == pytest.approx(figures._asdict(), nan_ok=True)
    opened = [(label, openings(one)) for label, one in zip(labels, tested, strict=True)]
    scores = [(label, np.where(opens, one.score, 0.0)) for (label, opens), one in zip(opened, tested, strict=True)]
    for name, profile in PROFILES.items():
        assert found[f"nab_{name}"] == pytest.approx(nab_score(opened, profile))
        best = optimised(scores, profile)
        assert found[f"nab_{name}_optimised"] == pytest.approx(best.score)
        assert run.threshold[name] == best.threshold
        assert best.score >= found[f"nab_{name}"]


def test_an_alarm_opens_where_it_was_closed_before(halls: Path) -> None:
    alarm = np.array([True, True, False, False, True, True, True, False, True])
    series = read_series([halls / "oven"])[0].select(np.arange(len(alarm)))
    judged = Judged(series, np.zeros(len(alarm)), alarm, *[np.zeros((len(alarm), 1))] * 3)
    assert np.flatnonzero(openings(judged)).tolist() == [0, 4, 8]


def test_runs_that_are_there_are_taken_as_they_are_and_others_are_not(
    halls: Path, evaluated: tuple[Path, list[BenchmarkRun]]
) -> None:
    out, before = evaluated
    sets = find_sets([halls])
    reported: list[BenchmarkRun] = []
    assert str(evaluate(sets, PLAN, out, CPU, report_run=reported.append)) == str(before)
    assert len(reported) == len(before)
    path = out / "runs" / "oven" / "last-value-0.json"
    original = path.read_text()
    kept = json.loads(original)
    path.write_text(json.dumps(kept | {"run": kept["run"] | {"seconds": 77.0}}))
    [run] = [run for run in evaluate(sets, PLAN, out, CPU) if (run.set, run.detector) == ("oven", "last value")]
    assert run.seconds == 77, "the file is believed"
    path.write_text(json.dumps(kept | {"settings": kept["settings"] | {"files": []}}))
    [run] = [run for run in evaluate(sets, PLAN, out, CPU) if (run.set, run.detector) == ("oven", "last value")]
    assert run.seconds == 0, "another set is another run"
    assert path.read_text() == original


def test_labels_and_test_rows_teach_the_net_nothing(halls: Path, tmp_path: Path) -> None:
    for file in sorted((halls / "press").iterdir()):
        wild = [pl.when(part="test").then(9 * pl.col(name)).otherwise(pl.col(name)).alias(name) for name in FEATURES]
        pl.read_parquet(file).with_columns(*wild, label=1 - pl.col("label")).write_parquet(tmp_path / file.name)
    series = [read_series([folder]) for folder in (halls / "press", tmp_path)]
    assert not np.array_equal(series[0][0].values, series[1][0].values, equal_nan=True)
    one, other = (benchmark._net(of, PLAN, 0, CPU)[0].state_dict() for of in series)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_events_are_the_faults_of_a_file_of_stretches_as_they_are_those_of_the_column(
    halls: Path, tmp_path: Path
) -> None:
    rows, plain = ["streams,from,until,label"], tmp_path / "press"
    plain.mkdir()
    for file in sorted((halls / "press").iterdir()):
        frame = pl.read_parquet(file)
        frame.drop("label").write_parquet(plain / file.name)
        faults = frame.filter(pl.col("label") > 0)["timestamp"].cast(pl.Int64)
        rows += [f"{file.stem},{rfc3339(time_ms)},{rfc3339(time_ms + 1)},fault" for time_ms in faults]
    assert len(rows) > 20
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    torch.manual_seed(0)
    trained = Trained(Forecaster(ForecasterConfig(FEATURES, hidden=16)).eval(), DetectorConfig(), "0" * 64, Path("x"))
    plan = replace(PLAN, trained=(trained,), baselines=False)
    by_column = evaluate(find_sets([halls / "press"]), plan, tmp_path / "column", CPU)
    labelled = replace(plan, labels=read_label_windows(tmp_path / "labels.csv"))
    by_file = evaluate(find_sets([plain]), labelled, tmp_path / "file", CPU)
    assert [str(run.tallies) for run in by_file] == [str(run.tallies) for run in by_column]
    with pytest.raises(UnusableData, match="no column `label`"):
        evaluate(find_sets([plain]), plan, tmp_path / "file", CPU)


def test_a_checkpoint_is_judged_without_training(halls: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Trained(Forecaster(ForecasterConfig(FEATURES, hidden=16)).eval(), DetectorConfig(), "0" * 64, Path("x"))
    runs = evaluate(find_sets([halls / "press"]), replace(PLAN, trained=(trained,)), tmp_path, CPU)
    assert [(run.detector, run.seed) for run in runs][:2] == [(WHOLE, 0), (NET_ALONE, 0)]
    of = {run.detector: run for run in runs}
    assert str(of[WHOLE].tallies) == str(of["level + last value"].tallies), "an untrained net expects no change"
    with pytest.raises(UnusableData, match="x: its features are temperature, pressure, vibration, those of oven are"):
        evaluate(find_sets([halls]), replace(PLAN, trained=(trained,)), tmp_path, CPU)


def test_settings_are_judged_with_the_same_net_and_a_family_gets_what_was_chosen_on_the_others(
    halls: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    nets = [Forecaster(ForecasterConfig(of, hidden=16)).eval() for of in (FEATURES, FEATURES[:1])]
    trained = tuple(Trained(net, DetectorConfig(), str(n), Path("x")) for n, net in enumerate(nets))
    plan = replace(PLAN, trained=trained, baselines=False, settings=parse(["score.level_weight=0,0.5"]))
    runs = evaluate(find_sets([halls]), plan, tmp_path, CPU)
    of_press = {run.detector: run for run in runs if run.set == "press"}
    off, same = (name for name in of_press if name.startswith(f"{WHOLE}, "))
    assert str(of_press[off].tallies) == str(of_press[NET_ALONE].tallies)
    assert str(of_press[same].tallies) == str(of_press[WHOLE].tallies)
    assert of_press[WHOLE].families == tuple(one.key for one in read_series([halls / "press"]))
    found = judge_by_protocol(runs, plan.settings, "f1")
    assert [(fold.set, fold.series) for fold in found.folds] == [("oven", 1)] * 3 + [("press", 1)] * 3
    assert [run.detector for run in found.runs] == [CHOSEN, CHOSEN]
    assert str(evaluate(find_sets([halls]), plan, tmp_path, CPU)) == str(runs), "kept ones are taken"


@pytest.mark.parametrize(("column", "expected"), [("label", "no column `label`"), ("part", "no rows with part = test")])
def test_a_set_without_labels_or_test_rows_is_refused(halls: Path, tmp_path: Path, column: str, expected: str) -> None:
    (tmp_path / "oven").mkdir()
    for file in (halls / "oven").iterdir():
        pl.read_parquet(file).drop(column).write_parquet(tmp_path / "oven" / file.name)
    with pytest.raises(UnusableData, match=expected):
        evaluate(find_sets([tmp_path]), PLAN, tmp_path / "out", CPU)


def test_what_is_written_can_be_read_by_others(evaluated: tuple[Path, list[BenchmarkRun]]) -> None:
    out, runs = evaluated
    summaries = summarise(runs)
    write(runs, summaries, out)
    rows = pl.read_csv(out / "evaluation.csv")
    assert rows["detector"].to_list() == [run.detector for run in runs]
    whole = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert {one["set"] for one in whole["summaries"]} == {"press", "oven", OVER_SETS}
    assert (out / "evaluation.md").read_text().count("| Telltale |") == 3
    evaluation_report(runs, summaries).write(out / "evaluation.html")
    page = (out / "evaluation.html").read_text()
    assert [name for name in ("press", "oven", OVER_SETS) if f"<h2>{name}</h2>" not in page] == []
    shown = (out / "press.html").read_text()
    assert shown.count('class="figure"') == 3
    assert shown.count("Alarms: ") == 3
