"""A real schema registry for the tests: Apicurio's, by its programming interface that is compatible with Confluent's.

Maven fetches it once (142 MB, into build/apicurio). It keeps what it is told in memory.
"""

import fcntl
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kafka import NoBroker, _end_with_parent, _free_ports, require_java

VERSION = "2.6.13.Final"  # the last that runs on Java 17
FOLDER = Path(__file__).parents[1] / "build" / "apicurio"
JAR = FOLDER / f"apicurio-registry-app-{VERSION}-runner.jar"
UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
FETCHED_WITHIN_S, UP_WITHIN_S = 600.0, 300.0


class NoRegistry(Exception):
    """It cannot be had, and why."""


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """Its URL, for clients of Confluent's. folder: for what it says. Raises NoRegistry."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".fetching").open("w") as lock:  # of several processes one fetches, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch()
    port = _free_ports(1)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    said = folder / "apicurio.log"
    with said.open("w") as out:
        process = subprocess.Popen(
            ["java", "-Xmx512m", "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}", "-jar", JAR],
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + UP_WITHIN_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoRegistry(f"Apicurio's registry did not start: {said.read_text()[-2_000:]}")
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _fetch() -> None:
    complete = FOLDER / f"{VERSION}.complete"
    if complete.exists():
        return
    try:
        require_java()
    except NoBroker as reason:
        raise NoRegistry(str(reason)) from None
    if shutil.which("mvn") is None:
        raise NoRegistry("mvn not found: install Maven (Debian: apt install maven)")
    artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    # Without overwriting, a folder that was unpacked once and deleted stays empty. Its marks go where Maven is run.
    again = ("-Dmdep.overWriteReleases=true", "-Dstyle.color=never")
    command = ["mvn", "-q", "-B", UNPACK, artifact, f"-DoutputDirectory={FOLDER}", *again]
    try:
        ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=FETCHED_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise NoRegistry(f"Maven had not fetched {artifact[11:]} within {FETCHED_WITHIN_S:.0f} s") from None
    if ran.returncode or not JAR.exists():
        raise NoRegistry(f"Maven could not fetch {artifact[11:]}: {(ran.stdout + ran.stderr)[-1_000:]}")
    complete.touch()
