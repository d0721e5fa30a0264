"""The engine's tables of pages: one row per pass in flight and one per prompt, kept from step to step.

Legend: S slots of passes, L slots of leaves (prompts).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, KVStore

from editscore.engine.prefixes import PrefixIndex
from editscore.engine.sequences import Leaf, Row

Int32s = npt.NDArray[np.int32]


def num_pages(num_tokens: int) -> int:
    """Pages that hold `num_tokens` tokens."""
    return -(-num_tokens // PAGE_TOKENS)


class CacheTables:
    """Which pages belong to whom. Arrays are indexed by slot; a free slot holds null pages.

    `own_lengths` [S] counts the tokens in a pass's own pages: first the copy of the prompt's partly filled last page, then its
    answer.
    """

    def __init__(self, store: KVStore, max_rows: int) -> None:
        self.store = store
        self._prefixes = PrefixIndex()
        self.own_pages = np.full((max_rows, 4), NULL_PAGE, np.int32)
        self.own_lengths = np.zeros(max_rows, np.int32)
        self.num_own = np.zeros(max_rows, np.int32)
        self.leaf_of = np.full(max_rows, -1, np.int32)
        self.leaf_pages = np.full((16, 4), NULL_PAGE, np.int32)
        self.leaf_lengths = np.zeros(16, np.int32)
        self._free_rows = list(range(max_rows - 1, -1, -1))
        self._free_leaves = list(range(15, -1, -1))

    @property
    def num_free_rows(self) -> int:
        """Passes that can still be started."""
        return len(self._free_rows)

    def add_leaf(self, leaf: Leaf) -> None:
        """Takes pages for a prompt, those of its beginning from a prompt that begins alike; its last token is computed in any case.

        Raises `OutOfPagesError` and changes nothing when there are too few.
        """
        known = self._prefixes.match(leaf.links[: (leaf.num_prompt_tokens - 1) // PAGE_TOKENS])
        fresh = self.store.allocate(num_pages(len(leaf.tokens)) - len(known))
        self.store.retain(known)
        leaf.pages, leaf.num_shared = np.concatenate([known, fresh]), len(known) * PAGE_TOKENS
        self._prefixes.publish(leaf.links, leaf.pages[: len(leaf.links)])
        if not self._free_leaves:
            size = len(self.leaf_lengths)
            self.leaf_pages = _grown(self.leaf_pages, 2 * size, self.leaf_pages.shape[1])
            self.leaf_lengths = np.concatenate([self.leaf_lengths, np.zeros(size, np.int32)])
            self._free_leaves = list(range(2 * size - 1, size - 1, -1))
        leaf.slot = self._free_leaves.pop()
        shared = leaf.pages[: len(leaf.tokens) // PAGE_TOKENS]
        if len(shared) > self.leaf_pages.shape[1]:
            self.leaf_pages = _grown(self.leaf_pages, len(self.leaf_lengths), len(shared))
        self.leaf_pages[leaf.slot, : len(shared)] = shared
        self.leaf_lengths[leaf.slot] = len(shared) * PAGE_TOKENS

    def remove_leaf(self, leaf: Leaf, *, clear: bool = False) -> None:
        """Gives a prompt's pages back."""
        self._prefixes.forget(self.store.free(leaf.pages, clear=clear))
        self.leaf_pages[leaf.slot] = NULL_PAGE
        self.leaf_lengths[leaf.slot] = 0
        self._free_leaves.append(leaf.slot)
        leaf.leave_store()

    def add_row(self, leaf: Leaf) -> int:
        """A slot for a pass over a prompt; its own pages are taken when its first token is fed."""
        slot = self._free_rows.pop()
        self.leaf_of[slot] = leaf.slot
        self.own_lengths[slot] = len(leaf.tokens) % PAGE_TOKENS
        return slot

    def remove_row(self, slot: int, *, clear: bool = False) -> None:
        """Frees a pass's slot and pages."""
        self.store.free(self.own_pages[slot, : self.num_own[slot]], clear=clear)
        self.own_pages[slot] = NULL_PAGE
        self.own_lengths[slot] = self.num_own[slot] = 0
        self.leaf_of[slot] = -1
        self._free_rows.append(slot)

    def num_missing(self, slots: Int32s, num_tokens: Int32s) -> int:
        """Pages to allocate before `num_tokens` [R] more tokens can be fed to the passes in `slots` [R]."""
        return int(np.maximum(0, self._wanted(slots, num_tokens) - self.num_own[slots]).sum())

    def reserve(self, rows: list[Row], slots: Int32s, num_tokens: Int32s) -> None:
        """Gives passes the pages for `num_tokens` [R] more tokens; a pass's first page begins with a copy of its prompt's last."""
        wanted = self._wanted(slots, num_tokens)
        if wanted.max(initial=0) > self.own_pages.shape[1]:
            self.own_pages = _grown(self.own_pages, len(self.own_pages), 2 * int(wanted.max()))
        short = np.flatnonzero(wanted > self.num_own[slots])
        pages = self.store.allocate(int((wanted - self.num_own[slots])[short].sum()))
        sources, targets, start = [], [], 0
        for i in short.tolist():
            slot, have, want = int(slots[i]), int(self.num_own[slots[i]]), int(wanted[i])
            self.own_pages[slot, have:want] = pages[start : start + want - have]
            start += want - have
            if have == 0 and self.own_lengths[slot]:
                sources.append(rows[i].job.leaf.pages[-1])
                targets.append(self.own_pages[slot, 0])
            self.num_own[slot] = want
        self.store.copy_pages(np.asarray(sources, np.int32), np.asarray(targets, np.int32))

    def _wanted(self, slots: Int32s, num_tokens: Int32s) -> Int32s:
        return -(-(self.own_lengths[slots] + num_tokens) // PAGE_TOKENS)


def _grown(table: Int32s, height: int, width: int) -> Int32s:
    grown = np.full((height, max(width, table.shape[1])), NULL_PAGE, np.int32)
    grown[: table.shape[0], : table.shape[1]] = table
    return grown
