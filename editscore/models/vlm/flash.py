"""flash-attn 2 (Dao-AILab/flash-attention; extra `[flash]`, never required): whether it can run, and its attention over ragged batches.

The vision tower uses it in exact mode too, because an image's result does not depend on the images beside it. Nothing promises that (its
documentation says "deterministic" only); it is read from `mha_varlen_fwd` and `flash_fwd_kernel.h` of 2.6.0 to 2.8.4. A block computes
some rows of one head of one sequence and takes its bounds from that sequence's own entries of `cu_seqlens`. What is compiled in follows
from head size, causality and device, and `max_seqlen` only sizes the grid, whose blocks beyond a sequence's end leave at once. The one
path that looks at the batch, splitting keys by how many blocks there are, needs more heads of queries than of keys and `max_seqlen_q` 1;
a vision tower has as many of both. tests/engine/test_flash.py compares bits on a GPU. Other major versions were not read, so they are
refused.

Never run on a GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

# transformers gives the whole ragged batch to an attention with "flash" in its name, to any other one image at a time.
VISION_FLASH = "editscore_flash"
MAX_HEAD_DIM = 256


class Bounds(NamedTuple):
    """Where the S sequences of a ragged batch begin and end, in queries and in keys, and the longest of each."""

    ends_q: Tensor  # [S + 1] int32, from 0, on the device
    ends_k: Tensor  # [S + 1]
    longest_q: int
    longest_k: int


def flash_attention_why_not(
    device: torch.device | None = None, dtype: torch.dtype = torch.bfloat16, head_dim: int = MAX_HEAD_DIM
) -> str | None:
    """Why flash-attn does not run on a device (the current CUDA device unless given) for heads of that kind, or None."""
    if device is not None and device.type != "cuda":
        return f"the model is on {device}"
    if not torch.cuda.is_available():
        return "no CUDA device"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"flash-attn takes 16-bit types, the model is {dtype}"
    if head_dim > MAX_HEAD_DIM:
        return f"flash-attn takes heads of at most {MAX_HEAD_DIM}, these have {head_dim}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"flash-attn needs sm_80, the device is sm_{major}{minor}"
    try:
        import flash_attn
    except ModuleNotFoundError:
        return "flash-attn is not installed (`pip install editscore[flash]`)"
    except ImportError as error:  # built for another torch
        return f"flash-attn cannot be loaded: {error}"
    version = getattr(flash_attn, "__version__", "of an unknown version")
    return None if version.startswith("2.") else f"flash-attn 2 is wanted, {version} is installed"


def flash_attention(q: Tensor, k: Tensor, v: Tensor, bounds: Bounds, scale: float, *, is_causal: bool) -> Tensor:
    """Attention [N, Hq, D] of q [N, Hq, D] over k and v [T, Hkv, D], each sequence over its own keys.

    With `is_causal` the last query of a sequence sees its last key, the one before it the key before, and so on, however many more keys
    than queries there are.
    """
    from flash_attn import flash_attn_varlen_func

    ends_q, ends_k, longest_q, longest_k = bounds
    out = flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=ends_q,
        cu_seqlens_k=ends_k,
        max_seqlen_q=longest_q,
        max_seqlen_k=longest_k,
        softmax_scale=scale,
        causal=is_causal,
    )
    return cast(Tensor, out)


def _vision_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, **named: Any
) -> tuple[Tensor, None]:
    """The function registered with transformers: [1, heads, N, D] in, [1, N, heads, D] out."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    bounds = Bounds(named["cu_seq_lens_q"], named["cu_seq_lens_k"], named["max_length_q"], named["max_length_k"])
    return flash_attention(q, k, v, bounds, named["scaling"], is_causal=False).unsqueeze(0), None


AttentionInterface.register(VISION_FLASH, _vision_attention)
