"""What a peer runs in, made under build/peers when it is missing: an environment of its own for each.

Nothing of it is a dependency of Telltale: versions are pinned here and in java/*/pom.xml.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILD = ROOT / "build" / "peers"


class NotInstalled(Exception):
    """This peer cannot take part; the message says what is missing."""


class Environment(Protocol):
    def install(self) -> None:
        """Make what is missing. Raises NotInstalled."""

    def command(self) -> list[str]:
        """What starts the peer, without its arguments."""


@dataclass(frozen=True)
class OwnPython:
    """Telltale's own environment, for a program that needs no more."""

    program: str

    def install(self) -> None:
        pass

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "programs" / self.program)]


@dataclass(frozen=True)
class Python:
    """A virtual environment, made by uv, that has these packages and what they need."""

    name: str
    program: str
    packages: tuple[str, ...]

    def install(self) -> None:
        folder, wanted = BUILD / self.name, "\n".join(self.packages)
        marker = folder / "installed"  # written last: what was interrupted is not taken for complete
        if marker.exists() and marker.read_text() == wanted:
            return
        uv = os.environ.get("UV", "uv")
        if shutil.which(uv) is None:
            raise NotInstalled(f"{uv} not found: `make bench-peers` brings uv, or set UV to its path")
        shutil.rmtree(folder, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(self._python), *self.packages])
        marker.write_text(wanted)

    def command(self) -> list[str]:
        return [str(self._python), str(HERE / "programs" / self.program)]

    @property
    def _python(self) -> Path:
        return BUILD / self.name / "bin" / "python"


@dataclass(frozen=True)
class Java:
    """A module of java/, built by Maven."""

    module: str
    main: str
    options: tuple[str, ...] = ()

    def install(self) -> None:
        _package(self.module)

    def command(self) -> list[str]:
        built = BUILD / "java" / self.module
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
        return ["java", logging, *self.options, "-cp", f"{built / 'classes'}:{built / 'lib'}/*", self.main]


@cache
def _package(module: str) -> None:
    """Build a module, once in a run. Raises NotInstalled."""
    for program in ("javac", "mvn"):
        if shutil.which(program) is None:
            raise NotInstalled(f"{program} not found: install a JDK, 17 or newer, and Maven")
    pom = HERE / "java" / "pom.xml"
    what = ("-pl", module, "-am", f"-Dpeers.build={BUILD / 'java'}", "package")
    _run(["mvn", "--quiet", "--batch-mode", "-f", str(pom), *what])


def _run(command: Sequence[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        raise NotInstalled(f"{Path(command[0]).name} ended with {ran.returncode}: {' '.join(said[:2])}")
