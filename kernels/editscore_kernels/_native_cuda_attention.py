"""`shared_prefix_attention` and `append_kv` in CUDA: what they cannot do, the checks of what pointers cannot say, the calls.

The kernels are compiled for sm_80 and sm_90a and tested on their host twins (docs/host-twin.md); they have never run on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native
from editscore_kernels._native_cuda import capability_why_not, unavailable
from editscore_kernels.kv import PAGE_TOKENS
from editscore_kernels.page_tables import TableTensors

TYPES = {torch.bfloat16: 1, torch.float16: 2}  # editscore::AttentionType
HEAD_DIMS = (32, 64, 128)
CHUNK_TOKENS = 256
MIN_BLOCK_ROWS = 16

Result = tuple[Tensor, Tensor, Tensor]


def _device_why_not(device: torch.device, head_dim: int) -> str | None:
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) in ((8, 6), (8, 9)) and head_dim == 128:
        return f"{device} has 99 KB of shared memory for a block, heads of 128 need up to 129"
    return capability_why_not(device)


def shared_prefix_attention_why_not(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int
) -> str | None:
    """What the CUDA attention cannot do."""
    if q.device.type != "cuda":
        return f"q is on {q.device}"
    if q.dtype not in TYPES:
        return f"q of {q.dtype}: it takes bfloat16 and float16"
    if layout != "plain":
        return f"pages in {layout} layout: it reads plain ones"
    if q.shape[2] not in HEAD_DIMS:
        return f"heads of {q.shape[2]}: it takes 32, 64 and 128"
    if not len(k_pages):
        return "there are no pages"
    return _device_why_not(q.device, q.shape[2])


def choose_splits(num_splits: int, num_blocks: int, num_processors: int, max_chunks: int) -> int:
    """Splits of the paths: as told, or so many that every multiprocessor has a block; never more than there are chunks."""
    wanted = num_splits or -(-num_processors // max(num_blocks, 1))
    return max(1, min(wanted, max_chunks))


def shared_prefix_attention(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int
) -> Result:
    """`shared_prefix_attention` on the current stream of q's device; arguments and results as the op's."""
    reason = unavailable() or shared_prefix_attention_why_not(q, k_pages, v_pages, tables, scale, layout, num_splits)
    if reason:
        raise ValueError(f"q: {reason}")
    if q.stride(2) != 1 or q.stride(0) % 2 or q.stride(1) % 2 or q.data_ptr() % 4:
        q = q.clone(memory_format=torch.contiguous_format)
    with torch.cuda.device(q.device):
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
        stream = torch.cuda.current_stream().cuda_stream
        return call_attention(
            _native.module().shared_prefix_attention_cuda, q, k_pages, v_pages, tables, scale, num_splits, processors, stream
        )


def call_attention(
    function: Any,
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    tables: TableTensors,
    scale: float,
    num_splits: int,
    num_processors: int,
    stream: int,
) -> Result:
    """Allocates results and workspace, and calls a function that takes SharedPrefixAttentionCudaParams as numbers."""
    num_rows, num_heads, head_dim = q.shape
    num_pages, num_kv_heads = k_pages.shape[:2]
    tables = TableTensors(*(table.contiguous() for table in tables))
    num_groups = len(tables.group_starts) - 1
    max_chunks = -(-(tables.leaf_pages.shape[1] + tables.own_pages.shape[1]) * PAGE_TOKENS // CHUNK_TOKENS)
    splits = choose_splits(num_splits, num_groups * num_kv_heads, num_processors, max_chunks)
    out, lse = q.new_empty(tuple(q.shape)), q.new_empty((num_rows, num_heads), dtype=torch.float32)
    status = q.new_empty(num_rows, dtype=torch.int32)
    parts = num_rows * num_heads * max_chunks if splits > 1 else 0
    part_o, part_ml = (q.new_empty(size, dtype=torch.float32) for size in (parts * head_dim, parts * 2))
    part_status = q.new_empty(splits * num_rows if splits > 1 else 0, dtype=torch.int32)
    blocks = num_groups + len(tables.group_rows) * (num_heads // num_kv_heads) // MIN_BLOCK_ROWS + 1
    arrivals = q.new_zeros(blocks * num_kv_heads if splits > 1 else 0, dtype=torch.int32)
    function(
        *(TYPES[q.dtype], q.data_ptr(), k_pages.data_ptr(), v_pages.data_ptr()),
        *(num_rows, num_heads, num_kv_heads, head_dim, num_pages, q.stride(0), q.stride(1)),
        *(table.data_ptr() for table in tables),
        *tables.leaf_pages.shape,
        *tables.own_pages.shape,
        *(len(tables.group_rows), num_groups, scale, splits),
        *(out.data_ptr(), lse.data_ptr(), status.data_ptr(), max_chunks),
        *(part.data_ptr() for part in (part_o, part_ml, part_status, arrivals)),
        stream,
    )
    return out, lse, status


def append_kv_why_not(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> str | None:
    """What the CUDA `append_kv` cannot do."""
    if k.device.type != "cuda":
        return f"k is on {k.device}"
    if k.dtype.itemsize not in (2, 4, 8):
        return f"k of {k.dtype}"
    if layout != "plain":
        return f"pages in {layout} layout: it writes plain ones"
    return _device_why_not(k.device, 0)


def append_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> None:
    """`append_kv` on the current stream of k's device; arguments as the op's. Slots outside of the pages are dropped."""
    reason = unavailable() or append_kv_why_not(k, v, k_pages, v_pages, slots, layout)
    if reason:
        raise ValueError(f"k: {reason}")
    k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (k, v))
    slots = slots.contiguous()
    with torch.cuda.device(k.device):
        _native.module().append_kv_cuda(
            *(x.data_ptr() for x in (k, v, k_pages, v_pages, slots)),
            *(*k.shape, len(k_pages), k.stride(0), k.stride(1), v.stride(0), v.stride(1), k.dtype.itemsize),
            torch.cuda.current_stream().cuda_stream,
        )
