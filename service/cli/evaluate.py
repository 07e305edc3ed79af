"""The command that measures how well anomalies are found: telltale evaluate."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.data.file_options import AS_USUAL, FileOptions
from models.output.wording import counted
from service.cli.file_options import reads_files
from service.cli.made import made_now
from service.cli.option_checks import one_of, split
from service.cli.options import (
    Config,
    Device,
    Epochs,
    Force,
    Hidden,
    Patience,
    data_paths,
    device_of,
    load_checkpoint,
    load_settings,
    note_file,
    one_thread,
    out,
    print_table,
)
from service.cli.output_files import check_outputs, refuse_overwriting
from service.errors import RefusedSetting

if TYPE_CHECKING:
    from models.evaluation.benchmark import BenchmarkRun, Trained
    from models.evaluation.grid import Setting
    from models.evaluation.tables import TitledTable

PROTOCOL_FILES = ("protocol.csv", "protocol.json", "protocol.md")
SIMULATED_SETS = ("families", "plants", "constants", "machines", "asked")

app = typer.Typer()


@app.command(epilog="Example: telltale evaluate history/ --checkpoint plant.safetensors --out evaluation/")
@reads_files
def evaluate(
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DATA]...", help="CSV, JSON lines, Parquet, Arrow or Excel files, or folders of them."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME", help="Only this set; may be given several times.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Instead of DATA: simulated series with plain faults, in a minute.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --simulated: write the series there as files, and judge none."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="File of the trained model; several: each for the sets with its features."),
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="The channels; those of each set's first file if not given.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Events are the stretches that this file calls a fault, as telltale control labels writes it.",
        ),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train a net on each set: the default.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Nets of each set, with seeds 0, 1, 2, …")] = 5,
    hidden: Hidden = 64,
    epochs: Epochs = 100,
    patience: Patience = 15,
    baselines: Annotated[bool, typer.Option(help="Simple detectors to compare with.")] = True,
    protocol: Annotated[
        bool, typer.Option("--protocol", help="Judge every family with settings chosen on the other families.")
    ] = False,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V,V", help="With --protocol: values to choose from; several options combine."),
    ] = None,
    by: Annotated[
        str, typer.Option(callback=one_of("f1", "vus_pr", "nab_standard"), help="With --grid: the figure to choose by.")
    ] = "f1",
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the pages, the tables and the runs.")
    ] = Path("evaluation"),
    processes: Annotated[int, typer.Option(min=1, help="Detectors at work side by side, a thread each.")] = 1,
    device: Device = "auto",
    force: Force = False,
    config: Config = None,
    files: FileOptions = AS_USUAL,
) -> None:
    """Judge labelled series as the service would, and say how many events were found and how many alarms were false.

    With --simulated, series are made: plain ones, plants that the clock drives, constants, machines with faults.

    Files in one folder are a set, which one net learns: from rows with `part` = train, and never a label. Runs are kept
    in DIR/runs as soon as they are done: started again, the command continues from there.
    """
    if checkpoint and train:
        raise RefusedSetting("--checkpoint: expected no --train beside it")
    if write:
        if not simulated:
            raise RefusedSetting("--write: expected --simulated beside it, whose series it writes")
        _write_series(write, seeds, force=force)
        return
    if simulated and labels:
        raise RefusedSetting("--labels: expected no --simulated beside it, whose series know their faults")
    if simulated:
        training = (epochs, patience) if train else None
        _evaluate_simulated(data, only, checkpoint, training, seeds, hidden, device, folder, force=force)
        return
    if not data:
        raise RefusedSetting("DATA is missing, expected CSV or Parquet files, or folders of them, or --simulated")
    if grid and not protocol:
        raise RefusedSetting("--grid: expected --protocol beside it, which chooses without the series that it judges")
    settings = load_settings(config, {})
    paths = data_paths(data, None)
    names = ("evaluation.html", "evaluation.csv", "evaluation.json", "evaluation.md")
    written = [folder / name for name in (*names, *(PROTOCOL_FILES if protocol else ()))]
    goes_on = (folder / "runs").is_dir()  # what is written then is made of the runs that are kept there
    refuse_overwriting(*written, force=force or goes_on)

    from models.data.label_windows import read_label_windows
    from models.data.series import look_at_files
    from models.evaluation.benchmark import BenchmarkPlan
    from models.evaluation.benchmark import evaluate as judge_sets
    from models.evaluation.kept_runs import find_sets
    from models.training.run import TrainingConfig
    from service.process.sensors import rules_in

    sets = find_sets(paths)
    _refuse_unknown(only, tuple(sets))
    sets = {name: of for name, of in sets.items() if not only or name in only}
    channels = tuple(split(features)) if features else None
    for of in sets.values():
        look_at_files(of, channels, files, note_file)
    plan = BenchmarkPlan(
        seeds,
        hidden,
        TrainingConfig(epochs=epochs, patience=patience),
        _trained(checkpoint or [], sets, channels, files),
        baselines,
        files=files,
        features=channels,
        settings=_settings(grid or []),
        rules=rules_in(settings),
        labels=None if labels is None else read_label_windows(labels),
    )
    check_outputs(*written, *(folder / f"{name}.html" for name in sets), force=force or goes_on)
    one_thread()
    runs = judge_sets(sets, plan, folder, device_of(device), processes, _report, made_now())
    if protocol:
        runs = _by_protocol(runs, plan.settings, by, folder)
    _show(runs, folder)


def _trained(
    checkpoints: list[Path],
    sets: dict[str, tuple[Path, ...]],
    channels: tuple[str, ...] | None,
    options: FileOptions,
) -> "tuple[Trained, ...]":
    """A net for any features judges every set, with the features that the set's first file has."""
    from models.data.series import read_series
    from models.evaluation.benchmark import Trained

    trained = []
    for path in checkpoints:
        features: list[tuple[str, ...]] = [()]
        if _is_net(path):
            features = [read_series(files[:1], channels, options)[0].features for files in sets.values()]
        loaded = (load_checkpoint(path, of) for of in dict.fromkeys(features))
        trained += [Trained(one.detector.forecaster, one.detector.config, one.digest, path) for one in loaded]
    return tuple(trained)


def _is_net(path: Path) -> bool:
    from models.checkpoints.checkpoint import is_net

    return path.exists() and is_net(path)


def _settings(grid: list[str]) -> "tuple[Setting, ...]":
    from models.evaluation.grid import UnknownSetting, parse

    try:
        return parse(grid)
    except UnknownSetting as error:
        raise RefusedSetting(f"--grid: {error}") from error


def _refuse_unknown(only: list[str] | None, known: tuple[str, ...]) -> None:
    if unknown := [name for name in only or [] if name not in known]:
        raise RefusedSetting(f"--set is {unknown[0]!r}, expected one of {', '.join(known)}")


def _report(run: "BenchmarkRun") -> None:
    hits, events, alarms, false = (
        sum(getattr(one, name) for one in run.tallies) for name in ("hits", "events", "alarms", "false")
    )
    trained_in = f" trained in {run.seconds:.0f} s, {run.ended};" if run.ended else ""
    said = f"{hits} of {counted(events, 'event')}, {counted(alarms, 'alarm')}, {false} false"
    out.print(f"{run.set}  {run.detector}  seed {run.seed}:{trained_in} {said}")


def _by_protocol(
    runs: "list[BenchmarkRun]", settings: "tuple[Setting, ...]", by: str, folder: Path
) -> "list[BenchmarkRun]":
    """What is shown of the runs then: that of the protocol in place of those with each setting."""
    from models.evaluation.benchmark import setting_name
    from models.evaluation.protocol import judge_by_protocol
    from models.evaluation.protocol_tables import protocol_tables, write_protocol

    judgement = judge_by_protocol(runs, settings, by)
    with_settings = {setting_name(setting) for setting in settings}
    others = [run for run in runs if run.detector not in with_settings]
    _print_tables(protocol_tables(judgement, others))
    write_protocol(judgement, others, folder / "protocol")
    sets = dict.fromkeys(run.set for run in runs)
    return [run for name in sets for run in (*judgement.runs, *others) if run.set == name]


def _show(runs: "list[BenchmarkRun]", folder: Path) -> None:
    from models.evaluation.evaluation_report import evaluation_report
    from models.evaluation.evaluation_tables import MARK, OVER_SETS, facts, summarise, tables, write

    summaries = summarise(runs)
    for name in dict.fromkeys(one.set for one in summaries):
        out.print(f"\n{name}" + (f": {facts(runs, name)}" if name != OVER_SETS else ""))
        for header, rows in tables(summaries, name):
            print_table(header, rows)
    out.print(f"\n{MARK}")
    write(runs, summaries, folder)
    evaluation_report(runs, summaries).write(folder / "evaluation.html", made_now())
    pages = ", ".join(f"{name}.html" for name in dict.fromkeys(run.set for run in runs))
    out.print(f"{folder / 'evaluation.html'}  and {pages}, evaluation.csv, .json and .md beside it")


def _evaluate_simulated(
    data: list[Path] | None,
    only: list[str] | None,
    checkpoint: list[Path] | None,
    training: tuple[int, int] | None,
    seeds: int,
    hidden: int,
    device: str,
    folder: Path,
    *,
    force: bool,
) -> None:
    """training: epochs and patience of a net on the plants' first fortnight, one a seed; None: an untrained one."""
    if data:
        raise RefusedSetting(f"--simulated makes its own series, expected no DATA beside it, found {data[0]}")
    if checkpoint and len(checkpoint) > 1:
        raise RefusedSetting(f"--checkpoint: expected one with --simulated, found {len(checkpoint)}")
    _refuse_unknown(only, SIMULATED_SETS)
    check_outputs(*(folder / f"simulated.{suffix}" for suffix in ("csv", "json", "md")), force=force)

    from models.evaluation.simulated import FEATURE, simulate, trained_on_plants, untrained
    from models.evaluation.simulated_tables import tables, write
    from models.training.run import TrainingConfig

    one_thread()
    if training:
        configs = [TrainingConfig(*training, seed=seed) for seed in range(seeds)]
        runs = simulate(lambda seed: trained_on_plants(hidden, configs[seed], device_of(device)), seeds, only or ())
    else:
        detector = untrained()
        if checkpoint:
            detector = load_checkpoint(checkpoint[0], FEATURE if _is_net(checkpoint[0]) else ()).detector
        runs = simulate(lambda _: detector, seeds, only or ())
    found = list(runs)
    _print_tables(tables(found))
    write(found, folder / "simulated")
    out.print(f"\n{folder / 'simulated.md'}  and .csv and .json beside it")


def _write_series(folder: Path, seeds: int, *, force: bool) -> None:
    from models.evaluation.simulated import series_to_write
    from models.output.output_file import write_or_keep

    files = {folder / name: frame for name, frame in series_to_write(seeds).items()}
    refuse_overwriting(*files, force=force)
    for path, frame in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        frame.write_parquet(content)
        write_or_keep(path, content.getvalue())
    sets = dict.fromkeys(path.parent.name for path in files)
    out.print(f"{counted(len(files), 'series', 'series')} in {', '.join(str(folder / name) for name in sets)}")


def _print_tables(tables: "list[TitledTable]") -> None:
    for title, table in tables:
        out.print(f"\n{title}")
        print_table(*table)
