"""The command that measures how well anomalies are found: telltale evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.output.wording import counted
from service.cli.options import (
    CheckpointFile,
    Device,
    Epochs,
    Force,
    Hidden,
    Patience,
    Unit,
    data_paths,
    device_of,
    load_checkpoint,
    one_thread,
    out,
    print_table,
)
from service.cli.output_files import check_outputs, refuse_overwriting
from service.errors import RefusedSetting

if TYPE_CHECKING:
    from models.training.run import TrainingConfig

SIMULATED_SETS = ("families", "plants", "constants", "machines")

app = typer.Typer()


@app.command(epilog="Example: telltale evaluate history/ --checkpoint plant.safetensors --out evaluation/")
def evaluate(
    data: Annotated[
        list[Path] | None, typer.Argument(metavar="[DATA]...", help="CSV or Parquet files, or folders of them.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME", help="Only this set; may be given several times.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Instead of DATA: simulated series with plain faults, in a minute.")
    ] = False,
    checkpoint: CheckpointFile = None,
    time_unit: Unit = None,
    train: Annotated[bool, typer.Option("--train", help="Train a net on each set: the default.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Nets of each set, with seeds 0, 1, 2, …")] = 5,
    hidden: Hidden = 64,
    epochs: Epochs = 40,
    patience: Patience = 6,
    baselines: Annotated[bool, typer.Option(help="Simple detectors to compare with.")] = True,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the pages, the tables and the runs.")
    ] = Path("evaluation"),
    processes: Annotated[int, typer.Option(min=1, help="Detectors at work side by side, a thread each.")] = 1,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Judge labelled series as the service would, and say how many events were found and how many alarms were false.

    With --simulated, series are made: plain ones, plants that the clock drives, constants, machines with faults.

    Files in one folder are a set, which one net learns: from rows with `part` = train, and never a label. Runs are kept
    in DIR/runs as soon as they are done: started again, the command continues from there.
    """
    if checkpoint and train:
        raise RefusedSetting("--checkpoint: expected no --train beside it")
    if simulated:
        if data:
            raise RefusedSetting(f"--simulated makes its own series, expected no DATA beside it, found {data[0]}")
        path = _simulated_files(folder, only, force=force)
        from models.training.run import TrainingConfig

        training = TrainingConfig(epochs=epochs, patience=patience) if train else None
        _evaluate_simulated(path, only, checkpoint, training, seeds, hidden, device)
        return
    if not data:
        raise RefusedSetting("DATA is missing, expected CSV or Parquet files, or folders of them, or --simulated")
    paths = data_paths(data, None)
    written = [folder / f"evaluation.{suffix}" for suffix in ("html", "csv", "json", "md")]
    goes_on = (folder / "runs").is_dir()  # what is written then is made of the runs that are kept there
    refuse_overwriting(*written, force=force or goes_on)

    from models.evaluation.benchmark import BenchmarkPlan, BenchmarkRun, Trained
    from models.evaluation.benchmark import evaluate as judge_sets
    from models.evaluation.evaluation_report import evaluation_report
    from models.evaluation.evaluation_tables import MARK, OVER_SETS, facts, summarise, tables, write
    from models.evaluation.kept_runs import find_sets
    from models.training.run import TrainingConfig

    sets = find_sets(paths)
    if unknown := [name for name in only or [] if name not in sets]:
        raise RefusedSetting(f"--set is {unknown[0]!r}, expected one of {', '.join(sets)}")
    sets = {name: files for name, files in sets.items() if not only or name in only}
    trained = None
    if checkpoint:
        found = load_checkpoint(checkpoint)
        trained = Trained(found.detector.forecaster, found.detector.config, found.digest, checkpoint)
    check_outputs(*written, *(folder / f"{name}.html" for name in sets), force=force or goes_on)
    one_thread()
    plan = BenchmarkPlan(
        seeds, hidden, TrainingConfig(epochs=epochs, patience=patience), trained, baselines, time_unit=time_unit
    )

    def report(run: BenchmarkRun) -> None:
        hits, events, alarms, false = (
            sum(getattr(one, name) for one in run.tallies) for name in ("hits", "events", "alarms", "false")
        )
        trained_in = f" trained in {run.seconds:.0f} s, {run.ended};" if run.ended else ""
        said = f"{hits} of {counted(events, 'event')}, {counted(alarms, 'alarm')}, {false} false"
        out.print(f"{run.set}  {run.detector}  seed {run.seed}:{trained_in} {said}")

    runs = judge_sets(sets, plan, folder, device_of(device), processes, report)
    summaries = summarise(runs)
    for name in dict.fromkeys(one.set for one in summaries):
        out.print(f"\n{name}" + (f": {facts(runs, name)}" if name != OVER_SETS else ""))
        for header, rows in tables(summaries, name):
            print_table(header, rows)
    out.print(f"\n{MARK}")
    write(runs, summaries, folder)
    evaluation_report(runs, summaries).write(folder / "evaluation.html")
    pages = ", ".join(f"{name}.html" for name in sets)
    out.print(f"{folder / 'evaluation.html'}  and {pages}, evaluation.csv, .json and .md beside it")


def _simulated_files(folder: Path, only: list[str] | None, *, force: bool) -> Path:
    """The files that will be written, less their suffixes; refused before the work where they cannot be."""
    if unknown := [name for name in only or [] if name not in SIMULATED_SETS]:
        raise RefusedSetting(f"--set is {unknown[0]!r}, expected one of {', '.join(SIMULATED_SETS)}")
    check_outputs(*(folder / f"simulated.{suffix}" for suffix in ("csv", "json", "md")), force=force)
    return folder / "simulated"


def _evaluate_simulated(
    path: Path,
    only: list[str] | None,
    checkpoint: Path | None,
    training: "TrainingConfig | None",
    seeds: int,
    hidden: int,
    device: str,
) -> None:
    """training: of a net on the plants' first fortnight, one a seed; with neither, one that expects the last value."""
    from dataclasses import replace

    from models.evaluation.simulated import simulate, trained_on_plants, untrained
    from models.evaluation.simulated_tables import tables, write

    one_thread()
    if training:
        runs = simulate(
            lambda seed: trained_on_plants(hidden, replace(training, seed=seed), device_of(device)), seeds, only or ()
        )
    else:
        detector = load_checkpoint(checkpoint).detector if checkpoint else untrained()
        runs = simulate(lambda _: detector, seeds, only or ())
    found = list(runs)
    for title, table in tables(found):
        out.print(f"\n{title}")
        print_table(*table)
    write(found, path)
    out.print(f"\n{path}.md  and .csv and .json beside it")
