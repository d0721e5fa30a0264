"""What the engine does about attention in one call of the model: write the new keys and values, then attend over pages.

This is the only place that knows the attention op.
"""

from __future__ import annotations

from editscore_kernels.kv import KVStore, PageTables
from editscore_kernels.reference.shared_prefix_attention import shared_prefix_attention
from torch import Tensor

# Enters the hash of what decides a score.
ATTENTION_BACKEND = "reference"


class PagedAttention:
    """The `attend` of one call: all layers share the tables of pages and the slots that new tokens are written to."""

    def __init__(self, store: KVStore, tables: PageTables, slots: Tensor) -> None:
        tables.check_pages(store)
        self._store, self._tables, self._slots = store, tables, slots

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [N, Hq, D], k and v [N, Hkv, D] of one layer; returns [N, Hq, D]."""
        self._store.append(layer, k, v, self._slots)
        return shared_prefix_attention(q, self._store.k[layer], self._store.v[layer], self._tables, scale=scale)
