"""`rotary_embedding` in plain torch."""

import torch
from torch import Tensor


def rotary_embedding(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """q [N, Hq, D], k [N, Hkv, D], cos and sin [N, D], D even; returns both, rotated. Each product and the sum are rounded."""
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return (x * cos[:, None]).contiguous() + torch.cat((-high, low), dim=-1) * sin[:, None]
