// shared_prefix_attention on CUDA: what happens to a chunk when it is complete. One block that walks whole paths merges
// it into a total in shared memory at once; split paths leave it in global memory, where the block that arrives last
// merges all chunks of its rows in order. Both round alike, so the result is the same bits.
#pragma once

#include "shared_prefix_attention_softmax.cuh"

namespace editscore::attention {

// Shared memory of a warp's total o: 16 bytes a lane for every 8 columns, each lane its own.
template <int kDim>
struct Total {
    static constexpr uint32_t kBytes = 16 * kDim * 4;
    static WARP_FN Lane<uint32_t> at(uint32_t total, int d) {
        return total + static_cast<uint32_t>(d) * 512u + Lane<uint32_t>(lane_id() * 16);
    }
};

// The head of Hq that lane row f of the block is.
template <class Half>
WARP_FN Lane<int> query_head(const Params<Half>& p, const Block& block, Lane<int> f) {
    return block.kv_head * p.num_queries_per_head + (block.first + f) % p.num_queries_per_head;
}
// [row, head] in a matrix [R, Hq].
template <class Half>
WARP_FN Lane<int64_t> row_and_head(const Params<Half>& p, const Block& block, Lane<int> row, Lane<int> f) {
    const int64_t num_heads = int64_t{p.num_kv_heads} * p.num_queries_per_head;
    return Lane<int64_t>(row) * num_heads + Lane<int64_t>(query_head(p, block, f));
}

template <int kDim, int kBlockRows, class Half>
WARP_FN void start_state(State<kDim>& state, const Params<Half>& p, const Block& block,
                         const RowTable<kBlockRows>& table, int first_row, uint32_t total) {
    UNROLL for (int h = 0; h < 2; ++h) {
        const Lane<int> f = first_row + (lane_id() >> 2) + h * 8;
        const Lane<int> row = table.row(f);
        const Lane<bool> is_row = (row >= 0) & (f < block.num);
        state.visible[h] = select(f < block.num, table.visible(f), 0);
        const Lane<int64_t> start =
            Lane<int64_t>(larger(row, 0)) * p.q_row_stride + Lane<int64_t>(query_head(p, block, f)) * p.q_head_stride;
        UNROLL for (int kk = 0; kk < kDim / 16; ++kk) {
            UNROLL for (int half = 0; half < 2; ++half) {
                const Lane<int64_t> word = start / int64_t{2} + Lane<int64_t>(kk * 8 + half * 4 + (lane_id() & 3));
                state.q[kk][half * 2 + h] = gload(reinterpret_cast<const uint32_t*>(p.q), word, is_row);
            }
        }
        state.m[h] = state.total_m[h] = kLowest;
        state.l[h] = state.total_l[h] = 0.0f;
        state.is_open[h] = false;
    }
    const Lane<float> zeros[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    UNROLL for (int d = 0; d < kDim / 8; ++d) {
        UNROLL for (int i = 0; i < 4; ++i) state.o[d][i] = 0.0f;
        sstore_vec(Total<kDim>::at(total, d), zeros);
    }
}

// Adds the open chunk of the masked rows to their totals and opens a new one.
template <int kDim>
WARP_FN void merge_chunk(State<kDim>& state, const Lane<bool> (&mask)[2], uint32_t total) {
    Weights weights[2];
    UNROLL for (int h = 0; h < 2; ++h) {
        weights[h] = weigh(state.total_m[h], state.m[h]);
        const Lane<float> l = combine(weights[h], state.total_l[h], quad_sum(state.l[h]));
        state.total_l[h] = select(mask[h], l, state.total_l[h]);
        state.total_m[h] = select(mask[h], weights[h].top, state.total_m[h]);
    }
    UNROLL for (int d = 0; d < kDim / 8; ++d) {
        Lane<float> o[4];
        sload_vec(o, Total<kDim>::at(total, d));
        UNROLL for (int i = 0; i < 4; ++i) {
            o[i] = select(mask[i >> 1], combine(weights[i >> 1], o[i], state.o[d][i]), o[i]);
        }
        sstore_vec(Total<kDim>::at(total, d), o);
    }
}

template <int kDim, int kBlockRows, class Half>
WARP_FN void store_chunk(const State<kDim>& state, const Lane<bool> (&mask)[2], const Lane<int> (&chunk)[2],
                         const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& table, int first_row) {
    UNROLL for (int h = 0; h < 2; ++h) {
        const Lane<int> f = first_row + (lane_id() >> 2) + h * 8;
        const Lane<int64_t> place =
            row_and_head(p, block, table.row(f), f) * int64_t{p.max_chunks} + Lane<int64_t>(chunk[h]);
        const Lane<bool> is_stored = mask[h] & (table.row(f) >= 0);
        UNROLL for (int d = 0; d < kDim / 8; ++d) {
            const Lane<float> pair[2] = {state.o[d][2 * h], state.o[d][2 * h + 1]};
            gstore_vec(p.part_o, place * int64_t{kDim} + Lane<int64_t>(d * 8 + (lane_id() & 3) * 2), pair, is_stored);
        }
        const Lane<float> pair[2] = {state.m[h], quad_sum(state.l[h])};
        gstore_vec(p.part_ml, place * int64_t{2}, pair, is_stored & ((lane_id() & 3) == 0));
    }
}

template <int kDim, int kBlockRows, class Half>
WARP_FN void close_chunk(State<kDim>& state, const Lane<bool> (&mask)[2], const Lane<int> (&chunk)[2],
                         const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& table, int first_row,
                         uint32_t total) {
    if (p.num_splits > 1) {
        store_chunk(state, mask, chunk, p, block, table, first_row);
    } else {
        merge_chunk(state, mask, total);
    }
    UNROLL for (int h = 0; h < 2; ++h) {
        state.m[h] = select(mask[h], Lane<float>(kLowest), state.m[h]);
        state.l[h] = select(mask[h], Lane<float>(0.0f), state.l[h]);
        state.is_open[h] = state.is_open[h] & !mask[h];
        UNROLL for (int d = 0; d < kDim / 8; ++d) {
            UNROLL for (int i = 2 * h; i < 2 * h + 2; ++i) {
                state.o[d][i] = select(mask[h], Lane<float>(0.0f), state.o[d][i]);
            }
        }
    }
}

// One step of a walk for the warp's rows, and its chunk's end.
template <int kDim, int kBlockRows, class Half>
WARP_FN void attend_step(State<kDim>& state, const Params<Half>& p, const Block& block, const Walk<kBlockRows>& walk,
                         int first_row, uint32_t total, uint32_t k_tile) {
    Lane<int> sees[2], chunk[2];
    Lane<bool> is_mine[2];
    UNROLL for (int h = 0; h < 2; ++h) {
        const Lane<int> f = first_row + (lane_id() >> 2) + h * 8;
        is_mine[h] = (f >= walk.row_begin) & (f < walk.step_end() + (mutant(14) ? 1 : 0));
        sees[h] = select(is_mine[h], larger(state.visible[h] - walk.tile * kTileTokens, 0), 0);
        chunk[h] = walk.tile / kChunkTiles;
    }
    if (!any((sees[0] > 0) | (sees[1] > 0))) return;
    attend_tile<kDim, Half>(state, k_tile, k_tile + TileLayout<kDim>::kBytes, sees, p.scale_log2e);
    if (walk.tile % kChunkTiles != (mutant(15) ? 0 : kChunkTiles - 1)) return;
    UNROLL for (int h = 0; h < 2; ++h) is_mine[h] = is_mine[h] & state.is_open[h];
    close_chunk(state, is_mine, chunk, p, block, walk.table, first_row, total);
}

// The chunks that end with a path rather than with a tile.
template <int kDim, int kBlockRows, class Half>
WARP_FN void close_open_chunks(State<kDim>& state, const Params<Half>& p, const Block& block,
                               const Walk<kBlockRows>& walk, int first_row, uint32_t total) {
    Lane<int> chunk[2];
    Lane<bool> is_open[2];
    UNROLL for (int h = 0; h < 2; ++h) {
        chunk[h] = (smaller(state.visible[h], walk.last_tile * kTileTokens) - 1) / kChunkTokens;
        is_open[h] = state.is_open[h];
    }
    if (any(is_open[0] | is_open[1])) close_chunk(state, is_open, chunk, p, block, walk.table, first_row, total);
}

template <int kDim, int kBlockRows, class Half>
WARP_FN void store_rows(const State<kDim>& state, const Params<Half>& p, const Block& block,
                        const RowTable<kBlockRows>& table, int first_row, uint32_t total) {
    UNROLL for (int h = 0; h < 2; ++h) {
        const Lane<int> f = first_row + (lane_id() >> 2) + h * 8;
        const Lane<int> row = select(f < block.num, table.row(f), -1);
        const Lane<int64_t> place = row_and_head(p, block, row, f);
        UNROLL for (int d = 0; d < kDim / 8; ++d) {
            Lane<float> o[4];
            sload_vec(o, Total<kDim>::at(total, d));
            const Lane<uint32_t> word =
                pack<Half>(normalised(o[2 * h], state.total_l[h]), normalised(o[2 * h + 1], state.total_l[h]));
            const Lane<int64_t> at = place * int64_t{kDim / 2} + Lane<int64_t>(d * 4 + (lane_id() & 3));
            gstore(reinterpret_cast<uint32_t*>(p.out), at, word, row >= 0);
        }
        gstore(p.lse, place, log_sum(state.total_m[h], state.total_l[h]), (row >= 0) & ((lane_id() & 3) == 0));
    }
}

// The status of the rows whose first head is in this block; of a split only what it saw.
template <int kBlockRows, class Half>
WARP_FN void store_status(const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& table,
                          const Faults<kBlockRows>& faults) {
    if (block.kv_head != 0) return;
    int32_t* target = p.num_splits > 1 ? p.part_status + int64_t{block.split} * p.num_rows : p.status;
    UNROLL for (int part = 0; part < table.kParts; ++part) {
        const Lane<int> f = lane_id() + part * kLanes, row = table.row(f);
        const Lane<bool> is_first = (f < block.num) & ((block.first + f) % p.num_queries_per_head == 0) & (row >= 0);
        gstore(target, row, select(faults.is_bad[part], 1, 0), is_first);
    }
}

// Counts the blocks of an item; true in the one that arrives last, which then sees what all others wrote.
template <class Half>
WARP_FN bool is_last_to_arrive(const Params<Half>& p, const Block& block, uint32_t flag) {
    uint32_t* arrivals = p.arrivals + int64_t{block_id()} * p.num_kv_heads + block.kv_head;
    if (!mutant(16)) sync_block();
    if (warp_id() == 0) {
        if (!mutant(17)) fence_device();  // release: what the block wrote, before the count
        const uint32_t order = warp_atomic_add(arrivals, 1);
        if (!mutant(18)) fence_device();  // acquire: the count, before what other blocks wrote
        sstore(Lane<uint32_t>(flag), order, lane_id() == 0);
    }
    sync_block();
    const bool is_last = first(sload<uint32_t>(Lane<uint32_t>(flag))) == static_cast<uint32_t>(p.num_splits - 1);
    if (is_last && warp_id() == 0 && !mutant(19)) gstore(arrivals, 0, Lane<uint32_t>(0u), lane_id() == 0);
    return is_last;
}

// Merges the chunks of all rows of the block, a warp a row: lane i holds columns 64 j + 2 i and 2 i + 1.
template <int kDim, int kBlockRows, class Half>
WARP_FN void merge_splits(const Params<Half>& p, const Block& block, const RowTable<kBlockRows>& table, int num_warps) {
    constexpr int kPairs = (kDim + 63) / 64;
    const Lane<bool> has_columns = lane_id() * 2 < kDim;
    for (int f = warp_id(); f < block.num; f += num_warps) {
        const int row = uniform(table.row(f));
        if (row < 0) continue;
        const int num_chunks = (uniform(table.visible(f)) + kChunkTokens - 1) / kChunkTokens;
        const int64_t place = first(row_and_head(p, block, Lane<int>(row), Lane<int>(f)));
        Lane<float> m = kLowest, l = 0.0f, o[kPairs][2] = {};
        for (int step = 0; step < num_chunks; ++step) {
            const int chunk = mutant(20) ? num_chunks - 1 - step : step;
            const float* part_o = p.part_o + (place * p.max_chunks + chunk) * kDim;
            Lane<float> ml[2];
            gload_vec_cg(ml, p.part_ml + (place * p.max_chunks + chunk) * 2, 0);
            const Weights weights = weigh(m, ml[0]);
            m = weights.top;
            l = combine(weights, l, ml[1]);
            UNROLL for (int j = 0; j < kPairs; ++j) {
                Lane<float> pair[2];
                gload_vec_cg(pair, part_o, lane_id() * 2 + j * 64, has_columns);
                UNROLL for (int i = 0; i < 2; ++i) o[j][i] = combine(weights, o[j][i], pair[i]);
            }
        }
        uint32_t* out = reinterpret_cast<uint32_t*>(p.out) + place * (kDim / 2);
        UNROLL for (int j = 0; j < kPairs; ++j) {
            gstore(out, lane_id() + j * 32, pack<Half>(normalised(o[j][0], l), normalised(o[j][1], l)), has_columns);
        }
        gstore(p.lse + place, 0, log_sum(m, l), lane_id() == 0);
        if (block.kv_head == 0 && (block.first + f) % p.num_queries_per_head == 0) {
            int32_t status = 0;
            for (int split = 0; split < p.num_splits; ++split) {
                status |= uniform(gload_cg(p.part_status + int64_t{split} * p.num_rows, Lane<int>(row)));
            }
            gstore(p.status, Lane<int>(row), Lane<int>(status), lane_id() == 0);
        }
    }
}

// Padding rows are in no group: their output is zero, a sequence below -1 is a fault. Shared out over all blocks.
template <int kDim, class Half>
WARP_FN void clear_padding(const Params<Half>& p, int num_warps) {
    if (block_id_y() != 0) return;
    const int num_heads = p.num_kv_heads * p.num_queries_per_head;
    for (int row = block_id() * num_warps + warp_id(); row < p.num_rows; row += grid_size() * num_warps) {
        const int seq = uniform(gload(p.row_seq, Lane<int>(row)));
        if (seq >= 0) continue;
        uint32_t* out = reinterpret_cast<uint32_t*>(p.out) + int64_t{row} * num_heads * (kDim / 2);
        for (int i = 0; i < num_heads * (kDim / 2); i += kLanes) {
            gstore(out, i + lane_id(), Lane<uint32_t>(0u), i + lane_id() < num_heads * (kDim / 2));
        }
        for (int i = 0; i < num_heads; i += kLanes) {
            gstore(p.lse + int64_t{row} * num_heads, i + lane_id(), log_sum(0.0f, 0.0f), i + lane_id() < num_heads);
        }
        gstore(p.status, Lane<int>(row), Lane<int>(seq == -1 ? 0 : 1), lane_id() == 0);
    }
}

}  // namespace editscore::attention
