"""`shared_prefix_attention` in Triton; the formula and the canonical chunks stand in `editscore_kernels.shared_prefix_attention`.

One program takes the rows of one group, up to `block_rows` = rows x G at a time, for one key head. It walks units of `tile_tokens`
tokens: first those that lie wholly in the leaf, once for all of its rows; then, sequence after sequence, the rest of the leaf and the
sequence's own pages, the rows of others masked. One loop body serves both, so a tile of a path is reduced by the same instructions
whether it lies in a leaf or not, and a row's bits are a function of its query and its path.

With `num_splits` > 1 the chunks of a path are shared out over that many programs, which store (m, l, O) of every chunk, and a second
kernel merges them in order by the same function. The grid depends on shapes only, so both launches can be captured in a graph.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not, is_interpreted
from editscore_kernels._triton.attention_state import (
    attend_tile,
    choose_state,
    empty_state,
    load_partial,
    log_sum,
    merge_states,
    normalized,
    store_partial,
)
from editscore_kernels._triton.attention_tables import find_item, find_pages, find_unit, load_rows, plan_tiles
from editscore_kernels.page_tables import TableTensors
from editscore_kernels.reference.shared_prefix_attention import CHUNK_TOKENS

HEAD_DIMS = (32, 64, 128)
MAX_GROUP = 16
LOG2_E = 1.4426950408889634
# Programs that fill a GPU: paths are split when there are fewer.
PROGRAMS_PER_PROCESSOR = 2


@dataclass(frozen=True)
class AttentionConfig:
    """`block_rows` queries (rows x G) share a tile of `tile_tokens` keys.

    The bits of a result depend on it, so it is chosen by dtype and head dimension alone. At most 32 rows keep every architecture on
    mma.sync, whose sums do not depend on the other rows of a tile.
    """

    block_rows: int
    tile_tokens: int
    num_warps: int
    num_stages: int


# Never timed on a GPU. (16-bit types or not, head dimension) to configuration. Five stages keep two tiles of keys and values in flight
# behind the page numbers that they wait for: 82 KiB of shared memory at head dimension 128. Registers on sm_80, sm_90 and sm_100 (triton
# 3.9): 180-190, 112-168 and 108-128 for 16-bit types of head dimension 128, 64 and 32; 119-128 and at most 99 for float32. None spills;
# 64 rows of head dimension 128 on sm_80, 4 warps for 32 of them, and 4 warps for float32 do.
CONFIGS = {
    (True, 128): AttentionConfig(32, 64, 8, 5),
    (True, 64): AttentionConfig(16, 64, 4, 5),
    (True, 32): AttentionConfig(16, 64, 4, 5),
    (False, 128): AttentionConfig(16, 64, 8, 2),
    (False, 64): AttentionConfig(16, 32, 8, 2),
    (False, 32): AttentionConfig(16, 32, 8, 2),
}


@triton.jit(do_not_specialize=["num_groups", "num_ordered", "num_rows", "num_seqs", "num_leaves", "num_pages", "leaf_width", "own_width"])
def _shared_prefix_attention_fwd_kernel(
    q_ptr, stride_qr, stride_qh, k_ptr, v_ptr, leaf_pages_ptr, leaf_lengths_ptr, own_pages_ptr, seq_leaf_ptr, row_seq_ptr, row_lengths_ptr,
    group_rows_ptr, group_starts_ptr, out_ptr, lse_ptr, status_ptr, partial_ptr,
    num_groups, num_ordered, num_rows, num_seqs, num_leaves, num_pages, leaf_width, own_width, max_chunks, num_splits, scale_log2,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_ROWS: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr, IS_SPLIT: tl.constexpr, UPCAST_DOT: tl.constexpr, NUM_STAGES: tl.constexpr,
):  # fmt: skip
    item, head = tl.program_id(0) // NUM_KV_HEADS, tl.program_id(0) % NUM_KV_HEADS
    first, last = find_item(item, group_starts_ptr, num_groups, num_ordered, BLOCK_ROWS // GROUP)
    if first < last:
        tables = (leaf_pages_ptr, leaf_lengths_ptr, own_pages_ptr, seq_leaf_ptr, row_seq_ptr, row_lengths_ptr, group_rows_ptr)
        sizes = (num_rows, num_seqs, num_leaves, num_pages, leaf_width, own_width)
        row, seq, rank, leaf, leaf_length, visible, is_real, is_bad = load_rows(tables, sizes, first, last, GROUP, BLOCK_ROWS)
        d = tl.arange(0, HEAD_DIM)
        query_head = head * GROUP + tl.arange(0, BLOCK_ROWS) % GROUP
        q = tl.load(q_ptr + (row.to(tl.int64) * stride_qr + query_head * stride_qh)[:, None] + d, mask=is_real[:, None], other=0.0)

        TILES: tl.constexpr = CHUNK // TILE
        begin, end, own_begin, num_shared, num_own = plan_tiles(visible, leaf_length, num_splits, TILE, TILES)
        num_units = num_shared + num_own * tl.max(rank, 0)
        m, total, o = empty_state(BLOCK_ROWS, HEAD_DIM)
        m_all, total_all, o_all = m, total, o
        slot = row.to(tl.int64) * (NUM_KV_HEADS * GROUP) + query_head
        for unit in tl.range(0, num_units, num_stages=NUM_STAGES):
            tile, is_mine = find_unit(unit, begin, own_begin, num_shared, num_own, rank, is_real)
            unit_seq, unit_visible = tl.max(tl.where(is_mine, seq, 0), 0), tl.max(tl.where(is_mine, visible, 0), 0)
            position = tile * TILE + tl.arange(0, TILE)
            is_there = position < unit_visible
            page, is_outside = find_pages(tables, sizes, position, is_there, leaf, leaf_length, unit_seq)
            is_bad |= tl.where(is_mine, is_outside, 0)
            place = ((page.to(tl.int64) * NUM_KV_HEADS + head) * 16 + position % 16)[:, None] * HEAD_DIM + d
            k = tl.load(k_ptr + place, mask=is_there[:, None], other=0.0)
            v = tl.load(v_ptr + place, mask=is_there[:, None], other=0.0)
            is_seen = is_mine[:, None] & (position[None, :] < visible[:, None])
            m, total, o = attend_tile(q, k, v, is_seen, scale_log2, m, total, o, UPCAST_DOT)
            # A sequence's last tile ends its chunk, unless it was the leaf's last whole one and own pages follow.
            if (tile % TILES == TILES - 1) | (tile == end - 1):
                if IS_SPLIT:
                    store_partial(partial_ptr, slot * max_chunks + tile // TILES, m, total, o, is_mine, HEAD_DIM)
                else:
                    m_next, total_next, o_next = merge_states(m_all, total_all, o_all, m, total, o)
                    m_all, total_all, o_all = choose_state(is_mine, m_next, total_next, o_next, m_all, total_all, o_all)
                m_none, total_none, o_none = empty_state(BLOCK_ROWS, HEAD_DIM)
                m, total, o = choose_state(is_mine, m_none, total_none, o_none, m, total, o)
        tl.store(status_ptr + row, 1, mask=is_bad == 1)
        if not IS_SPLIT:
            result = normalized(total_all, o_all).to(out_ptr.dtype.element_ty)
            tl.store(out_ptr + slot[:, None] * HEAD_DIM + d, result, mask=is_real[:, None])
            tl.store(lse_ptr + slot, log_sum(m_all, total_all), mask=is_real)


@triton.jit(do_not_specialize=["num_rows", "num_seqs", "num_leaves", "num_pages", "leaf_width", "own_width"])
def _merge_chunks_kernel(
    leaf_pages_ptr, leaf_lengths_ptr, own_pages_ptr, seq_leaf_ptr, row_seq_ptr, row_lengths_ptr, group_rows_ptr,
    out_ptr, lse_ptr, partial_ptr, num_rows, num_seqs, num_leaves, num_pages, leaf_width, own_width, max_chunks,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, CHUNK: tl.constexpr, BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    place, head = tl.program_id(0), tl.program_id(1)
    tables = (leaf_pages_ptr, leaf_lengths_ptr, own_pages_ptr, seq_leaf_ptr, row_seq_ptr, row_lengths_ptr, group_rows_ptr)
    sizes = (num_rows, num_seqs, num_leaves, num_pages, leaf_width, own_width)
    row, _seq, _rank, _leaf, _leaf_length, visible, is_real, _is_bad = load_rows(tables, sizes, place, place + 1, GROUP, BLOCK_ROWS)
    slot = row.to(tl.int64) * (NUM_KV_HEADS * GROUP) + head * GROUP + tl.arange(0, BLOCK_ROWS) % GROUP
    m, total, o = empty_state(BLOCK_ROWS, HEAD_DIM)
    for chunk in range(0, tl.cdiv(tl.max(visible, 0), CHUNK)):
        m_chunk, total_chunk, o_chunk = load_partial(partial_ptr, slot * max_chunks + chunk, is_real, HEAD_DIM)
        m, total, o = merge_states(m, total, o, m_chunk, total_chunk, o_chunk)
    d = tl.arange(0, HEAD_DIM)
    tl.store(out_ptr + slot[:, None] * HEAD_DIM + d, normalized(total, o).to(out_ptr.dtype.element_ty), mask=is_real[:, None])
    tl.store(lse_ptr + slot, log_sum(m, total), mask=is_real)


def why_not(q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int) -> str | None:
    """What this kernel cannot do."""
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"q of {q.dtype}: the reference only"
    if q.shape[2] not in HEAD_DIMS:
        return f"head dimension {q.shape[2]} is not one of {', '.join(map(str, HEAD_DIMS))}"
    if q.shape[1] > MAX_GROUP * k_pages.shape[1]:
        return f"{q.shape[1] // k_pages.shape[1]} query heads per key head are more than {MAX_GROUP}"
    if layout != "plain":
        return f"pages are in the {layout} layout, this kernel reads plain ones"
    return device_why_not("q", q.device)


def config_of(dtype: torch.dtype, head_dim: int) -> AttentionConfig:
    """The configuration of a dtype and head dimension."""
    return CONFIGS[dtype.itemsize == 2, head_dim]


def _num_splits(programs: int, max_chunks: int, device: torch.device) -> int:
    """So many that the programs fill the device, on what the host knows: lengths stay on the device."""
    if device.type != "cuda":
        return 1
    wanted = PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(max_chunks, wanted // max(programs, 1)))


def shared_prefix_attention(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int
) -> tuple[Tensor, Tensor, Tensor]:
    """out [R, Hq, D], lse [R, Hq], status [R]; arguments as the op's."""
    num_rows, num_heads, head_dim = q.shape
    num_pages, num_kv_heads = k_pages.shape[:2]
    group, config = num_heads // num_kv_heads, config_of(q.dtype, head_dim)
    out, lse = torch.zeros(q.shape, dtype=q.dtype, device=q.device), q.new_full((num_rows, num_heads), -torch.inf, dtype=torch.float32)
    status = torch.zeros(num_rows, dtype=torch.int32, device=q.device)
    num_groups, num_ordered = len(tables.group_starts) - 1, len(tables.group_rows)
    if num_ordered == 0:
        return out, lse, status
    q = q if q.stride(2) == 1 else q.contiguous()
    # No table says on the host how the rows are divided into groups; a group of n rows has ceil(n / rows of an item) items.
    items = num_groups + num_ordered // (config.block_rows // group)
    leaf_width, own_width = tables.leaf_pages.shape[1], tables.own_pages.shape[1]
    max_chunks = max(1, -(-(leaf_width + own_width) * 16 // CHUNK_TOKENS))
    num_splits = min(num_splits, max_chunks) or _num_splits(items * num_kv_heads, max_chunks, q.device)
    partial = q.new_empty((num_rows, num_heads, max_chunks, head_dim + 2) if num_splits > 1 else 1, dtype=torch.float32)
    page_tables = tuple(table.contiguous() for table in tables)
    sizes = (num_rows, len(tables.seq_leaf), len(tables.leaf_lengths), num_pages, leaf_width, own_width, max_chunks)
    shape = {"NUM_KV_HEADS": num_kv_heads, "GROUP": group, "HEAD_DIM": head_dim, "CHUNK": CHUNK_TOKENS}
    _shared_prefix_attention_fwd_kernel[(items * num_kv_heads, num_splits)](
        q, q.stride(0), q.stride(1), k_pages, v_pages, *page_tables, out, lse, status, partial,
        num_groups, num_ordered, *sizes, num_splits, scale * LOG2_E, **shape, BLOCK_ROWS=config.block_rows, TILE=config.tile_tokens,
        IS_SPLIT=num_splits > 1, UPCAST_DOT=is_interpreted() and q.dtype == torch.bfloat16, NUM_STAGES=config.num_stages,
        num_warps=config.num_warps, enable_fp_fusion=False,
    )  # fmt: skip
    if num_splits > 1:
        _merge_chunks_kernel[(num_ordered, num_kv_heads)](
            *page_tables[:-1], out, lse, partial, *sizes, **shape, BLOCK_ROWS=MAX_GROUP, num_warps=4, enable_fp_fusion=False
        )
    return out, lse, status
