"""The KV store: keys and values in fixed pages of 16 tokens by absolute position; the engine holds page ids only.

Page i of a path holds positions 16 i .. 16 i + 15. Full pages of a prompt are shared by all of its passes; the partly filled
last page is copied for each pass (`copy_pages`), so that no tile straddles a boundary that depends on the batch.

Legend: P pages, Hkv heads of keys and values, D head size, N tokens of a flat batch, L leaves (prompts), S sequences (passes),
R query rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PAGE_TOKENS = 16
# Page 0 belongs to nobody: padding rows write there and padded table entries point there.
NULL_PAGE = 0

Int32s = npt.NDArray[np.int32]


class OutOfPagesError(RuntimeError):
    """Fewer pages are free than were asked for."""


class KVStore:
    """Keys and values of all layers, [layers, P, Hkv, 16, D] each. Pages start as zeros and always hold finite numbers."""

    def __init__(self, num_layers: int, num_kv_heads: int, head_dim: int, num_pages: int, dtype: torch.dtype, device: torch.device) -> None:
        if num_pages < 2:
            raise ValueError(f"num_pages: {num_pages} leave no page beside the null page")
        shape = (num_layers, num_pages, num_kv_heads, PAGE_TOKENS, head_dim)
        self.k, self.v = _zeros(shape, dtype, device), _zeros(shape, dtype, device)
        self.num_pages = num_pages
        self._free = np.empty(num_pages - 1, np.int32)
        self._is_used = np.zeros(num_pages, bool)
        self._num_free = 0
        self.reset()

    def reset(self) -> None:
        """Frees every page; those in use are cleared, since nobody knows what an interrupted writer left in them."""
        used = np.flatnonzero(self._is_used)
        if len(used):
            index = torch.from_numpy(used).to(self.k.device)
            self.k[:, index] = 0
            self.v[:, index] = 0
        self._free[:] = np.arange(self.num_pages - 1, 0, -1, dtype=np.int32)
        self._num_free = self.num_pages - 1
        self._is_used[:] = False
        self._is_used[NULL_PAGE] = True

    @property
    def num_free(self) -> int:
        """Pages that can be allocated."""
        return self._num_free

    def allocate(self, count: int) -> Int32s:
        """Ids of `count` free pages; raises `OutOfPagesError` and takes nothing when there are not as many."""
        if count > self._num_free:
            raise OutOfPagesError(f"{count} pages wanted, {self._num_free} of {self.num_pages} free")
        self._num_free -= count
        pages = self._free[self._num_free : self._num_free + count].copy()
        self._is_used[pages] = True
        return pages

    def free(self, pages: npt.ArrayLike, *, clear: bool = False) -> None:
        """Gives pages back; `clear` zeroes them first (needed when they hold NaN or infinity)."""
        ids = np.asarray(pages, np.int32).ravel()
        if not len(ids):
            return
        if ids.min() <= NULL_PAGE or ids.max() >= self.num_pages or not self._is_used[ids].all() or len(set(ids.tolist())) != len(ids):
            raise ValueError("pages: names a page that is not allocated, or one twice")
        if clear:
            index = torch.from_numpy(ids.astype(np.int64)).to(self.k.device)
            self.k[:, index] = 0
            self.v[:, index] = 0
        self._is_used[ids] = False
        self._free[self._num_free : self._num_free + len(ids)] = ids
        self._num_free += len(ids)

    def append(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> None:
        """Writes k and v [N, Hkv, D] of one layer to `slots` [N * Hkv], rows of [P * Hkv * 16] as `flat_slots` gives them."""
        width = k.shape[-1]
        self.k[layer].view(-1, width).index_copy_(0, slots, k.reshape(-1, width))
        self.v[layer].view(-1, width).index_copy_(0, slots, v.reshape(-1, width))

    def flat_slots(self, pages: Int32s, offsets: Int32s) -> Tensor:
        """Slots [N * Hkv] of tokens at `offsets` (0..15) of `pages` [N], for `append`."""
        heads = np.arange(self.k.shape[2], dtype=np.int64)
        flat = (pages.astype(np.int64)[:, None] * len(heads) + heads) * PAGE_TOKENS + offsets[:, None]
        return torch.from_numpy(flat.ravel()).to(self.k.device)

    def copy_pages(self, sources: Int32s, targets: Int32s) -> None:
        """Copies whole pages of all layers."""
        if len(sources):
            source = torch.from_numpy(sources.astype(np.int64)).to(self.k.device)
            target = torch.from_numpy(targets.astype(np.int64)).to(self.k.device)
            self.k[:, target] = self.k[:, source]
            self.v[:, target] = self.v[:, source]

    def is_used(self, pages: Int32s) -> bool:
        """Whether every id names an allocated page (or the null page)."""
        return bool(len(pages) == 0 or (pages.min() >= 0 and pages.max() < self.num_pages and self._is_used[pages].all()))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on the CPU memory that is taken page by page when it is first written, so a store costs what is used of it."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    element = torch.empty((), dtype=dtype).element_size()
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * element), np.uint8)).view(dtype)


@dataclass(eq=False)
class PageTables:
    """Which keys each query row may see: the whole of its leaf's pages, then a stretch of its sequence's own pages.

    - `leaf_pages` [L, Wl] and `leaf_lengths` [L] (tokens, multiples of 16): the full pages of each prompt.
    - `own_pages` [S, Ws]: the pages of each sequence that follow its leaf's.
    - `seq_leaf` [S]: the leaf of each sequence, -1 without one.
    - `row_seq` [R]: the sequence of each query row, -1 for a padding row (whose output is 0).
    - `row_lengths` [R]: how many tokens of its sequence's own pages the row sees, itself included (at least 1).

    Rows of one sequence stand together and in order. Checked when built; ValueError names the table at fault.
    """

    leaf_pages: Int32s
    leaf_lengths: Int32s
    own_pages: Int32s
    seq_leaf: Int32s
    row_seq: Int32s
    row_lengths: Int32s
    # What a backend derives from the tables once for all layers of a step, under its own name.
    derived: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_lengths("leaf_lengths", self.leaf_lengths, self.leaf_pages.shape[1], least=0)
        if (self.leaf_lengths % PAGE_TOKENS).any():
            raise ValueError("leaf_lengths: only full pages are shared")
        rows = self.row_seq >= 0
        self._check_lengths("row_lengths", self.row_lengths[rows], self.own_pages.shape[1], least=1)
        for name, index, size in (("seq_leaf", self.seq_leaf, len(self.leaf_lengths)), ("row_seq", self.row_seq, len(self.seq_leaf))):
            if len(index) and not (index.min() >= -1 and index.max() < size):
                raise ValueError(f"{name}: names an entry outside 0..{size - 1}")

    def check_pages(self, store: KVStore) -> None:
        """Raises ValueError when a table names a page that is not allocated."""
        for name, pages in (("leaf_pages", self.leaf_pages), ("own_pages", self.own_pages)):
            if not store.is_used(pages.ravel()):
                raise ValueError(f"{name}: names a page that is not allocated")

    @staticmethod
    def _check_lengths(name: str, lengths: Int32s, width: int, *, least: int) -> None:
        if len(lengths) and not (least <= lengths.min() and lengths.max() <= width * PAGE_TOKENS):
            raise ValueError(f"{name}: {lengths.min()}..{lengths.max()} is outside {least}..{width * PAGE_TOKENS}, the tokens of its pages")
