"""Attention of K samples over one shared prompt as torch alone can do it, each composition on the layout that suits it best.

- `sdpa_folded`: one call per batch over the prompt and all K suffixes, the K G rows of a key head folded into the query length; a mask
  hides the suffixes of the others;
- `sdpa_enable_gqa`: every sample has keys of its own, prompt and suffix in one tensor;
- `sdpa_group_rows`: the same keys, the G rows of a key head folded into the query length;
- `two_calls`: the prompt once for its K G rows, the suffixes per sample, merged by their log-sum-exps in float32;
- `einsum`: batched matrix products over the prompt and over the suffixes, one softmax over both.

Legend: B prompts, K samples of each, Hkv key heads, G query heads per key head, P prompt and S suffix tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class DenseCase:
    """Queries, keys and values in plain tensors; what a composition wants in another order is made here, outside of the timing."""

    q: Tensor  # [B, K, Hkv, G, D]
    prefix_k: Tensor  # [B, Hkv, P, D]
    prefix_v: Tensor  # [B, Hkv, P, D]
    suffix_k: Tensor  # [B, K, Hkv, S, D]
    suffix_v: Tensor  # [B, K, Hkv, S, D]
    scale: float
    _made: dict[str, Tensor] = field(default_factory=dict)

    def made(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of that name, made once."""
        if name not in self._made:
            self._made[name] = make().contiguous()
        return self._made[name]

    def q_folded(self) -> Tensor:
        """[B, Hkv, K G, D]"""
        return self.made("q_folded", lambda: self.q.transpose(1, 2).flatten(2, 3))

    def q_by_sample(self) -> Tensor:
        """[B K, Hkv, G, D]"""
        return self.q.flatten(0, 1)

    def whole(self, name: str, prefix: Tensor, suffix: Tensor) -> Tensor:
        """[B K, Hkv, P + S, D]: the prompt repeated for each sample."""
        num_samples = self.q.shape[1]
        return self.made(name, lambda: torch.cat([prefix[:, None].expand(-1, num_samples, -1, -1, -1), suffix], 3).flatten(0, 1))

    def joined(self, name: str, prefix: Tensor, suffix: Tensor) -> Tensor:
        """[B, Hkv, P + K S, D]: the prompt once, then every suffix."""
        return self.made(name, lambda: torch.cat([prefix, suffix.transpose(1, 2).flatten(2, 3)], 2))

    def mask(self) -> Tensor:
        """[K G, P + K S] in the dtype of q: 0 where a folded row may look, -inf elsewhere."""

        def make() -> Tensor:
            _, num_samples, _, group, _ = self.q.shape
            prefix, suffix = self.prefix_k.shape[2], self.suffix_k.shape[3]
            row = torch.arange(num_samples, device=self.q.device).repeat_interleave(group)[:, None]
            of_sample = torch.arange(num_samples, device=self.q.device).repeat_interleave(suffix)[None]
            hidden = F.pad(row != of_sample, (prefix, 0), value=False)
            return torch.zeros(hidden.shape, dtype=self.q.dtype, device=self.q.device).masked_fill_(hidden, -torch.inf)

        return self.made("mask", make)

    def unfolded(self, out: Tensor) -> Tensor:
        """[B, Hkv, K G, D] as [R, Hq, D]."""
        num_prompts, num_samples, num_kv_heads, group, width = self.q.shape
        by_row = out.view(num_prompts, num_kv_heads, num_samples, group, width).transpose(1, 2)
        return by_row.reshape(num_prompts * num_samples, num_kv_heads * group, width)


def sdpa_folded(case: DenseCase) -> Tensor:
    """One call, rows folded, the suffixes of the others masked; out [R, Hq, D] as every peer."""
    k, v = case.joined("joined_k", case.prefix_k, case.suffix_k), case.joined("joined_v", case.prefix_v, case.suffix_v)
    return case.unfolded(F.scaled_dot_product_attention(case.q_folded(), k, v, attn_mask=case.mask(), scale=case.scale))


def sdpa_enable_gqa(case: DenseCase) -> Tensor:
    """One query per head over keys of each sample's own."""
    k, v = case.whole("whole_k", case.prefix_k, case.suffix_k), case.whole("whole_v", case.prefix_v, case.suffix_v)
    q = case.q_by_sample().flatten(1, 2)[:, :, None]
    return F.scaled_dot_product_attention(q, k, v, scale=case.scale, enable_gqa=True)[:, :, 0]


def sdpa_group_rows(case: DenseCase) -> Tensor:
    """The G rows of a key head as query length, over keys of each sample's own."""
    k, v = case.whole("whole_k", case.prefix_k, case.suffix_k), case.whole("whole_v", case.prefix_v, case.suffix_v)
    return F.scaled_dot_product_attention(case.q_by_sample(), k, v, scale=case.scale).flatten(1, 2)


def two_calls(case: DenseCase) -> Tensor:
    """Prompt and suffixes apart, merged in float32: w = exp(lse - max) of each."""
    num_prompts, num_samples, num_kv_heads, group, width = case.q.shape
    out, lse = _attend(case.q_folded(), case.prefix_k, case.prefix_v, case.scale)
    own_out, own_lse = _attend(case.q_by_sample(), case.suffix_k.flatten(0, 1), case.suffix_v.flatten(0, 1), case.scale)
    return merged(
        case,
        out.view(num_prompts, num_kv_heads, num_samples, group, width).transpose(1, 2),
        lse.view(num_prompts, num_kv_heads, num_samples, group).transpose(1, 2),
        own_out.view(case.q.shape),
        own_lse.view(case.q.shape[:-1]),
    )


def merged(case: DenseCase, prefix_out: Tensor, prefix_lse: Tensor, own_out: Tensor, own_lse: Tensor) -> Tensor:
    """Two parts [B, K, Hkv, G, D] with their log-sum-exps [B, K, Hkv, G], merged in float32 to [R, Hq, D]."""
    weight = torch.sigmoid(prefix_lse - own_lse)[..., None]
    return torch.lerp(own_out.float(), prefix_out.float(), weight).to(case.q.dtype).flatten(2, 3).flatten(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of torch's flash kernel of the device (its memory-efficient one for float32 on a GPU)."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    if q.dtype == torch.float32:
        out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)[:2]
        return out, lse[..., : q.shape[2]].contiguous()  # padded to a multiple of 32
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]


def einsum(case: DenseCase) -> Tensor:
    """Four batched matrix products and one softmax over both parts."""
    num_prompts, num_samples, num_kv_heads, group, width = case.q.shape
    prefix, suffix = case.prefix_k.shape[2], case.suffix_k.shape[3]
    of_prefix = torch.einsum("bhrd,bhtd->bhrt", case.q_folded(), case.prefix_k)
    of_suffix = torch.einsum("bkhgd,bkhtd->bkhgt", case.q, case.suffix_k).transpose(1, 2).flatten(2, 3)
    p = torch.softmax(torch.cat([of_prefix, of_suffix], 3) * case.scale, 3)
    of_prefix, of_suffix = p.split([prefix, suffix], 3)
    by_sample = of_suffix.view(num_prompts, num_kv_heads, num_samples, group, suffix).transpose(1, 2)
    own = torch.einsum("bkhgt,bkhtd->bkhgd", by_sample, case.suffix_v)
    out = torch.einsum("bhrt,bhtd->bhrd", of_prefix, case.prefix_v)
    return case.unfolded(out) + own.reshape(num_prompts * num_samples, num_kv_heads * group, width)


COMPOSITIONS: dict[str, Callable[[DenseCase], Tensor]] = {
    "sdpa_folded": sdpa_folded,
    "sdpa_enable_gqa": sdpa_enable_gqa,
    "sdpa_group_rows": sdpa_group_rows,
    "two_calls": two_calls,
    "einsum": einsum,
}
