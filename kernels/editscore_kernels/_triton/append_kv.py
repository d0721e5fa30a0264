"""`append_kv` in Triton: one program per token copies its keys and values of all heads into a plain page."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not
from editscore_kernels.kv import PAGE_TOKENS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Numbers of a token that one program moves; 8 key heads of 128 are 1,024.
MAX_WIDTH = 16384
NUM_WARPS = 4


@triton.jit(do_not_specialize=["num_slots"])
def _append_kv_kernel(
    k_ptr, stride_kn, stride_kh, v_ptr, stride_vn, stride_vh, k_pages_ptr, v_pages_ptr, slots_ptr, num_slots,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token)
    i = tl.arange(0, WIDTH)
    head, d = i // HEAD_DIM, i % HEAD_DIM
    # A slot outside the pages is dropped as padding is: the host does not read slots back to check them.
    is_kept = i < tl.where((slot >= 0) & (slot < num_slots), NUM_HEADS * HEAD_DIM, 0)
    place = ((slot // PAGE * NUM_HEADS + head) * PAGE + slot % PAGE) * HEAD_DIM + d
    tl.store(k_pages_ptr + place, tl.load(k_ptr + token * stride_kn + head * stride_kh + d, mask=is_kept), mask=is_kept)
    tl.store(v_pages_ptr + place, tl.load(v_ptr + token * stride_vn + head * stride_vh + d, mask=is_kept), mask=is_kept)


def why_not(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> str | None:
    """What this kernel cannot do."""
    if k.dtype not in DTYPES:
        return f"k of {k.dtype}: the reference only"
    if layout != "plain":
        return f"pages are in the {layout} layout, this kernel writes plain ones"
    if k.shape[1] * k.shape[2] > MAX_WIDTH:
        return f"{k.shape[1]} heads of {k.shape[2]} are more than {MAX_WIDTH} numbers a token"
    return device_why_not("k", k.device)


def append_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> None:
    """Arguments as the op's; heads of k and v may have any stride."""
    num_tokens, num_heads, head_dim = k.shape
    if num_tokens == 0:
        return
    k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (k, v))
    _append_kv_kernel[(num_tokens,)](
        k, k.stride(0), k.stride(1), v, v.stride(0), v.stride(1), k_pages, v_pages, slots.contiguous(), len(k_pages) * PAGE_TOKENS,
        NUM_HEADS=num_heads, HEAD_DIM=head_dim, WIDTH=triton.next_power_of_2(num_heads * head_dim), PAGE=PAGE_TOKENS, num_warps=NUM_WARPS,
    )  # fmt: skip
