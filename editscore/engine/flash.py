"""Prompts read by flash-attn: in fast mode on a CUDA device, where it is installed. Never run on a GPU.

flash-attn's own pages hold 256 tokens, ours 16, so in every layer the keys and values that a stretch of a prompt sees are gathered from
their pages into one piece, those that another prompt brought included. Exact mode does without: a call whose stretches are all of one
token has its keys split by how many of them there are, and nothing says that a token's bits do not depend on where its stretch begins.

Legend: N tokens of a flat batch, S stretches of prompts in it, T the keys that they see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from editscore_kernels.append_kv import append_kv
from editscore_kernels.kv import PAGE_TOKENS, KVStore, slot_numbers
from torch import Tensor

from editscore.engine.batches import Stretch
from editscore.engine.transfer import Array
from editscore.models.vlm import Bounds, Mode, VisionLanguageModel, flash_attention, flash_attention_why_not

# A call of the model gathers at most so many keys for each token that it may hold, unless a single prompt is longer.
KEYS_PER_TOKEN = 8


def why_not(model: VisionLanguageModel, mode: Mode) -> str | None:
    """Why prompts are not read by flash-attn, or None."""
    if mode == "exact":
        return "the mode is exact"
    return flash_attention_why_not(model.device, model.dtype, model.head_dim)


@dataclass(frozen=True)
class SeenKeys:
    """What the stretches of a call see, on the host."""

    slots: Array  # [T] int64: page * 16 + offset of the keys, stretch by stretch
    ends_q: Array  # [S + 1] int32
    ends_k: Array  # [S + 1] int32
    longest_q: int
    longest_k: int

    @staticmethod
    def of(stretches: Sequence[Stretch]) -> SeenKeys:
        """The keys of each prompt from its first token to the end of its stretch."""
        lengths_q, lengths_k = [len(stretch) for stretch in stretches], [stretch.end for stretch in stretches]
        places = [np.arange(end, dtype=np.int32) for end in lengths_k]
        pages = [stretch.leaf.pages[place // PAGE_TOKENS] for stretch, place in zip(stretches, places, strict=True)]
        slots = slot_numbers(np.concatenate(pages), np.concatenate(places) % PAGE_TOKENS)
        return SeenKeys(slots, _ends(lengths_q), _ends(lengths_k), max(lengths_q), max(lengths_k))

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """What the device needs of it; `FlashPrefill` takes them there."""
        return self.slots, self.ends_q, self.ends_k


def _ends(lengths: Sequence[int]) -> Array:
    return np.cumsum([0, *lengths], dtype=np.int32)


class FlashPrefill:
    """The `attend` of one call that reads prompts: writes the new keys and values, then every stretch attends to its own prompt."""

    def __init__(self, store: KVStore, new_slots: Tensor, seen: SeenKeys, on_device: Sequence[Tensor]) -> None:
        slots, ends_q, ends_k = on_device
        self._store, self._new_slots = store, new_slots
        self._pages, self._offsets = slots // PAGE_TOKENS, slots % PAGE_TOKENS
        self._bounds = Bounds(ends_q, ends_k, seen.longest_q, seen.longest_k)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [N, Hq, D], k and v [N, Hkv, D] of one layer; returns [N, Hq, D]."""
        k_pages, v_pages = self._store.k[layer], self._store.v[layer]
        append_kv(k, v, k_pages, v_pages, self._new_slots, layout=self._store.layout)
        seen_k, seen_v = (pages[self._pages, :, self._offsets] for pages in (k_pages, v_pages))  # [T, Hkv, D]
        return flash_attention(q, seen_k, seen_v, self._bounds, scale, is_causal=True)

    def problem(self) -> Tensor:
        """Whether a table was wrong [1], as `PagedAttention.problem` says it; here none is read."""
        return torch.zeros(1, dtype=torch.bool, device=self._new_slots.device)
