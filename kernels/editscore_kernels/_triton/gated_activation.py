"""`gated_activation` in Triton: one program per stretch of a row, the operations of csrc/include/editscore/gated_activation_formulas.h in
their order, so with their bits. Kernels are launched with `enable_fp_fusion=False`: a fused multiply-add rounds once where they do twice.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not, is_interpreted

# Never timed on a GPU. Eight elements a thread make 16-byte loads of 16-bit types.
BLOCK, NUM_WARPS = 1024, 4
KINDS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH = 65535 * BLOCK  # the second dimension of a grid
ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer
ROUNDER_BITS = tl.constexpr(0x4B400000)


@triton.jit
def _biased_exp(high, low, BIAS: tl.constexpr):
    """exp(high - low) times 2^BIAS for small low; ln 2 in two parts, then the minimax polynomial."""
    rounded = high * 1.44269504 + ROUNDER
    n = rounded - ROUNDER
    r = ((high - n * 0.693359375) - n * -2.12194440e-4) - low
    p = r * 0.0013814596459269524 + 0.0083687175065279
    p = p * r + 0.04166838899254799
    p = p * r + 0.1666652113199234
    p = p * r + 0.4999999403953552
    value = ((r * r) * p + r) + 1.0
    exponent = (rounded.to(tl.int32, bitcast=True) - (ROUNDER_BITS - 127 - BIAS)) << 23
    return value * exponent.to(tl.float32, bitcast=True)


@triton.jit
def _over_one_plus_exp(x, power):
    """x / (1 + exp(power)); comparisons rather than minima, which could lose a NaN."""
    power = tl.where(power > 89.0, 89.0, power)
    power = tl.where(power < -86.0, -86.0, power)
    return tl.div_rn(x, _biased_exp(power, 0.0, -1) * 2.0 + 1.0)


@triton.jit
def _gelu(x):
    magnitude = tl.abs(x)
    a = tl.where(magnitude > 15.0, 15.0, magnitude)
    head = (a.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)
    exponential = _biased_exp((head * head) * -0.5, ((a - head) * (a + head)) * 0.5, 64)
    over = a * 0.004153213929384947 + 0.04088101536035538
    over = over * a + 0.18396884202957153
    over = over * a + 0.43928295373916626
    over = over * a + 0.5
    under = a * 0.010410452261567116 + 0.10247962176799774
    under = under * a + 0.4714078903198242
    under = under * a + 1.2055469751358032
    under = under * a + 1.6764508485794067
    under = under * a + 1.0
    tail = tl.div_rn(exponential * over, under) * 5.421010862427522e-20  # 2^-64
    return x * tl.where(x < 0.0, tail, 1.0 - tail)


@triton.jit
def _as_element(x, out_ptr, ROUND_BF16: tl.constexpr):
    """x in the type that `out_ptr` points to. The interpreter cuts bits off for bfloat16; ROUND_BF16 rounds before it does."""
    if ROUND_BF16:
        bits = x.to(tl.int32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = tl.where(x == x, rounded.to(tl.float32, bitcast=True), x)
    return x.to(out_ptr.dtype.element_ty)


@triton.jit
def _gated_activation_fwd_kernel(
    x_ptr, stride_xn, up_ptr, stride_un, out_ptr, num_columns,
    KIND: tl.constexpr, HAS_UP: tl.constexpr, ROUND_BF16: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_inside = column < num_columns
    x = tl.load(x_ptr + row * stride_xn + column, mask=is_inside, other=0.0).to(tl.float32)
    if KIND == 0:
        act = _over_one_plus_exp(x, -x)
    elif KIND == 1:
        act = _over_one_plus_exp(x, x * ((x * x) * -0.07135481627 + -1.59576912))
    else:
        act = _gelu(x)
    if HAS_UP:
        up = tl.load(up_ptr + row * stride_un + column, mask=is_inside, other=0.0).to(tl.float32)
        act = _as_element(act, out_ptr, ROUND_BF16).to(tl.float32) * up
    tl.store(out_ptr + row * num_columns + column, _as_element(act, out_ptr, ROUND_BF16), mask=is_inside)


def why_not(x: Tensor, up: Tensor | None, kind: str) -> str | None:
    """What this kernel cannot do."""
    if x.dtype not in DTYPES:
        return f"x of {x.dtype}: the reference only"
    if x.shape[1] > MAX_WIDTH:
        return f"rows of {x.shape[1]} are more than {MAX_WIDTH} columns"
    return device_why_not("x", x.device)


def gated_activation(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    """Arguments and result as the op's."""
    num_rows, width = x.shape
    out = torch.empty((num_rows, width), dtype=x.dtype, device=x.device)
    if num_rows == 0 or width == 0:
        return out
    x, gate = (each if each.stride(1) == 1 else each.contiguous() for each in (x, x if up is None else up))
    _gated_activation_fwd_kernel[(num_rows, triton.cdiv(width, BLOCK))](
        x, x.stride(0), gate, gate.stride(0), out, width,
        KIND=KINDS[kind], HAS_UP=up is not None, ROUND_BF16=x.dtype == torch.bfloat16 and is_interpreted(), BLOCK=BLOCK,
        num_warps=NUM_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
    return out
