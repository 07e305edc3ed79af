"""The command that measures how well anomalies are found: telltale evaluate."""

from pathlib import Path
from typing import Annotated

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

app = typer.Typer()


@app.command(epilog="Example: telltale evaluate history/ --checkpoint plant.safetensors --out evaluation/")
def evaluate(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="CSV or Parquet files, or folders of them.")],
    only: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME", help="Only this set; may be given several times.")
    ] = None,
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

    Files in one folder are a set, which one net learns: from rows with `part` = train, and never a label. Runs are kept
    in DIR/runs as soon as they are done: started again, the command continues from there.
    """
    if checkpoint and train:
        raise RefusedSetting("--checkpoint: expected no --train beside it")
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
