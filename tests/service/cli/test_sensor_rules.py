"""Commands on files with `--config`: what rules of sensors exclude is as missing there as it is in service."""

import json
from pathlib import Path

import polars as pl
import pytest

from models.data import synthetic
from tests.command_line import Telltale
from tests.service.cli.test_main import waves

pytestmark = pytest.mark.usefixtures("own_folder")
RULES = """
detection:
  rules:
    - streams: "mi*"
      channels: [flow]
      bad_values: [65535]
      valid_range: [-50, 50]
"""
QUICK = ("--hidden", 16, "--epochs", 1, "--device", "cpu")
BAD, OUTSIDE = slice(40, 400, 13), slice(45, 400, 31)  # to the end: a sensor that calms down is stuck


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the checkpoint is trained on."""
    folder = tmp_path_factory.mktemp("plant")
    waves(400, 0.0).write_csv(folder / "mill.csv")
    return folder


@pytest.fixture
def config(own_folder: None) -> Path:
    path = Path("rules.yaml")
    path.write_text(RULES)
    return path


@pytest.fixture
def files(own_folder: None) -> None:
    """mill.csv and boiler.csv in two folders: with values that rules exclude, and without those of the mill."""
    for name, phase in (("mill", 0.0), ("boiler", 1.0)):
        frame = waves(400, phase)
        for folder, bad in (("bad", True), ("missing", name == "boiler")):
            flow: list[float | None] = frame["flow"].to_list()
            for places, value in ((BAD, 65535.0), (OUTSIDE, -51.5)):
                for n in range(400)[places]:
                    flow[n] = value if bad else None
            Path(folder).mkdir(exist_ok=True)
            frame.with_columns(pl.Series("flow", flow, pl.Float64)).write_csv(f"{folder}/{name}.csv")


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_score_judges_what_is_excluded_as_missing_and_counts_it(
    telltale: Telltale, checkpoint: Path, config: Path
) -> None:
    command = ("score", "--checkpoint", checkpoint)
    said = telltale.does(*command, "--data", "bad", "--config", config, "--out", "a.parquet", "--anomalies", "a.jsonl")
    telltale.does(*command, "--data", "missing", "--out", "b.parquet", "--anomalies", "b.jsonl")
    telltale.does(*command, "--data", "bad", "--out", "c.parquet")
    counted = len(range(400)[BAD]), len(range(400)[OUTSIDE])
    both = len(set(range(400)[BAD]) & set(range(400)[OUTSIDE]))
    assert f"values that count as missing: {counted[0] - both} bad_value, {counted[1]} out_of_range" in said
    assert pl.read_parquet("a.parquet").equals(pl.read_parquet("b.parquet"))
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()
    assert not pl.read_parquet("a.parquet").equals(pl.read_parquet("c.parquet"))


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_score_inspect_and_train_heed_which_deviations_are_to_be_told(telltale: Telltale, checkpoint: Path) -> None:
    Path("far.yaml").write_text("detection: {rules: [{minimum_deviation: 1.0e+9, direction: up}]}\n")
    score = ("score", "--checkpoint", checkpoint, "--data", "bad", "--out", "a.parquet", "--force", "--anomalies")
    telltale.does(*score, "some.jsonl")
    telltale.does(*score, "none.jsonl", "--config", "far.yaml")
    assert Path("some.jsonl").read_text()
    assert not [line for line in Path("none.jsonl").read_text().splitlines() if '"sudden"' in line or '"range"' in line]
    inspect = ("inspect", "--checkpoint", checkpoint, "--stream", "mill", "--readings", 400, "--data", "bad", "--json")
    scores = [
        [reading["score"] for reading in json.loads(telltale.does(*inspect, *with_rules))["readings"]]
        for with_rules in ((), ("--config", "far.yaml"))
    ]
    assert max(scores[0]) > 1 > max(scores[1])
    digests = []
    for name, with_rules in (("a", ()), ("b", ("--config", "far.yaml"))):
        telltale.does("train", "--data", "missing", "--out", f"{name}.safetensors", *QUICK, *with_rules)
        shown = json.loads(telltale.does("checkpoint", "show", f"{name}.safetensors"))
        digests.append(shown["tensors_sha256"])
    assert digests[0] != digests[1], "streams are primed with the direction"


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_train_learns_from_what_is_excluded_as_from_missing_values(telltale: Telltale, config: Path) -> None:
    said = telltale.does("train", "--data", "bad", "--config", config, "--out", "a.safetensors", *QUICK)
    telltale.does("train", "--data", "missing", "--out", "b.safetensors", *QUICK)
    telltale.does("train", "--data", "bad", "--out", "c.safetensors", *QUICK)
    digests = [
        json.loads(telltale.does("checkpoint", "show", f"{name}.safetensors"))["tensors_sha256"] for name in "abc"
    ]
    assert digests[0] == digests[1] != digests[2]
    assert "values that count as missing: " in said


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_inspect_shows_what_is_excluded_as_missing(telltale: Telltale, checkpoint: Path, config: Path) -> None:
    command = ("inspect", "--checkpoint", checkpoint, "--stream", "mill", "--json", "--readings", 400)
    found = telltale.does(*command, "--data", "bad", "--config", config)
    assert found == telltale.does(*command, "--data", "missing")
    assert found != telltale.does(*command, "--data", "bad")


@pytest.mark.usefixtures("files")
def test_a_rule_without_a_channel_of_the_model_is_logged(telltale: Telltale, checkpoint: Path) -> None:
    Path("rules.yaml").write_text(RULES.replace("flow", "flwo"))
    ran = telltale("score", "--checkpoint", checkpoint, "--data", "bad", "--config", "rules.yaml", "--out", "a.csv")
    assert ran.code == 0
    (line,) = (line for line in (ran.out + ran.err).splitlines() if "rule_without_channel" in line)
    assert "detection.rules.0" in line
    assert "flwo" in line


@pytest.mark.slow
def test_evaluate_judges_and_trains_with_the_rules_and_keeps_runs_apart(telltale: Telltale, config: Path) -> None:
    made = synthetic.to_frame(synthetic.plant(2, 700, seed=1, step_s=300, fault_every=120, first_fault_after=400))
    bad = made.with_columns(
        pl.when(pl.int_range(pl.len()) % 17 == 0).then(65535.0).otherwise("temperature").alias("temperature")
    )
    missing = bad.with_columns(pl.col("temperature").replace(65535.0, None))
    for folder, frame in (("a", bad), ("b", missing)):
        Path(folder, "press").mkdir(parents=True)
        frame.write_parquet(Path(folder, "press", "plant.parquet"))
    Path("rules.yaml").write_text("detection: {rules: [{channels: [temp*], bad_values: [65535]}]}\n")
    command = ("--seeds", 1, *QUICK, "--no-baselines")
    telltale.does("evaluate", "a", *command, "--config", config, "--out", "with")
    telltale.does("evaluate", "b", *command, "--out", "nulls")
    assert figures("with") == figures("nulls")
    Path("far.yaml").write_text("detection: {rules: [{minimum_deviation: 1.0e+9}]}\n")
    telltale.does("evaluate", "b", *command, "--config", "far.yaml", "--out", "far")
    assert figures("far") != figures("nulls")
    telltale.does("evaluate", "a", *command, "--out", "with")
    assert figures("with") != figures("nulls"), "runs with other rules must be done again"


def figures(folder: str) -> list[list[str]]:
    """All but how long it took."""
    table = pl.read_csv(Path(folder, "evaluation.csv"), infer_schema=False).drop("seconds")
    return [list(map(str, row)) for row in table.rows()]
