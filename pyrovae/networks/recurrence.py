"""The recurrence of an LSTM as one operation, whatever the device and dtype.

torch's own layers do not serve here: traced, a GRU becomes thousands of operations, some for each step, and the fused
LSTM of CPUs cannot be trained by Inductor. As an operation of its own a recurrence is one node of a graph, and one more
for its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Recurrence(nn.Module):
    """The states h_t of an LSTM from what its gates read at every step (Hochreiter & Schmidhuber 1997)::

        i, f, o, n = gates_t + W h_{t-1}
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(n)        h_t = sigmoid(o) tanh(c_t)

    Args:
        width: of h and c, which start at zero.

    ``forward`` maps gates (*batch, T, 4 * width) to states (*batch, T, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.keeps = nn.Linear(width, 4 * width, bias=False)

    def forward(self, gates: Tensor) -> Tensor:
        steps = gates.reshape(-1, *gates.shape[-2:]).transpose(0, 1).contiguous()  # (T, rows, 4 * width)
        states, _, _ = torch.ops.pyrovae.lstm(steps, self.keeps.weight)
        made: Tensor = states.transpose(0, 1).reshape(*gates.shape[:-1], -1)
        return made


def reading(size: int, width: int) -> nn.Linear:
    """A layer from vectors of ``size`` to the gates of a recurrence, which starts by remembering what it saw."""
    layer = nn.Linear(size, 4 * width)
    with torch.no_grad():
        layer.bias[width : 2 * width] = 1.0
    return layer


@torch.library.custom_op(
    "pyrovae::lstm", mutates_args=(), schema="(Tensor gates, Tensor weight) -> (Tensor, Tensor, Tensor)"
)
def _lstm(gates: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States and cells (T, rows, H), and the gates after their nonlinearities (T, rows, 4 H)."""
    width = weight.shape[1]
    states, cells = (gates.new_empty(*gates.shape[:-1], width) for _ in range(2))
    opened = torch.empty_like(gates)
    h = c = gates.new_zeros(gates.shape[1], width)
    for t in range(len(gates)):
        raw = torch.addmm(gates[t], h, weight.T)
        torch.cat([raw[:, : 3 * width].sigmoid_(), raw[:, 3 * width :].tanh_()], 1, out=opened[t])
        i, f, o, n = opened[t].chunk(4, 1)
        c = torch.addcmul(f * c, i, n, out=cells[t])
        h = torch.mul(o, c.tanh(), out=states[t])
    return states, cells, opened


@_lstm.register_fake
def _(gates: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    shape = (*gates.shape[:-1], weight.shape[1])
    return gates.new_empty(shape), gates.new_empty(shape), torch.empty_like(gates)


@torch.library.custom_op(
    "pyrovae::lstm_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor states, Tensor cells, Tensor opened, Tensor weight) -> (Tensor, Tensor)",
)
def _lstm_backward(
    grad: Tensor, states: Tensor, cells: Tensor, opened: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients with respect to gates and weight, from that with respect to the states."""
    grad_gates = torch.empty_like(opened)
    dh = dc = torch.zeros_like(cells[0])
    for t in reversed(range(len(grad))):
        i, f, o, n = opened[t].chunk(4, 1)
        tanh_c = cells[t].tanh()
        before = cells[t - 1] if t else torch.zeros_like(tanh_c)
        dh = grad[t] + dh
        dc = dc + dh * o * (1 - tanh_c.square())
        into = (dc * n * i * (1 - i), dc * before * f * (1 - f), dh * tanh_c * o * (1 - o), dc * i * (1 - n.square()))
        torch.cat(into, 1, out=grad_gates[t])
        dh, dc = grad_gates[t] @ weight, dc * f
    grad_weight = grad_gates[1:].flatten(0, 1).T @ states[:-1].flatten(0, 1)
    return grad_gates, grad_weight


@_lstm_backward.register_fake
def _(grad: Tensor, states: Tensor, cells: Tensor, opened: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(opened), torch.empty_like(weight)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*output, inputs[1])


def _gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    grads: tuple[Tensor, Tensor] = torch.ops.pyrovae.lstm_backward(grad.contiguous(), *ctx.saved_tensors)
    return grads


_lstm.register_autograd(_gradients, setup_context=_keep)
