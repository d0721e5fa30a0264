"""flash-attn 2 as a peer on a GPU, where it is installed: attention of K samples over one shared prompt.

- `flash_attn_two_calls`: `flash_attn_with_kvcache` over the prompt once, the K G rows of a key head folded into the query length, and over
  the suffixes per sample, merged by their log-sum-exps in float32;
- `flash_attn_own_keys`: one call, every sample over keys of its own, prompt and suffix in one tensor.

Legend as in benchmarks/peers/attention.py; flash-attn takes [sequences, tokens, heads, D] of any strides but the last.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.peers.attention import DenseCase, merged


def flash_attn_two_calls(case: DenseCase) -> Tensor:
    """Prompt and suffixes apart; out [R, Hq, D] as every peer."""
    from flash_attn import flash_attn_with_kvcache

    num_prompts, num_samples, num_kv_heads, group, width = case.q.shape
    folded = case.made("flash_folded", lambda: case.q.transpose(2, 3).flatten(1, 2))  # [B, K G, Hkv, D]
    prefix = (x.transpose(1, 2) for x in (case.prefix_k, case.prefix_v))
    out, lse = flash_attn_with_kvcache(folded, *prefix, softmax_scale=case.scale, return_softmax_lse=True)
    suffix = (x.flatten(0, 1).transpose(1, 2) for x in (case.suffix_k, case.suffix_v))
    own_out, own_lse = flash_attn_with_kvcache(_one_query(case), *suffix, softmax_scale=case.scale, return_softmax_lse=True)
    return merged(
        case,
        out.reshape(num_prompts, num_samples, group, num_kv_heads, width).transpose(2, 3),
        lse.reshape(num_prompts, num_kv_heads, num_samples, group).transpose(1, 2),
        own_out.reshape(case.q.shape),
        own_lse.reshape(case.q.shape[:-1]),
    )


def flash_attn_own_keys(case: DenseCase) -> Tensor:
    """One query per head over the prompt and its own suffix."""
    from flash_attn import flash_attn_with_kvcache

    k, v = case.whole("whole_k", case.prefix_k, case.suffix_k), case.whole("whole_v", case.prefix_v, case.suffix_v)
    out: Tensor = flash_attn_with_kvcache(_one_query(case), k.transpose(1, 2), v.transpose(1, 2), softmax_scale=case.scale)
    return out[:, 0]


def _one_query(case: DenseCase) -> Tensor:
    """[B K, 1, Hq, D]"""
    return case.q.flatten(0, 1).flatten(1, 2)[:, None]


FLASH_COMPOSITIONS: dict[str, Callable[[DenseCase], Tensor]] = {
    "flash_attn_two_calls": flash_attn_two_calls,
    "flash_attn_own_keys": flash_attn_own_keys,
}
