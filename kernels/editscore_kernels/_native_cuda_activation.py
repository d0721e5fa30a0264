"""`gated_activation` in CUDA: what it cannot do, the checks of what pointers cannot say, the call.

The kernel is compiled for sm_80 and sm_90a and tested on its host twin (docs/host-twin.md); it has never run on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native
from editscore_kernels._native_activation import KINDS
from editscore_kernels._native_cuda import capability_why_not, unavailable

MAX_WIDTH = 1 << 30


def why_not(x: Tensor, up: Tensor | None, kind: str) -> str | None:
    """What the CUDA activation cannot do."""
    if x.device.type != "cuda":
        return f"x is on {x.device}"
    if x.dtype not in _native.ELEMENT_TYPES:
        return f"x of {x.dtype}: the reference only"
    if x.shape[1] > MAX_WIDTH:
        return f"rows of {x.shape[1]}: it takes up to {MAX_WIDTH} columns"
    return capability_why_not(x.device)


def gated_activation(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    """`gated_activation` on the current stream of x's device; arguments and result as the op's."""
    reason = unavailable() or why_not(x, up, kind)
    if reason:
        raise ValueError(f"x: {reason}")
    with torch.cuda.device(x.device):
        return call_activation(_native.module().gated_activation_cuda, x, up, kind, torch.cuda.current_stream().cuda_stream)


def call_activation(function: Any, x: Tensor, up: Tensor | None, kind: str, *extra: int) -> Tensor:
    """Calls a function that takes GatedActivationParams as numbers, then `extra`: the kernel's launcher, or its host twin."""
    if up is not None and (up.shape != x.shape or up.dtype != x.dtype or up.device != x.device):
        raise ValueError(f"up: expected {list(x.shape)} of {x.dtype} on {x.device}, got {list(up.shape)} of {up.dtype} on {up.device}")
    if x.stride(1) != 1 and x.shape[1] > 1:
        x = x.contiguous()
    if up is not None and up.stride(1) != 1 and up.shape[1] > 1:
        up = up.contiguous()
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    gate = (0, 0) if up is None else (up.data_ptr(), up.stride(0))
    function(KINDS[kind], _native.ELEMENT_TYPES[x.dtype], x.data_ptr(), gate[0], out.data_ptr(), *x.shape, x.stride(0), gate[1], *extra)
    return out
