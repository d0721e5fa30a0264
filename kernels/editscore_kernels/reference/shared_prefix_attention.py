"""Shared-prefix attention in plain torch: the definition of correct, in the dtype of the pages from float64 down.

For query row r of head h, with keys K and values V of its leaf's pages followed by the part of its own pages that it sees:

    out[r, h] = softmax(scale * q[r, h] . K^T) V

The keys of a leaf are read once for all rows of its sequences; the part over the leaf and the part over the row's own pages are
reduced apart and merged by their maxima and sums in float32 (float64 for float64). Rows are taken together only with rows of
the same number of pages, so a row's result does not depend on how long its neighbours are.

Legend: R rows, Hq query heads, Hkv key heads, G = Hq / Hkv, D head size, B members of a bucket, n pages, T = 16 n tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, Int32s, PageTables

# Keys and values gathered at a time, so that a bucket of long prompts does not double the memory.
CHUNK_BYTES = 32 << 20
# A sequence with more query rows than this that sees no leaf is a prompt: it goes through one causal attention.
MAX_SINGLE_ROWS = 8


@dataclass(frozen=True)
class _Bucket:
    """Members with the same number of pages. `rows` [B, C] are row numbers, `is_row` [B, C] tells which of them are real.

    `index` [B, Hkv * n] are the pages per key head, rows of [P * Hkv]; `bias` [B, 1, T] is 0 where a key is seen and -inf
    elsewhere, None where all are.
    """

    rows: Tensor
    is_row: Tensor | None
    index: Tensor
    bias: Tensor | None


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
        plan = tables.derived["reference"] = _plan(tables, k_pages.shape[1], q.device)
    working = torch.float64 if q.dtype == torch.float64 else torch.float32
    q_scaled = q.to(working) * scale
    out = torch.zeros_like(q_scaled)
    state = (out, q_scaled.new_full((*q.shape[:2], 1), -torch.inf), q_scaled.new_zeros((*q.shape[:2], 1)))
    if plan.own:
        state = _partial(q_scaled, k_pages, v_pages, plan.own)
        if plan.leaf:
            state = _merge(state, _partial(q_scaled, k_pages, v_pages, plan.leaf))
        # A padding row has no keys: 0 / 1.
        out = state[0] / torch.where(state[2] > 0, state[2], 1.0)
    for bucket in plan.causal:
        _causal(out, q, k_pages, v_pages, bucket, scale)
    return out.to(q.dtype)


def _partial(q: Tensor, k_pages: Tensor, v_pages: Tensor, buckets: list[_Bucket]) -> tuple[Tensor, Tensor, Tensor]:
    """Unnormalised output [R, Hq, D], maximum and sum [R, Hq, 1] of every row over one part of its keys."""
    R, Hq, D = q.shape
    Hkv = k_pages.shape[1]
    out, top, total = q.new_zeros(R, Hq, D), q.new_full((R, Hq, 1), -torch.inf), q.new_zeros(R, Hq, 1)
    for bucket in buckets:
        for rows, is_row, index, bias in _chunks(bucket, k_pages):
            B, C = rows.shape
            G = Hq // Hkv
            q_b = q.index_select(0, rows.view(-1)).view(B, C, Hkv, G, D).transpose(1, 2).reshape(B * Hkv, C * G, D)
            k, v = (_gather(x, index, B * Hkv, q.dtype) for x in (k_pages, v_pages))
            M = C * G
            if C > 1 and (padding := -M % 16):
                q_b, M = F.pad(q_b, (0, 0, 0, padding)), M + padding
            scores = torch.bmm(q_b, k.transpose(1, 2))
            if bias is not None:
                scores.view(B, Hkv * M, -1).add_(bias)
            m = scores.amax(-1, keepdim=True)
            p = scores.sub_(m).exp_()
            parts = (torch.bmm(p, v), m, p.sum(-1, keepdim=True))
            for whole, part in zip((out, top, total), parts, strict=True):
                by_row = part[:, : C * G].reshape(B, Hkv, C, G, -1).transpose(1, 2).reshape(B * C, Hq, -1)
                if is_row is None:
                    whole.index_copy_(0, rows.view(-1), by_row)
                else:
                    whole.index_copy_(0, rows[is_row], by_row[is_row.view(-1)])
    return out, top, total


def _merge(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    top = torch.maximum(a[1], b[1])
    # Padding rows have -inf on both sides; any finite value serves them.
    top = torch.where(top == -torch.inf, 0.0, top)
    weight_a, weight_b = (a[1] - top).exp_(), (b[1] - top).exp_()
    return a[0] * weight_a + b[0] * weight_b, top, a[2] * weight_a + b[2] * weight_b


def _causal(out: Tensor, q: Tensor, k_pages: Tensor, v_pages: Tensor, bucket: _Bucket, scale: float) -> None:
    """Whole prompts: row i sees the first i + 1 tokens. Queries are padded to whole pages, so only their own length matters."""
    for rows, is_row, index, _ in _chunks(bucket, k_pages):
        B, T = rows.shape
        q_b = q.index_select(0, rows.view(-1)).view(B, T, *q.shape[1:]).transpose(1, 2)
        k, v = (_gather(x, index, B * k_pages.shape[1], q.dtype).view(B, -1, T, q.shape[2]) for x in (k_pages, v_pages))
        o = F.scaled_dot_product_attention(q_b, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(1, 2)
        assert is_row is not None
        out.index_copy_(0, rows[is_row], o[is_row].to(out.dtype))


def _gather(x: Tensor, index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Pages of x [P, Hkv, 16, D] as [size = B * Hkv, T, D]."""
    return x.view(-1, PAGE_TOKENS * x.shape[3]).index_select(0, index.view(-1)).view(size, -1, x.shape[3]).to(dtype)


def _chunks(bucket: _Bucket, x: Tensor) -> Iterator[tuple[Tensor, Tensor | None, Tensor, Tensor | None]]:
    size = bucket.index.shape[1] * x[0, 0].numel() * x.element_size()
    step = max(1, CHUNK_BYTES // size)
    for i in range(0, len(bucket.index), step):
        part = slice(i, i + step)
        is_row, bias = (None if y is None else y[part] for y in (bucket.is_row, bucket.bias))
        yield bucket.rows[part], is_row, bucket.index[part], bias


def _plan(tables: PageTables, num_heads: int, device: torch.device) -> _Plan:
    rows = np.flatnonzero(tables.row_seq >= 0)
    seqs, first, counts = np.unique(tables.row_seq[rows], return_index=True, return_counts=True)
    is_prompt = (counts > MAX_SINGLE_ROWS) & (tables.seq_leaf[seqs] < 0) & (tables.row_lengths[rows[first]] == 1)
    single = rows[np.isin(tables.row_seq[rows], seqs[~is_prompt])]
    put = partial(_bucket, num_heads=num_heads, device=device)
    causal = _causal_buckets(tables, seqs[is_prompt], rows[first[is_prompt]], counts[is_prompt], put)
    return _Plan(_own_buckets(tables, single, put), _leaf_buckets(tables, single, put), causal)


def _own_buckets(tables: PageTables, rows: np.ndarray, put: Callable[..., _Bucket]) -> list[_Bucket]:
    lengths = tables.row_lengths[rows]
    num_pages = -(-lengths // PAGE_TOKENS)
    buckets = []
    for n in np.unique(num_pages):
        chosen = np.flatnonzero(num_pages == n)
        pages = tables.own_pages[tables.row_seq[rows[chosen]], :n]
        is_seen = np.arange(n * PAGE_TOKENS) < lengths[chosen, None]
        bias = np.where(is_seen, np.float32(0), np.float32(-np.inf))[:, None]
        buckets.append(put(rows[chosen, None], None, pages, bias))
    return buckets


def _leaf_buckets(tables: PageTables, rows: np.ndarray, put: Callable[..., _Bucket]) -> list[_Bucket]:
    leaf_of_row = tables.seq_leaf[tables.row_seq[rows]]
    has_leaf = leaf_of_row >= 0
    has_leaf[has_leaf] = tables.leaf_lengths[leaf_of_row[has_leaf]] > 0
    rows, leaf_of_row = rows[has_leaf], leaf_of_row[has_leaf]
    order = np.argsort(leaf_of_row, kind="stable")
    leaves, first, counts = np.unique(leaf_of_row[order], return_index=True, return_counts=True)
    rows = rows[order]
    num_pages = tables.leaf_lengths[leaves] // PAGE_TOKENS
    # Room for a power of two of rows: whether a pass has finished does not change the shape that the others are computed in.
    room = 1 << np.ceil(np.log2(np.maximum(counts, 2))).astype(np.int64)
    buckets = []
    for n, c in sorted(set(zip(num_pages.tolist(), room.tolist(), strict=True))):
        chosen = np.flatnonzero((num_pages == n) & (room == c))
        place = np.arange(c)
        is_row = place < counts[chosen, None]
        picked = rows[np.where(is_row, first[chosen, None] + place, first[chosen, None])]
        buckets.append(put(picked, is_row, tables.leaf_pages[leaves[chosen], :n], None))
    return buckets


def _causal_buckets(
    tables: PageTables, seqs: np.ndarray, first: np.ndarray, counts: np.ndarray, put: Callable[..., _Bucket]
) -> list[_Bucket]:
    num_pages = -(-counts // PAGE_TOKENS)
    buckets = []
    for n in np.unique(num_pages):
        chosen = np.flatnonzero(num_pages == n)
        place = np.arange(n * PAGE_TOKENS)
        is_row = place < counts[chosen, None]
        picked = first[chosen, None] + np.where(is_row, place, 0)
        buckets.append(put(picked, is_row, tables.own_pages[seqs[chosen], :n], None))
    return buckets


def _bucket(
    rows: np.ndarray, is_row: np.ndarray | None, pages: Int32s, bias: np.ndarray | None, num_heads: int, device: torch.device
) -> _Bucket:
    def move(x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(device)

    assert bool((pages != NULL_PAGE).all()), "a bucket holds whole pages only"
    return _Bucket(
        rows=move(rows.astype(np.int64)),
        is_row=None if is_row is None else move(is_row),
        index=move((pages.astype(np.int64)[:, None] * num_heads + np.arange(num_heads)[:, None]).reshape(len(pages), -1)),
        bias=None if bias is None else move(bias),
    )
