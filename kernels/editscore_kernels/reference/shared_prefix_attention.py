"""Shared-prefix attention in plain torch: the definition of correct, in the dtype of the pages from float64 down.

For query row r of head h, with keys K and values V of its leaf's pages followed by the part of its own pages that it sees:

    out[r, h] = softmax(scale * q[r, h] . K^T) V

The keys of a leaf are read once for four rows of its sequences. The part over the leaf and the part over the row's own pages are
reduced apart and merged by their maxima and sums in float32 (float64 for float64). Rows are taken together only with rows of the
same number of pages, and always four to a leaf, so a row's result does not depend on how many neighbours it has or how long they are.

Legend: R rows, Hq query heads, Hkv key heads, G = Hq / Hkv, D head size, B members of a bucket, C rows of a member, M = C G,
n pages, T = 16 n tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editscore_kernels.kv import PAGE_TOKENS, Int32s, PageTables

# Keys gathered at a time, so that a bucket of long prompts does not double the memory.
CHUNK_BYTES = 16 << 20
# Rows that share one reading of a leaf's keys. With 3 or 4 query heads per key head they make one tile of 16 rows.
LEAF_ROWS = 4
# A sequence with more query rows than this that sees no leaf is a prompt: it goes through one causal attention.
MAX_SINGLE_ROWS = 8


@dataclass(frozen=True)
class _Bucket:
    """Members with the same number of pages, ready for the device.

    `rows` [B * C]: the query rows; where a member has fewer than C, another row stands in. `index` [B * Hkv * n]: the pages per key
    head, as rows of [P * Hkv]. `bias` [B, 1, T]: 0 where a key is seen and -inf elsewhere, None where all are. `kept` [k] are the
    places in `rows` that are real and `targets` [k] the rows they belong to; without stand-ins `kept` is None. `stretch`: with
    C = 1, the rows as a slice where they follow one another.
    """

    size: int
    rows: Tensor
    index: Tensor
    bias: Tensor | None
    kept: Tensor | None
    targets: Tensor
    stretch: slice | None


@dataclass(frozen=True)
class _Plan:
    own: list[_Bucket]
    leaf: list[_Bucket]
    causal: list[_Bucket]


def shared_prefix_attention(q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: PageTables, *, scale: float) -> Tensor:
    """Attention of rows q [R, Hq, D] over pages [P, Hkv, 16, D] as `tables` say; returns [R, Hq, D], 0 for padding rows."""
    if q.ndim != 3 or len(q) != len(tables.row_seq) or q.shape[1] % k_pages.shape[1] or q.shape[2] != k_pages.shape[3]:
        raise ValueError(f"q: shape {tuple(q.shape)} does not fit {len(tables.row_seq)} rows over pages {tuple(k_pages.shape)}")
    plan = tables.derived.get("reference")
    if plan is None:
        plan = tables.derived["reference"] = _Planner(tables, k_pages).plan()
    working = torch.float64 if q.dtype == torch.float64 else torch.float32
    q_scaled = q.to(working) * scale
    out = torch.zeros_like(q_scaled)
    if plan.own:
        state = _partial(q_scaled, k_pages, v_pages, plan.own)
        if plan.leaf:
            state = _merge(state, _partial(q_scaled, k_pages, v_pages, plan.leaf))
        # A padding row has no keys: 0 divided by something positive.
        out = state[0].div_(state[2].clamp_(min=torch.finfo(working).tiny))
    for bucket in plan.causal:
        _causal(out, q, k_pages, v_pages, bucket, scale)
    return out.to(q.dtype)


def _partial(q: Tensor, k_pages: Tensor, v_pages: Tensor, buckets: list[_Bucket]) -> tuple[Tensor, Tensor, Tensor]:
    """Unnormalised output [R, Hq, D], maximum and sum [R, Hq, 1] of every row over one part of its keys."""
    R, Hq, D = q.shape
    Hkv = k_pages.shape[1]
    whole = (q.new_zeros(R, Hq, D), q.new_full((R, Hq, 1), -torch.inf), q.new_zeros(R, Hq, 1))
    for bucket in buckets:
        B = bucket.size
        k, v = (_gather(x, bucket.index, B * Hkv, q.dtype) for x in (k_pages, v_pages))
        if bucket.stretch is not None:
            for x, part in zip(whole, _reduce(q[bucket.stretch].view(B * Hkv, -1, D), k, v, bucket.bias), strict=True):
                x[bucket.stretch] = part.view(B, Hq, -1)
            continue
        C = len(bucket.rows) // B
        M = C * (Hq // Hkv)
        q_b = q.index_select(0, bucket.rows).view(B, C, Hkv, -1, D).transpose(1, 2).reshape(B * Hkv, M, D)
        parts = _reduce(F.pad(q_b, (0, 0, 0, -M % 16)) if C > 1 else q_b, k, v, bucket.bias)
        for x, part in zip(whole, parts, strict=True):
            by_row = part[:, :M].reshape(B, Hkv, C, M // C, -1).transpose(1, 2).reshape(B * C, Hq, -1)
            x.index_copy_(0, bucket.targets, by_row if bucket.kept is None else by_row.index_select(0, bucket.kept))
    return whole


def _reduce(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Unnormalised output [B * Hkv, M, D], maximum and sum [B * Hkv, M, 1] of q [B * Hkv, M, D] over k, v [B * Hkv, T, D]."""
    scores = torch.bmm(q, k.transpose(1, 2))
    if bias is not None:
        scores.view(len(bias), -1, scores.shape[2]).add_(bias)
    m = scores.amax(-1, keepdim=True)
    p = scores.sub_(m).exp_()
    return torch.bmm(p, v), m, p.sum(-1, keepdim=True)


def _merge(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    # Padding rows have -inf on both sides; any finite value serves them.
    top = torch.maximum(a[1], b[1]).clamp_(min=torch.finfo(a[1].dtype).min)
    weight_a, weight_b = (a[1] - top).exp_(), (b[1] - top).exp_()
    return a[0].mul_(weight_a).add_(b[0].mul_(weight_b)), top, a[2].mul_(weight_a).add_(b[2].mul_(weight_b))


def _causal(out: Tensor, q: Tensor, k_pages: Tensor, v_pages: Tensor, bucket: _Bucket, scale: float) -> None:
    """Whole prompts: row i sees the first i + 1 tokens. Queries are padded to whole pages, so only their own length matters."""
    B, Hkv = bucket.size, k_pages.shape[1]
    q_b = q.index_select(0, bucket.rows).view(B, -1, *q.shape[1:]).transpose(1, 2)
    k, v = (_gather(x, bucket.index, B * Hkv, q.dtype).view(B, Hkv, -1, q.shape[2]) for x in (k_pages, v_pages))
    o = F.scaled_dot_product_attention(q_b, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(1, 2).flatten(0, 1)
    out.index_copy_(0, bucket.targets, (o if bucket.kept is None else o[bucket.kept]).to(out.dtype))


def _gather(x: Tensor, index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Pages of x [P, Hkv, 16, D] as [size = B * Hkv, T, D]."""
    return x.view(-1, PAGE_TOKENS * x.shape[3]).index_select(0, index).view(size, -1, x.shape[3]).to(dtype)


class _Planner:
    """Sorts the rows of a step into buckets, once for all layers."""

    def __init__(self, tables: PageTables, pages: Tensor) -> None:
        self.tables, self.device = tables, pages.device
        self.num_heads = pages.shape[1]
        self.page_bytes = pages[0].numel() * pages.element_size()

    def plan(self) -> _Plan:
        tables = self.tables
        rows = np.flatnonzero(tables.row_seq >= 0)
        seqs, first, counts = np.unique(tables.row_seq[rows], return_index=True, return_counts=True)
        is_prompt = (counts > MAX_SINGLE_ROWS) & (tables.seq_leaf[seqs] < 0) & (tables.row_lengths[rows[first]] == 1)
        single = rows[np.isin(tables.row_seq[rows], seqs[~is_prompt])] if is_prompt.any() else rows
        causal = list(self._causal(seqs[is_prompt], rows[first[is_prompt]], counts[is_prompt]))
        return _Plan(list(self._own(single)), list(self._leaf(single)), causal)

    def _own(self, rows: np.ndarray) -> Iterator[_Bucket]:
        """Every row over its own pages."""
        lengths = self.tables.row_lengths[rows]
        num_pages = -(-lengths // PAGE_TOKENS)
        for n in np.unique(num_pages):
            chosen = np.flatnonzero(num_pages == n)
            pages = self.tables.own_pages[self.tables.row_seq[rows[chosen]], :n]
            bias = np.where(np.arange(n * PAGE_TOKENS) < lengths[chosen, None], np.float32(0), np.float32(-np.inf))
            yield from self._buckets(rows[chosen, None], None, pages, bias)

    def _leaf(self, rows: np.ndarray) -> Iterator[_Bucket]:
        """The rows of each leaf over its pages, four at a time."""
        leaf_of_row = self.tables.seq_leaf[self.tables.row_seq[rows]]
        has_leaf = leaf_of_row >= 0
        has_leaf[has_leaf] = self.tables.leaf_lengths[leaf_of_row[has_leaf]] > 0
        rows, leaf_of_row = rows[has_leaf], leaf_of_row[has_leaf]
        order = np.argsort(leaf_of_row, kind="stable")
        rows = rows[order]
        leaves, starts, counts = np.unique(leaf_of_row[order], return_index=True, return_counts=True)
        num_tiles = -(-counts // LEAF_ROWS)
        leaf = np.repeat(np.arange(len(leaves)), num_tiles)
        tile = np.arange(len(leaf)) - np.repeat(np.cumsum(num_tiles) - num_tiles, num_tiles)
        place = tile[:, None] * LEAF_ROWS + np.arange(LEAF_ROWS)
        is_row = place < counts[leaf, None]
        picked = rows[starts[leaf, None] + np.where(is_row, place, 0)] if len(rows) else rows.reshape(0, LEAF_ROWS)
        num_pages = self.tables.leaf_lengths[leaves[leaf]] // PAGE_TOKENS
        for n in np.unique(num_pages):
            chosen = np.flatnonzero(num_pages == n)
            yield from self._buckets(picked[chosen], is_row[chosen], self.tables.leaf_pages[leaves[leaf[chosen]], :n], None)

    def _causal(self, seqs: np.ndarray, first: np.ndarray, counts: np.ndarray) -> Iterator[_Bucket]:
        """Prompts, each padded to whole pages."""
        num_pages = -(-counts // PAGE_TOKENS)
        for n in np.unique(num_pages):
            chosen = np.flatnonzero(num_pages == n)
            place = np.arange(n * PAGE_TOKENS)
            is_row = place < counts[chosen, None]
            picked = first[chosen, None] + np.where(is_row, place, 0)
            yield from self._buckets(picked, is_row, self.tables.own_pages[seqs[chosen], :n], None)

    def _buckets(self, rows: np.ndarray, is_row: np.ndarray | None, pages: Int32s, bias: np.ndarray | None) -> Iterator[_Bucket]:
        """Buckets of members with rows [B, C] (real where `is_row` says), pages [B, n] and bias [B, T], in chunks of bounded memory."""
        step = max(1, CHUNK_BYTES // (pages.shape[1] * self.page_bytes))
        index = pages.astype(np.int64)[:, None] * self.num_heads + np.arange(self.num_heads)[:, None]
        for i in range(0, len(rows), step):
            part = slice(i, i + step)
            flat = rows[part].ravel()
            kept = None if is_row is None or is_row[part].all() else np.flatnonzero(is_row[part])
            is_stretch = rows.shape[1] == 1 and bool((np.diff(flat) == 1).all())
            yield _Bucket(
                size=len(rows[part]),
                rows=self._put(flat),
                index=self._put(index[part].ravel()),
                bias=None if bias is None else self._put(bias[part][:, None]),
                kept=None if kept is None else self._put(kept),
                targets=self._put(flat if kept is None else flat[kept]),
                stretch=slice(int(flat[0]), int(flat[-1]) + 1) if is_stretch else None,
            )

    def _put(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
