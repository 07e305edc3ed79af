"""Options of the commands that read data files: what files do not say themselves."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from models.data.file_options import FileOptions, Order
from models.data.number_clocks import CLOCKS
from service.cli.option_checks import one_of, time_zone, words_for_numbers
from service.cli.options import Unit

PANEL = "Data files"  # where help lists them


def _option(name: str, help_text: str, **more: Any) -> Any:
    return typer.Option(name, help=help_text, rich_help_panel=PANEL, **more)


def file_options(
    time_unit: Unit = None,
    time_column: Annotated[
        str | None, _option("--time-column", "Column with the times; two, such as date,time, are joined.")
    ] = None,
    time_format: Annotated[
        str | None,
        _option(
            "--time-format",
            f"Of times that are text, such as '%d.%m.%Y %H:%M:%S'; or a clock of numbers: {', '.join(CLOCKS)}.",
        ),
    ] = None,
    times_in: Annotated[
        str | None,
        _option("--times-in", "Time zone of times that name none; else UTC.", metavar="ZONE", callback=time_zone),
    ] = None,
    stream_column: Annotated[str | None, _option("--stream-column", "Column with the streams' names.")] = None,
    name_column: Annotated[
        str | None, _option("--name-column", "Where a row holds one value: column with the value's name.")
    ] = None,
    value_column: Annotated[str, _option("--value-column", "Beside --name-column: column with the value.")] = "value",
    columns: Annotated[
        str | None, _option("--columns", "Names of all columns, where a file has none or one twice.", metavar="A,B,C")
    ] = None,
    skip_lines: Annotated[
        int | None,
        _option(
            "--skip-lines",
            "Before the line, or the row of a sheet, with the columns' names; found out if not given.",
            min=0,
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        _option(
            "--leave-out",
            "Lines, or rows of a sheet, that begin with this text are no readings; may be given several times.",
            metavar="TEXT",
        ),
    ] = None,
    separator: Annotated[
        str | None,
        _option(
            "--separator", "Between the cells: a sign, tab, or spaces (any number of them); found out if not given."
        ),
    ] = None,
    decimal: Annotated[
        str | None,
        _option("--decimal", "The decimal point, . or a comma; found out if not given.", callback=one_of(".", ",")),
    ] = None,
    encoding: Annotated[str | None, _option("--encoding", "Of text that is not UTF-8, such as cp1252.")] = None,
    sheet: Annotated[str | None, _option("--sheet", "Of an Excel file that has several.")] = None,
    missing: Annotated[
        list[str] | None,
        _option("--missing", "A word or number that means no value, such as -9999; may be given several times."),
    ] = None,
    word: Annotated[
        list[str] | None,
        _option(
            "--word",
            "A word that stands for a number, such as ON=1; may be given several times.",
            metavar="WORD=NUMBER",
            callback=words_for_numbers,
        ),
    ] = None,
    quality_column: Annotated[
        list[str] | None,
        _option(
            "--quality-column",
            "Column with flags: values of its row whose flag is none of --good are missing; CHANNEL=COLUMN: those of "
            "one channel; may be given several times.",
            metavar="COLUMN",
        ),
    ] = None,
    good: Annotated[
        list[str] | None, _option("--good", "A flag of good values, such as 192; may be given several times.")
    ] = None,
    order: Annotated[
        str,
        _option("--order", "check: refuse files whose times do not rise; sort; keep.", callback=one_of(*Order)),
    ] = Order.CHECK,
) -> FileOptions:
    """What the options say."""
    return FileOptions(
        unit=time_unit,
        time_column=time_column,
        time_format=time_format,
        zone=times_in,
        stream_column=stream_column,
        name_column=name_column,
        value_column=value_column,
        separator={"tab": "\t", "\\t": "\t"}.get(separator or "", separator),
        decimal=decimal,
        encoding=encoding,
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
        skip_lines=skip_lines,
        leave_out=tuple(leave_out or ()),
        sheet=sheet,
        missing=tuple(missing or ()),
        word=tuple(word or ()),
        quality_column=tuple(quality_column or ()),
        good=tuple(good or ()),
        order=Order(order),
    )


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of data files in place of its parameter `files`."""
    options = inspect.signature(file_options).parameters
    own = inspect.signature(command)
    parameters = [one for one in own.parameters.values() if one.name != "files"]

    @wraps(command)
    def with_options(**values: Any) -> None:
        files = file_options(**{name: values.pop(name) for name in options})
        command(files=files, **values)

    merged = [*parameters, *options.values()]
    with_options.__signature__ = own.replace(parameters=merged)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in merged}
    return with_options
