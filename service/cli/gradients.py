"""Commands that look at how cells remember: gradients through time, and tasks that need a long memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from models.data.file_options import FileOptions
from models.net.names import CELL_NAMES, TASK_NAMES
from models.output.wording import counted
from service.cli.made import made_now
from service.cli.option_checks import listed, seconds, some_of
from service.cli.options import (
    MOST_SEED,
    CheckpointFile,
    Data,
    Force,
    Hidden,
    LearningRate,
    MoreData,
    Unit,
    counting,
    data_paths,
    device_of,
    load_checkpoint,
    one_thread,
    out,
    print_table,
    read_data,
    simulated,
)
from service.cli.output_files import check_outputs
from service.errors import RefusedSetting

app = typer.Typer()

SIMULATED_STREAMS = 20
Cells = Annotated[
    list[str] | None,
    typer.Option(
        "--cell", metavar="NAME", callback=some_of(*CELL_NAMES), help="May be given several times; else every cell."
    ),
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report and the CSV files.")]


@app.command(epilog="Example: telltale gradients --cell lstm --cell rnn-tanh --data plant/ --out gradients/")
def gradients(
    folder: Folder,
    checkpoint: CheckpointFile = None,
    cell: Cells = None,
    data: Data = None,
    more: MoreData = None,
    time_unit: Unit = None,
    hidden: Hidden = 64,
    layers: Annotated[int, typer.Option(min=1, max=4, help="Layers of each cell.")] = 1,
    lags: Annotated[int, typer.Option(min=2, help="Readings that gradients are followed back.")] = 200,
    losses: Annotated[int, typer.Option(min=1, help="How many losses are followed back.")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="Of training each cell, at most.")] = 40,
    learning_rate: LearningRate = 3e-3,
    max_seconds: Annotated[float | None, typer.Option(callback=seconds, help="Of training each cell.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of weights, order and places.")] = 0,
    force: Force = False,
) -> None:
    """Measure how far back the gradient of a loss reaches: at initialisation, and after training.

    Cells are trained on the data, a checkpoint is taken as it is. Without --data it is the simulated plant.
    """
    if checkpoint and cell:
        raise RefusedSetting("--checkpoint and --cell are both there, expected one of them")
    names = _each(cell, CELL_NAMES)
    paths = data_paths(data, more) if data or more else []
    check_outputs(folder / "gradients.html", folder / "gradients.csv", force=force)

    import math

    from models.insight.gradients import Flow, draw_windows, flows, flows_at_first
    from models.insight.gradients_report import flow_report, flow_table, write_flows
    from models.training.architecture import suited_to
    from models.training.loop import fit, usable
    from models.training.run import TrainingConfig

    one_thread()
    ready = load_checkpoint(checkpoint).detector.forecaster if checkpoint else None
    expected = ready.config.features if ready else None
    series = read_data(paths, expected, FileOptions(unit=time_unit)) if paths else simulated(SIMULATED_STREAMS, seed)
    parts = usable(series)
    if expected not in (None, parts[0].features):
        raise RefusedSetting(f"the simulated plant has not the features of {checkpoint}: --data is missing")
    chunk = draw_windows(parts, lags, losses, seed)
    configs = [ready.config] if ready else [suited_to(parts, name, hidden, layers) for name in names]
    training = TrainingConfig(
        epochs=epochs,
        learning_rate=learning_rate,
        budget_s=math.inf if max_seconds is None else max_seconds,
        seed=seed,
    )
    found: list[Flow] = []
    remarks: list[str] = []
    with counting("cells", len(configs)) as progress:
        for done, config in enumerate(configs, 1):
            found += flows_at_first(config, chunk, lags, seed)
            fitted = None if ready else fit(parts, config, training, device_of("cpu"))
            if fitted and fitted.best is None:
                remarks.append(
                    f"{config.cell}: {fitted.ended} before it had learned anything: nothing to measure then."
                )
            elif trained := ready or (fitted and fitted.forecaster):
                found += flows(trained, chunk, lags, "trained")
            progress(done)
    write_flows(folder / "gradients.csv", found)
    readings = sum(len(one.times_ms) for one in parts)
    one = configs[0]
    about = f"{counted(losses, 'loss', 'losses')} of {counted(len(parts), 'stream')}, "
    about += f"{counted(readings, 'reading')}; {one.layers} x {one.hidden} units"
    flow_report(found, about, remarks).write(folder / "gradients.html", made_now())
    print_table(*flow_table(found))
    for remark in remarks:
        out.print(remark)
    out.print(f"{folder / 'gradients.html'}  {about}")


@app.command("memory-tasks", epilog="Example: telltale memory-tasks --cell lstm --lag 50 --lag 100 --out memory/")
def memory_tasks(
    folder: Folder,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", callback=some_of(*TASK_NAMES), help=f"{listed(TASK_NAMES)}; else both."),
    ] = None,
    cell: Cells = None,
    lag: Annotated[list[int] | None, typer.Option("--lag", min=3, help="Else 50, 100, 200, 500 and 1,000.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each, with seeds from 1 on.")] = 3,
    chrono: Annotated[bool, typer.Option(help="Gated cells also with biases for memories of that length.")] = True,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units.")] = 32,
    updates: Annotated[int, typer.Option(min=1, help="Of the weights, at most, 32 sequences each.")] = 3_000,
    hopeless_after: Annotated[int, typer.Option(min=1, help="Updates after which chance is a verdict.")] = 1_500,
    max_seconds: Annotated[float | None, typer.Option(callback=seconds, help="For each run.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 2,
    force: Force = False,
) -> None:
    """Measure which cell still learns at which lag: the adding problem and delayed recall.

    What has been tried is in DIR/memory-tasks.csv and is not tried again: a run that was interrupted is resumed.
    """
    names, path = _each(task, TASK_NAMES), folder / "memory-tasks.csv"
    check_outputs(path, force=True)  # what has been tried is added to
    check_outputs(folder / "memory-tasks.html", force=force or path.exists())

    import math
    from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context

    from models.insight.gradients_report import memory_report, outcome_table
    from models.insight.memory_tasks import TrainingBudget, attempt_all, read_outcomes, trials, write_outcome

    limit_s = math.inf if max_seconds is None else max_seconds
    budget = TrainingBudget(hidden=hidden, updates=updates, hopeless_after=hopeless_after, limit_s=limit_s)
    asked = trials(names, _each(cell, CELL_NAMES), lag or (50, 100, 200, 500, 1000), range(1, seeds + 1), chrono=chrono)
    found = read_outcomes(path, budget)
    one_thread()
    pool: Executor = (
        ThreadPoolExecutor(1)
        if processes == 1
        else ProcessPoolExecutor(processes, get_context("spawn"), one_thread)  # a fork of torch's threads may hang
    )
    with counting("trials", len(asked)) as progress, pool:
        for outcome in attempt_all(asked, budget, found, pool):
            write_outcome(path, outcome, budget)
            found.append(outcome)
            progress(len(found))
    memory_report(found, budget).write(folder / "memory-tasks.html", made_now())
    print_table(*outcome_table(found))
    out.print(f"{folder / 'memory-tasks.html'}")


def _each(names: list[str] | None, known: Sequence[str]) -> list[str]:
    """Those asked for, each once; all if none is."""
    return list(dict.fromkeys(names or known))
