"""A real Prometheus and a real Alertmanager for the tests, with the configuration that is in deploy/.

Both are Debian packages: apt install prometheus prometheus-alertmanager.
"""

import copy
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
UP_WITHIN_S = 180.0


def program(name: str) -> str:
    """Where it is; a failure that says what to install when it is not there."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"this test needs {name} (Debian: apt install {PACKAGES[name]})", pytrace=False)
    return found


@dataclass(frozen=True)
class Served:
    """A server that answers JSON on a port of this machine."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        whole = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(whole, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                pytest.fail(f"{whole}: {error.code} {error.read().decode()}")

    def samples(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers now: labels and (time, value) of each series."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["data"]["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager shows: those that are not resolved."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return found


@contextmanager
def running_alertmanager(folder: Path, hook: str | None = None) -> Iterator[Served]:
    """hook: where every receiver sends to, at /RECEIVER, within a second; None: they send nothing, as deployed."""
    port = _free_port()
    file = DEPLOY / "alertmanager" / "alertmanager.yml"
    if hook is not None:
        config = yaml.safe_load(file.read_text())
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(_sending(config, hook)))
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # alone
    ]
    with _serving(command, port, folder / "alertmanager.log") as served:
        yield served


RECEIVERS = yaml.safe_load((DEPLOY / "alertmanager" / "receivers.yml").read_text())


@contextmanager
def notifying_alertmanager(
    folder: Path, receivers: list[dict[str, Any]], alertmanager: str | None = None, **more: Any
) -> Iterator[Served]:
    """With the routes that are deployed and these receivers, which hear of everything at once.

    alertmanager: the program; None: Debian's. more: of the configuration.
    """
    config = {
        **deployed(),
        "receivers": receivers,
        "templates": [str(DEPLOY / "alertmanager" / "telltale.tmpl")],
        **more,
    }
    config["route"] = {**config["route"], "group_wait": "1s", "group_interval": "2s"}
    file, port = folder / "receivers.yml", _free_port()
    file.write_text(yaml.safe_dump(config))
    command = [
        alertmanager or program("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with _serving(command, port, folder / "alertmanager.log") as served:
        yield served


def deployed() -> dict[str, Any]:
    """Alertmanager's configuration in deploy/."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    return config


@contextmanager
def running_prometheus(folder: Path, target: str, alertmanager: str, stage: str | None = None) -> Iterator[Served]:
    """It scrapes the service at `target` (host:port) every second, as often as it evaluates its rules.

    stage: likewise, what runs beside the service.
    """
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(_on_this_machine(config, target, alertmanager, stage)))
    port = _free_port()
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with _serving(command, port, folder / "prometheus.log") as served:
        yield served


@contextmanager
def taking_prometheus(folder: Path, out_of_order: str | None) -> Iterator[Served]:
    """It scrapes nothing and takes samples by remote write. out_of_order: as old as this they may be; None: never."""
    window = {} if out_of_order is None else {"storage": {"tsdb": {"out_of_order_time_window": out_of_order}}}
    file, port = folder / "prometheus.yml", _free_port()
    file.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, **window}))
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]
    with _serving(command, port, folder / "prometheus.log") as served:
        yield served


def _sending(deployed: Any, hook: str) -> Any:
    config = copy.deepcopy(deployed)
    config["route"] = {**config["route"], "group_wait": "1s", "group_interval": "2s"}
    config["receivers"] = [
        {**one, "webhook_configs": [{"url": f"{hook}/{one['name']}"}]} for one in config["receivers"]
    ]
    return config


def _on_this_machine(deployed: Any, target: str, alertmanager: str, stage: str | None) -> Any:
    config = copy.deepcopy(deployed)
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in config["rule_files"]]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    targets = {"telltale": target, "telltale-incidents": stage}
    config["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": [place]}]}
        for job in config["scrape_configs"]
        if (place := targets.get(job["job_name"])) is not None
    ]
    return config


@contextmanager
def _serving(command: list[str], port: int, log: Path) -> Iterator[Served]:
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        _until_ready(server, port, log)
        yield Served(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline, pause = time.monotonic() + UP_WITHIN_S, threading.Event()
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
            return
        pause.wait(0.05)
    pytest.fail(f"{log.stem} did not come up: {log.read_text()[-2_000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
