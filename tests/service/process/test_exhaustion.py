"""A process that is granted too little says of what, and ends with 1: no traceback."""

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.process.exhaustion import exhausted

COMMAND = Path(sys.executable).parent / "telltale"


def test_what_there_is_too_little_of_is_named_with_its_limit() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    said = exhausted(OSError(errno.EMFILE, "Too many open files")) or ""
    assert said.startswith("out of open files ([Errno 24] Too many open files): the limit (ulimit -n) is ")
    assert said.endswith(f" is {files:,}") or files == resource.RLIM_INFINITY
    assert (exhausted(MemoryError()) or "").startswith("out of memory (MemoryError): the limit (ulimit -v")
    assert (exhausted(RuntimeError("can't start new thread")) or "").startswith("out of threads")
    assert (exhausted(ImportError("lib.so: failed to map segment from shared object")) or "").startswith(
        "out of memory"
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("no one knows"), OSError(errno.ENOENT, "No such file"), ImportError("x")]
)
def test_any_other_error_is_none_of_it(error: Exception) -> None:
    assert exhausted(error) is None


@pytest.mark.slow
def test_a_command_that_is_granted_too_little_memory_says_so(tmp_path: Path) -> None:
    granted = 700 * 2**20  # PyTorch alone takes more
    (tmp_path / "none.safetensors").write_bytes(bytes(100))
    ended = subprocess.run(
        [COMMAND, "checkpoint", "show", tmp_path / "none.safetensors"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (granted, granted)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "telltale: out of memory" in ended.stderr
    assert f"is {granted:,} bytes" in ended.stderr
