"""The command that compares cells on given data: telltale compare."""

from pathlib import Path
from typing import Annotated

import typer

from models.net.names import CELL_NAMES
from models.output.wording import counted
from service.cli.made import made_now
from service.cli.option_checks import names_among, split
from service.cli.options import (
    Chunk,
    Data,
    Device,
    Epochs,
    Force,
    Hidden,
    MoreData,
    Patience,
    Unit,
    data_paths,
    device_of,
    one_thread,
    out,
    print_table,
)
from service.cli.output_files import check_outputs

app = typer.Typer()


@app.command(epilog="Example: telltale compare --data history/ --cells feedforward,lstm,gru --out comparison/")
def compare(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the page, the tables and the runs.")],
    data: Data = None,
    more: MoreData = None,
    time_unit: Unit = None,
    cells: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", callback=names_among(*CELL_NAMES), help="Which cells; else all of them."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Nets of each cell, with seeds 0, 1, 2, …")] = 3,
    hidden: Hidden = 64,
    layers: Annotated[int, typer.Option(min=1, max=4, help="Layers of each net.")] = 1,
    epochs: Epochs = 100,
    patience: Patience = 15,
    chunk: Chunk = 256,
    processes: Annotated[int, typer.Option(min=1, help="Nets trained side by side, a thread each.")] = 1,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Train every cell on the same data with the same budget, and say which memory is worth it.

    Files in one folder are a set, which one net learns. Runs are kept in DIR/runs as soon as they are done: started
    again, the command continues from there. Labels are read for the figures of detection alone, never in training.
    """
    names = CELL_NAMES if cells is None else tuple(split(cells))
    paths = data_paths(data, more)
    written = [folder / f"comparison.{suffix}" for suffix in ("html", "csv", "json", "md")]
    check_outputs(*written, force=force or (folder / "runs").is_dir())  # where runs are kept it goes on

    from models.evaluation.comparison import ComparisonPlan, ComparisonRun
    from models.evaluation.comparison import compare as compare_cells
    from models.evaluation.comparison_report import comparison_report
    from models.evaluation.comparison_tables import MARK, OVER_SETS, cost_table, rank_table, summarise, table, write
    from models.evaluation.kept_runs import find_sets
    from models.training.run import TrainingConfig

    sets = find_sets(paths)
    one_thread()
    training = TrainingConfig(epochs=epochs, patience=patience, chunk_readings=chunk)
    plan = ComparisonPlan(names, seeds, hidden, layers, training, time_unit)
    total = len(sets) * len(names) * seeds
    out.print(f"{counted(total, 'net')}: of {', '.join(names)}; on {', '.join(sets)}; {counted(seeds, 'seed')}")
    done = 0

    def report(run: ComparisonRun) -> None:
        nonlocal done
        done += 1
        name, cell, seed = run.job
        went = f"{counted(run.epochs, 'epoch')}, {run.seconds:.0f} s, {run.ended}"
        went += f"; validation error {run.validation_error:.4f}"
        out.print(f"{done:>{len(str(total))}}/{total}  {name}  {cell}  seed {seed}: {went}")

    comparison = compare_cells(sets, plan, folder, device_of(device), processes, report)
    summaries = summarise(comparison)
    for name in dict.fromkeys(one.set for one in summaries):
        for title, each in ((name, table), (f"{name}: what it costs", cost_table)):
            out.print(f"\n{title}")
            print_table(*each(summaries, name))
    if places := rank_table(summaries):
        out.print(f"\nmean place over {OVER_SETS}")
        print_table(*places)
    out.print(MARK)
    write(comparison, plan, folder)
    comparison_report(comparison, plan).write(folder / "comparison.html", made_now())
    out.print(f"{folder / 'comparison.html'}  and comparison.csv, .json and .md beside it")
