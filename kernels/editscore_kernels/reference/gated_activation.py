"""`gated_activation` in plain torch: the definition. Activations are taken in float64, so what they round to depends on nothing else."""

import math

import torch
from torch import Tensor


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _gelu_tanh(x: Tensor) -> Tensor:
    # 0.5 (1 + tanh(u)) is sigmoid(2 u), without the difference of nearly equal numbers for negative u.
    return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))


def _gelu(x: Tensor) -> Tensor:
    # Likewise 0.5 (1 + erf(z)) is 0.5 erfc(-z).
    tail: Tensor = torch.special.erfc(x * -math.sqrt(0.5))
    return x * (0.5 * tail)


ACTIVATIONS = {"silu": _silu, "gelu_tanh": _gelu_tanh, "gelu": _gelu}


def gated_activation(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    """act(x) * up, or act(x): act(x) is rounded to float32 and to x's dtype, the product to x's dtype; float64 is not rounded at all."""
    act = ACTIVATIONS[kind](x.double())
    if x.dtype != torch.float64:
        act = act.float().to(x.dtype)
    return (act if up is None else act * up).contiguous()
