"""`gated_activation` in C++: what it cannot do, the checks of what pointers cannot say, the call."""

from __future__ import annotations

import torch
from torch import Tensor

from editscore_kernels import _native

KINDS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}  # editscore::ActivationKind


def why_not(x: Tensor, up: Tensor | None, kind: str) -> str | None:
    """What the C++ activation cannot do."""
    if x.device.type != "cpu":
        return f"x is on {x.device}"
    if x.dtype not in _native.ELEMENT_TYPES:
        return f"x of {x.dtype}: the reference only"
    return None


class BoundActivation:
    """`gated_activation` of one kind in C++, called directly; it checks only what would read outside of memory."""

    def __init__(self, kind: str) -> None:
        self._kind = KINDS[kind]
        self._call = _native.module().gated_activation_cpu

    def __call__(self, x: Tensor, up: Tensor | None, in_place: bool = False) -> Tensor:
        """act(x) * up for x, up [N, W] on the CPU; result as the op's, over x where `in_place` allows it and x is contiguous."""
        dtype, shape = x.dtype, x.shape
        if len(shape) != 2 or dtype not in _native.ELEMENT_TYPES or not x.is_cpu:
            raise ValueError(f"x: expected [N, W] of float32, bfloat16 or float16 on the CPU, got {list(shape)} of {dtype} on {x.device}")
        num_rows, width = shape
        x_stride, step = x.stride()
        if step != 1 and width > 1:
            x, x_stride = x.contiguous(), width
        up_address = up_stride = 0
        if up is not None:
            if up.shape != shape or up.dtype is not dtype or not up.is_cpu:
                raise ValueError(f"up: expected {list(shape)} of {dtype} on the CPU, got {list(up.shape)} of {up.dtype} on {up.device}")
            up_stride, step = up.stride()
            if step != 1 and width > 1:
                up, up_stride = up.contiguous(), width
            up_address = up.data_ptr()
        is_over_x = in_place and x.is_contiguous() and not x.requires_grad
        # 1.5 us less than from a shape and a dtype
        out = x if is_over_x else torch.empty_like(x, memory_format=torch.contiguous_format)
        self._call(
            self._kind,
            _native.ELEMENT_TYPES[dtype],
            x.data_ptr(),
            up_address,
            out.data_ptr(),
            num_rows,
            width,
            x_stride,
            up_stride,
            torch.get_num_threads(),
            _native.set_number(),
        )
        return out


def gated_activation(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    """`gated_activation` in C++; arguments and result as the op's."""
    return BoundActivation(kind)(x, up)
