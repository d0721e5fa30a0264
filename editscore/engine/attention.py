"""What the engine does about attention in one call of the model: write the new keys and values, then attend over pages.

This is the only place that knows the attention ops.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from editscore_kernels import instruction_set
from editscore_kernels.append_kv import append_kv
from editscore_kernels.kv import KVStore
from editscore_kernels.page_tables import PageTables, TableTensors
from editscore_kernels.shared_prefix_attention import BAD_TABLE, TABLE, PreparedAttention
from torch import Tensor

from editscore.models.vlm import VisionLanguageModel


class PagedAttention:
    """The `attend` of one call: all layers share the tables of pages and the slots that new tokens are written to."""

    def __init__(self, store: KVStore, tables: TableTensors, slots: Tensor) -> None:
        self._store, self._tables, self._slots = store, tables, slots
        self._attention: PreparedAttention | None = None
        self._scale = 0.0
        self._statuses: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [N, Hq, D], k and v [N, Hkv, D] of one layer; returns [N, Hq, D]."""
        k_pages, v_pages, layout = self._store.k[layer], self._store.v[layer], self._store.layout
        append_kv(k, v, k_pages, v_pages, self._slots, layout=layout)
        if self._attention is None or scale != self._scale:  # the same for all layers of every family so far
            self._attention, self._scale = PreparedAttention(self._tables, scale=scale, layout=layout), scale
        attended = self._attention(q, k_pages, v_pages)
        self._statuses.append(attended.status)
        return attended.out

    def problem(self) -> Tensor:
        """Whether a kernel met a table that names what is not there [1], on the device; `check` raises when it was read back."""
        return (torch.stack(self._statuses) == BAD_TABLE).any().view(1)


def check(problems: Iterable[npt.NDArray[np.bool_]]) -> None:
    """Raises RuntimeError if one of them is true."""
    if any(problem.any() for problem in problems):
        raise RuntimeError("shared_prefix_attention: a table of pages was changed while it was in use")


def attention_numerics(model: VisionLanguageModel) -> str:
    """The kernel that `auto` takes for a model's heads, with the instruction set of the C++; enters the hash of what decides a score."""
    none = np.zeros(0, np.int32)
    tables = PageTables(none.reshape(0, 1), none, none.reshape(0, 1), none, none, none, pages=1)
    store = KVStore(1, model.num_kv_heads, model.head_dim, 2, model.dtype, model.device)
    q = torch.empty(0, model.num_heads, model.head_dim, dtype=model.dtype, device=model.device)
    backend = TABLE.choice(q, store.k[0], store.v[0], tables.tensors(model.device), 1.0, store.layout, 0)
    return f"{backend} {instruction_set()}" if backend == "cpu" else backend
