"""The `telltale` command in this process: what it prints, and the code it ends with."""

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple, TextIO

import pytest
import structlog

from service.cli import main as cli


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class _OfThisThread(io.StringIO):
    """What the thread that made it writes; clients that earlier tests left behind have threads that log as well."""

    def __init__(self, others: TextIO) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self._others = others

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return super().write(text)
        return self._others.write(text)


class Telltale:
    """Call it with the arguments of the command line."""

    def __call__(self, *arguments: object) -> Ran:
        out, err = io.StringIO(), _OfThisThread(sys.stderr)
        with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(out), redirect_stderr(err):
            monkeypatch.setattr(sys, "argv", ["telltale", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out.getvalue(), err.getvalue())

    def does(self, *arguments: object) -> str:
        """Run what must succeed; returns what it prints."""
        ran = self(*arguments)
        assert ran.code == 0, ran
        return ran.out

    def refuses(self, *arguments: object, code: int) -> str:
        """Run what must fail; returns its message, which is for people: no traceback, nothing on stdout."""
        ran = self(*arguments)
        assert ran.code == code, ran
        assert ran.out == ""
        assert "Traceback" not in ran.err, ran.err
        return " ".join(ran.err.split())


@contextmanager
def command_line() -> Iterator[Telltale]:
    """Without the settings of this environment; logging and warnings are afterwards as they were."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in settings_of(os.environ):
            monkeypatch.delenv(name)
        monkeypatch.setenv("COLUMNS", "200")
        yield Telltale()
    root.handlers[:], (sys.excepthook, threading.excepthook) = handlers, hooks
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def settings_of(environment: os._Environ[str]) -> list[str]:
    """The variables that Telltale would take for settings."""
    return [name for name in environment if name.upper().startswith("TELLTALE_")]
