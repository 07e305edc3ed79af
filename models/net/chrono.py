"""Biases with which gated cells start out remembering for long (Tallec & Ollivier 2018)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.net.cells import GRU, LSTM, XLSTM, PeepholeLSTM

GATED = ("lstm", "lstm-peephole", "gru", "xlstm")  # the cells that have a gate which keeps
BIASES: dict[type[nn.Module], str] = {PeepholeLSTM: "bias.", XLSTM: "weights.bias_ih"}  # where they are not torch's own


def remember_for(recurrence: nn.Module, readings: int) -> None:
    """Draw biases with which a gated cell at first keeps each number for 1 to `readings` readings, each its own time.

    The bias of the gate that keeps is log(u), u uniform in 1..readings - 1: open to u / (1 + u), so that a number lasts
    1 + u readings. That of an LSTM's input gate is the negative (chrono initialisation, eq. 16).
    """
    _keep_for(recurrence, lambda hidden: torch.empty(hidden).uniform_(1, readings - 1).log())


def remember_up_to(recurrence: nn.Module, readings: int) -> None:
    """The same, but log(u) is uniform: as many numbers last for 2 to 4 readings as for 64 to 128.

    Of times drawn evenly most are long, and what happens within a few readings then hardly enters the memory.
    """
    _keep_for(recurrence, lambda hidden: torch.empty(hidden).uniform_(0, math.log(readings - 1)))


def _keep_for(recurrence: nn.Module, draw: Callable[[int], Tensor]) -> None:
    """draw: H biases of the gate that keeps."""
    for name, bias in recurrence.named_parameters():
        if not name.startswith(BIASES.get(type(recurrence), "fused.bias_ih")):
            continue
        hidden = len(bias) // (3 if isinstance(recurrence, GRU) else 4)
        with torch.no_grad():
            keeps = draw(hidden)
            bias[hidden : 2 * hidden] = keeps
            if isinstance(recurrence, LSTM | PeepholeLSTM):
                bias[:hidden] = -keeps
            if isinstance(recurrence, XLSTM):  # 1 - f: the normaliser stays at 1
                bias[:hidden] = nn.functional.logsigmoid(-keeps)
