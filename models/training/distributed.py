"""Several processes that train one forecaster together: how they share lanes, and what they agree on.

torchrun starts them and numbers them in the environment. Every process reads all of the data and takes every W-th lane
of a group; DistributedDataParallel averages their gradients, so that all of them hold the same weights.
"""

import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
from torch import distributed, nn

TIMEOUT_S = 600.0  # for which one process may keep the others waiting before they end with an error

T = TypeVar("T")


class LostProcess(ValueError):
    """Another process of this run has ended or does not answer: the others cannot continue without it."""


class DifferentData(ValueError):
    """The processes of a run have not read the same data: says which value differs."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The W processes of a run, seen from one of them. Each calls the same methods in the same order."""

    rank: int = 0
    world: int = 1  # W
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the process that reports and writes files."""
        return self.rank == 0

    def share(self, lanes: Sequence[T]) -> list[T]:
        """This process's lanes of a group; none where there are fewer lanes than processes."""
        return list(lanes[self.rank :: self.world])

    def sum(self, *numbers: float) -> list[float]:
        """Each number added up over the processes, in float64."""
        if self.world == 1:
            return list(numbers)
        together = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together)
        return together.tolist()

    def any(self, holds: bool) -> bool:
        """Whether it holds in any process; all get the same answer."""
        return self.sum(float(holds))[0] > 0

    def from_first(self, content: bytes) -> bytes:
        """The first process's bytes, in all of them."""
        if self.world == 1:
            return content
        length = int(self.sum(float(len(content)) if self.first else 0.0)[0])
        column = torch.zeros(length, dtype=torch.uint8)
        if self.first and length:
            column = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        column = column.to(self.device)
        distributed.broadcast(column, 0)
        return column.cpu().numpy().tobytes()

    def require_same(self, found: bytes, what: str) -> None:
        """Raises DifferentData in all processes if `found` is not the same in all of them."""
        if self.any(self.from_first(found) != found):
            raise DifferentData(f"process {self.rank} of {self.world}: {what} differ from those of another process")

    def together(self, module: nn.Module) -> nn.Module:
        """The module, its gradients the mean of all processes' after backward()."""
        if self.world == 1:
            return module
        # The table of phases never changes: it need not be sent before every step. torch has renamed the option.
        parallel: Callable[..., nn.Module] = nn.parallel.DistributedDataParallel
        known = inspect.signature(parallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return parallel(module, **{option: False})


ALONE = Ranks()


def launched() -> bool:
    """Whether torchrun, or what takes its place, started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@contextmanager
def joined(device: torch.device, timeout_s: float = TIMEOUT_S) -> Iterator[Ranks]:
    """The processes that torchrun started together with this one; without torchrun it is the only one.

    gloo joins CPUs, nccl GPUs; of several GPUs each process takes the one of its LOCAL_RANK. Raises LostProcess.
    """
    if not launched():
        yield Ranks(device=device)
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_s))
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    except RuntimeError as error:
        if _is_of_the_connection(error):
            rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
            reason = str(error).partition("\n")[0]
            raise LostProcess(f"process {rank} of {world}: another one has ended or hangs: {reason}") from error
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _is_of_the_connection(error: RuntimeError) -> bool:
    """gloo has no exception of its own, but its messages name its source file."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


@contextmanager
def interrupts(ranks: Ranks) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM end a run as Ctrl-C does; yields a function that says whether this process was asked to stop.

    A single process is interrupted at once, by KeyboardInterrupt. Of several none may stop while another waits for it:
    each notes the signal, they ask each other after the next group, and stop there together. Only the main thread gets
    signals.
    """
    noted = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if ranks.world == 1:
            raise KeyboardInterrupt
        noted.set()

    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return
    signals = (signal.SIGTERM,) if ranks.world == 1 else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield noted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
