"""`invariant_linear` in plain torch: what it computes. The promise about rows is not its own."""

import torch.nn.functional as F
from torch import Tensor


def invariant_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [M, K], weight [N, K], bias [N] or None; returns [M, N]."""
    return F.linear(x, weight, bias)
