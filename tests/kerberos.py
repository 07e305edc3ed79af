"""A real Kerberos for the tests: MIT's KDC, with a realm, principals and keytabs of its own in a folder."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.kafka import _end_with_parent, _free_ports

REALM = "TELLTALE.TEST"
PROGRAMS = ("kdb5_util", "kadmin.local", "krb5kdc")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
DONE_WITHIN_S = 60.0


class NoKerberos(Exception):
    """It cannot be had, and what to install."""


class Realm(NamedTuple):
    """A KDC that runs."""

    config: Path  # krb5.conf
    folder: Path

    def keytab(self, principal: str) -> Path:
        """The keys of a principal, which is made."""
        path = self.folder / f"{principal.replace('/', '-')}.keytab"
        _run(self.folder, ["kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {principal}"])
        _run(self.folder, ["kadmin.local", "-r", REALM, "-q", f"ktadd -k {path} {principal}"])
        return path


def require_kerberos() -> None:
    """Raises NoKerberos."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        raise NoKerberos(f"{', '.join(missing)} not found: apt-get install krb5-kdc krb5-admin-server")
    if find_spec("gssapi") is None:
        raise NoKerberos("no module gssapi: apt-get install libkrb5-dev, pip install 'telltale[kerberos]'")


@contextmanager
def running_kdc(folder: Path) -> Iterator[Realm]:
    """folder: for all that it keeps. Raises NoKerberos."""
    require_kerberos()
    port, log = _free_ports(1), folder / "kdc.log"
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
        " dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n"
        f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n localhost = {REALM}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[realms]\n {REALM} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n"
        f"  acl_file = {folder}/acl\n  kdc_listen = 127.0.0.1:{port}\n  kdc_tcp_listen = 127.0.0.1:{port}\n }}\n"
        f"[logging]\n kdc = FILE:{folder}/requests.log\n"
    )
    _run(folder, ["kdb5_util", "create", "-r", REALM, "-s", "-P", "master"])
    with log.open("w") as out:
        process = subprocess.Popen(
            [shutil.which("krb5kdc", path=PATH) or "", "-n", "-r", REALM, "-P", str(folder / "pid")],
            env=_environment(folder),
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + DONE_WITHIN_S
        while "commencing operation" not in log.read_text() + _text(folder / "requests.log"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoKerberos(f"krb5kdc did not start: {log.read_text()}{_text(folder / 'requests.log')}")
            time.sleep(0.05)
        yield Realm(folder / "krb5.conf", folder)
    finally:
        process.terminate()
        process.wait(DONE_WITHIN_S)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": PATH,
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
    }


def _run(folder: Path, command: Sequence[str]) -> None:
    done = subprocess.run(
        command, env=_environment(folder), capture_output=True, text=True, timeout=DONE_WITHIN_S, check=False
    )
    if done.returncode:
        raise NoKerberos(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
