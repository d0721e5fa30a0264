"""`shared_prefix_attention` and `append_kv` in C++: what they cannot do, the checks of what pointers cannot say, the calls."""

from __future__ import annotations

import torch
from torch import Tensor

from editscore_kernels import _native
from editscore_kernels.kv import PAGE_TOKENS
from editscore_kernels.page_tables import TableTensors

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # editscore::AttentionType
MAX_HEAD_DIM = 256
CHUNK_TOKENS = 256

Result = tuple[Tensor, Tensor, Tensor]


def shared_prefix_attention_why_not(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int
) -> str | None:
    """What the C++ attention cannot do."""
    if q.device.type != "cpu":
        return f"q is on {q.device}"
    if q.dtype not in TYPES:
        return f"q of {q.dtype}: the reference only"
    if layout != "packed":
        return f"pages in {layout} layout: it reads packed ones"
    if q.shape[2] % 16 or not 0 < q.shape[2] <= MAX_HEAD_DIM:
        return f"heads of {q.shape[2]}: it takes multiples of 16 up to {MAX_HEAD_DIM}"
    return None


def _refuse(reason: str | None, name: str) -> None:
    if reason:
        raise ValueError(f"{name}: {reason}")


def _table_arguments(tables: TableTensors, num_rows: int) -> tuple[int, ...]:
    """Addresses of the eight tables, contiguous int32 CPU tensors whose sizes agree, and their sizes."""
    leaf_pages, _, own_pages, _, _, _, group_rows, group_starts = tables
    if leaf_pages.ndim != 2 or own_pages.ndim != 2 or group_rows.ndim != 1 or group_starts.ndim != 1 or not group_starts.shape[0]:
        raise ValueError("tables: expected leaf_pages [L, Wl], own_pages [S, Ws], group_rows [n], group_starts [groups + 1]")
    num_leaves, num_seqs = (leaf_pages.shape[0],), (own_pages.shape[0],)
    rows = (num_rows,)
    shapes = (leaf_pages.shape, num_leaves, own_pages.shape, num_seqs, rows, rows, group_rows.shape, group_starts.shape)
    check = _native.checked_address
    addresses = (check(name, table, torch.int32, shape) for name, table, shape in zip(tables._fields, tables, shapes, strict=True))
    return (*addresses, *leaf_pages.shape, *own_pages.shape, group_rows.shape[0], group_starts.shape[0] - 1)


class BoundAttention:
    """`shared_prefix_attention` in C++ over tables whose addresses were checked once; they are kept alive."""

    def __init__(self, tables: TableTensors, scale: float, num_splits: int, *, chunk_tokens: int = CHUNK_TOKENS) -> None:
        if chunk_tokens <= 0 or chunk_tokens % CHUNK_TOKENS:
            raise ValueError(f"chunk_tokens: {chunk_tokens} is not a multiple of {CHUNK_TOKENS}")
        self._tables, self._num_rows = tables, tables.row_seq.shape[0]
        self._table_arguments = _table_arguments(tables, self._num_rows)
        self._settings = (scale, num_splits, chunk_tokens)
        self._call = _native.module().shared_prefix_attention_cpu

    def __call__(self, q: Tensor, k_pages: Tensor, v_pages: Tensor) -> Result:
        """q [R, Hq, D] and packed pages [P, Hkv, 16, D]; results as the op's."""
        q = q if q.stride(2) == 1 else q.contiguous()
        num_rows, num_heads, head_dim = q.shape
        if num_rows != self._num_rows or not q.is_cpu:
            raise ValueError(f"q: expected {self._num_rows} rows on the CPU, got {num_rows} on {q.device}")
        page_shape = num_pages, num_kv_heads, _, _ = (*k_pages.shape[:2], PAGE_TOKENS, head_dim)
        out, lse = torch.empty(q.shape, dtype=q.dtype), torch.empty((num_rows, num_heads), dtype=torch.float32)
        self._call(
            TYPES[q.dtype],
            q.data_ptr(),
            _native.checked_address("k_pages", k_pages, q.dtype, page_shape),
            _native.checked_address("v_pages", v_pages, q.dtype, page_shape),
            num_rows,
            num_heads,
            num_kv_heads,
            head_dim,
            num_pages,
            q.stride(0),
            q.stride(1),
            *self._table_arguments,
            *self._settings,
            out.data_ptr(),
            lse.data_ptr(),
            torch.get_num_threads(),
            _native.set_number(),
        )
        return out, lse, torch.zeros(num_rows, dtype=torch.int32)


def shared_prefix_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    tables: TableTensors,
    scale: float,
    layout: str,
    num_splits: int,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Result:
    """`shared_prefix_attention` in C++; arguments and results as the op's.

    `chunk_tokens`, a multiple of 256, is not the op's: only a benchmark sets it, to see what the canonical chunks cost.

    Raises ValueError naming the table that names what is not there.
    """
    _refuse(_native.unavailable() or shared_prefix_attention_why_not(q, k_pages, v_pages, tables, scale, layout, num_splits), "q")
    return BoundAttention(tables, scale, num_splits, chunk_tokens=chunk_tokens)(q, k_pages, v_pages)


def append_kv_why_not(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> str | None:
    """What the C++ `append_kv` cannot do."""
    if k.device.type != "cpu":
        return f"k is on {k.device}"
    if k.dtype.itemsize not in (2, 4, 8):
        return f"k of {k.dtype}"
    if layout == "packed" and k.dtype.itemsize == 2 and k.shape[2] % 2:
        return f"heads of {k.shape[2]}: 16-bit numbers are packed in pairs"
    return None


def append_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> None:
    """`append_kv` in C++; arguments as the op's. Raises ValueError for a slot beyond the pages, before anything is written."""
    _refuse(_native.unavailable() or append_kv_why_not(k, v, k_pages, v_pages, slots, layout), "k")
    num_tokens, num_heads, head_dim = k.shape
    if v.shape != k.shape or v.dtype != k.dtype or v.device != k.device:
        raise ValueError(f"v: expected {list(k.shape)} of {k.dtype}, got {list(v.shape)} of {v.dtype}")
    k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (k, v))
    page_shape = (len(k_pages), num_heads, PAGE_TOKENS, head_dim)
    _native.module().append_kv_cpu(
        k.data_ptr(),
        v.data_ptr(),
        _native.checked_address("k_pages", k_pages, k.dtype, page_shape),
        _native.checked_address("v_pages", v_pages, k.dtype, page_shape),
        _native.checked_address("slots", slots.contiguous(), torch.int64, (num_tokens,)),
        num_tokens,
        num_heads,
        head_dim,
        len(k_pages),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        k.dtype.itemsize,
        layout == "packed",
        torch.get_num_threads(),
    )
