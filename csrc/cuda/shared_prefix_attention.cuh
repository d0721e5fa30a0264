// shared_prefix_attention on CUDA: the bodies of the two kernels. A block takes 16 lane rows per warp that computes and
// walks their paths tile by tile through a ring of stages in shared memory. The result of a row depends on its path
// alone.
#pragma once

#include "shared_prefix_attention_merge.cuh"

namespace editscore::attention {

template <int kDim_, int kWarps_, int kStages_>
struct Config {
    static constexpr int kDim = kDim_, kWarps = kWarps_, kStages = kStages_;  // kWarps compute
    static constexpr int kBlockRows = kWarps * 16;
    using Layout = TileLayout<kDim>;
    using Rows = RowTable<kBlockRows>;
    static constexpr uint32_t kStageBytes = 2 * Layout::kBytes;  // K, then V
    static constexpr uint32_t kTotals = kStages * kStageBytes, kRows = kTotals + kWarps * Total<kDim>::kBytes;
    static constexpr uint32_t kBarriers = kRows + Rows::kBytes, kFlag = kBarriers + kStages * 16;
    static constexpr uint32_t kSharedBytes = kFlag + 16;
};

// The end of every block: its rows, or its share of them, which the last block to arrive merges.
template <class C, class Half>
WARP_FN void finish_block(const Params<Half>& p, const Block& block, const RowTable<C::kBlockRows>& table,
                          int num_warps) {
    if (p.num_splits == 1) return;
    if (is_last_to_arrive(p, block, smem_base() + C::kFlag)) merge_splits<C::kDim>(p, block, table, num_warps);
}

// ---- sm_80: every warp copies (cp.async) and computes
template <class C, class Half>
WARP_FN void fetch_tile(const Params<Half>& p, const Block& block, Lane<int> pages, uint32_t stage) {
    constexpr int kPieces = C::kDim / 8, kRounds = kTileTokens * kPieces / (C::kWarps * kLanes);
    UNROLL for (int round = 0; round < kRounds; ++round) {
        const Lane<int> number = (round * C::kWarps + warp_id()) * kLanes + lane_id();
        const Lane<int> token = number / kPieces, piece = number % kPieces;
        const Lane<int64_t> page = Lane<int64_t>(shfl(pages, token / kPageTokens));
        const Lane<int64_t> from =
            (page * int64_t{p.num_kv_heads} + int64_t{block.kv_head}) * int64_t{kPageTokens * C::kDim} +
            Lane<int64_t>((token & (kPageTokens - 1)) * C::kDim + piece * 8);
        const Lane<uint32_t> to = stage + C::Layout::at(token, piece);
        cp_async16(to, p.k_pages, from);
        cp_async16(to + C::Layout::kBytes, p.v_pages, from);
    }
}

template <class C, class Half>
WARP_FN void attend_sm80(const Params<Half>& p) {
    const uint32_t shared = smem_base(), total = shared + C::kTotals + warp_id() * Total<C::kDim>::kBytes;
    const int first_row = warp_id() * 16;
    clear_padding<C::kDim>(p, C::kWarps);
    const Block block = find_block(p, C::kBlockRows);
    if (block.num <= 0) return;
    const RowTable<C::kBlockRows> table = {shared + C::kRows};
    Faults<C::kBlockRows> faults = {};
    if (warp_id() == 0) read_rows(p, block, table, faults);
    if (!mutant(21)) sync_block();

    Walk<C::kBlockRows> fetched, walk;
    fetched.start(p, block, table);
    walk = fetched;
    Lane<int> pages = 0;
    if (fetched.has_step()) pages = look_up_pages(p, fetched, faults);
    // Fetches the next step and looks up the pages of the one behind it, which are there when it is fetched.
    const auto fetch_next = [&](int stage) {
        if (fetched.has_step()) {
            fetch_tile<C>(p, block, pages, shared + stage * C::kStageBytes);
            fetched.advance();
            if (fetched.has_step()) pages = look_up_pages(p, fetched, faults);
        }
        cp_async_commit();
    };
    for (int stage = 0; stage < C::kStages - 1; ++stage) fetch_next(stage);
    State<C::kDim> state;
    start_state(state, p, block, table, first_row, total);
    for (int stage = 0; walk.has_step(); stage = (stage + 1) % C::kStages) {
        if (mutant(22)) {
            cp_async_wait<C::kStages - 1>();
        } else {
            cp_async_wait<C::kStages - 2>();
        }
        if (!mutant(23)) sync_block();  // the tile has landed for every warp, and nobody reads the stage refilled below
        fetch_next((stage + C::kStages - (mutant(24) ? 0 : 1)) % C::kStages);
        attend_step(state, p, block, walk, first_row, total, shared + stage * C::kStageBytes);
        walk.advance();
    }
    cp_async_wait<0>();
    close_open_chunks(state, p, block, walk, first_row, total);
    if (p.num_splits == 1) store_rows(state, p, block, table, first_row, total);
    if (warp_id() == 0) store_status(p, block, table, faults);
    finish_block<C>(p, block, table, C::kWarps);
}

// ---- sm_90a: warp 0 copies (tensor maps, mbarriers), the others compute
// Matrices of lines of 64 numbers: [P * Hkv * 16, D], or two tokens a line at D = 32.
struct PageMaps {
    TensorMap k, v;
};
template <int kDim, class Half>
PageMaps make_page_maps(const Half* k_pages, const Half* v_pages, int64_t num_pages, int64_t num_kv_heads) {
    using Layout = TileLayout<kDim>;
    const int64_t lines = num_pages * num_kv_heads * Layout::kPageLines;
    constexpr int kWidth = Layout::kColumns * 64;
    return {make_tensor_map(k_pages, lines, kWidth, kWidth, Layout::kPageLines),
            make_tensor_map(v_pages, lines, kWidth, kWidth, Layout::kPageLines)};
}

template <class C, class Half>
WARP_FN void copy_tile(const Params<Half>& p, const PageMaps& maps, const Block& block, Lane<int> pages, uint32_t stage,
                       uint32_t full) {
    using Layout = typename C::Layout;
    UNROLL for (int j = 0; j < kTilePages; ++j) {
        const int line = (first(shfl(pages, Lane<int>(j))) * p.num_kv_heads + block.kv_head) * Layout::kPageLines;
        UNROLL for (int column = 0; column < Layout::kColumns; ++column) {
            const uint32_t to = stage + column * Layout::kColumnBytes + j * Layout::kPageLines * 128;
            bulk_copy_box(to, maps.k, column * 64, line, full);
            bulk_copy_box(to + Layout::kBytes, maps.v, mutant(25) ? 0 : column * 64, line, full);
        }
    }
}

template <class C, class Half>
WARP_FN void produce(const Params<Half>& p, const PageMaps& maps, const Block& block,
                     const RowTable<C::kBlockRows>& table, Faults<C::kBlockRows>& faults) {
    const uint32_t shared = smem_base(), full = shared + C::kBarriers, empty = full + C::kStages * 8;
    Walk<C::kBlockRows> walk;
    walk.start(p, block, table);
    Lane<int> pages = 0;
    if (walk.has_step()) pages = look_up_pages(p, walk, faults);
    for (uint32_t stage = 0, parity = 1; walk.has_step();) {
        if (!mutant(26)) mbar_wait(empty + stage * 8, mutant(27) ? 1 : parity);
        mbar_arrive_expect(full + stage * 8, C::kStageBytes - (mutant(28) ? 1024 : 0));
        copy_tile<C>(p, maps, block, pages, shared + stage * C::kStageBytes, full + stage * 8);
        walk.advance();
        if (walk.has_step()) pages = look_up_pages(p, walk, faults);
        stage = (stage + 1) % C::kStages;
        if (stage == 0) parity ^= 1;
    }
    store_status(p, block, table, faults);
}

template <class C, class Half>
WARP_FN void consume(const Params<Half>& p, const Block& block, const RowTable<C::kBlockRows>& table) {
    const uint32_t shared = smem_base(), full = shared + C::kBarriers, empty = full + C::kStages * 8;
    const uint32_t total = shared + C::kTotals + (warp_id() - 1) * Total<C::kDim>::kBytes;
    const int first_row = (warp_id() - 1) * 16;
    Walk<C::kBlockRows> walk;
    walk.start(p, block, table);
    State<C::kDim> state;
    start_state(state, p, block, table, first_row, total);
    for (uint32_t stage = 0, parity = 0; walk.has_step(); walk.advance()) {
        if (!mutant(29)) mbar_wait(full + stage * 8, parity ^ (mutant(30) ? 1 : 0));
        attend_step(state, p, block, walk, first_row, total, shared + stage * C::kStageBytes);
        mbar_arrive(empty + stage * 8);
        stage = (stage + 1) % C::kStages;
        if (stage == 0) parity ^= 1;
    }
    close_open_chunks(state, p, block, walk, first_row, total);
    if (p.num_splits == 1) store_rows(state, p, block, table, first_row, total);
}

template <class C, class Half>
WARP_FN void attend_sm90(const Params<Half>& p, const PageMaps& maps) {
    const uint32_t shared = smem_base(), full = shared + C::kBarriers, empty = full + C::kStages * 8;
    clear_padding<C::kDim>(p, C::kWarps + 1);
    const Block block = find_block(p, C::kBlockRows);
    if (block.num <= 0) return;
    const RowTable<C::kBlockRows> table = {shared + C::kRows};
    Faults<C::kBlockRows> faults = {};
    if (warp_id() == 0) {
        for (int stage = 0; stage < C::kStages; ++stage) {
            mbar_init(full + stage * 8, 1);
            mbar_init(empty + stage * 8, C::kWarps + (mutant(31) ? 1 : 0));
        }
        if (!mutant(32)) mbar_fence_init();
        read_rows(p, block, table, faults);
    }
    if (!mutant(33)) sync_block();
    if (warp_id() == 0) {
        produce<C>(p, maps, block, table, faults);
    } else {
        consume<C>(p, block, table);
    }
    finish_block<C>(p, block, table, C::kWarps + 1);
}

}  // namespace editscore::attention
