"""What the Makefile's targets need of the machine: .ci/packages on machines that have only what a test puts there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "packages"
TOOLS = ("bash", "cat", "dirname", "env", "head", "id", "mktemp", "rm", "sed", "tail", "timeout")
ALL = ("python", "broker", "browser", "prometheus", "node")
JAVA = "#!/bin/sh\necho 'openjdk version \"{}.0.1\"' >&2\n"
WRITES = '#!/bin/sh\necho "$0 $*" >> "${0%/*}/../called"\n'
PROGRAMS = ("mvn", "chromium", "promtool", "prometheus", "amtool", "prometheus-alertmanager", "node", "npm")


class Machine:
    """A folder with the script in it, and a PATH."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / ".ci").mkdir()
        self._script = shutil.copy(SCRIPT, folder / ".ci")
        self._called = folder / "called"
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name} here"))
        (self.bin / "python3").symlink_to(sys.executable)
        self.add("uv")

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        file = self.bin / name
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def runs(self, *groups: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/bash", self._script, *groups],
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def called(self) -> list[str]:
        return [line.rpartition("/")[2] for line in self._called.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """Without root: id says so."""
    machine.add("apt-get", WRITES)
    machine.add("apt-cache")
    machine.add("id", "#!/bin/sh\necho 1000\n")
    return machine


def complete(machine: Machine, java: int = 17) -> None:
    machine.add("java", JAVA.format(java))
    for name in PROGRAMS:
        machine.add(name)


def test_a_machine_that_has_everything_is_told_nothing(machine: Machine) -> None:
    complete(machine)
    ran = machine.runs(*ALL)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_without_rights_one_line_names_all_packages_and_the_command(debian: Machine) -> None:
    ran = debian.runs(*ALL)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert (
        "apt-get install openjdk-17-jre-headless maven chromium prometheus prometheus-alertmanager nodejs npm" in line
    )


def test_a_sudo_that_asks_for_a_password_is_no_right(debian: Machine) -> None:
    debian.add("sudo", "#!/bin/sh\nexit 1\n")
    ran = debian.runs("browser")
    assert ran.returncode == 1
    assert ran.stderr.endswith("sudo apt-get install chromium\n")


@pytest.mark.parametrize("how", ["root", "sudo"])
def test_with_rights_what_is_missing_is_installed_and_nothing_else(debian: Machine, how: str) -> None:
    complete(debian)
    (debian.bin / "chromium").unlink()
    (debian.bin / "amtool").unlink()
    if how == "root":
        debian.add("id", "#!/bin/sh\necho 0\n")
    else:
        debian.add("sudo", '#!/bin/sh\nshift\n[ "$1" = true ] || exec "$@"\n')
        debian.add("true")
    ran = debian.runs(*ALL)
    assert ran.returncode == 0, ran.stderr
    update, install = debian.called
    assert update.endswith("update")
    assert install.endswith("install --yes --no-install-recommends chromium prometheus-alertmanager")


def test_a_failed_installation_ends_with_what_the_package_manager_said_and_the_command(debian: Machine) -> None:
    debian.add("id", "#!/bin/sh\necho 0\n")
    debian.add("apt-get", "#!/bin/sh\necho no such archive >&2\nexit 100\n")
    ran = debian.runs("browser")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0] == "no such archive"
    assert ran.stderr.endswith("sudo apt-get install chromium\n")


@pytest.mark.slow
def test_where_there_is_no_apt_the_programs_are_named(machine: Machine) -> None:
    ran = machine.runs(*ALL)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("missing: Java 17, Maven, Chromium, Prometheus, Alertmanager, Node.js, npm; install them")


def test_the_library_that_drives_the_browser_is_looked_for_on_debian(debian: Machine) -> None:
    complete(debian)
    debian.add("dpkg-query", "#!/bin/sh\nexit 1\n")
    assert debian.runs("browser").stderr.endswith("sudo apt-get install libatomic1\n")
    debian.add("dpkg-query")
    assert debian.runs("browser").returncode == 0


def test_a_java_that_is_too_old_is_missing(debian: Machine) -> None:
    complete(debian, java=11)
    assert "openjdk-17-jre-headless" in debian.runs("java").stderr


@pytest.mark.parametrize("other", ["env", "address", "container", "image"])
def test_java_is_not_asked_for_where_the_tests_have_another_broker(debian: Machine, other: str) -> None:
    settings = {
        "env": {"TELLTALE_TEST_KAFKA": "env"},
        "address": {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"},
        "container": {"TELLTALE_TEST_KAFKA": "container"},
        "image": {},
    }[other]
    if other == "image":
        debian.add("docker")
    assert debian.runs("broker", **settings).returncode == 0
    assert debian.runs("broker", **{**settings, "TELLTALE_TEST_KAFKA": "local"}).returncode == 1


def test_the_image_that_is_looked_for_is_the_one_that_the_tests_start() -> None:
    from tests.kafka import IMAGE  # noqa: PLC0415

    assert f"\nimage={IMAGE} " in SCRIPT.read_text()


def test_a_python_without_pip_and_venv_lacks_a_package(debian: Machine) -> None:
    (debian.bin / "uv").unlink()
    debian.add("python3", '#!/bin/sh\n[ "${2#*find_spec}" = "$2" ]\n')
    assert debian.runs("python").stderr.endswith("sudo apt-get install python3-venv\n")


def test_a_python_that_is_too_old_ends_it_at_once(debian: Machine) -> None:
    debian.add("python3", '#!/bin/sh\n[ "$1" != -c ] || exit 1\necho Python 3.9.2\n')
    ran = debian.runs("python")
    assert ran.returncode == 1
    assert ran.stderr == "Python 3.11 or newer is needed, found Python 3.9.2: set PYTHON to one\n"
