"""`rms_norm` in Triton: one program per row, so that a row is summed the same way however many there are."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH = 16384


@triton.jit
def _rms_norm_fwd_kernel(x_ptr, weight_ptr, out_ptr, width, epsilon, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    is_there = column < width
    place = tl.program_id(0).to(tl.int64) * width + column
    x = tl.load(x_ptr + place, mask=is_there, other=0.0)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + epsilon)
    rounded = (wide * scale).to(x.dtype).to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=is_there, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, (weight * rounded).to(x.dtype), mask=is_there)


def why_not(x: Tensor, weight: Tensor, epsilon: float) -> str | None:
    """What this kernel cannot do."""
    if x.dtype not in DTYPES:
        return f"x of {x.dtype}: the reference only"
    if x.shape[1] > MAX_WIDTH:
        return f"rows of {x.shape[1]} numbers are longer than {MAX_WIDTH}"
    return device_why_not("x", x.device)


def warps_of(width: int) -> int:
    """Warps of a program: a thread holds up to 16 numbers of its row, or more in rows beyond 4,096."""
    return max(1, min(8, (1 << (width - 1).bit_length()) // 512))


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [M, W], weight [W]; returns [M, W]."""
    num_rows, width = x.shape
    x = x.contiguous() if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.contiguous_format)
    out = torch.empty_like(x)
    if out.numel():
        _rms_norm_fwd_kernel[(num_rows,)](
            x, weight.contiguous(), out, width, epsilon, WIDTH=triton.next_power_of_2(width), num_warps=warps_of(width)
        )
    return out
