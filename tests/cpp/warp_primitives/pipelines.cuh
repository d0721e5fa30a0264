// Small pipelines over shared memory, one for each way to wait: cp.async, named barriers, mbarriers with bulk copies.
#pragma once

#include "kernels.cuh"

namespace primitives {

constexpr int kTiles = 7, kPipelineStages = 3, kPipelineWarps = 4;  // more tiles than stages, so that stages wrap
constexpr int kTileWords = kPipelineWarps * 32 * 4;
constexpr uint32_t kTileBytes = kTileWords * 4, kPipelineShared = kPipelineStages * kTileBytes;

// out[t] = in[t] with the 16-byte pieces of a tile in reverse order; pieces with index % 8 == 5 are zero.
WARP_KERNEL(kPipelineWarps * 32) async_copies_kernel(WARP_GRID_CONSTANT const Params p) {
    const uint32_t shared = smem_base();
    const Lane<int> piece = warp_id() * 32 + lane_id(), reversed = kPipelineWarps * 32 - 1 - piece;
    const Lane<bool> is_copied = (piece & 7) != 5;
    const auto fetch = [&](int tile) {
        const Lane<uint32_t> to = shared + Lane<uint32_t>(tile % kPipelineStages * kTileBytes + piece * 16);
        const uint32_t* from = p.in + tile * kTileWords;
        if (tile % 2 == 0) cp_async16_zero(to, from, piece * 4, is_copied);
        if (tile % 2 == 1) {
            const Lane<uint32_t> zeros[4] = {0u, 0u, 0u, 0u};
            sstore_vec(to, zeros, !is_copied);
            cp_async16(to, from, Lane<int64_t>(piece * 4), is_copied);
        }
    };
    for (int tile = 0; tile < kPipelineStages - 1; ++tile) {
        fetch(tile);
        cp_async_commit();
    }
    for (int tile = 0; tile < kTiles; ++tile) {
        cp_async_wait<kPipelineStages - 2>();
        sync_block();
        if (tile + kPipelineStages - 1 < kTiles) fetch(tile + kPipelineStages - 1);
        cp_async_commit();
        Lane<uint32_t> words[4];
        sload_vec(words, shared + Lane<uint32_t>(tile % kPipelineStages * kTileBytes + reversed * 16));
        gstore_vec(p.out, tile * kTileWords + piece * 4, words);
    }
    cp_async_wait<0>();
}

// Warp 0 writes tiles for warps 1 .. 3, with a full and an empty barrier per stage. out[t] = in[t] + t, 32 words a
// tile, by warp 1 + t % 3.
WARP_KERNEL(kPipelineWarps * 32) named_barriers_kernel(WARP_GRID_CONSTANT const Params p) {
    const uint32_t shared = smem_base();
    const Lane<uint32_t> ulane = Lane<uint32_t>(lane_id());
    constexpr int kFull = 1, kEmpty = 1 + kPipelineStages;
    for (int tile = 0; tile < kTiles; ++tile) {
        const int stage = tile % kPipelineStages;
        const uint32_t at = shared + static_cast<uint32_t>(stage) * 128u;
        if (warp_id() == 0) {
            if (tile >= kPipelineStages) named_sync(kEmpty + stage, kPipelineWarps);
            sstore(at + ulane * 4u, gload(p.in, tile * 32 + lane_id()));
            named_arrive(kFull + stage, kPipelineWarps);
        } else {
            named_sync(kFull + stage, kPipelineWarps);
            const Lane<uint32_t> word = sload(at + (31u - ulane) * 4u);
            if (tile % 3 + 1 == warp_id()) {
                gstore(p.out, tile * 32 + 31 - lane_id(), word + static_cast<uint32_t>(tile));
            }
            if (tile + kPipelineStages < kTiles) named_arrive(kEmpty + stage, kPipelineWarps);
        }
    }
}

constexpr int kBoxRows = 16, kBoxBytes = kBoxRows * 128;
constexpr uint32_t kEngineStage = 2 * kBoxBytes, kEngineShared = kPipelineStages * (kEngineStage + 16);

// Warp 0 copies, warps 1 .. 3 read. A stage has the plain bytes of tile t by bulk_copy, and box t of the map (rows 16 t
// to 16 t + 15, columns 64 .. 127) by bulk_copy_box. out: per tile kBoxBytes of the first, then of the second.
WARP_KERNEL(kPipelineWarps * 32) engine_copies_kernel(WARP_GRID_CONSTANT const Params p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    const uint32_t shared = smem_base(), full = shared + kPipelineStages * kEngineStage,
                   empty = full + kPipelineStages * 8;
    if (warp_id() == 0) {
        for (uint32_t stage = 0; stage < kPipelineStages; ++stage) {
            mbar_init(full + stage * 8, 1);
            mbar_init(empty + stage * 8, kPipelineWarps - 1);
        }
        mbar_fence_init();
    }
    // What the copies overwrite was written before, as in a kernel that reuses its stages.
    for (uint32_t at = static_cast<uint32_t>(warp_id()) * 128; at < kPipelineStages * kEngineStage; at += 4 * 128) {
        sstore(shared + at + Lane<uint32_t>(lane_id() * 4), 0u);
    }
    fence_proxy_async();
    sync_block();
    for (int tile = 0; tile < kTiles; ++tile) {
        const uint32_t stage = static_cast<uint32_t>(tile % kPipelineStages), round = tile / kPipelineStages;
        const uint32_t plain = shared + stage * kEngineStage, box = plain + kBoxBytes;
        if (warp_id() == 0) {
            mbar_wait(empty + stage * 8, (round & 1) ^ 1);
            mbar_arrive_expect(full + stage * 8, 2 * kBoxBytes);
            const Lane<int> row = lane_id();
            bulk_copy(plain + Lane<uint32_t>(row * 128), p.in, tile * (kBoxBytes / 4) + row * 32, 128, full + stage * 8,
                      row < kBoxRows);
            bulk_copy_box(box, p.map, 64, tile * kBoxRows, full + stage * 8);
        } else {
            mbar_wait(full + stage * 8, round & 1);
            for (int piece = (warp_id() - 1) * 32; piece < kBoxBytes / 16; piece += (kPipelineWarps - 1) * 32) {
                const Lane<int> i = piece + lane_id();
                const Lane<bool> is_in = i < kBoxBytes / 16;
                const Lane<uint32_t> row = Lane<uint32_t>(i) >> 3, chunk = Lane<uint32_t>(i) & 7u;
                Lane<uint32_t> words[4];
                sload_vec(words, plain + row * 128u + chunk * 16u, is_in);
                gstore_vec(p.out, tile * (2 * kBoxBytes / 4) + i * 4, words, is_in);
                sload_vec(words, box + row * 128u + (chunk ^ (row & 7u)) * 16u, is_in);
                gstore_vec(p.out, tile * (2 * kBoxBytes / 4) + kBoxBytes / 4 + i * 4, words, is_in);
            }
            mbar_arrive(empty + stage * 8);
        }
    }
#endif
}

}  // namespace primitives
