// shared_prefix_attention on CUDA: parameters, which rows a block works on, and in what order it walks their paths.
// The formula stands in kernels/editscore_kernels/shared_prefix_attention.py, the style in docs/host-twin.md.
//
// Legend: R rows, Hq query heads, Hkv heads of the pages, G = Hq / Hkv, D head size. A lane row is one head of one row:
// the rows of a group times G, in the order of group_rows. A tile is 64 tokens at a multiple of 64 of their position.
#pragma once

#include <cstdint>

#include "warp/warp.h"

namespace editscore::attention {

using namespace warp;
using warp::any, warp::ballot;  // CUDA has global ones as well

constexpr int kPageTokens = 16, kTileTokens = 64, kTilePages = 4, kChunkTiles = 4;
constexpr int kChunkTokens = kTileTokens * kChunkTiles;

template <class Half>
struct Params {
    const Half* q;        // [R, Hq, D]; strides count elements and are even
    const Half* k_pages;  // [P, Hkv, 16, D]
    const Half* v_pages;
    int64_t q_row_stride, q_head_stride;
    const int32_t* leaf_pages;    // [L, leaf_width]
    const int32_t* leaf_lengths;  // [L]
    const int32_t* own_pages;     // [S, own_width]
    const int32_t* seq_leaf;      // [S]
    const int32_t* row_seq;       // [R]
    const int32_t* row_lengths;   // [R]
    const int32_t* group_rows;    // [n]
    const int32_t* group_starts;  // [num_groups + 1]
    int num_rows, num_kv_heads, num_queries_per_head, num_pages;
    int num_leaves, leaf_width, num_seqs, own_width, num_group_rows, num_groups;
    float scale_log2e;
    Half* out;        // [R, Hq, D]
    float* lse;       // [R, Hq]
    int32_t* status;  // [R]
    // With more than one split, chunks are merged by the block that arrives last:
    int num_splits, max_chunks;
    float* part_o;         // [R, Hq, max_chunks, D]
    float* part_ml;        // [R, Hq, max_chunks, 2]
    int32_t* part_status;  // [num_splits, R]
    uint32_t* arrivals;    // [blocks, Hkv], zero before and after
};

// What a block works on: `num` lane rows from lane row `first` of a group, of one head of the pages, in one split.
struct Block {
    int group_begin, first, num, kv_head, split;
};

WARP_FN int uniform(Lane<int> x) { return first(x); }

// Group g takes the blocks from g + group_starts[g] * G / block_rows: that is at least as many as it needs, and no host
// has to read the tables. Blocks in excess find num <= 0.
template <class Half>
WARP_FN Lane<int> group_start(const Params<Half>& p, Lane<int> group, Lane<bool> mask = true) {
    return smaller(larger(gload(p.group_starts, group, mask), 0), p.num_group_rows);
}

template <class Half>
WARP_FN Block find_block(const Params<Half>& p, int block_rows) {
    Block block = {0, 0, 0, block_id_y() / p.num_splits, block_id_y() % p.num_splits};
    if (p.num_groups == 0) return block;
    int low = 0, high = p.num_groups;
    while (high - low > 1) {  // 32 places are looked at a time
        const int step = (high - low + kLanes - 1) / kLanes;
        const Lane<int> group = low + lane_id() * step;
        const Lane<bool> inside = group < high;
        const Lane<int> slot = group + group_start(p, group, inside) * p.num_queries_per_head / block_rows;
        low += larger(popc(ballot(inside & (slot <= block_id()))) - 1, 0) * step;
        high = smaller(low + step, high);
    }
    const int begin = uniform(group_start(p, low)), end = uniform(group_start(p, low + 1));
    const int slot = low + begin * p.num_queries_per_head / block_rows;
    block.group_begin = begin;
    block.first = larger(block_id() - slot, 0) * block_rows;
    block.num = smaller(block_rows, (end - begin) * p.num_queries_per_head - block.first);
    return block;
}

// What a block's warps know of its rows, in shared memory: one word per lane row and three of the group.
template <int kBlockRows>
struct RowTable {
    static constexpr uint32_t kRow = 0, kSeq = kBlockRows * 4, kVisible = 2 * kSeq, kLeaf = 3 * kSeq;
    static constexpr uint32_t kBytes = kLeaf + 16;
    static constexpr int kParts = (kBlockRows + kLanes - 1) / kLanes;

    uint32_t base;

    // Lane row f: the row (-1: nothing to write), its sequence (-1: none), and how many tokens of the path it sees.
    WARP_FN Lane<int> row(Lane<int> f) const { return get(kRow, f); }
    WARP_FN Lane<int> seq(Lane<int> f) const { return get(kSeq, f); }
    WARP_FN Lane<int> visible(Lane<int> f) const { return get(kVisible, f); }
    WARP_FN int leaf() const { return uniform(sload<int>(Lane<uint32_t>(base + kLeaf))); }
    WARP_FN int leaf_length() const { return uniform(sload<int>(Lane<uint32_t>(base + kLeaf + 4))); }
    WARP_FN int longest() const { return uniform(sload<int>(Lane<uint32_t>(base + kLeaf + 8))); }

    WARP_FN Lane<int> get(uint32_t array, Lane<int> f) const {
        return sload<int>(base + array + Lane<uint32_t>(smaller(f, kBlockRows - 1) * 4));
    }
    WARP_FN void set(uint32_t array, Lane<int> f, Lane<int> x) const {
        sstore(base + array + Lane<uint32_t>(f * 4), x, f < kBlockRows);
    }
};

// Whether the tables of lane rows lane, lane + 32 .. name what is not there. Kept by the warp that looks up pages.
template <int kBlockRows>
struct Faults {
    Lane<bool> is_bad[RowTable<kBlockRows>::kParts];
};

// Reads the tables of the block's rows and clamps what they say. By one warp; the others read after a sync_block.
template <int kBlockRows, class Half>
WARP_FN void read_rows(const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& table,
                       Faults<kBlockRows>& faults) {
    constexpr int kParts = RowTable<kBlockRows>::kParts;
    Lane<int> own[kParts], leaf_of[kParts];
    Lane<bool> has_seq[kParts];
    Lane<int> leaf = -1;
    UNROLL for (int part = 0; part < kParts; ++part) {
        const Lane<int> f = lane_id() + part * kLanes;
        const Lane<bool> inside = f < block.num;
        const Lane<int> place = block.group_begin + (block.first + f) / p.num_queries_per_head;
        const Lane<int> row = gload(p.group_rows, place, inside);
        const Lane<bool> is_row = inside & (row >= 0) & (row < p.num_rows);
        const Lane<int> seq = gload(p.row_seq, row, is_row);
        has_seq[part] = is_row & (seq >= 0) & (seq < (mutant(1) ? p.num_seqs + 1 : p.num_seqs));
        own[part] = gload(p.row_lengths, row, has_seq[part]);
        leaf_of[part] = gload(p.seq_leaf, seq, has_seq[part]);
        has_seq[part] = has_seq[part] & (leaf_of[part] >= -1) & (leaf_of[part] < p.num_leaves);
        leaf = larger(leaf, select(has_seq[part], leaf_of[part], -1));
        faults.is_bad[part] = is_row & (seq >= 0) & !has_seq[part];
        table.set(table.kRow, f, select(is_row & (seq >= 0), row, -1));
        table.set(table.kSeq, f, select(has_seq[part], seq, -1));
    }
    leaf = warp_max(leaf);
    const Lane<int> said = gload(p.leaf_lengths, leaf, leaf >= 0);
    const Lane<int> leaf_length = smaller(larger(said, 0), p.leaf_width * kPageTokens) & ~(kPageTokens - 1);
    Lane<int> longest = 0;
    UNROLL for (int part = 0; part < kParts; ++part) {
        const Lane<int> f = lane_id() + part * kLanes;
        const Lane<int> clamped = smaller(larger(own[part], 0), p.own_width * kPageTokens);
        const Lane<bool> is_sound = (leaf_of[part] == leaf) & (own[part] == clamped) & (said == leaf_length);
        const Lane<int> length = mutant(2) ? own[part] : clamped;
        const Lane<int> visible = select(has_seq[part] & (leaf_of[part] == leaf), leaf_length + length, 0);
        faults.is_bad[part] = faults.is_bad[part] | (has_seq[part] & !is_sound);
        longest = larger(longest, visible);
        table.set(table.kVisible, f, visible);
    }
    longest = warp_max(longest);
    const Lane<int> of_group = select(lane_id() == 0, leaf, select(lane_id() == 1, leaf_length, longest));
    sstore(table.base + table.kLeaf + Lane<uint32_t>(lane_id() * 4), of_group, lane_id() < 3);
}

// The tiles that a block takes in turn: first those that lie wholly inside of the leaf, for all of its rows together,
// then for the rows of each sequence the rest of their path. Only tiles of the split's chunks.
template <int kBlockRows>
struct Walk {
    RowTable<kBlockRows> table;
    int num, leaf_tiles, first_tile, last_tile;  // of the split: first_tile <= tile < last_tile
    int tile, end;                               // a step is there while tile < end
    int row_begin, row_end, visible;             // the rows of this step and the most that one of them sees

    WARP_FN bool has_step() const { return tile < end; }

    template <class Half>
    WARP_FN void start(const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& rows) {
        table = rows;
        num = block.num;
        const int num_chunks = (table.longest() + kChunkTokens - 1) / kChunkTokens;
        const int per_split = (num_chunks + p.num_splits - 1) / p.num_splits;
        first_tile = block.split * per_split * kChunkTiles;
        last_tile = smaller(block.split * per_split + per_split, num_chunks) * kChunkTiles;
        visible = table.leaf_length();
        leaf_tiles = (mutant(3) ? visible + kTileTokens - 1 : visible) / kTileTokens;
        tile = first_tile;
        end = smaller(leaf_tiles, last_tile);
        row_begin = 0;
        row_end = 0;  // of the sequences, nothing yet
        if (has_step()) return;
        next_sequence();
    }

    // Rows [begin, end) of this step; the whole block while it is in the leaf.
    WARP_FN int step_end() const { return row_end == 0 ? num : row_end; }

    WARP_FN void advance() {
        ++tile;
        if (!has_step()) next_sequence();
    }

    WARP_FN void next_sequence() {
        while (tile >= end && row_end < num) {
            row_begin = row_end;
            const Lane<int> seq = table.seq(row_begin);
            Lane<int> last = num, sees = 0;
            UNROLL for (int part = 0; part < table.kParts; ++part) {
                const Lane<int> f = lane_id() + part * kLanes;
                const Lane<bool> is_other = (f > row_begin) & (f < num) & (table.seq(f) != seq);
                last = smaller(last, select(is_other, f, num));
            }
            row_end = uniform(warp_min(last));
            UNROLL for (int part = 0; part < table.kParts; ++part) {
                const Lane<int> f = lane_id() + part * kLanes;
                sees = larger(sees, select((f >= row_begin) & (f < row_end), table.visible(f), 0));
            }
            visible = uniform(warp_max(sees));
            tile = larger(leaf_tiles, first_tile);
            end = smaller((visible + kTileTokens - 1) / kTileTokens, last_tile);
        }
    }
};

// The pages of a step's tile: page j in lanes j, j + 4 .. , clamped; pages behind the last one that is seen repeat it,
// so that shared memory holds finite numbers. A page that is not there is a fault of the rows that see it.
template <int kBlockRows, class Half>
WARP_FN Lane<int> look_up_pages(const Params<Half>& p, const Walk<kBlockRows>& walk, Faults<kBlockRows>& faults) {
    const RowTable<kBlockRows>& table = walk.table;
    const int leaf_pages = table.leaf_length() / kPageTokens;
    const int last = (walk.visible + kPageTokens - 1) / kPageTokens - (mutant(4) ? 0 : 1);
    const Lane<int> place = smaller(walk.tile * kTilePages + (lane_id() & (kTilePages - 1)), last);
    const Lane<bool> is_of_leaf = mutant(5) ? place <= leaf_pages : place < leaf_pages;
    const int32_t* of_leaf = p.leaf_pages + static_cast<int64_t>(larger(table.leaf(), 0)) * p.leaf_width;
    const int64_t seq = uniform(table.seq(walk.row_begin));
    const int32_t* of_own = p.own_pages + larger(seq, int64_t{0}) * p.own_width;
    const Lane<int> named = select(is_of_leaf, gload(of_leaf, place, is_of_leaf),
                                   gload(of_own, place - (mutant(6) ? 0 : leaf_pages), !is_of_leaf));
    const Lane<bool> is_missing = (named < 0) | (named >= p.num_pages);
    const uint32_t missing = ballot(is_missing) & ((1u << kTilePages) - 1);
    if (missing != 0) {
        UNROLL for (int part = 0; part < table.kParts; ++part) {
            const Lane<int> f = lane_id() + part * kLanes;
            const Lane<int> sees = table.visible(f) - walk.tile * kTileTokens;
            const Lane<int> pages = smaller(larger(sees + kPageTokens - 1, 0) / kPageTokens, kTilePages);
            const Lane<bool> is_hit =
                (Lane<uint32_t>(missing) & ((Lane<uint32_t>(1u) << Lane<uint32_t>(pages)) - 1u)) != 0u;
            const Lane<bool> is_mine = (f >= walk.row_begin) & (f < walk.step_end());
            faults.is_bad[part] = faults.is_bad[part] | (is_mine & is_hit);
        }
    }
    return mutant(7) ? named : smaller(larger(named, 0), p.num_pages - 1);
}

}  // namespace editscore::attention
