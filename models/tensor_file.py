"""What every safetensors file of the project has in common: it is written in one piece, and hashes its own tensors."""

import hashlib
import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """The file is whole or it is not there, whatever happens meanwhile."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def sha256_of_tensors(content: bytes) -> str:
    """Of everything behind the header of a safetensors file, 64 hexadecimal digits."""
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
