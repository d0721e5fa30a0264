"""The two functions of flash-attn 2 that this project calls, as their documentation describes them, in float64 on any device.

Signatures and semantics: flash_attn/flash_attn_interface.py of Dao-AILab/flash-attention 2.8.3. What the kernel leaves unwritten is NaN
here, and what it refuses is refused. tests/engine/test_flash.py compares the real functions with these where there is a GPU for them.

    monkeypatch.setitem(sys.modules, "flash_attn", flash_stand_in)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__version__ = "2.8.3"

calls: list[dict[str, Any]] = []  # every call's causality and sequences, for tests that ask what was called


def flash_attn_varlen_func(
    q: Tensor,  # [N, Hq, D]
    k: Tensor,  # [T, Hkv, D]
    v: Tensor,
    cu_seqlens_q: Tensor,  # [S + 1] int32
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Tensor:
    """[N, Hq, D]"""
    assert (dropout_p, window_size, softcap, alibi_slopes, return_attn_probs, block_table) == (0.0, (-1, -1), 0.0, None, False, None)
    for cumulative in (cu_seqlens_q, cu_seqlens_k):
        assert cumulative.dtype == torch.int32 and cumulative.is_contiguous() and cumulative.device == q.device
    assert q.dtype == k.dtype == v.dtype and k.shape == v.shape and q.shape[1] % k.shape[1] == 0
    bounds_q, bounds_k = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    assert len(bounds_q) == len(bounds_k) > 1 and bounds_q[0] == bounds_k[0] == 0 and bounds_k[-1] == len(k)
    calls.append({"causal": causal, "q": bounds_q, "k": bounds_k})
    out = torch.full_like(q, torch.nan)
    for i in range(len(bounds_q) - 1):
        rows, keys = slice(*bounds_q[i : i + 2]), slice(*bounds_k[i : i + 2])
        assert keys.stop - keys.start <= max_seqlen_k
        attended, _ = _attend(q[rows], k[keys], v[keys], softmax_scale, causal)
        out[rows][:max_seqlen_q] = attended[:max_seqlen_q].to(q.dtype)
    return out


def flash_attn_with_kvcache(
    q: Tensor,  # [B, Sq, Hq, D]
    k_cache: Tensor,  # [B, Sk, Hkv, D]
    v_cache: Tensor,
    *,
    softmax_scale: float | None = None,
    causal: bool = False,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:
    """[B, Sq, Hq, D], with `return_softmax_lse` also the natural logarithms [B, Hq, Sq] in float32."""
    assert q.dtype == k_cache.dtype == v_cache.dtype and k_cache.shape == v_cache.shape and len(q) == len(k_cache)
    assert k_cache.stride(-1) == v_cache.stride(-1) == 1
    each = [_attend(*sequence, softmax_scale, causal) for sequence in zip(q, k_cache, v_cache, strict=True)]
    out = torch.stack([attended for attended, _ in each]).to(q.dtype)
    return (out, torch.stack([lse for _, lse in each]).float()) if return_softmax_lse else out


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool) -> tuple[Tensor, Tensor]:
    """One sequence in float64: out [n, Hq, D] and lse [Hq, n]. The causal mask is aligned to the bottom right; an empty row is 0."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        seen = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        scores = scores.masked_fill(~seen, -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)
    return torch.einsum("hqk,khd->qhd", weights, v), scores.logsumexp(-1)
