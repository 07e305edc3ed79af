"""What a report says of itself: by which version and command it was made, and when."""

import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def made_now() -> str:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"Telltale {version('telltale')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, by: {command}"
