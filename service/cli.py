"""The commands. They read Settings, build everything, and hand it over: only they do.

Exit codes: 0 done, 1 failed, 2 wrong usage or setting. What a command needs is imported when it runs: torch alone
takes two seconds, which `--help` and a typing error should not cost.
"""

import sys
from typing import NoReturn

import typer
from rich.markup import escape

from service import cli_compare, cli_evaluate, cli_gradients, cli_inspect, cli_kafka, cli_models, cli_state
from service.errors import RefusedSetting, TelltaleError
from service.options import err

app = typer.Typer(
    name="telltale",
    help="Streaming anomaly detection that remembers: an LSTM's state for every Kafka stream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for commands in (cli_models, cli_kafka, cli_state, cli_gradients, cli_compare, cli_evaluate, cli_inspect):
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
    except OSError as error:
        if error.filename is None:
            raise
        _fail(TelltaleError(f"{error.filename}: {error.strerror}"), 1)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"[bold red]telltale:[/] {escape(line)}", soft_wrap=True)
    sys.exit(code)
