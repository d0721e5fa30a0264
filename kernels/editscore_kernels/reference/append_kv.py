"""`append_kv` in plain torch: the definition of what a page holds, in both layouts."""

import torch
from torch import Tensor

from editscore_kernels.kv import PAGE_TOKENS, pair_size


def append_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> None:
    """Writes k, v [N, Hkv, D] into pages [P, Hkv, 16, D] at slots [N] = page * 16 + offset; a negative slot drops its token."""
    kept = slots >= 0
    k, v, slots = k[kept], v[kept], slots[kept].long()
    num_heads, width = k.shape[1:]
    pair = pair_size(k_pages.dtype) if layout == "packed" else 1
    d = torch.arange(width, device=k.device)
    page_start = (slots[:, None] // PAGE_TOKENS * num_heads + torch.arange(num_heads, device=k.device))[..., None] * PAGE_TOKENS * width
    t = (slots % PAGE_TOKENS)[:, None, None]
    v_places = page_start + (t // pair * width + d) * pair + t % pair
    # In a plain page both are t * D + d, which is what the packed formula of V says for pairs of one.
    k_places = page_start + (d // pair * PAGE_TOKENS + t) * pair + d % pair if layout == "packed" else v_places
    k_pages.view(-1).index_copy_(0, k_places.flatten(), k.flatten())
    v_pages.view(-1).index_copy_(0, v_places.flatten(), v.flatten())
