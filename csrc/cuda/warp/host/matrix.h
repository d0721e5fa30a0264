// ldmatrix and mma.sync on the host: fragments as the PTX manual lays them out, products summed in fp32.
#pragma once

#include <cstdint>
#include <cstring>

#include "memory.h"

namespace warp {

namespace host {

// Lanes 8m .. 8m + 7 hold the addresses of the eight 16-byte rows of matrix m; register m gets two neighbours of it.
template <bool kTransposed>
void load_matrices(Lane<uint32_t> (&r)[4], const Lane<uint32_t>& address, const Where& where) {
    enter(where);
    for (int m = 0; m < 4; ++m) {
        uint16_t tile[8][8];
        for (int row = 0; row < 8; ++row) load_shared(tile[row], address.v[8 * m + row], 16, 16, 8 * m + row);
        for (int lane = 0; lane < kLanes; ++lane) {
            const int x = lane / 4, y = lane % 4 * 2;
            const uint32_t low = kTransposed ? tile[y][x] : tile[x][y];
            const uint32_t high = kTransposed ? tile[y + 1][x] : tile[x][y + 1];
            r[m].v[lane] = low | high << 16;
        }
    }
    Stats& stats = machine().stats;
    count_ways(stats.ldmatrix_ways, address, true, 16);
    ++stats.ldmatrix;
}

// C += A B with A 16x16, B 16x8, C 16x8. Lane 4g + t holds of A rows g and g + 8 at columns 2t, 2t + 1, 2t + 8, 2t + 9;
// of B the same rows of column g; of C rows g and g + 8 at columns 2t, 2t + 1.
template <class Half>
void multiply(Lane<float> (&c)[4], const Lane<uint32_t> (&a)[4], const Lane<uint32_t>& b0, const Lane<uint32_t>& b1,
              const Where& where) {
    enter(where);
    float A[16][16], B[16][8], C[16][8];
    for (int lane = 0; lane < kLanes; ++lane) {
        const int g = lane / 4;
        for (int h = 0; h < 2; ++h) {
            const int t = lane % 4 * 2 + h;
            const auto half = [h](uint32_t word) { return to_float(Half{static_cast<uint16_t>(word >> (16 * h))}); };
            A[g][t] = half(a[0].v[lane]);
            A[g + 8][t] = half(a[1].v[lane]);
            A[g][t + 8] = half(a[2].v[lane]);
            A[g + 8][t + 8] = half(a[3].v[lane]);
            B[t][g] = half(b0.v[lane]);
            B[t + 8][g] = half(b1.v[lane]);
            C[g][t] = c[h].v[lane];
            C[g + 8][t] = c[2 + h].v[lane];
        }
    }
    for (int i = 0; i < 16; ++i) {
        float sum[8];  // in registers
        for (int j = 0; j < 8; ++j) sum[j] = C[i][j];
        for (int k = 0; k < 16; ++k) {
            for (int j = 0; j < 8; ++j) sum[j] += A[i][k] * B[k][j];
        }
        for (int j = 0; j < 8; ++j) C[i][j] = sum[j];
    }
    for (int lane = 0; lane < kLanes; ++lane) {
        for (int h = 0; h < 2; ++h) {
            c[h].v[lane] = C[lane / 4][lane % 4 * 2 + h];
            c[2 + h].v[lane] = C[lane / 4 + 8][lane % 4 * 2 + h];
        }
    }
    ++machine().stats.mma;
}

}  // namespace host

inline void ldmatrix_x4(Lane<uint32_t> (&r)[4], const Lane<uint32_t>& address,
                        host::Where where = host::Where::current()) {
    host::load_matrices<false>(r, address, where);
}
inline void ldmatrix_x4_trans(Lane<uint32_t> (&r)[4], const Lane<uint32_t>& address,
                              host::Where where = host::Where::current()) {
    host::load_matrices<true>(r, address, where);
}
// bf16 operands unless said otherwise: mma_m16n8k16<f16>(c, a, b0, b1).
template <class Half = bf16>
void mma_m16n8k16(Lane<float> (&c)[4], const Lane<uint32_t> (&a)[4], const Lane<uint32_t>& b0, const Lane<uint32_t>& b1,
                  host::Where where = host::Where::current()) {
    host::multiply<Half>(c, a, b0, b1, where);
}

}  // namespace warp
