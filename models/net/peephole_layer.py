"""One layer of the LSTM with peepholes over many waves at once, and its gradient by hand.

Sizes: T waves, S streams, I inputs, H hidden units.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class PeepholeLayer(torch.autograd.Function):
    """One layer of PeepholeLSTM over T waves, and its gradient by back-propagation through time.

    Written by hand because autograd would keep and revisit a dozen small operations a wave: here a wave takes half of
    them, in place. The part of its gradient that does not depend on the next wave is computed for all waves at once.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, w: Tensor, u: Tensor, bias: Tensor, peepholes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """inputs: (T, S, I). hidden, cell: (S, H). Returns h of every wave and the last c."""
        (waves, streams), units = inputs.shape[:2], hidden.shape[1]
        gates = linear(inputs, w, bias)
        candidates = gates.new_empty(waves, streams, units)  # apart: tanh is ten times as fast on contiguous numbers
        memory, cells = (gates.new_empty(waves + 1, streams, units) for _ in range(2))
        memory[0], cells[0] = hidden, cell
        u_transposed, p_i_and_f, p_o = u.T, peepholes[:2], peepholes[2]
        for wave in _waves(gates, candidates, memory, cells):
            _step(wave, u_transposed, p_i_and_f, p_o)
        ctx.save_for_backward(inputs, gates, candidates, memory, cells, w, u, peepholes)
        return memory[1:].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_memory: Tensor, of_last_cell: Tensor) -> tuple[Tensor, ...]:
        """The gradient by every wave's h and by the last c -> the gradient by what forward() was given."""
        inputs, gates, g, memory, cells, w, u, peepholes = ctx.saved_tensors
        (waves, streams), units = inputs.shape[:2], memory.shape[2]
        i, f, _, o = gates.chunk(4, dim=2)
        tanh_c = torch.tanh(cells[1:])
        o_by_h = o * (1 - o) * tanh_c
        c_by_h = o * (1 - tanh_c * tanh_c) + o_by_h * peepholes[2]
        gates_by_c = torch.stack([g * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - g * g)], dim=2)
        c_by_c = f + peepholes[0] * gates_by_c[:, :, 0] + peepholes[1] * gates_by_c[:, :, 1]

        of_gates = torch.empty_like(gates)
        of_three, of_o = of_gates[..., : 3 * units].view(waves, streams, 3, units), of_gates[..., 3 * units :]
        of_h, of_c = torch.zeros_like(of_last_cell), of_last_cell
        for wave in range(waves - 1, -1, -1):
            of_h = of_h + of_memory[wave]
            of_c = torch.addcmul(of_c, of_h, c_by_h[wave])
            torch.mul(gates_by_c[wave], of_c.unsqueeze(1), out=of_three[wave])
            torch.mul(o_by_h[wave], of_h, out=of_o[wave])
            of_c = of_c * c_by_c[wave]
            of_h = of_gates[wave] @ u

        rows = of_gates.flatten(0, 1)
        of_u = rows.T @ memory[:-1].flatten(0, 1)
        of_w = rows.T @ inputs.flatten(0, 1)
        seen = (of_three[:, :, 0] * cells[:-1], of_three[:, :, 1] * cells[:-1], of_o * cells[1:])
        of_peepholes = torch.stack([one.sum((0, 1)) for one in seen])
        return of_gates @ w, of_h, of_c, of_w, of_u, rows.sum(0), of_peepholes


class _Wave(NamedTuple):
    """What one wave reads and writes: views into the arrays of all waves. A gate is W x + b before the step."""

    gates: Tensor  # (S, 4 H): i, f, g, o
    i_and_f: Tensor  # (S, 2, H), of `gates`, as the next four
    i: Tensor  # (S, H)
    f: Tensor
    g: Tensor  # the candidate, before its tanh
    o: Tensor
    candidate: Tensor  # (S, H), its tanh
    h: Tensor  # (S, H)
    c: Tensor
    c_by_gate: Tensor  # (S, 1, H), the same c
    h_after: Tensor  # (S, H)
    c_after: Tensor


def _waves(gates: Tensor, candidates: Tensor, memory: Tensor, cells: Tensor) -> Iterator[_Wave]:
    """Every view is made once, by unbind(): indexing wave by wave costs as much as a step's operations."""
    waves, streams, units = candidates.shape
    i_and_f = gates[..., : 2 * units].view(waves, streams, 2, units)
    before, after = (memory[:-1], cells[:-1], cells[:-1].unsqueeze(2)), (memory[1:], cells[1:])
    columns = (gates, i_and_f, *gates.chunk(4, dim=2), candidates, *before, *after)
    return map(_Wave._make, zip(*(column.unbind() for column in columns), strict=True))


def _step(wave: _Wave, u_transposed: Tensor, p_i_and_f: Tensor, p_o: Tensor) -> None:
    """One wave, in place. The equations are PeepholeLSTM's."""
    wave.gates.addmm_(wave.h, u_transposed)
    wave.i_and_f.addcmul_(p_i_and_f, wave.c_by_gate).sigmoid_()
    wave.candidate.copy_(wave.g).tanh_()
    torch.mul(wave.f, wave.c, out=wave.c_after).addcmul_(wave.i, wave.candidate)
    wave.o.addcmul_(p_o, wave.c_after).sigmoid_()
    torch.tanh(wave.c_after, out=wave.h_after).mul_(wave.o)
