"""Commands that look into a trained memory on files: inspect, forecast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.data.file_options import FileOptions
from models.data.time_units import TimeUnit
from models.output.wording import counted
from service.cli.made import made_now
from service.cli.option_checks import file_of
from service.cli.options import (
    MOST_SEED,
    AsJson,
    CheckpointFile,
    Config,
    Data,
    Force,
    MoreData,
    Part,
    Unit,
    data_paths,
    load_checkpoint,
    load_settings,
    one_thread,
    out,
    read_data,
)
from service.cli.output_files import check_outputs
from service.errors import RefusedInput, RefusedSetting

if TYPE_CHECKING:
    from models.checkpoints.checkpoint import Checkpoint
    from models.data.series import Series
    from models.detection.detector import Readings, Transition, Verdicts
    from models.detection.rows import Rows
    from models.insight.explanation import Account, Explained
    from models.insight.forecasting import Forecast

MOST_READINGS = 10_000  # explained at once
STREAMS_NAMED = 5  # in a message

app = typer.Typer()

Stream = Annotated[str, typer.Option(help="Key of the stream; for a file without a column `stream`, its name.")]
Page = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE.html", callback=file_of(".html", ".htm"), help="Page with the plots."),
]


@app.command(
    epilog="Example: telltale inspect --checkpoint plant.safetensors --data plant/ --stream pump-012 --out a.html"
)
def inspect(
    stream: Stream,
    checkpoint: CheckpointFile = None,
    data: Data = None,
    more: MoreData = None,
    around: Annotated[
        str | None, typer.Option(metavar="TIME", help="RFC 3339 with an offset, or milliseconds; else the worst alarm.")
    ] = None,
    readings: Annotated[int, typer.Option(min=1, max=MOST_READINGS, help="How many around that time.")] = 512,
    part: Part = "all",
    time_unit: Unit = None,
    out_file: Page = None,
    as_json: AsJson = False,
    units: Annotated[
        bool, typer.Option(help="With --json: every unit's activation, not only their quantiles.")
    ] = False,
    force: Force = False,
    config: Config = None,
) -> None:
    """What the gates did, and which channels drove an alarm: a stream's readings judged again, the memory laid open.

    The verdicts are those of `telltale score`, to the bit. All is a diagnostic, not a cause.
    """
    around_ms = _milliseconds("--around", around)
    check_outputs(out_file, force=force)

    import msgspec

    from models.insight.explanation import explain
    from models.insight.explanation_report import Subject, explanation_report
    from service.live.insights import seen_explanation

    loaded, series = _stream(config, checkpoint, data_paths(data, more), stream, part, time_unit)
    past, row = _readings(series), loaded.detector.rows_for([stream.encode()])
    transitions = _transitions(loaded, series)
    begin, end = _window(series, transitions, around_ms, readings)
    explained = explain(loaded.detector, row, _part(past, 0, end), end - begin)
    if out_file is not None:
        subject = Subject(stream, loaded.detector.features, loaded.digest)
        explanation_report(explained, subject).write(out_file, made_now())
    if as_json:
        seen = seen_explanation(explained, loaded.detector.features, stream.encode(), loaded.digest, units=units)
        out.print(msgspec.json.encode(seen).decode())
        return
    _show(loaded, series, transitions, explained)
    if out_file is not None:
        out.print(
            f"{out_file}  {counted(end - begin, 'reading')}, {counted(len(explained.accounts), 'alarm')} accounted for"
        )


@app.command(
    epilog="Example: telltale forecast --checkpoint plant.safetensors --data plant/ --stream pump-012 --steps 48"
)
def forecast(
    stream: Stream,
    checkpoint: CheckpointFile = None,
    data: Data = None,
    more: MoreData = None,
    steps: Annotated[int, typer.Option(min=1, max=1_000, help="Readings ahead.")] = 48,
    after: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="RFC 3339 or milliseconds: forecast from there, not from the end."),
    ] = None,
    part: Part = "all",
    time_unit: Unit = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the paths that are drawn.")] = 0,
    out_file: Page = None,
    as_json: AsJson = False,
    force: Force = False,
    config: Config = None,
) -> None:
    """A stream's next readings, with bands that were tried out on its own past."""
    after_ms = _milliseconds("--after", after)
    check_outputs(out_file, force=force)

    import msgspec

    from models.insight.explanation_report import Subject, forecast_report, width_of
    from models.insight.forecasting import PAST_READINGS, ForecastConfig
    from models.insight.forecasting import forecast as look_ahead
    from service.inspect.text_table import aligned
    from service.live.insights import seen_forecast

    loaded, series = _stream(config, checkpoint, data_paths(data, more), stream, part, time_unit)
    readings, end = _readings(series), _end(series, after_ms)
    begin = max(0, end - PAST_READINGS)
    row = loaded.detector.rows_for([stream.encode()])
    if begin:
        row = _judge(loaded, _part(readings, 0, begin), row)[1]
    past = _part(readings, begin, end)
    ahead = look_ahead(loaded.detector, row, past, ForecastConfig(steps=steps, seed=seed))
    if out_file is not None:
        subject = Subject(stream, loaded.detector.features, loaded.digest)
        forecast_report(ahead, past, _part(readings, end, end + steps), subject).write(out_file, made_now())
    if as_json:
        out.print(
            msgspec.json.encode(seen_forecast(ahead, loaded.detector.features, stream.encode(), loaded.digest)).decode()
        )
        return
    out.print(f"{stream}  {counted(steps, 'reading')}, one every {ahead.interval_ms / 1000:g} s. {width_of(ahead)}")
    for line in aligned(_steps(ahead, loaded.detector.features)):
        out.print(line)
    if out_file is not None:
        out.print(str(out_file))


def _stream(
    config: Path | None, checkpoint: Path | None, paths: list[Path], key: str, part: str, unit: TimeUnit | None
) -> "tuple[Checkpoint, Series]":
    """The model, with what is set of the stream, and the stream's readings in the files."""
    settings = load_settings(config, {"checkpoint": checkpoint})
    loaded = load_checkpoint(settings.checkpoint, settings.features)

    from service.cli.feeding import select
    from service.process.sensors import sensor_rules_of_one

    one_thread()
    series = select(read_data(paths, loaded.detector.features, FileOptions(unit=unit)), part)
    sensors = sensor_rules_of_one(settings, loaded.detector.features)
    if sensors is not None:
        sensors.clean_series(series)
        loaded = loaded._replace(detector=loaded.detector.limited(sensors.limits([key.encode()])))
    for one in series:
        if one.key == key:
            return loaded, one
    some = ", ".join(one.key for one in series[:STREAMS_NAMED])
    rest = f" and {len(series) - STREAMS_NAMED} more" if len(series) > STREAMS_NAMED else ""
    raise RefusedInput(f"no stream {key!r} in the files, which have {some}{rest}")


def _milliseconds(option: str, text: str | None) -> int | None:
    from service.cli.moments import time_ms

    try:
        return None if text is None else time_ms(text)
    except ValueError as error:
        raise RefusedSetting(f"{option} is {text!r}, expected RFC 3339 with an offset, or milliseconds") from error


def _readings(series: "Series") -> "Readings":
    import torch

    from models.detection.detector import Readings

    count = torch.arange(len(series.times_ms))
    return Readings(count, torch.from_numpy(series.times_ms), torch.from_numpy(series.values))


def _part(readings: "Readings", begin: int, end: int) -> "Readings":
    from models.detection.detector import Readings

    return Readings(*(column[begin:end] for column in readings))


def _transitions(loaded: "Checkpoint", series: "Series") -> "tuple[Transition, ...]":
    """What `telltale score` would report of the whole stream."""
    readings = _readings(series)
    return _judge(loaded, readings, loaded.detector.rows_for([series.key.encode()]))[0].transitions


def _judge(loaded: "Checkpoint", readings: "Readings", row: "Rows") -> "tuple[Verdicts, Rows]":
    import torch

    from models.net.packing import pack

    return loaded.detector.observe(readings, pack(torch.zeros_like(readings.offsets)), row)


def _window(
    series: "Series", transitions: "tuple[Transition, ...]", around_ms: int | None, readings: int
) -> tuple[int, int]:
    """From where to where: around a time, or the worst alarm's opening, or, where there is none, the last readings."""
    import numpy as np

    total = len(series.times_ms)
    if around_ms is not None:
        middle = int(np.abs(series.times_ms - around_ms).argmin())
    elif transitions:
        middle = max(transitions, key=lambda one: one.peak).opened_offset
    else:
        middle = total
    begin = max(0, min(middle - readings // 2, total - readings))
    return begin, min(total, begin + readings)


def _end(series: "Series", after_ms: int | None) -> int:
    """The number of readings before a forecast begins."""
    import numpy as np

    end = len(series.times_ms) if after_ms is None else int(np.count_nonzero(series.times_ms <= after_ms))
    if not end:
        raise RefusedInput(f"{series.path}: stream {series.key} has no reading at or before the time of --after")
    return end


def _show(
    loaded: "Checkpoint", series: "Series", transitions: "tuple[Transition, ...]", explained: "Explained"
) -> None:
    """The anomalies of the whole stream; of those in the window, what the memory says too."""
    from models.data.rfc3339 import rfc3339
    from models.insight.explanation import CAVEAT
    from service.inspect.text_table import aligned

    first, last = (rfc3339(int(explained.readings.times_ms[n])) for n in (0, -1))
    out.print(f"{series.key}  {counted(len(series.times_ms), 'reading')}; the memory from {first} to {last}. {CAVEAT}")
    accounts = {}
    for account in explained.accounts:  # the latest of each alarm
        accounts[account.transition.opened_offset] = account
    table = [["opened", "closed", "severity", "peak", "channel", "share", "by hiding", "agree", "forget gate"]]
    for opened in dict.fromkeys(one.opened_offset for one in transitions):
        mine = [one for one in transitions if one.opened_offset == opened]
        table.append(_anomaly(series, mine, accounts.get(opened), loaded.detector.features))
    for line in aligned(table) if transitions else ["no anomaly"]:
        out.print(line)


def _anomaly(
    series: "Series", transitions: "list[Transition]", account: "Account | None", features: tuple[str, ...]
) -> list[str]:
    import numpy as np

    from models.data.rfc3339 import rfc3339
    from models.detection.alarm import Change

    worst = account.transition if account else max(transitions, key=lambda one: one.score)
    closed = [one for one in transitions if one.change in (Change.RECOVERED, Change.LEVEL_SHIFT)]
    channel = int(np.argmax(worst.share))
    cells = [
        rfc3339(transitions[0].opened_ms),
        rfc3339(int(series.times_ms[closed[0].reading])) if closed else "open",
        max(one.severity for one in transitions).name.lower(),
        f"{max(one.peak for one in transitions):.1f}",
        features[channel],
        f"{worst.share[channel]:.2f}",
    ]
    if account is None:
        return [*cells, "-", "-", "-"]
    hidden = int(np.argmax(account.weight))
    return [
        *cells,
        f"{features[hidden]} {account.weight[hidden]:.2f}" if sum(account.weight) else "-",
        "yes" if account.same_first else "no",
        _forget(account),
    ]


def _forget(account: "Account") -> str:
    """How far the forget gates fell, layer by layer; of a cell without one, nothing."""
    import math

    fell = []
    for one in account.swings:
        if one.gate == "forget":
            spreads = "" if math.isnan(one.drop) else f" of {one.usual:.2f}, {-one.drop:+.1f} spreads"
            fell.append(f"{one.lowest:.2f}{spreads}")
    return "; ".join(fell) or "-"


def _steps(ahead: "Forecast", features: tuple[str, ...]) -> list[list[str]]:
    from models.data.rfc3339 import rfc3339

    table = [["time", "feature", "median", *(f"{100 * band.level:g} % band" for band in ahead.bands)]]
    for k, time_ms in enumerate(ahead.times_ms.tolist()):
        for f, name in enumerate(features):
            bands = (f"{band.lower[k, f]:.5g} to {band.upper[k, f]:.5g}" for band in ahead.bands)
            table.append([rfc3339(time_ms), name, f"{ahead.median[k, f]:.5g}", *bands])
    return table
