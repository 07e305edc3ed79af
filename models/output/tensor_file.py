"""Every safetensors file of the project has a hash of its own tensors."""

import hashlib


def sha256_of_tensors(content: bytes) -> str:
    """Of everything behind the header of a safetensors file, 64 hexadecimal digits."""
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
