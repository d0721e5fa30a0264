"""Random paths over random pages for the attention ops, and what attention over them is: a loop over rows in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from editscore_kernels.kv import PAGE_TOKENS, Int32s, pack_keys, pack_values
from editscore_kernels.page_tables import PageTables
from torch import Tensor


@dataclass(frozen=True)
class Paths:
    """Which tokens every row sees, before any page is named: sequence s continues leaf `seq_leaf[s]`, -1 for none.

    Row r belongs to sequence `row_seq[r]` (-1: padding) and sees `row_lengths[r]` tokens beyond the leaf of its sequence.
    """

    leaf_lengths: tuple[int, ...]
    seq_leaf: tuple[int, ...]
    row_seq: tuple[int, ...]
    row_lengths: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Tensors in plain layout: q [R, Hq, D], k and v pages [P, Hkv, 16, D]."""

    q: Tensor
    k_pages: Tensor
    v_pages: Tensor
    tables: PageTables
    scale: float

    def to(self, dtype: torch.dtype) -> Case:
        """The case with its tensors rounded to `dtype`."""
        return replace(self, q=self.q.to(dtype), k_pages=self.k_pages.to(dtype), v_pages=self.v_pages.to(dtype))

    def pages(self, layout: str) -> tuple[Tensor, Tensor]:
        """k and v pages in a layout."""
        return (self.k_pages, self.v_pages) if layout == "plain" else (pack_keys(self.k_pages), pack_values(self.v_pages))


def make_case(paths: Paths, num_kv_heads: int, group: int, head_dim: int, seed: int, scale: float | None = None) -> Case:
    """Random pages under shuffled ids, float64. Tokens that nobody sees hold large finite numbers, as freed pages do."""
    rng = np.random.default_rng(seed)
    num_seqs = len(paths.seq_leaf)
    own_lengths = [max([n for s, n in zip(paths.row_seq, paths.row_lengths, strict=True) if s == i], default=0) for i in range(num_seqs)]
    sizes = [[n // PAGE_TOKENS for n in paths.leaf_lengths], [-(-n // PAGE_TOKENS) for n in own_lengths]]
    num_pages = 2 + sum(map(sum, sizes))
    ids = rng.permutation(np.arange(1, num_pages)).astype(np.int32)
    tables, taken = [], 0
    for counts in sizes:
        table = np.zeros((len(counts), max(counts, default=0) + int(rng.integers(0, 3))), np.int32)
        for i, count in enumerate(counts):
            table[i, :count] = ids[taken : taken + count]
            taken += count
        tables.append(table)
    k_pages, v_pages = rng.normal(size=(2, num_pages, num_kv_heads, PAGE_TOKENS, head_dim))
    for i, n in enumerate(own_lengths):
        if n % PAGE_TOKENS:
            k_pages[tables[1][i, n // PAGE_TOKENS], :, n % PAGE_TOKENS :] = 50.0
            v_pages[tables[1][i, n // PAGE_TOKENS], :, n % PAGE_TOKENS :] = -1e4
    q = rng.normal(size=(len(paths.row_seq), num_kv_heads * group, head_dim))
    arrays = [np.asarray(x, np.int32) for x in (paths.leaf_lengths, paths.seq_leaf, paths.row_seq, paths.row_lengths)]
    page_tables = PageTables(tables[0], arrays[0], tables[1], *arrays[1:], pages=num_pages)
    tensors = (torch.from_numpy(x) for x in (q, k_pages, v_pages))
    return Case(*tensors, page_tables, head_dim**-0.5 if scale is None else scale)


def row_path(tables: PageTables, row: int) -> list[tuple[int, int]]:
    """(page, tokens of it) along the path of a row."""
    seq = tables.row_seq[row]
    if seq < 0:
        return []
    leaf, length = tables.seq_leaf[seq], int(tables.row_lengths[row])
    of_leaf = tables.leaf_pages[leaf, : tables.leaf_lengths[leaf] // PAGE_TOKENS] if leaf >= 0 else np.zeros(0, np.int32)
    path = [(int(page), PAGE_TOKENS) for page in of_leaf]
    own = tables.own_pages[seq, : -(-length // PAGE_TOKENS)]
    return path + [(int(page), min(PAGE_TOKENS, length - PAGE_TOKENS * i)) for i, page in enumerate(own)]


def attend(case: Case) -> tuple[Tensor, Tensor]:
    """Output [R, Hq, D] and log-sum-exp [R, Hq] as the formula stands, in float64, one row and one head at a time."""
    q, k_pages, v_pages = case.q.double(), case.k_pages.double(), case.v_pages.double()
    out, lse = torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf)
    group = q.shape[1] // k_pages.shape[1]
    for r in range(len(q)):
        path = row_path(case.tables, r)
        if not sum(n for _, n in path):
            continue
        k = torch.cat([k_pages[page, :, :n] for page, n in path], 1)
        v = torch.cat([v_pages[page, :, :n] for page, n in path], 1)
        for h in range(q.shape[1]):
            scores = case.scale * (k[h // group] @ q[r, h])
            lse[r, h] = torch.logsumexp(scores, 0)
            out[r, h] = torch.softmax(scores, 0) @ v[h // group]
    return out, lse


def random_paths(rng: np.random.Generator, *, num_leaves: int, num_seqs: int, max_leaf_pages: int, max_own: int, max_rows: int) -> Paths:
    """Ragged everything: leaves of no pages, sequences without a leaf, one or several rows each, padding rows in between."""
    leaf_lengths = rng.integers(0, max_leaf_pages + 1, num_leaves) * PAGE_TOKENS
    seq_leaf = rng.integers(-1, num_leaves, num_seqs)
    row_seq: list[int] = []
    row_lengths: list[int] = []
    for s in range(num_seqs):
        own = int(rng.integers(0, max_own + 1))
        count = int(rng.integers(1, min(max_rows, own) + 1)) if own and rng.random() < 0.4 else 1
        row_seq += [s] * count
        row_lengths += range(own - count + 1, own + 1)
        if rng.random() < 0.2:
            row_seq.append(-1)
            row_lengths.append(0)
    return Paths(tuple(map(int, leaf_lengths)), tuple(map(int, seq_leaf)), tuple(row_seq), tuple(row_lengths))


def decode_paths(prefixes: list[int], num_samples: int, suffixes: list[int]) -> Paths:
    """`num_samples` passes over each prompt of `prefixes` tokens (rounded down to pages), suffix lengths taken in turn."""
    num_rows = len(prefixes) * num_samples
    return Paths(
        tuple(n // PAGE_TOKENS * PAGE_TOKENS for n in prefixes),
        tuple(i // num_samples for i in range(num_rows)),
        tuple(range(num_rows)),
        tuple(suffixes[i % len(suffixes)] for i in range(num_rows)),
    )


def redivided(case: Case, num_leaf_pages: Int32s) -> Case:
    """The same paths with other leaves: sequence s keeps `num_leaf_pages[s]` pages of its path in a leaf of its own."""
    t = case.tables
    num_seqs = len(t.seq_leaf)
    paths: list[list[int]] = []
    lengths = t.row_lengths.copy()
    for s in range(num_seqs):
        leaf = t.seq_leaf[s]
        of_leaf = t.leaf_pages[leaf, : t.leaf_lengths[leaf] // PAGE_TOKENS].tolist() if leaf >= 0 else []
        paths.append(of_leaf + t.own_pages[s].tolist())
        lengths[t.row_seq == s] += (len(of_leaf) - int(num_leaf_pages[s])) * PAGE_TOKENS
    width = max(map(len, paths))
    leaf_pages, own_pages = np.zeros((num_seqs, width), np.int32), np.zeros((num_seqs, width), np.int32)
    for s, path in enumerate(paths):
        n = int(num_leaf_pages[s])
        leaf_pages[s, :n] = path[:n]
        own_pages[s, : len(path) - n] = path[n:]
    leaf_lengths = (np.asarray(num_leaf_pages) * PAGE_TOKENS).astype(np.int32)
    seq_leaf = np.arange(num_seqs, dtype=np.int32)
    return replace(case, tables=PageTables(leaf_pages, leaf_lengths, own_pages, seq_leaf, t.row_seq, lengths, pages=t.pages))
