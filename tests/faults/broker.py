"""A broker that the suite may kill, stop and start again: the same port, the same folder."""

import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka import BROKER_SCRIPT, Broker, NoBroker, _answers_within, _end_with_parent, _free_ports


class OwnBroker:
    """deploy/kafka/broker, ended with the suite."""

    def __init__(self, more: Mapping[str, str] | None = None, **settings: str) -> None:
        """settings: of the broker, with _ for the dots in their names. more: others, by their very names.

        In values, PORT is the port of the broker's own listener.
        """
        named = {name.replace("_", "."): value for name, value in settings.items()} | dict(more or {})
        self._folder = tempfile.TemporaryDirectory(prefix="telltale-faults-kafka-", ignore_cleanup_errors=True)
        self._port = _free_ports(2)
        self._settings = [f"{name}={value.replace('PORT', str(self._port))}" for name, value in named.items()]
        self._output = Path(self._folder.name) / "output"
        self.broker = Broker(f"127.0.0.1:{self._port}", "own")
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def kill(self) -> None:
        self._process.kill()  # a stopped one too
        self._process.wait()

    def end(self) -> None:
        """In good order, as an operator would."""
        self._process.terminate()
        self._process.wait(120)

    def start(self) -> None:
        """Start again; answers when this returns."""
        self._process = self._start()

    def stop(self) -> None:
        """Let it stand still, with all its connections."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._output.open("a") as out:
            process = subprocess.Popen(
                [
                    *(BROKER_SCRIPT, "start", "--port", str(self._port), "--dir", f"{self._folder.name}/broker"),
                    *(word for setting in self._settings for word in ("--set", setting)),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
                start_new_session=True,
            )
        while not _answers_within(self.broker.bootstrap_servers, 1.0):
            if process.poll() is not None:
                raise NoBroker(self._output.read_text().strip() or f"{BROKER_SCRIPT} ended with {process.returncode}")
        return process
