// The example of docs/host-twin.md: out[r] = sum of x[r, :] in fp32, one block per row. Rows come through two stages of
// shared memory by cp.async; the two bugs at mutant(1) and mutant(2) are what its test switches on.
#pragma once

#include "warp/warp.h"

namespace row_sum {

using namespace warp;

constexpr int kWarps = 4, kStages = 2;
constexpr int kTile = kWarps * 32 * 4;  // floats of a stage: 16 bytes a lane
constexpr uint32_t kStageBytes = kTile * 4, kPartials = kStages * kStageBytes;
constexpr uint32_t kSharedBytes = kPartials + kWarps * 4;

struct Params {
    const float* x;  // [rows, columns], columns a multiple of 4
    float* out;      // [rows]
    int columns;
};

WARP_FN void fetch_tile(const Params& p, int tile, uint32_t stage) {
    const Lane<int> thread = warp_id() * 32 + lane_id(), column = tile * kTile + thread * 4;
    const int64_t row = static_cast<int64_t>(block_id()) * p.columns;
    cp_async16_zero(stage + Lane<uint32_t>(thread * 16), p.x + row, column, column < p.columns);
}

WARP_KERNEL(kWarps * 32) row_sum_kernel(const Params p) {
    const uint32_t shared = smem_base();
    const int num_tiles = (p.columns + kTile - 1) / kTile;
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < num_tiles) fetch_tile(p, stage, shared + stage * kStageBytes);
        cp_async_commit();
    }
    Lane<float> sum = 0.0f;
    for (int tile = 0; tile < num_tiles; ++tile) {
        cp_async_wait<kStages - 2>();
        if (!mutant(1)) sync_block();  // the tile has landed for every warp; nobody reads the stage refilled below
        const int next = tile + kStages - 1;
        if (next < num_tiles) fetch_tile(p, next, shared + next % kStages * kStageBytes);
        cp_async_commit();
        const Lane<int> neighbour = (warp_id() * 32 + lane_id()) ^ 33;  // what another lane of another warp copied
        Lane<float> part[4];
        sload_vec(part, shared + tile % kStages * kStageBytes + Lane<uint32_t>(neighbour * 16));
        sum += (part[0] + part[1]) + (part[2] + part[3]);
    }
    cp_async_wait<0>();
    sstore(shared + kPartials + static_cast<uint32_t>(warp_id()) * 4, warp_sum(sum), lane_id() == 0);
    sync_block();
    if (warp_id() == 0) {
        const Lane<bool> has_part = lane_id() < (mutant(2) ? kWarps + 1 : kWarps);
        const Lane<float> parts = sload<float>(shared + kPartials + Lane<uint32_t>(lane_id() * 4), has_part);
        gstore(p.out, block_id(), warp_sum(parts), lane_id() == 0);
    }
}

}  // namespace row_sum
