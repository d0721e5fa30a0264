"""`invariant_linear` and `invariant_rms_norm` in plain torch: what they compute. The promise about rows is not theirs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def invariant_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [M, K], weight [N, K], bias [N] or None; returns [M, N]."""
    return F.linear(x, weight, bias)


def invariant_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [M, W], weight [W]; returns [M, W]. Rounded to x's dtype before and after the product with the weight, as transformers does."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * (wide * scale).to(x.dtype)
