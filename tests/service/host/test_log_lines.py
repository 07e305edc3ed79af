"""Log lines: one an event, safe to read whatever is in it, and never a secret."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.host.log_lines import REDACTED, Seldom, configure

CANARY = "canary'Pa55 w\\ord/ü"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging as it was: it belongs to the whole process."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    yield
    root.handlers[:], level, sys.excepthook, threading.excepthook = before
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = lines(stream)
    return line


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("INFO", "json", [CANARY], stream)
    return stream


def test_an_event_is_one_json_object(stream: io.StringIO) -> None:
    structlog.get_logger("telltale.worker").info("partition_assigned", topic="plant", partition=3, lag=None)
    line = only_line(stream)
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "partition_assigned",
        "logger": "telltale.worker",
        "topic": "plant",
        "partition": 3,
        "lag": None,
    }


def test_what_a_library_logs_comes_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("Invalid %s received.", "request")
    line = only_line(stream)
    assert (line["event"], line["message"], line["logger"]) == (
        "library_message",
        "Invalid request received.",
        "some.library",
    )


def test_lines_below_the_level_are_left_out(stream: io.StringIO) -> None:
    structlog.get_logger("telltale").debug("detail")
    logging.getLogger("asyncio").debug("detail")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_the_kafka_client_never_tells_details(level: str) -> None:
    stream = io.StringIO()
    configure(level, "json", [], stream)
    logging.getLogger("kafka").info("config")
    logging.getLogger("kafka.conn").debug("SASL request with a password")
    assert stream.getvalue() == ""
    logging.getLogger("kafka.conn").warning("connection refused")
    assert only_line(stream)["logger"] == "kafka.conn"


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    configure("INFO", "auto", [], terminal)
    structlog.get_logger("telltale").info("started", path="a b", count=3)
    assert terminal.getvalue().endswith('INFO     started path="a b" count=3 logger=telltale\n')
    configure("INFO", "auto", [], pipe)
    structlog.get_logger("telltale").info("started")
    assert only_line(pipe)["event"] == "started"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_never_shows_in_whatever_spelling(form: str) -> None:
    stream = io.StringIO()
    configure("DEBUG", form, [CANARY, "longer " + CANARY], stream)
    log = structlog.get_logger("telltale")
    log.info("connect", password=CANARY, url=f"https://u:{CANARY}@host", config={"sasl": [CANARY]})
    log.info("connect", config=repr({"password": CANARY}), body=json.dumps({"p": CANARY}), raw=CANARY.encode())
    log.info("connect", url="canary%27Pa55%20w%5Cord%2F%C3%BC", form="canary%27Pa55+w%5Cord%2F%C3%BC")
    log.info("connect", long="x" * 250 + CANARY)
    logging.getLogger("library").error("login as %s failed", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    text = stream.getvalue()
    assert "canary" not in text
    assert "w\\\\ord" not in text
    assert text.count("ValueError: " + REDACTED) == 2


def test_a_long_string_is_cut_and_tells_its_length(stream: io.StringIO) -> None:
    structlog.get_logger("telltale").info("rejected", detail="ä" * 1_000)
    detail = only_line(stream)["detail"]
    assert detail == "ä" * 128 + "… (2000 bytes)"


@given(value=st.text(), form=st.sampled_from(["json", "text"]))
def test_no_value_can_forge_a_line_or_drive_a_terminal(value: str, form: str) -> None:
    stream = io.StringIO()
    configure("INFO", form, [], stream)
    structlog.get_logger("telltale").info(value, detail=value, inner=[{value: value}])
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert all(character.isprintable() or character == "\x7f" for character in text[:-1])
    if form == "json":
        json.loads(text)


def test_numbers_that_json_has_not_are_written_as_text(stream: io.StringIO) -> None:
    structlog.get_logger("telltale").info("scored", score=float("nan"), peak=float("inf"))
    assert {"score": "nan", "peak": "inf"}.items() <= only_line(stream).items()


def test_a_traceback_on_a_terminal_keeps_its_lines() -> None:
    terminal = Terminal()
    configure("INFO", "auto", [], terminal)
    try:
        raise ValueError("\x1b[31mred")
    except ValueError:
        structlog.get_logger("telltale").exception("failed")
    first, *rest = terminal.getvalue().splitlines()
    assert "failed" in first
    assert rest[-1] == "    ValueError: \\x1b[31mred"


def _fail() -> None:
    raise ValueError("broken")


def test_an_uncaught_exception_is_a_line_too(stream: io.StringIO) -> None:
    thread = threading.Thread(target=_fail)
    thread.start()
    thread.join()
    line = only_line(stream)
    assert (line["event"], line["level"]) == ("uncaught_exception", "critical")
    assert line["exception"].endswith("ValueError: broken")


def test_ending_a_program_is_no_uncaught_exception(stream: io.StringIO) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert stream.getvalue() == ""


def test_a_warning_is_a_line_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(capture=False)
        configure("INFO", "json", [], stream)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "UserWarning: old" in only_line(stream)["message"]


def test_a_reason_passes_once_an_interval_and_tells_how_many_were_held_back() -> None:
    now = [0.0]
    seldom = Seldom(10.0, lambda: now[0])
    assert [seldom.pass_on("late") for _ in range(4)] == [0, None, None, None]
    assert seldom.pass_on("bad_json") == 0
    now[0] = 10.0
    assert seldom.pass_on("late") == 3
    assert seldom.pass_on("late") is None
    now[0] = 20.0
    assert seldom.pass_on("late") == 1
