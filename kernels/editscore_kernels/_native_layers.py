"""`rms_norm` and `rotary_embedding` in C++: what they cannot do, the checks of what pointers cannot say, the calls."""

from __future__ import annotations

import torch
from torch import Tensor

from editscore_kernels import _native


def why_not(x: Tensor, *rest: object) -> str | None:
    """What the C++ cannot do; x is the first argument, whose dtype and device the op has found in the others too."""
    if x.device.type != "cpu":
        return f"tensors are on {x.device}"
    return None if x.dtype in _native.ELEMENT_TYPES else f"{x.dtype}: the reference only"


def _dense(x: Tensor) -> Tensor:
    """The same with a last dimension of stride 1, copied only where it is not."""
    return x if x.stride(-1) == 1 else x.contiguous()


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """`rms_norm` in C++; arguments and result as the op's schema."""
    num_rows, width = x.shape
    x, weight = _dense(x), weight.contiguous()
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _native.module().rms_norm_cpu(
        _native.ELEMENT_TYPES[x.dtype], x.data_ptr(), weight.data_ptr(), out.data_ptr(), num_rows, width, x.stride(0), epsilon,
        torch.get_num_threads(), _native.set_number(),
    )  # fmt: skip
    return out


def rotary_embedding(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """`rotary_embedding` in C++; arguments and results as the op's schema."""
    q, k, cos, sin = (_dense(x) for x in (q, k, cos, sin))
    q_out, k_out = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k))
    _native.module().rotary_embedding_cpu(
        _native.ELEMENT_TYPES[q.dtype],
        q.data_ptr(), q_out.data_ptr(), q.shape[1], q.stride(0), q.stride(1),
        k.data_ptr(), k_out.data_ptr(), k.shape[1], k.stride(0), k.stride(1),
        cos.data_ptr(), sin.data_ptr(), *cos.shape, cos.stride(0), sin.stride(0),
        torch.get_num_threads(), _native.set_number(),
    )  # fmt: skip
    return q_out, k_out
