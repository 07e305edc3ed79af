import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from models.training.distributed import ALONE, joined
from models.training.loop import fit
from tests.models.learners import content
from tests.models.training.test_state import NET, SHORT, some_series

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
W = 2
RELATIVE = 1e-5
"""Of losses and weights: the sums are the same, added up in another order."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def learners(does: str, folder: Path, timeout_s: float) -> Iterator[list["subprocess.Popen[str]"]]:
    """W processes, started as torchrun starts them, about to join."""
    port = str(free_port())
    us = {"WORLD_SIZE": str(W), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.models.learners", does, str(folder), str(timeout_s)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **us, "RANK": str(rank)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(W)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.thorough
def test_two_processes_learn_what_one_does_and_go_on_as_one_does(tmp_path: Path) -> None:
    """Five lanes, two at a time: the second process has a shorter one in each group, and none in the last."""
    with learners("learn", tmp_path, 120) as processes:
        errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * W, errors
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(W)]
    assert found[0] == found[1]
    assert found[0]["differed"], "they were given other data, and learned from it"
    assert found[0]["ended"] == ["interrupted", "interrupted"]
    assert found[0]["resumed"] == found[0]["calm"]
    expected = content(fit(some_series(), NET, SHORT, CPU))
    for mine, one in zip(found[0]["calm"]["epochs"], expected["epochs"], strict=True):
        assert mine == pytest.approx(one, rel=RELATIVE)
    for name, weight in expected["weights"].items():
        assert found[0]["calm"]["weights"][name] == pytest.approx(weight, rel=RELATIVE, abs=RELATIVE), name


@pytest.mark.thorough
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_gone_or_stands_still_ends_the_others_in_bounded_time(
    tmp_path: Path, how: signal.Signals
) -> None:
    with learners("go_on", tmp_path, 3.0) as (first, second):
        assert first.stdout is not None
        assert first.stdout.readline() == "on\n"
        second.send_signal(how)
        _, said = first.communicate(timeout=180)
    assert first.returncode == 1
    assert "LostProcess: process 0 of 2: another one has ended or hangs" in said


def test_without_torchrun_a_process_is_alone() -> None:
    with joined(CPU) as ranks:
        assert ranks == ALONE
        assert ranks.first
        assert ranks.share(["a", "b"]) == ["a", "b"]
        assert ranks.sum(1.5, 2) == [1.5, 2]
        assert not ranks.any(holds=False)
        assert ranks.from_first(b"x") == b"x"
