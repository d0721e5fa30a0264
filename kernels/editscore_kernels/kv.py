"""The KV store: keys and values in fixed pages of 16 tokens by absolute position; the engine holds page ids only.

Page i of a path holds positions 16 i .. 16 i + 15. Full pages of a prompt are shared by all of its passes, and by other prompts that
begin alike (`retain`); the partly filled last page is copied for each pass (`copy_pages`), so that no tile straddles a boundary that
depends on the batch. A page is free again when its last user gave it back.

A page holds 16 x D numbers per head in one of two layouts:

- `plain`: K and V [16, D], what tensor cores want;
- `packed`: K [D / p, 16, p] and V [16 / p, D, p] with p = max(1, 4 / bytes of an element), so that one vector register takes 16 tokens
  of K (or 16 columns of V) and 16-bit numbers lie in the pairs that dot-product instructions eat.

Pages always hold finite numbers: a kernel multiplies what a row does not see by an exact 0.

Legend: P pages, Hkv heads of keys and values, D head size, N tokens of a flat batch.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PAGE_TOKENS = 16
# Page 0 belongs to nobody: padded table entries point there.
NULL_PAGE = 0

Layout = Literal["plain", "packed"]
LAYOUTS: tuple[Layout, ...] = ("plain", "packed")
Int32s = npt.NDArray[np.int32]


class OutOfPagesError(RuntimeError):
    """Fewer pages are free than were asked for."""


def pair_size(dtype: torch.dtype) -> int:
    """Elements that lie side by side in a packed page: 2 for 16-bit types, otherwise 1."""
    return max(1, 4 // dtype.itemsize)


def pack_keys(k: Tensor) -> Tensor:
    """Keys [..., 16, D] in plain order as pages [..., 16, D] whose memory is [D / p, 16, p]."""
    pair = pair_size(k.dtype)
    return k.reshape(*k.shape[:-1], -1, pair).transpose(-3, -2).reshape(k.shape)


def pack_values(v: Tensor) -> Tensor:
    """Values [..., 16, D] in plain order as pages [..., 16, D] whose memory is [16 / p, D, p]."""
    pair = pair_size(v.dtype)
    return v.reshape(*v.shape[:-2], -1, pair, v.shape[-1]).transpose(-2, -1).reshape(v.shape)


def unpack_keys(k_pages: Tensor) -> Tensor:
    """The inverse of `pack_keys`."""
    pair = pair_size(k_pages.dtype)
    *front, tokens, width = k_pages.shape
    return k_pages.reshape(*front, width // pair, tokens, pair).transpose(-3, -2).reshape(k_pages.shape)


def unpack_values(v_pages: Tensor) -> Tensor:
    """The inverse of `pack_values`."""
    pair = pair_size(v_pages.dtype)
    *front, tokens, width = v_pages.shape
    return v_pages.reshape(*front, tokens // pair, width, pair).transpose(-2, -1).reshape(v_pages.shape)


def slot_numbers(pages: Int32s, offsets: Int32s) -> npt.NDArray[np.int64]:
    """The slots [N] of tokens at `offsets` (0..15) of `pages` [N], for `append_kv`: page * 16 + offset, -1 (nowhere) for the null page."""
    return np.where(pages == NULL_PAGE, -1, pages.astype(np.int64) * PAGE_TOKENS + offsets)


class KVStore:
    """Keys and values of all layers, `k` and `v` [layers, P, Hkv, 16, D] in `layout`: packed on the CPU, plain elsewhere, or as named."""

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        num_pages: int,
        dtype: torch.dtype,
        device: torch.device,
        layout: Layout | None = None,
    ) -> None:
        if num_pages < 2:
            raise ValueError(f"num_pages: {num_pages} leave no page beside the null page")
        self.layout: Layout = layout or ("packed" if device.type == "cpu" else "plain")
        shape = (num_layers, num_pages, num_kv_heads, PAGE_TOKENS, head_dim)
        self.k, self.v = _zeros(shape, dtype, device), _zeros(shape, dtype, device)
        self.num_pages = num_pages
        self._free = np.empty(num_pages - 1, np.int32)
        self._num_users = np.zeros(num_pages, np.int32)
        self._must_clear = np.zeros(num_pages, bool)
        self._num_free = 0
        self.reset()

    def reset(self) -> None:
        """Frees every page; those in use are cleared, since nobody knows what an interrupted writer left in them."""
        self._clear(np.flatnonzero(self._num_users))
        self._free[:] = np.arange(self.num_pages - 1, 0, -1, dtype=np.int32)
        self._num_free = self.num_pages - 1
        self._num_users[:] = 0
        self._num_users[NULL_PAGE] = 1
        self._must_clear[:] = False

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
        self._num_users[pages] = 1
        return pages

    def retain(self, pages: Int32s) -> None:
        """One more user for each of these allocated pages."""
        self._check_allocated(pages)
        self._num_users[pages] += 1

    def free(self, pages: npt.ArrayLike, *, clear: bool = False) -> Int32s:
        """Takes one user from each page and returns the pages that nobody uses any more.

        `clear` zeroes them before they are given out again (needed when they hold NaN or infinity).
        """
        ids = np.asarray(pages, np.int32).ravel()
        self._check_allocated(ids)
        self._num_users[ids] -= 1
        self._must_clear[ids] |= clear
        unused: Int32s = ids[self._num_users[ids] == 0]
        self._clear(unused[self._must_clear[unused]])
        self._must_clear[unused] = False
        self._free[self._num_free : self._num_free + len(unused)] = unused
        self._num_free += len(unused)
        return unused

    def _check_allocated(self, ids: Int32s) -> None:
        if not len(ids):
            return
        if ids.min() <= NULL_PAGE or ids.max() >= self.num_pages or not self._num_users[ids].all() or len(set(ids.tolist())) != len(ids):
            raise ValueError("pages: names a page that is not allocated, or one twice")

    def _clear(self, ids: npt.NDArray[Any]) -> None:
        if len(ids):
            index = torch.from_numpy(ids.astype(np.int64)).to(self.k.device, non_blocking=True)
            self.k[:, index] = 0
            self.v[:, index] = 0

    def slots(self, pages: Int32s, offsets: Int32s) -> Tensor:
        """`slot_numbers` on the device of the pages."""
        return torch.from_numpy(slot_numbers(pages, offsets)).to(self.k.device)

    def copy_pages(self, sources: Int32s, targets: Int32s) -> None:
        """Copies whole pages of all layers."""
        if len(sources):
            source, target = torch.from_numpy(np.stack([sources, targets]).astype(np.int64)).to(self.k.device, non_blocking=True)
            self.k[:, target] = self.k[:, source]
            self.v[:, target] = self.v[:, source]

    def is_used(self, pages: Int32s) -> bool:
        """Whether every id names an allocated page (or the null page)."""
        return bool(len(pages) == 0 or (pages.min() >= 0 and pages.max() < self.num_pages and self._num_users[pages].all()))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on the CPU memory that is taken page by page when it is first written, so a store costs what is used of it.

    It begins at a multiple of 64 bytes: a vector register that straddles two cache lines is loaded at half the speed.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(num_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + num_bytes]).view(dtype).view(shape)
