"""Comparing cells: one run against computations of its own, and how runs are kept, put together and shown."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from models.data.series import UnusableData, read_series
from models.data.synthetic import FEATURES, plant, to_frame
from models.detection.detector import DetectorConfig
from models.detection.priming import prime
from models.detection.rows import CHANNELS, SCALARS, relation_rows, relation_scalars
from models.evaluation import comparison
from models.evaluation.comparison import Comparison, ComparisonJob, ComparisonPlan, ComparisonRun, compare
from models.evaluation.comparison_report import comparison_report
from models.evaluation.comparison_tables import (
    MEASURES,
    OVER_SETS,
    best_of,
    cost_table,
    rank_table,
    ranks,
    summarise,
    table,
    write,
)
from models.evaluation.evaluation import Figures
from models.evaluation.kept_runs import find_sets
from models.net.forecaster import ForecasterConfig
from models.training.architecture import suited_to
from models.training.loop import fit, usable
from models.training.run import TrainingConfig
from service.cli.scoring import score
from service.input.file_log import FileLog
from service.pipeline import Pipeline

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BRIEF = TrainingConfig(epochs=1)
TRAIN_READINGS = 500


@pytest.fixture(scope="module")
def halls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets: a small plant with faults in its test part, and one machine that has neither labels nor a test part."""
    folder = tmp_path_factory.mktemp("halls")
    whole = plant(4, 1_200, seed=3, step_s=300, fault_every=120, first_fault_after=TRAIN_READINGS)
    (folder / "press").mkdir()
    (folder / "saw").mkdir()
    to_frame(whole).write_parquet(folder / "press" / "plant.parquet")
    alone = to_frame(whole).filter(pl.col("part") == "train").drop("label", "part")
    alone.filter(pl.col("stream") == whole.keys[0]).write_parquet(folder / "saw" / "one.parquet")
    return folder


@pytest.fixture(scope="module")
def compared(halls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ComparisonPlan, Comparison]:
    out = tmp_path_factory.mktemp("comparison")
    plan = ComparisonPlan(("feedforward", "lstm"), seeds=1, hidden=16, training=BRIEF)
    done = compare(find_sets([halls]), plan, out, CPU)
    write(done, plan, out)
    return out, plan, done


def scored_as_by_the_service(halls: Path, cell: str) -> pl.DataFrame:
    """A row a test reading: what it was, whether it is labelled, and what `telltale score` says of it."""
    series = read_series([halls / "press"])
    parts = usable(series)
    fitted = fit(parts, suited_to(parts, cell, hidden=16), BRIEF, CPU)
    detector = prime(fitted.forecaster, DetectorConfig(), parts)
    test = [one.select(one.test) for one in series]
    verdicts = score(FileLog(test), test, Pipeline(detector, "0" * 64, 10**12)).table
    written = pl.read_parquet(halls / "press" / "plant.parquet").filter(pl.col("part") == "test")
    return verdicts.join(written, on=["stream", "timestamp"], how="left", maintain_order="left")


def runs_of(marked: NDArray[np.bool_]) -> list[set[int]]:
    found: list[set[int]] = []
    for n in np.flatnonzero(marked).tolist():
        if found and n - 1 in found[-1]:
            found[-1].add(n)
        else:
            found.append({n})
    return found


@pytest.mark.parametrize("cell", ["feedforward", "lstm"])
def test_a_run_comes_to_what_the_service_says_of_the_same_files(
    halls: Path, compared: tuple[Path, ComparisonPlan, Comparison], cell: str
) -> None:
    [run] = [run for run in compared[2].runs if run.job == ComparisonJob("press", cell, 0)]
    scored = scored_as_by_the_service(halls, cell)
    train = pl.read_parquet(halls / "press" / "plant.parquet").filter(pl.col("part") == "train")
    errors, events, alarms = [], [], []
    for (stream,), judged in scored.group_by("stream", maintain_order=True):
        calm = judged.filter(pl.col("label") == 0)
        for name in FEATURES:
            spread = float(np.std(train.filter(pl.col("stream") == stream)[name].drop_nulls().to_numpy(), ddof=1))
            error = ((calm[name] - calm[f"expected_{name}"]).abs() / spread).clip(upper_bound=10)
            errors += error.drop_nulls().to_list()
        events.append(runs_of(judged["label"].to_numpy() > 0))
        alarms.append(runs_of(judged["alarm"].to_numpy()))
    assert run.test_error == pytest.approx(np.mean(errors), rel=1e-9)
    found = [any(event & alarm for alarm in said) for of, said in zip(events, alarms, strict=True) for event in of]
    right = [any(event & alarm for event in of) for of, said in zip(events, alarms, strict=True) for alarm in said]
    assert len(found) > 8
    assert sum(found) > 0, "else nothing was compared"
    figures = run.figures
    assert figures.events == len(found)
    assert figures.recall == pytest.approx(np.mean(found))
    assert figures.precision == pytest.approx(np.mean(right))
    assert figures.false_alarms == pytest.approx(10_000 * (len(right) - sum(right)) / len(scored))
    assert figures.anomalous == pytest.approx((scored["label"] > 0).mean())
    assert figures.anomalous < figures.auc_pr <= 1


def test_what_a_cell_costs_is_what_its_equations_say(compared: tuple[Path, ComparisonPlan, Comparison]) -> None:
    of = {run.job.cell: run for run in compared[2].runs if run.job.set == "press"}
    features, hidden = len(FEATURES), 16
    inputs, head = 2 * features + 5, 2 * (hidden * features + features) + features  # expectation, spread, persistence
    biases = 2  # torch's kernels have one for the input and one for the memory
    assert of["lstm"].parameters == 4 * hidden * (inputs + hidden + biases) + head
    related = relation_rows(features) * features + relation_scalars(features)
    statistics = 8 * (len(CHANNELS) * features + len(SCALARS) + related)
    assert of["lstm"].bytes_per_stream == 4 * 2 * hidden + statistics
    assert of["feedforward"].bytes_per_stream < of["lstm"].bytes_per_stream
    assert of["feedforward"].parameters < of["lstm"].parameters
    assert 0 < of["lstm"].validation_error < of["lstm"].no_change_validation
    assert all(speed > 0 for speeds in compared[2].speeds.values() for speed in speeds.values())


def test_a_set_without_labels_or_a_test_part_has_errors_of_training_alone(
    compared: tuple[Path, ComparisonPlan, Comparison],
) -> None:
    saw = [run for run in compared[2].runs if run.job.set == "saw"]
    assert all(run.validation_error > 0 for run in saw)
    assert all(math.isnan(run.test_error) and math.isnan(run.figures.vus_pr) for run in saw)


def test_runs_that_are_there_are_taken_as_they_are_and_others_are_not(
    halls: Path, compared: tuple[Path, ComparisonPlan, Comparison]
) -> None:
    folder, plan, before = compared
    sets = find_sets([halls / "saw"])
    path = folder / "runs" / "saw" / "lstm-0.json"
    original = path.read_text()
    kept = json.loads(original)
    path.write_text(json.dumps(kept | {"run": kept["run"] | {"epochs": 77}}))
    reported: list[ComparisonRun] = []
    again = compare(sets, plan, folder, CPU, report_run=reported.append)
    assert [run.epochs for run in again.runs] == [1, 77], "the file is believed"
    assert reported == again.runs
    assert again.speeds["saw"] == before.speeds["saw"]
    longer = replace(plan, cells=("lstm",), training=replace(BRIEF, epochs=2))
    [other] = compare(sets, longer, folder, CPU).runs
    assert other.epochs == 2, "another budget is another run"
    path.write_text(original)
    assert str(compare(sets, plan, folder, CPU).runs) == str([run for run in before.runs if run.job.set == "saw"])


@pytest.mark.thorough
def test_several_processes_come_to_the_same(halls: Path, tmp_path: Path) -> None:
    sets = find_sets([halls / "saw"])
    plan = ComparisonPlan(("feedforward", "gru"), seeds=1, hidden=16, training=BRIEF)
    alone, together = (
        [run._replace(seconds=0.0) for run in compare(sets, plan, tmp_path / str(n), CPU, processes=n).runs]
        for n in (1, 2)
    )
    assert str(alone) == str(together)


def test_files_that_lie_in_one_folder_are_a_set(halls: Path, tmp_path: Path) -> None:
    sets = find_sets([halls / "saw", halls / "press" / "plant.parquet"])
    assert {name: [path.name for path in files] for name, files in sets.items()} == {
        "saw": ["one.parquet"],
        "press": ["plant.parquet"],
    }
    (tmp_path / "old" / "saw").mkdir(parents=True)
    (tmp_path / "old" / "saw" / "one.csv").write_text("timestamp,value\n1,2\n")
    with pytest.raises(UnusableData, match="two folders named saw"):
        find_sets([halls, tmp_path])


NOTHING = Figures(*(math.nan,) * 7, events=0, anomalous=math.nan)


def some_run(job: ComparisonJob, error: float, vus: float = math.nan, no_change: float = 1.0) -> ComparisonRun:
    figures = NOTHING._replace(vus_pr=vus, f1=vus, events=3)
    return ComparisonRun(
        job,
        ForecasterConfig(("f0",), hidden=16),
        100,
        800,
        2.0,
        5,
        "epochs",
        error,
        no_change,
        error,
        no_change,
        figures,
    )


def some_comparison() -> Comparison:
    """Two sets of different size of error: cells a and b are close on `small`; b is best on `large`; c is far off."""
    errors = {
        "small": {"a": (0.10, 0.12, 0.11), "b": (0.11, 0.13, 0.12), "c": (0.30, 0.30, 0.30)},
        "large": {"a": (20.0, 22.0, 21.0), "b": (10.0, 10.0, 10.0), "c": (40.0, 40.0, math.nan)},
    }
    runs = [
        some_run(ComparisonJob(name, cell, seed), error, vus=0.5 if name == "small" else math.nan, no_change=scale)
        for name, scale in (("small", 0.2), ("large", 40.0))
        for cell, of in errors[name].items()
        for seed, error in enumerate(of)
    ]
    return Comparison(runs, {name: dict.fromkeys("abc", 1_000.0) for name in errors})


def test_means_and_deviations_are_over_seeds() -> None:
    of = {(one.set, one.cell): one for one in summarise(some_comparison())}
    small = of["small", "a"]
    assert small.mean["validation_error"] == pytest.approx(0.11)
    assert small.spread["validation_error"] == pytest.approx(0.01)
    assert small.mean["vus_pr"] == 0.5
    assert math.isnan(of["large", "c"].mean["validation_error"]), "a net that diverged is not left out of the mean"


def test_what_is_within_the_spread_of_both_is_a_tie() -> None:
    assert best_of({"a": (1.0, 0.3), "b": (1.5, 0.4), "c": (1.6, 0.1), "d": (math.nan, 0)}, better=-1) == {"a", "b"}
    assert best_of({"a": (1.0, 0.0), "b": (1.0, 0.0), "c": (0.9, 0.0)}, better=1) == {"a", "b"}
    assert best_of({"a": (math.nan, 0.0)}, better=1) == set()
    best = {(one.set, one.cell): "validation_error" in one.best for one in summarise(some_comparison())}
    assert [cell for cell in "abc" if best["small", cell]] == ["a", "b"]
    assert [cell for cell in "abc" if best["large", cell]] == ["b"]


def test_over_sets_an_error_is_a_share_of_that_of_expecting_no_change() -> None:
    over = {one.cell: one for one in summarise(some_comparison()) if one.set == OVER_SETS}
    by_seed = [(0.10 / 0.2 + 20.0 / 40.0) / 2, (0.12 / 0.2 + 22.0 / 40.0) / 2, (0.11 / 0.2 + 21.0 / 40.0) / 2]
    assert over["a"].mean["validation_share"] == pytest.approx(np.mean(by_seed))
    assert over["a"].spread["validation_share"] == pytest.approx(np.std(by_seed, ddof=1))
    assert over["a"].mean["vus_pr"] == 0.5, "of the sets that have it"
    assert math.isnan(over["c"].mean["validation_share"]), "a set on which a net diverged is not left out of its mean"


def test_ranks_are_mean_places_and_equals_share_one() -> None:
    summaries = summarise(some_comparison())
    named = {measure.name: measure for measure in MEASURES}
    assert ranks(summaries, named["vus_pr"]) == {"a": 2.0, "b": 2.0, "c": 2.0}
    everywhere = [
        run if not math.isnan(run.validation_error) else run._replace(validation_error=40.0)
        for run in some_comparison().runs
    ]
    ranked = ranks(summarise(some_comparison()._replace(runs=everywhere)), named["validation_error"])
    assert ranked == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_a_table_says_mean_and_deviation_and_marks_ties() -> None:
    header, rows = table(summarise(some_comparison()), "small")
    cells = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert cells["a"]["validation error"] == "0.1100 ± 0.0100 *"
    assert cells["c"]["validation error"] == "0.3000"
    assert cells["a"]["recall"] == "-"
    header, rows = cost_table(summarise(some_comparison()), "small")
    assert dict(zip(header, rows[2], strict=True))["readings a second"] == "1,000"


def test_two_seeds_name_no_cell_the_best_and_give_no_places() -> None:
    whole = some_comparison()
    twice = whole._replace(runs=[run for run in whole.runs if run.job.seed < 2])
    assert rank_table(summarise(twice)) is None
    header, rows = table(summarise(twice), "small")
    assert dict(zip(header, rows[0], strict=True))["validation error"] == "0.1100"
    assert not [cell for row in rows for cell in row if "*" in cell]
    places = rank_table(summarise(whole))
    assert places
    assert places[0] == ["cell", "validation error", "test error", "VUS-PR"], "three events give no F1"


def test_a_share_of_few_events_is_told_in_counts_and_marks_no_cell() -> None:
    def with_events(events: int, alarms: int) -> list[ComparisonRun]:
        figures = NOTHING._replace(recall=1 / 3, precision=0.5, f1=0.25, events=events, alarms=alarms)
        return [run._replace(figures=figures) for run in some_comparison().runs]

    shown = {}
    for events, alarms in ((9, 4), (12, 10)):
        header, rows = table(summarise(some_comparison()._replace(runs=with_events(events, alarms))), "small")
        shown[events] = dict(zip(header, rows[0], strict=True))
    assert [shown[9][name] for name in ("recall", "precision", "F1")] == ["3 of 9", "2 of 4", "too few"]
    assert [shown[12][name] for name in ("recall", "precision", "F1")] == ["0.33 *", "0.50 *", "0.25 *"]


def test_what_is_written_can_be_read_by_others(compared: tuple[Path, ComparisonPlan, Comparison]) -> None:
    folder, plan, done = compared
    rows = pl.read_csv(folder / "comparison.csv")
    assert rows["validation_error"].to_list() == pytest.approx([run.validation_error for run in done.runs])
    assert rows.filter(pl.col("set") == "saw")["vus_pr"].null_count() == 2
    whole = json.loads((folder / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert whole["plan"]["hidden"] == plan.hidden
    assert [run["cell"] for run in whole["runs"]] == ["feedforward", "lstm"] * 2
    assert {one["set"] for one in whole["summaries"]} == {"press", "saw", OVER_SETS}
    text = (folder / "comparison.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")][:3] == ["## press", "## saw", "## all sets"]
    assert text.count("| lstm |") == 3 * 2, "two tables a set; one seed gives no places"


def test_the_page_shows_every_set_and_says_which_nets_diverged(
    compared: tuple[Path, ComparisonPlan, Comparison], tmp_path: Path
) -> None:
    _, plan, done = compared
    lost = [
        run if run.job != ComparisonJob("press", "lstm", 0) else run._replace(ended="diverged") for run in done.runs
    ]
    comparison_report(done._replace(runs=lost), plan).write(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert [part for part in ("press", "saw", "Over all sets") if f"<h2>{part}</h2>" not in page] == []
    assert "Diverged: lstm with seed 0." in page
    assert page.count('class="figure"') >= 3


def test_speeds_are_measured_while_the_cells_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    judge = comparison._Load.judge

    def noted(load: comparison._Load) -> float:
        turns.append(load._detector.forecaster.config.cell)
        return judge(load)

    monkeypatch.setattr(comparison._Load, "judge", noted)
    architectures = {cell: ForecasterConfig(("f0",), cell=cell, hidden=16) for cell in ("feedforward", "lstm")}
    speeds = comparison.measure_speeds(architectures, rounds=3)
    assert turns == ["feedforward", "lstm"] * 3
    assert all(speed > 1_000 for speed in speeds.values())
