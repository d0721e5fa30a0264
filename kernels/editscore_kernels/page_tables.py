"""Which keys each query row of `shared_prefix_attention` sees: tables over the pages of a KV store, checked when they are built.

A row's path is the whole of its leaf's pages (the full pages of a prompt, shared by all of its passes) followed by a stretch of its
sequence's own pages. Rows of one sequence at successive positions see stretches of successive lengths: a prefill or forced tokens.

Legend: L leaves, S sequences, R query rows, W pages of the longest entry, n rows that are not padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from editscore_kernels.kv import PAGE_TOKENS, Int32s, KVStore

# A row's status after a kernel that reads its tables on the device.
OK, BAD_TABLE = 0, 1


class TableTensors(NamedTuple):
    """The tables as int32 tensors on the device of the pages, in the order in which ops take them.

    Lengths may grow in place while a captured graph is replayed, as long as pages for them stand in the tables. A graph also needs one
    shape for many steps: on every backend but the C++, `group_rows` may go on after the last group (-1), and groups may be empty.
    """

    leaf_pages: Tensor  # [L, Wl]
    leaf_lengths: Tensor  # [L] tokens, multiples of 16
    own_pages: Tensor  # [S, Ws]
    seq_leaf: Tensor  # [S], -1 without a leaf
    row_seq: Tensor  # [R], -1 for a padding row
    row_lengths: Tensor  # [R] tokens of its sequence's own pages that the row sees, itself included
    group_rows: Tensor  # [n] rows in the order in which they are worked on
    group_starts: Tensor  # [groups + 1] where in `group_rows` each group begins; the rows of a group share a leaf


@dataclass(eq=False)
class PageTables:
    """Tables on the host; `pages` is the store they name pages of, or the number of its pages.

    - `leaf_pages` [L, Wl] and `leaf_lengths` [L] (tokens, multiples of 16): the full pages of each prompt.
    - `own_pages` [S, Ws]: the pages of each sequence that follow its leaf's.
    - `seq_leaf` [S]: the leaf of each sequence, -1 without one.
    - `row_seq` [R]: the sequence of each query row, -1 for a padding row (whose output is 0).
    - `row_lengths` [R]: how many tokens of its sequence's own pages the row sees, itself included.

    Entries beyond a length name the null page or any other allocated one. ValueError names the table at fault: a shape, an index or a
    length outside its bounds, a page that is not allocated.
    """

    leaf_pages: Int32s
    leaf_lengths: Int32s
    own_pages: Int32s
    seq_leaf: Int32s
    row_seq: Int32s
    row_lengths: Int32s
    pages: KVStore | int
    _tensors: dict[torch.device, TableTensors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {"leaf_pages": 2, "leaf_lengths": 1, "own_pages": 2, "seq_leaf": 1, "row_seq": 1, "row_lengths": 1}
        for name, num_dims in sizes.items():
            table = getattr(self, name)
            if not isinstance(table, np.ndarray) or table.dtype != np.int32 or table.ndim != num_dims:
                raise ValueError(f"{name}: expected an int32 array of {num_dims} dimensions, got {_described(table)}")
        for name, other in (("leaf_lengths", "leaf_pages"), ("seq_leaf", "own_pages"), ("row_lengths", "row_seq")):
            if len(getattr(self, name)) != len(getattr(self, other)):
                raise ValueError(f"{name}: {len(getattr(self, name))} entries for {len(getattr(self, other))} of {other}")
        _check_lengths("leaf_lengths", self.leaf_lengths, self.leaf_pages.shape[1])
        if (self.leaf_lengths % PAGE_TOKENS).any():
            raise ValueError("leaf_lengths: only full pages are shared, so lengths are multiples of 16")
        _check_lengths("row_lengths", self.row_lengths[self.row_seq >= 0], self.own_pages.shape[1])
        for name, size in (("seq_leaf", len(self.leaf_lengths)), ("row_seq", len(self.seq_leaf))):
            index = getattr(self, name)
            if len(index) and not (index.min() >= -1 and index.max() < size):
                raise ValueError(f"{name}: names an entry outside -1..{size - 1}")
        for name in ("leaf_pages", "own_pages"):
            if not _are_pages(getattr(self, name).ravel(), self.pages):
                raise ValueError(f"{name}: names a page that is not allocated")

    def tensors(self, device: torch.device) -> TableTensors:
        """The tables on a device, copied once."""
        if device not in self._tensors:
            self._tensors[device] = TableTensors(*(torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in self.arrays))
        return self._tensors[device]

    @property
    def arrays(self) -> tuple[Int32s, ...]:
        """The tables on the host in the order of `TableTensors`, for who copies them together with something else."""
        return (self.leaf_pages, self.leaf_lengths, self.own_pages, self.seq_leaf, self.row_seq, self.row_lengths, *self._groups())

    def _groups(self) -> tuple[Int32s, Int32s]:
        """`group_rows` and `group_starts`.

        Groups are ordered so that prompts with a common beginning follow one another, the longest of such a family first, and the
        families by their longest prompt: shared pages come from the cache, and no long group is left for the end. A sequence without
        a leaf is a group of its own.
        """
        rows = np.flatnonzero(self.row_seq >= 0).astype(np.int32)
        seqs = self.row_seq[rows]
        leaves = self.seq_leaf[seqs]
        num_leaves = len(self.leaf_lengths)
        group = np.where(leaves >= 0, leaves, num_leaves + seqs)
        rank = np.concatenate([self._leaf_ranks(), num_leaves + np.arange(len(self.seq_leaf))])
        order = np.lexsort((rows, seqs, rank[group]))
        ordered = group[order]
        is_first = np.ones(len(ordered), bool)
        is_first[1:] = ordered[1:] != ordered[:-1]
        return rows[order], np.append(np.flatnonzero(is_first), len(rows)).astype(np.int32)

    def _leaf_ranks(self) -> np.ndarray:
        """The place [L] of every leaf in the order of work."""
        num_leaves, width = self.leaf_pages.shape
        pages = np.where(np.arange(width) * PAGE_TOKENS < self.leaf_lengths[:, None], self.leaf_pages, -1)
        first = pages[:, 0] if width else np.zeros(num_leaves, np.int32)
        _, family = np.unique(first, return_inverse=True)
        longest = np.zeros(num_leaves, np.int64)
        np.maximum.at(longest, family, self.leaf_lengths)
        order = np.lexsort((*pages.T[::-1], -self.leaf_lengths, first, -longest[family]))
        ranks = np.empty(num_leaves, np.int64)
        ranks[order] = np.arange(num_leaves)
        return ranks


def _check_lengths(name: str, lengths: Int32s, width: int) -> None:
    if len(lengths) and not (lengths.min() >= 0 and lengths.max() <= width * PAGE_TOKENS):
        raise ValueError(f"{name}: {lengths.min()}..{lengths.max()} is outside 0..{width * PAGE_TOKENS}, the tokens of its pages")


def _are_pages(ids: Int32s, pages: KVStore | int) -> bool:
    if isinstance(pages, KVStore):
        return pages.is_used(ids)
    return len(ids) == 0 or bool(ids.min() >= 0 and ids.max() < pages)


def _described(table: object) -> str:
    return f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else type(table).__name__
