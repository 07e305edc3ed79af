"""The machine that figures are measured on, in words."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path


def machine() -> str:
    """Cores, memory and Python, as they stand above figures."""
    names = list(_cpu_names())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{len(names)} cores of {names[0] if names else platform.machine()}"
    return f"{cores}, {memory:.0f} GiB, Python {platform.python_version()}"


def _cpu_names() -> Iterator[str]:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()
