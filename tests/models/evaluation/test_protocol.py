"""Families left out: that a choice never sees the family it is for, on runs that are written down here."""

import math
from pathlib import Path

import polars as pl
import pytest

from models.evaluation.benchmark import NAB_FIGURES, WHOLE, BenchmarkRun, family_of, setting_name
from models.evaluation.evaluation import EventCounts
from models.evaluation.grid import Setting
from models.evaluation.protocol import CHOSEN, judge_by_protocol
from models.evaluation.protocol_tables import protocol_tables, write_protocol
from tests.models.evaluation.test_raw_scores import noise, series_with

OTHER: Setting = (("score.level_weight", 0.25),)
FAMILIES = ("a", "a", "b", "c")


def run_of(
    of_set: str, detector: str, hits: list[int], families: tuple[str, ...] = FAMILIES, seed: int = 0
) -> BenchmarkRun:
    """Of series with ten events each, in which as many alarms are false as events are missed."""
    tallies = tuple(
        EventCounts(1_000, 2.0, 50, 10, hit, 10, 10 - hit, (4,) * hit, 30, 20, hit / 10, hit / 10) for hit in hits
    )
    nab = {figure: tuple(float(hit) for hit in hits) for pair in NAB_FIGURES for figure in pair}
    return BenchmarkRun(of_set, detector, seed, 3, 0.0, "", tallies, nab, {}, families)


def test_a_family_is_judged_with_what_is_best_on_the_others() -> None:
    """The setting is far better on family a, and a little worse on b and c."""
    runs = [run_of("pumps", WHOLE, [2, 2, 6, 6]), run_of("pumps", setting_name(OTHER), [10, 10, 5, 5])]
    found = judge_by_protocol(runs, [OTHER], "f1")
    chosen = {fold.family: fold.chosen for fold in found.folds}
    assert chosen == {"a": WHOLE, "b": setting_name(OTHER), "c": setting_name(OTHER)}
    assert {fold.family: fold.figures["f1"] for fold in found.folds} == pytest.approx({"a": 0.2, "b": 0.5, "c": 0.5})
    [joined] = found.runs
    assert joined.detector == CHOSEN
    assert [one.hits for one in joined.tallies] == [2, 2, 5, 5]
    assert joined.nab["nab_standard"] == (2.0, 2.0, 5.0, 5.0)


def test_what_is_best_on_another_set_counts_and_every_set_counts_the_same() -> None:
    runs = [run_of("pumps", WHOLE, [5, 5, 5, 5]), run_of("pumps", setting_name(OTHER), [4, 4, 4, 4])]
    runs += [run_of("fans", WHOLE, [2], ("d",)), run_of("fans", setting_name(OTHER), [9], ("d",))]
    chosen = {fold.family: fold.chosen for fold in judge_by_protocol(runs, [OTHER], "f1").folds}
    assert chosen == {"a": setting_name(OTHER), "b": setting_name(OTHER), "c": setting_name(OTHER), "d": WHOLE}


def test_labels_of_a_family_do_not_change_what_is_chosen_for_it() -> None:
    chosen = []
    for hits in ([0, 0], [10, 10]):
        runs = [run_of("pumps", WHOLE, [*hits, 6, 6]), run_of("pumps", setting_name(OTHER), [5, 5, 5, 7])]
        [fold] = [one for one in judge_by_protocol(runs, [OTHER], "f1").folds if one.family == "a"]
        chosen.append(fold.chosen)
    assert chosen == [WHOLE, WHOLE]


def test_of_equals_the_detector_as_it_is_is_taken_and_seeds_are_one_choice() -> None:
    runs = [run_of("pumps", WHOLE, [5, 5, 5, 5], seed=seed) for seed in range(2)]
    runs += [run_of("pumps", setting_name(OTHER), [3 + 4 * seed] * 4, seed=seed) for seed in range(2)]
    found = judge_by_protocol(runs, [OTHER], "f1")
    assert {fold.chosen for fold in found.folds} == {WHOLE}
    assert [run.seed for run in found.runs] == [0, 1]


def test_a_single_family_has_nothing_to_choose_by() -> None:
    runs = [run_of("pumps", WHOLE, [1], ("a",)), run_of("pumps", setting_name(OTHER), [9], ("a",))]
    [fold] = judge_by_protocol(runs, [OTHER], "f1").folds
    assert fold.chosen == WHOLE


@pytest.mark.parametrize(
    ("key", "family"),
    [("realTraffic__speed_6005", "realTraffic"), ("line-03/pump-033", "line-03"), ("omi-3", "omi-3")],
)
def test_a_family_is_the_part_of_a_key_that_series_share(key: str, family: str) -> None:
    assert family_of(series_with(noise())._replace(key=key)) == family


def test_the_tables_tell_the_worst_family_and_the_differences_to_the_baselines(tmp_path: Path) -> None:
    runs = [run_of("pumps", WHOLE, [2, 2, 6, 6]), run_of("pumps", "last value", [1, 1, 5, 5])]
    found = judge_by_protocol(runs, [], "f1")
    tables = {title: rows for title, (_, rows) in protocol_tables(found, runs)}
    folds, spread, chosen, differences = tables.values()
    assert [row[0] for row in folds] == ["pumps a", "pumps b", "pumps c"]
    assert ["pumps event F1", "3", "0.467 ± 0.189", "0.200 (a)"] in spread
    assert chosen == [[WHOLE, "3"]]
    assert {row[0]: row[2] for row in differences} == {WHOLE: "too few", "last value": "too few"}, "of four series"
    write_protocol(found, runs, tmp_path / "protocol")
    assert pl.read_csv(tmp_path / "protocol.csv")["family"].to_list() == ["a", "b", "c"]


def test_six_series_have_an_interval_and_a_family_of_few_events_has_no_f1() -> None:
    six = ("a", "a", "a", "b", "b", "b")
    runs = [run_of("pumps", WHOLE, [2, 2, 2, 6, 6, 6], six), run_of("pumps", "last value", [1, 1, 1, 5, 5, 5], six)]
    found = judge_by_protocol(runs, [], "f1")
    _, spread, _, differences = (rows for _, (_, rows) in protocol_tables(found, runs))
    assert {row[0]: row[2] for row in differences} == {
        WHOLE: "+0.000 [+0.000, +0.000]",
        "last value": "+0.100 [+0.100, +0.100]",
    }
    assert ["pumps event F1", "2", "0.400", "0.200 (a)"] in spread, "two families have no deviation"
    few = found._replace(folds=[fold._replace(events=9) for fold in found.folds])
    folds, spread, _, _ = (rows for _, (_, rows) in protocol_tables(few, runs))
    assert [row[4] for row in folds] == ["too few", "too few"]
    assert ["pumps event F1", "2", "0.400", "too few"] in spread, "none of them can be the worst"


def test_an_optimised_threshold_has_no_place_beside_the_protocol() -> None:
    [joined] = judge_by_protocol([run_of("pumps", WHOLE, [1, 2, 3, 4])], [], "f1").runs
    assert all(math.isnan(value) for value in joined.nab["nab_standard_optimised"])
