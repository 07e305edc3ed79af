"""Certificates for a broker and its clients, made with openssl, which every Debian with Java has."""

import subprocess
from pathlib import Path
from typing import NamedTuple

ADDRESS = "subjectAltName=IP:127.0.0.1,DNS:localhost"
KEY_PASSWORD = "opens the key"


class Certificates(NamedTuple):
    """PEM files."""

    authority: Path  # that signed the others
    stranger: Path  # an authority that signed none of them
    broker: Path  # key and certificate, for 127.0.0.1 and localhost
    client: Path
    client_key: Path
    locked_key: Path  # the same, encrypted with KEY_PASSWORD


def make_certificates(folder: Path) -> Certificates:
    authority, stranger = (_authority(folder, name) for name in ("authority", "stranger"))
    broker_key, broker = _signed(folder, "broker", authority, ADDRESS)
    client_key, client = _signed(folder, "client", authority, "extendedKeyUsage=clientAuth")
    both = folder / "broker.both.pem"
    both.write_text(broker_key.read_text() + broker.read_text())
    locked = folder / "client.locked.key"
    _openssl("pkey", "-in", client_key, "-aes256", "-passout", f"pass:{KEY_PASSWORD}", "-out", locked)
    return Certificates(authority, stranger, both, client, client_key, locked)


def _authority(folder: Path, name: str) -> Path:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ("-subj", f"/CN={name}", "-days", "3", "-nodes")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", certificate, *subject)
    return certificate


def _signed(folder: Path, name: str, authority: Path, extension: str) -> tuple[Path, Path]:
    key, request, certificate, more = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem", "ext"))
    more.write_text(extension)
    _openssl("req", "-newkey", "rsa:2048", "-keyout", key, "-out", request, "-subj", f"/CN={name}", "-nodes")
    signer = ("-CA", authority, "-CAkey", authority.with_suffix(".key"), "-CAcreateserial")
    _openssl("x509", "-req", "-in", request, *signer, "-out", certificate, "-days", "3", "-extfile", more)
    return key, certificate


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
