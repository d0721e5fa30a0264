"""`shared_prefix_attention` in plain torch: the definition of correct, in float32 (float64 for float64). It shares nothing.

Every row walks its own path, so what a row gets cannot depend on how the path is divided between leaf and own pages. See
`editscore_kernels.shared_prefix_attention` for the formula.

Legend: R rows, Hq query heads, Hkv key heads, G = Hq / Hkv, D head size, U units of `ROWS` rows of one sequence, T = 256 tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from editscore_kernels.kv import PAGE_TOKENS, unpack_keys, unpack_values
from editscore_kernels.page_tables import TableTensors

CHUNK_TOKENS = 256
CHUNK_PAGES = CHUNK_TOKENS // PAGE_TOKENS
# Rows of one sequence that read its keys together. Always so many, stand-ins included: matrix products of one shape round alike.
ROWS = 4
# Keys gathered at a time, so that a large batch does not need a second KV store.
MAX_GATHERED_BYTES = 64 << 20

State = tuple[Tensor, Tensor, Tensor]  # maximum and sum [U, Hkv, ROWS * G, 1], unnormalised output [U, Hkv, ROWS * G, D]


def shared_prefix_attention(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns out [R, Hq, D] in q's dtype, log-sum-exp [R, Hq] and status [R] int32; formula in the op's module."""
    working = torch.float64 if q.dtype == torch.float64 else torch.float32
    out, lse = torch.zeros(q.shape, dtype=working, device=q.device), q.new_full(q.shape[:2], -torch.inf, dtype=working)
    num_kv_heads, _, width = k_pages.shape[1:]
    rows, is_row = _units(tables)
    step = max(1, MAX_GATHERED_BYTES // (CHUNK_TOKENS * num_kv_heads * width * working.itemsize))
    for start in range(0, len(rows), step):
        unit, real = rows[start : start + step], is_row[start : start + step]
        q_u = q[unit].to(working).view(len(unit), ROWS, num_kv_heads, -1, width).transpose(1, 2).flatten(2, 3)  # [U, Hkv, ROWS * G, D]
        m, total, o = _walk(q_u, k_pages, v_pages, tables, unit, scale, layout)
        o = torch.where(total == 0, 0.0, o / total)  # NaN stays NaN
        logs = torch.where(total == 0, -torch.inf, m + total.log())
        for target, value in ((out, o), (lse[..., None], logs)):
            by_row = value.view(len(unit), num_kv_heads, ROWS, -1, value.shape[3]).transpose(1, 2).flatten(2, 3)
            target[unit[real]] = by_row[real]
    return out.to(q.dtype), lse, torch.zeros(len(q), dtype=torch.int32, device=q.device)


def _units(tables: TableTensors) -> tuple[Tensor, Tensor]:
    """Row numbers [U, ROWS] and which of them are real: the rows of each sequence, `ROWS` at a time, the first repeated to fill up."""
    order = tables.group_rows[: int(tables.group_starts[-1])].long()
    if not len(order):
        return order.reshape(0, ROWS), torch.zeros(0, ROWS, dtype=torch.bool, device=order.device)
    seqs = tables.row_seq[order]
    place = torch.arange(len(order), device=order.device)
    is_first = F.pad(seqs[1:] != seqs[:-1], (1, 0), value=True)
    place = place - torch.where(is_first, place, 0).cummax(0).values
    unit = (place % ROWS == 0).cumsum(0) - 1
    rows = order[place % ROWS == 0][:, None].repeat(1, ROWS)
    is_row = torch.zeros_like(rows, dtype=torch.bool)
    rows[unit, place % ROWS] = order
    is_row[unit, place % ROWS] = True
    return rows, is_row


def _walk(q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, rows: Tensor, scale: float, layout: str) -> State:
    """Chunk after chunk of the paths of units `rows` [U, ROWS]; q [U, Hkv, ROWS * G, D]."""
    seq = tables.row_seq[rows[:, 0]].long()
    leaf = tables.seq_leaf[seq].long()
    leaf_length = torch.where(leaf >= 0, tables.leaf_lengths[leaf] if len(tables.leaf_lengths) else 0, 0)
    visible = (leaf_length[:, None] + tables.row_lengths[rows]).repeat_interleave(q.shape[2] // ROWS, 1)[:, None, :, None]
    state = (q.new_full((*q.shape[:3], 1), -torch.inf), q.new_zeros(*q.shape[:3], 1), torch.zeros_like(q))
    for first in range(0, int(visible.max()) if len(rows) else 0, CHUNK_TOKENS):
        pages = _path_pages(tables, seq, leaf, leaf_length, first // PAGE_TOKENS)
        k, v = _gather(k_pages, pages, layout, unpack_keys, q.dtype), _gather(v_pages, pages, layout, unpack_values, q.dtype)
        scores = (q @ k.transpose(2, 3)) * scale
        position = first + torch.arange(CHUNK_TOKENS, device=q.device)
        scores = torch.where(position < visible, scores, -torch.inf)
        m = scores.amax(-1, keepdim=True)
        p = torch.exp(scores - m.clamp(min=torch.finfo(q.dtype).min))
        state = _merge(state, (m, p.sum(-1, keepdim=True), p @ v))
    return state


def _path_pages(tables: TableTensors, seq: Tensor, leaf: Tensor, leaf_length: Tensor, first_page: int) -> Tensor:
    """The 16 pages [U, 16] of a chunk that begins at page `first_page` of each path; the null page beyond its tables."""
    place = (first_page + torch.arange(CHUNK_PAGES, device=seq.device)).expand(len(seq), -1)
    num_leaf = (leaf_length // PAGE_TOKENS)[:, None]
    of_leaf, of_own = _entries(tables.leaf_pages, leaf, place), _entries(tables.own_pages, seq, place - num_leaf)
    return torch.where(place < num_leaf, of_leaf, of_own)


def _entries(table: Tensor, index: Tensor, place: Tensor) -> Tensor:
    """table[index, place] [U, 16], 0 where there is no such column."""
    if not table.numel():
        return torch.zeros_like(place)
    inside = (place >= 0) & (place < table.shape[1])
    return torch.where(inside, table[index[:, None], place.clamp(0, table.shape[1] - 1)].long(), 0)


def _gather(x_pages: Tensor, pages: Tensor, layout: str, unpack, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def]
    """Keys or values [U, Hkv, 256, D] of pages [U, 16]."""
    x = x_pages[pages]
    return (unpack(x) if layout == "packed" else x).transpose(1, 2).flatten(2, 3).to(dtype)


def _merge(a: State, b: State) -> State:
    """The state of both parts: a row that saw nothing yet has maximum -inf and weight 0."""
    top = torch.maximum(a[0], b[0])
    finite = top.clamp(min=torch.finfo(top.dtype).min)
    weight_a, weight_b = torch.exp(a[0] - finite), torch.exp(b[0] - finite)
    return top, a[1] * weight_a + b[1] * weight_b, a[2] * weight_a + b[2] * weight_b
