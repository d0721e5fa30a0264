// A small kernel for each group of primitives. check.h knows what each must write; the host twin and a GPU run the
// same.
#pragma once

#include "warp/warp.h"

namespace primitives {

using namespace warp;
using warp::all;  // CUDA has functions of these three names in the global namespace
using warp::any;
using warp::ballot;

struct Params {
    const uint32_t* in;
    uint32_t* out;
    TensorMap map;  // of `in` as 2-byte elements, for copies_by_engine_kernel only
};
using Kernel = void (*)(Params);

// Row `row` of out: one word per lane. Slots of several words per kernel make its answer.
WARP_FN void emit(const Params& p, int& row, Lane<uint32_t> word) { gstore(p.out, row++ * 32 + lane_id(), word); }
WARP_FN void emit(const Params& p, int& row, Lane<int> word) { emit(p, row, Lane<uint32_t>(word)); }
WARP_FN void emit(const Params& p, int& row, Lane<float> word) { emit(p, row, float_bits(word)); }
WARP_FN void emit(const Params& p, int& row, Lane<bool> bit) { emit(p, row, Lane<uint32_t>(bit)); }

constexpr int kValueRows = 45;

// in: three rows of integers, three rows of floats.
WARP_KERNEL(32) values_kernel(WARP_GRID_CONSTANT const Params p) {
    const Lane<int> lane = lane_id();
    const Lane<uint32_t> a = gload(p.in, lane), b = gload(p.in, lane + 32), c = gload(p.in, lane + 64);
    const float* reals = reinterpret_cast<const float*>(p.in + 96);
    const Lane<float> x = gload(reals, lane), y = gload(reals, lane + 32), z = gload(reals, lane + 64);
    const Lane<int> i = Lane<int>(a), j = Lane<int>(b);
    int row = 0;
    emit(p, row, lane);
    emit(p, row, select(a < b, a, c));
    emit(p, row, select(lane == 3, Lane<uint32_t>(7u), 9u));
    emit(p, row, larger(i, j));
    emit(p, row, larger(a, b));
    emit(p, row, larger(x, y));
    emit(p, row, smaller(i, j));
    emit(p, row, smaller(a, b));
    emit(p, row, smaller(x, y));
    emit(p, row, ex2(x));
    emit(p, row, lg2(larger(x, -x)));
    emit(p, row, rcp(x));
    emit(p, row, round_down(x));
    emit(p, row, add_rn(mul_rn(x, y), z));
    emit(p, row, fma_rn(x, y, z));
    emit(p, row, bits_float(float_bits(x)));
    emit(p, row, popc(a));
    emit(p, row, lowest_bit(a & (a >> 3)));
    emit(p, row, highest_bit(a & (a >> 3)));
    emit(p, row, Lane<uint32_t>(0u) + pack_bf16(x, y));
    emit(p, row, pack_f16(x, y));
    emit(p, row, unpack<bf16>(pack_bf16(x, y), 0));
    emit(p, row, unpack<bf16>(pack_bf16(x, y), 1));
    emit(p, row, unpack<f16>(pack_f16(x, y), 0));
    emit(p, row, unpack<f16>(pack_f16(x, y), 1));
    emit(p, row, to_float(to_bf16(x)));
    emit(p, row, to_float(to_f16(x)));
    emit(p, row, Lane<uint32_t>(first(a)));
    emit(p, row, shfl(a, Lane<int>(b & 31u)));
    emit(p, row, shfl_xor(a, 5));
    emit(p, row, shfl_up(a, 3));
    emit(p, row, shfl_down(a, 3));
    emit(p, row, Lane<uint32_t>(ballot(a < b)));
    emit(p, row, Lane<uint32_t>(any(a == b) ? 1u : 0u));
    emit(p, row, Lane<uint32_t>(any(lane == 31) ? 1u : 0u));
    emit(p, row, Lane<uint32_t>(all(lane < 31) ? 1u : 0u));
    emit(p, row, Lane<uint32_t>(all(lane < 32) ? 1u : 0u));
    emit(p, row, warp_sum(a));
    emit(p, row, warp_sum(x));
    emit(p, row, warp_max(i));
    emit(p, row, warp_min(x));
    emit(p, row, warp_inclusive_sum(a));
    emit(p, row, (i / 7) % 5 - j);
    emit(p, row, ((a << 3) ^ (b >> 5)) | ~c);
    emit(p, row, (!(x < y)) & (x != z));
}

constexpr int kMemoryRows = 25;
constexpr uint32_t kMemoryShared = 4096;

// Moves rows of `in` through every kind of load and store; odd lanes are masked off where a mask is tested.
WARP_KERNEL(32) memory_kernel(WARP_GRID_CONSTANT const Params p) {
    const uint32_t shared = smem_base();
    const Lane<int> lane = lane_id();
    const Lane<bool> even = (lane & 1) == 0;
    const Lane<uint32_t> ulane = Lane<uint32_t>(lane);
    int row = 0;
    emit(p, row, gload(p.in, lane));
    emit(p, row, gload(p.in, Lane<int64_t>(lane) + int64_t{32}, even));
    emit(p, row, gload_cg(p.in, 31 - lane));
    emit(p, row, gload_cs(p.in, lane * 2, even));
    const Lane<uint64_t> wide = gload(reinterpret_cast<const uint64_t*>(p.in), lane);
    emit(p, row, Lane<uint32_t>(wide));
    emit(p, row, Lane<uint32_t>(wide >> Lane<uint64_t>(uint64_t{32})));
    Lane<uint32_t> two[2], four[4];
    gload_vec(two, p.in, lane * 2);
    emit(p, row, two[0] - two[1]);
    gload_vec_cg(four, p.in, lane * 4, even);
    emit(p, row, four[0] ^ four[3]);
    gload_vec_cs(four, p.in, lane * 4);
    emit(p, row, four[1] ^ four[2]);
    gstore_vec(p.out, row * 32 + lane * 4, four);  // four rows
    row += 4;
    gstore_vec(p.out, row * 32 + lane * 2, two, even);  // two rows, every other pair
    row += 2;
    gstore(p.out, row++ * 32 + lane, Lane<uint32_t>(5u), even);

    sstore(shared + ulane * 4u, gload(p.in, lane));
    sync_warp();
    emit(p, row, sload(shared + (31u - ulane) * 4u));
    emit(p, row, sload(shared + ulane * 4u, even));
    sync_warp();
    sstore(shared + ulane * 8u, wide, even);
    sync_warp();
    emit(p, row, Lane<uint32_t>(sload<uint64_t>(shared + (ulane ^ 2u) * 8u, even)));
    sstore_vec(shared + 512u + ulane * 16u, four);
    sync_warp();
    sload_vec(four, shared + 512u + (ulane ^ 1u) * 16u);
    emit(p, row, four[0] ^ four[2]);
    sload_vec(two, shared + 512u + (ulane ^ 1u) * 8u, even);
    emit(p, row, two[0] ^ two[1]);
    sync_warp();
    sstore_vec(shared + 512u + ulane * 8u, two);
    sync_warp();
    emit(p, row, sload(shared + 512u + ulane * 4u));
    sstore(shared + 2048u + ulane * 4u, bits_float(four[3]));
    sync_warp();
    emit(p, row, float_bits(sload<float>(shared + 2048u + (ulane ^ 7u) * 4u)));
    emit(p, row, Lane<uint32_t>(static_cast<uint32_t>(block_id() + grid_size() * 10 + warp_id() * 100)));
    emit(p, row, Lane<uint32_t>(static_cast<uint32_t>(block_id_y() + grid_size_y() * 10 + mutant(1) * 100)));
}

constexpr int kAtomicWarps = 4, kAtomicBlocks = 5;
constexpr uint32_t kAtomicShared = 64;

// Every lane of every warp adds to counters of its block; every block adds its sum to `out`, the last one reports it.
// out: [0] arrivals (0 before), [1] what the last block saw, [2 + block] the block's sum, maximum and wide sum.
WARP_KERNEL(kAtomicWarps * 32) atomics_kernel(WARP_GRID_CONSTANT const Params p) {
    const uint32_t shared = smem_base();
    const Lane<int> lane = lane_id();
    if (warp_id() == 0) sstore(shared + Lane<uint32_t>(lane * 4), Lane<uint32_t>(0u), lane < 16);
    sync_block();
    const Lane<uint32_t> x = gload(p.in, (block_id() * kAtomicWarps + warp_id()) * 32 + lane);
    const Lane<uint32_t> old = satomic_add(shared, x & 1023u, (x & 3u) != 0u);
    satomic_max(shared + 4u, Lane<int>(x >> 1));
    satomic_max(shared + 8u, x);
    satomic_add(shared + 16u, Lane<uint64_t>(x));
    satomic_max(shared + 24u, Lane<uint64_t>(x) << Lane<uint64_t>(uint64_t{8}));
    satomic_add(shared + 32u, Lane<int>(1));
    satomic_max(shared + 36u, select((x & 3u) != 0u, old, 0u));
    sync_block();
    uint32_t* mine = p.out + 8 + block_id() * 16;
    if (warp_id() == 0) gstore(mine, lane, sload(shared + Lane<uint32_t>(lane * 4), lane < 16), lane < 16);
    sync_block();
    if (warp_id() == 0) {
        fence_device();
        const uint32_t order = warp_atomic_add(p.out, 1);
        fence_device();
        if (order == static_cast<uint32_t>(grid_size() - 1)) {
            const Lane<uint32_t> sums = gload_cg(p.out + 8, lane * 16, lane < grid_size());
            gstore(p.out, 1, warp_sum(sums), lane == 0);
        }
    }
}

constexpr uint32_t kMatrixShared = 16 * 32 + 16 * 16 + 16 * 32;

// in: A [16, 16] and B [16, 8] as packed halves, C [16, 8] as fp32. out: A B + C by fragments, rows 0..3 from B by
// ldmatrix_trans as it lies (k rows), rows 4..7 from a transposed copy of B by ldmatrix.
template <class Half>
WARP_KERNEL(32)
matrix_kernel(WARP_GRID_CONSTANT const Params p) {
    const uint32_t shared = smem_base(), b_rows = shared + 512, b_columns = b_rows + 256;
    const Lane<int> lane = lane_id();
    const Lane<uint32_t> ulane = Lane<uint32_t>(lane);
    Lane<uint32_t> words[4];
    gload_vec(words, p.in, lane * 4);
    sstore_vec(shared + ulane * 16u, words);
    gload_vec(words, p.in, 128 + lane * 4, lane < 16);
    sstore_vec(b_rows + ulane * 16u, words, lane < 16);
    gload_vec(words, p.in, 192 + lane * 4, lane < 16);
    sstore_vec(b_columns + ulane * 16u, words, lane < 16);  // B transposed: [8, 16]
    sync_warp();
    Lane<uint32_t> a[4], b[4], bt[4];
    ldmatrix_x4(a, shared + ((ulane & 15u) * 2u + (ulane >> 4)) * 16u);
    ldmatrix_x4_trans(b, b_rows + (ulane & 15u) * 16u);
    ldmatrix_x4(bt, b_columns + ((ulane & 7u) * 2u + ((ulane >> 3) & 1u)) * 16u);
    int row = 0;
    UNROLL for (int way = 0; way < 2; ++way) {
        Lane<float> c[4];
        UNROLL for (int i = 0; i < 4; ++i) {
            const Lane<int> at = ((lane >> 2) + (i >> 1) * 8) * 8 + (lane & 3) * 2 + (i & 1);
            c[i] = gload(reinterpret_cast<const float*>(p.in + 256), at);
        }
        if (way == 0) mma_m16n8k16<Half>(c, a, b[0], b[1]);
        if (way == 1) mma_m16n8k16<Half>(c, a, bt[0], bt[1]);
        UNROLL for (int i = 0; i < 4; ++i) emit(p, row, c[i]);
    }
}

}  // namespace primitives
