"""The deployment of docker-compose.yml on this machine's Docker engine, as a project of its own on free ports."""

import json
import os
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.kafka import Broker

ROOT = Path(__file__).parents[2]
PROJECT = "telltale-e2e"
PROFILE = ("--profile", "demo")
# Not asked anything, and not to be had everywhere: scaled to 0, its image would be pulled all the same.
LEFT_OUT = "grafana"
WORKERS = 2  # at most
BUILD_WITHIN_S = 1_200.0
COMMAND_WITHIN_S = 600.0


class NoEngine(Exception):
    """There is no Docker engine with Compose here; the message says what is missing."""


@dataclass(frozen=True)
class Deployment:
    """A project that is up. ports: by what listens there."""

    environment: Mapping[str, str]
    ports: Mapping[str, int]
    began: float  # on time.monotonic, when `up` was called

    def with_settings(self, **settings: str) -> "Deployment":
        """The same deployment, as these variables of .env.example change it with the next `up`."""
        return replace(self, environment={**self.environment, **settings})

    @property
    def kafka(self) -> Broker:
        return Broker(f"localhost:{self.ports['KAFKA_PORT']}", "compose")

    def compose(self, *arguments: str, within_s: float = COMMAND_WITHIN_S) -> str:
        """Run `docker compose`; returns what it prints. Raises with what it complains of."""
        return _run("docker", "compose", *PROFILE, *arguments, within_s=within_s, environment=self.environment)

    def up(self, *arguments: str) -> None:
        wanted = [one for one in self.compose("config", "--services").split() if one != LEFT_OUT]
        self.compose("up", "--detach", "--no-build", *arguments, *wanted)

    def get(self, port: str, path: str) -> Any:
        """JSON that a service answers with."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def explain(self) -> str:
        """What there is, and what it last said."""
        return self.compose("ps", "--all") + self.compose("logs", "--no-color", "--tail", "40")

    def states(self) -> dict[str, list[str]]:
        """By service: what its containers are doing, and their health."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        found: dict[str, list[str]] = {}
        for container in map(json.loads, lines):
            state = container["Health"] or container["State"]
            found.setdefault(container["Service"], []).append(f"{state} {container['ExitCode']}")
        return found


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Look again and again; returns how long it took. Whoever refuses to answer is not up yet."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.5)


@contextmanager
def deployed() -> Iterator[Deployment]:
    """The image built, everything up; what is left of it goes away afterwards. Raises NoEngine."""
    require_engine()
    first = _free_ports(3 + WORKERS)
    ports = dict(zip(("KAFKA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"), range(first, first + 3), strict=True))
    environment = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "TORCH_BACKEND": os.environ.get("TORCH_BACKEND", ""),  # PyTorch's own index is not reached from everywhere
        **{name: str(port) for name, port in ports.items()},
        "HTTP_PORTS": f"{first + 3}-{first + 2 + WORKERS}",
        **_builder(),
    }
    _run("docker", "compose", *PROFILE, "build", within_s=BUILD_WITHIN_S, environment=environment)
    deployment = Deployment(environment, ports, time.monotonic())
    deployment.compose("down", "--volumes", "--remove-orphans")  # of a run that was killed
    try:
        try:
            deployment.up()
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{deployment.explain()}") from None
        yield deployment
    finally:
        deployment.compose("down", "--volumes", "--remove-orphans")


def left_of_project() -> dict[str, list[str]]:
    """What the engine has of the project: containers, networks, volumes."""
    label = f"label=com.docker.compose.project={PROJECT}"
    return {
        "containers": _run("docker", "ps", "--all", "--quiet", "--filter", label).split(),
        "networks": _run("docker", "network", "ls", "--quiet", "--filter", label).split(),
        "volumes": _run("docker", "volume", "ls", "--quiet", "--filter", label).split(),
    }


def require_engine() -> None:
    """Raises NoEngine, saying what to install, unless `docker compose` has an engine to work with."""
    for command, missing in (
        (("docker", "info"), "a Docker engine that answers on the default socket, or on DOCKER_HOST"),
        (("docker", "compose", "version"), "Compose v2, the plugin of the docker command"),
    ):
        try:
            _run(*command)
        except (FileNotFoundError, RuntimeError) as error:
            raise NoEngine(f"these tests start docker-compose.yml and need {missing}: {error}") from None


def _free_ports(count: int) -> int:
    """The first of `count` neighbours that nothing listens on, below those that clients are given."""
    while True:
        first = random.randrange(20_000, 32_768 - count)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def _builder() -> dict[str, str]:
    """Compose asks for BuildKit unless it is told that there is none."""
    try:
        _run("docker", "buildx", "version")
    except RuntimeError:
        return {"DOCKER_BUILDKIT": "0", "COMPOSE_BAKE": "false"}
    return {}


def _run(*command: str, within_s: float = COMMAND_WITHIN_S, environment: Mapping[str, str] | None = None) -> str:
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout
