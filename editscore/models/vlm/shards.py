"""A model split over ranks: every rank has some heads of each attention and some columns of each feed-forward block.

The plan is transformers' own for these blocks (`base_model_tp_plan`): projections into a block are split by output, those out of it by
input, and one sum over the ranks follows each; the vision tower, embeddings and norms are on every rank. It is applied here and not by
transformers' loader since that has no plan for Qwen3-VL, takes rank and device from the environment, where `cpu` beside a GPU and
`cuda:2` as the first device cannot be said, adds in an order that makes rows depend on their neighbours (see `Ranks.sum`), and leaves
distributed tensors that neither a merged adapter nor packed layers can work on. tests/models/test_shards.py holds the two plans together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from editscore.models.vlm.adapter import Low, merge_low
from editscore.models.vlm.model import VisionLanguageModel, pad_rows
from editscore.models.vlm.ranks import Ranks
from editscore.models.vlm.sizes import ModelSizes
from editscore.models.vlm.text_attention import Attend

PLAN = {
    "self_attn.q_proj": "colwise",
    "self_attn.k_proj": "colwise",
    "self_attn.v_proj": "colwise",
    "self_attn.o_proj": "rowwise",
    "mlp.gate_proj": "colwise",
    "mlp.up_proj": "colwise",
    "mlp.down_proj": "rowwise",
}


def why_not_split(sizes: ModelSizes, num_ranks: int) -> str | None:
    """Why a model cannot be split over so many ranks, or None."""
    counts = {
        "key-value heads": sizes.num_kv_heads,
        "attention heads": sizes.num_heads,
        "columns of the feed-forward blocks": sizes.intermediate_size,
    }
    uneven = [f"{count} {name}" for name, count in counts.items() if count % num_ranks]
    return f"{' and '.join(uneven)} do not divide by {num_ranks} devices" if uneven else None


def share_of(sizes: ModelSizes, num_ranks: int) -> ModelSizes:
    """What one rank has of a model. The output head counts in full, though it is split where it can be."""
    heads = 2 * (sizes.num_heads + sizes.num_kv_heads) * sizes.head_dim
    num_split = sizes.num_layers * sizes.hidden_size * (heads + 3 * sizes.intermediate_size)
    return replace(
        sizes,
        weight_bytes=sizes.weight_bytes - num_split * sizes.element_bytes * (num_ranks - 1) // num_ranks,
        intermediate_size=sizes.intermediate_size // num_ranks,
        num_heads=sizes.num_heads // num_ranks,
        num_kv_heads=sizes.num_kv_heads // num_ranks,
        num_ranks=num_ranks,
    )


class RowShard(nn.Module):
    """A linear layer split by input: the sum over the ranks of x_r W_r^T, then the bias."""

    def __init__(self, linear: nn.Linear, bias: Tensor | None, ranks: Ranks) -> None:
        super().__init__()
        self.linear, self._ranks = linear, ranks
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """This rank's part of the input [..., in / ranks] to the whole output [..., out]."""
        out = self._ranks.sum(self.linear(x))
        return out if self.bias is None else out + self.bias


@torch.no_grad()
def split_network(network: Any, ranks: Ranks, changes: Mapping[str, Low]) -> None:
    """Keeps this rank's share of the layers of `PLAN`, with an adapter's changes (`read_adapter`) merged into what is kept.

    Only the share is copied: weights on the CPU are a view of the file until then, so that no rank needs memory for the whole.
    """
    changes = dict(changes)
    for number, layer in enumerate(network.model.language_model.layers):
        for place, style in PLAN.items():
            block, _, name = place.rpartition(".")
            parent = layer.get_submodule(block)
            low = changes.pop(f"model.language_model.layers.{number}.{place}", None)
            setattr(parent, name, (_split_columns if style == "colwise" else _split_rows)(getattr(parent, name), low, ranks))
    is_tied = network.lm_head.weight is network.model.language_model.embed_tokens.weight
    if not is_tied and network.lm_head.out_features % ranks.num_ranks == 0:
        network.lm_head = _split_columns(network.lm_head, changes.pop("lm_head", None), ranks)
    for name, low in changes.items():
        merge_low(network.get_submodule(name).weight, low)


def _split_columns(linear: nn.Linear, low: Low | None, ranks: Ranks) -> nn.Linear:
    own = _share(linear.out_features, ranks)
    return _linear(linear.weight[own], None if linear.bias is None else linear.bias[own], low and replace(low, b=low.b[own]))


def _split_rows(linear: nn.Linear, low: Low | None, ranks: Ranks) -> RowShard:
    own = _share(linear.in_features, ranks)
    bias = None if linear.bias is None else linear.bias.detach().clone()
    return RowShard(_linear(linear.weight[:, own], None, low and replace(low, a=low.a[:, own])), bias, ranks)


def _share(size: int, ranks: Ranks) -> slice:
    part = size // ranks.num_ranks
    return slice(ranks.rank * part, (ranks.rank + 1) * part)


def _linear(weight: Tensor, bias: Tensor | None, low: Low | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone(), requires_grad=False)
    if low is not None:
        merge_low(linear.weight, low)
    return linear


@dataclass
class SplitModel(VisionLanguageModel):
    """This rank's share of a model. Heads and sizes are the rank's own; hidden states and logits are whole, and the same on every rank."""

    ranks: Ranks = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_heads //= self.ranks.num_ranks
        self.num_kv_heads //= self.ranks.num_ranks
        self._is_head_split = self.network.lm_head.out_features < self.vocab_size

    @property
    def num_ranks(self) -> int:
        """How many devices share the model."""
        return self.ranks.num_ranks

    @property
    def sizes(self) -> ModelSizes:
        """Bytes and widths of this rank's share."""
        whole = super().sizes  # of which the bytes are this rank's already
        return replace(share_of(whole, self.num_ranks), weight_bytes=whole.weight_bytes)

    @torch.inference_mode()
    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend, **images: Any) -> Tensor:
        """As of a whole model, after making sure that every rank is asked the same."""
        self.ranks.agree("tokens", tokens, positions)
        return super().forward(tokens, positions, attend, **images)

    @torch.inference_mode()
    def logits(self, hidden: Tensor, *, buffer: Tensor | None = None) -> Tensor:
        """As of a whole model; where the output head is split, its parts are put together. A tied head is on every rank."""
        if not self._is_head_split:
            return super().logits(hidden, buffer=buffer)
        parts = self.ranks.gather(cast(Tensor, self.network.lm_head(pad_rows(hidden, self.row_multiple))))
        whole = torch.cat(parts, dim=1, out=None if buffer is None else buffer[: len(parts[0])])
        return whole[: len(hidden)]
