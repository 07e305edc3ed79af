"""The commands. They read Settings, build everything, and hand it over: only they do.

Exit codes: 0 done, 1 failed, 2 wrong usage or setting. What a command needs is imported when it runs: torch alone
takes two seconds, which `--help` and a typing error should not cost.
"""

import inspect
import re
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from service.cli import checkpoint as cli_checkpoint
from service.cli import compare as cli_compare
from service.cli import control as cli_control
from service.cli import evaluate as cli_evaluate
from service.cli import gradients as cli_gradients
from service.cli import input as cli_input
from service.cli import inspect as cli_inspect
from service.cli import kafka as cli_kafka
from service.cli import models as cli_models
from service.cli import score as cli_score
from service.cli import state as cli_state
from service.cli import train as cli_train
from service.cli.options import err, out
from service.errors import RefusedSetting, TelltaleError
from service.process.exhaustion import exhausted

app = typer.Typer(
    name="telltale",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        out.print(f"telltale {version('telltale')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.")
    ] = False,
) -> None:
    """Streaming anomaly detection that remembers: an LSTM's state for every Kafka stream."""


def _wrap_by_paragraph(commands: typer.Typer) -> None:
    """Help is laid out in the width of the terminal; a docstring's lines end where those of the source do."""
    for command in commands.registered_commands:
        text = inspect.cleandoc((command.callback and command.callback.__doc__) or "")
        command.help = "\n\n".join(re.sub(r"\s*\n\s*", " ", paragraph) for paragraph in text.split("\n\n"))
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _wrap_by_paragraph(group.typer_instance)


for commands in (
    cli_train,
    cli_score,
    cli_checkpoint,
    cli_kafka,
    cli_control,
    cli_models,
    cli_input,
    cli_state,
    cli_gradients,
    cli_compare,
    cli_evaluate,
    cli_inspect,
):
    _wrap_by_paragraph(commands.app)
    app.add_typer(commands.app)


def main() -> NoReturn:
    """Run a command; say what went wrong in one line, without a traceback, when it is something known."""
    try:
        app(standalone_mode=True)
    except RefusedSetting as error:
        _fail(error, 2)
    except TelltaleError as error:
        _fail(error, 1)
    except ValueError as error:
        if type(error).__module__.startswith("models."):  # UnusableData, UnusableCheckpoint
            _fail(error, 1)
        raise
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if (said := exhausted(error)) is not None:
            sys.stderr.write(f"telltale: {said}\n")  # plainly: there may be too little for anything else
            sys.exit(1)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        _fail(TelltaleError(f"{error.filename}: {error.strerror}"), 1)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"[bold red]telltale:[/] {escape(line)}", soft_wrap=True)
    sys.exit(code)
