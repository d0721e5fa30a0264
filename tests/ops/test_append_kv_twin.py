"""The CUDA kernel of `append_kv` on its host twin: it moves every bit to where the reference puts it, and nothing elsewhere."""

from __future__ import annotations

import pytest
import torch
from editscore_kernels import append_kv
from twin_module import load_twin


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 32), (9, 3, 5), (777, 2, 8), (4, 1, 128), (0, 2, 32)], ids=str)
@pytest.mark.parametrize("is_strided", [False, True])
def test_pages_hold_what_the_reference_writes(dtype: torch.dtype, shape: tuple[int, int, int], is_strided: bool) -> None:
    num_tokens, num_heads, head_dim = shape
    generator = torch.Generator().manual_seed(num_tokens)
    k, v = torch.randn(2, num_heads, num_tokens, head_dim + 3, generator=generator).to(dtype).transpose(1, 2)[..., :head_dim]
    if not is_strided:
        k, v = k.contiguous(), v.contiguous()
    num_pages = num_tokens // 16 + 3
    pages = torch.randn(2, num_pages, num_heads, 16, head_dim, generator=generator).to(dtype)
    slots = torch.randperm(num_pages * 16, generator=generator)[:num_tokens]
    slots[::5] = -1  # padding
    expected = pages.clone()
    append_kv(k, v, expected[0], expected[1], slots, backend="reference")
    given = slots.clone()
    given[::10] = torch.iinfo(torch.int64).max  # outside of the pages: dropped as well
    numbers = [(num_tokens - 1) * x.stride(0) + (num_heads - 1) * x.stride(1) + head_dim if num_tokens else 0 for x in (k, v)]
    load_twin("append_kv").append_kv(
        *(x.data_ptr() for x in (k, v, pages[0], pages[1], given)),
        *(num_tokens, num_heads, head_dim, num_pages, k.stride(0), k.stride(1), v.stride(0), v.stride(1), dtype.itemsize),
        *numbers,
    )
    assert torch.equal(pages, expected)
