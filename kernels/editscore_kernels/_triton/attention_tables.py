"""How an attention program reads the page tables: which rows are its own, what they see, and which page a position lies in.

Everything that a table names is clamped to what is there, and said: a table may be changed on the device between two replays of a graph.
"""

import triton
import triton.language as tl

GROUPS_AT_ONCE = tl.constexpr(256)


@triton.jit
def find_item(item, group_starts_ptr, num_groups, num_ordered, rows_per_item):
    """[first, last) in `group_rows` of work item `item`; empty beyond the last. A group has one item for every `rows_per_item` rows."""
    first, last, before, start = 0, 0, 0, 0
    while (start < num_groups) & (before <= item):
        place = start + tl.arange(0, GROUPS_AT_ONCE)
        is_group = place < num_groups
        begin = tl.load(group_starts_ptr + place, mask=is_group, other=0)
        end = tl.load(group_starts_ptr + place + 1, mask=is_group, other=0)
        begin, end = tl.minimum(tl.maximum(begin, 0), num_ordered), tl.minimum(tl.maximum(end, 0), num_ordered)
        items = tl.maximum(end - begin + rows_per_item - 1, 0) // rows_per_item
        items_up_to = before + tl.cumsum(items, 0)
        is_hit = is_group & (items_up_to > item) & (items_up_to - items <= item)
        row = begin + (item - (items_up_to - items)) * rows_per_item
        first += tl.sum(tl.where(is_hit, row, 0), 0)
        last += tl.sum(tl.where(is_hit, tl.minimum(row + rows_per_item, end), 0), 0)
        before += tl.sum(items, 0)
        start += GROUPS_AT_ONCE
    return first, last


@triton.jit
def load_rows(tables, sizes, first, last, GROUP: tl.constexpr, BLOCK_ROWS: tl.constexpr):
    """The rows [BLOCK_ROWS] of an item, each GROUP times: number, sequence, place of the sequence in the item (from 1), tokens seen.

    And the item's leaf (-1 for none) and its length, which rows are real, and 1 for those that name what is not there.
    """
    _, leaf_lengths_ptr, _, seq_leaf_ptr, row_seq_ptr, row_lengths_ptr, group_rows_ptr = tables
    num_rows, num_seqs, num_leaves, _, leaf_width, own_width = sizes
    lane = tl.arange(0, BLOCK_ROWS)
    place = first + lane // GROUP
    is_named = (place < last) & (lane < BLOCK_ROWS // GROUP * GROUP)
    row = tl.load(group_rows_ptr + place, mask=is_named, other=0)
    before = tl.load(group_rows_ptr + place - 1, mask=is_named & (place > first), other=0)
    is_real = is_named & (row >= 0) & (row < num_rows)
    row, before = tl.where(is_real, row, 0), tl.minimum(tl.maximum(before, 0), num_rows - 1)
    named = tl.load(row_seq_ptr + row, mask=is_real, other=0)
    is_bad = (named < 0) | (named >= num_seqs)
    seq = tl.minimum(tl.maximum(named, 0), num_seqs - 1)
    is_first = (lane == 0) | ((lane % GROUP == 0) & (named != tl.load(row_seq_ptr + before)))
    rank = tl.where(is_real, tl.cumsum((is_named & is_first).to(tl.int32), 0), 0)

    row_leaf = tl.load(seq_leaf_ptr + seq, mask=is_real, other=-1)
    is_bad |= (row_leaf < -1) | (row_leaf >= num_leaves)
    leaf = tl.minimum(tl.max(tl.where(is_real & (lane < GROUP), row_leaf, -1), 0), num_leaves - 1)
    is_bad |= row_leaf != leaf
    named_length = tl.load(leaf_lengths_ptr + leaf, mask=leaf >= 0, other=0)
    leaf_length = tl.minimum(tl.maximum(named_length, 0), leaf_width * 16) // 16 * 16
    length = tl.load(row_lengths_ptr + row, mask=is_real, other=0)
    is_bad |= (leaf_length != named_length) | (length < 0) | (length > own_width * 16)
    visible = tl.where(is_real, leaf_length + tl.minimum(tl.maximum(length, 0), own_width * 16), 0)
    return row, seq, rank, leaf, leaf_length, visible, is_real, (is_real & is_bad).to(tl.int32)


@triton.jit
def find_pages(tables, sizes, position, is_there, leaf, leaf_length, seq):
    """Pages of `position` along the path of `seq` through `leaf`, 0 where nothing is there, and 1 if one of them does not exist."""
    leaf_pages_ptr, _, own_pages_ptr, _, _, _, _ = tables
    _, _, _, num_pages, leaf_width, own_width = sizes
    in_leaf = is_there & (position < leaf_length)
    in_own = is_there & (position >= leaf_length)
    of_leaf = tl.load(leaf_pages_ptr + leaf.to(tl.int64) * leaf_width + position // 16, mask=in_leaf, other=0)
    of_own = tl.load(own_pages_ptr + seq.to(tl.int64) * own_width + (position - leaf_length) // 16, mask=in_own, other=0)
    page = tl.where(in_leaf, of_leaf, of_own)
    is_outside = tl.max(((page < 0) | (page >= num_pages)).to(tl.int32), 0)
    return tl.minimum(tl.maximum(page, 0), num_pages - 1), is_outside


@triton.jit
def plan_tiles(visible, leaf_length, num_splits, TILE: tl.constexpr, TILES: tl.constexpr):
    """Which tiles of the paths are this program's: begin .. end, whole chunks of TILES tiles.

    Those before `own_begin` lie wholly in the leaf (`num_shared` of them, walked once for all rows), the other `num_own` are walked
    sequence after sequence.
    """
    num_tiles = tl.cdiv(tl.max(visible, 0), TILE)
    per_split = tl.cdiv(tl.cdiv(num_tiles, TILES), num_splits) * TILES
    begin = tl.program_id(1) * per_split
    end = tl.minimum(begin + per_split, num_tiles)
    leaf_tiles = leaf_length // TILE
    own_begin = tl.maximum(leaf_tiles, begin)
    return begin, end, own_begin, tl.maximum(tl.minimum(leaf_tiles, end) - begin, 0), tl.maximum(end - own_begin, 0)


@triton.jit
def find_unit(unit, begin, own_begin, num_shared, num_own, rank, is_real):
    """The tile of a unit of work and the rows that it belongs to: all of them in the leaf, then those of one sequence at a time."""
    is_shared = unit < num_shared
    after = tl.maximum(unit - num_shared, 0)
    turn = after // tl.maximum(num_own, 1)
    tile = tl.where(is_shared, begin + unit, own_begin + after - turn * num_own)
    return tile, is_real & (rank == tl.where(is_shared, rank, turn + 1))
