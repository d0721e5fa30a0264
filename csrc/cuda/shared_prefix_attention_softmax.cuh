// shared_prefix_attention on CUDA: one tile of keys and values in shared memory, and the online softmax of 16 lane rows
// over it. Every sum and product is rounded on its own or fused by name, so that no build of the same formula contracts
// it another way; a row's result does not depend on what else is in its tile.
#pragma once

#include <type_traits>

#include "shared_prefix_attention_tables.cuh"

namespace editscore::attention {

// Stands for minus infinity in maxima: the difference of two of them is 0 and not NaN.
constexpr float kLowest = -3.402823466e38f;

// 64 tokens of D numbers in lines of 128 bytes, as the tensor map's 128-byte swizzle leaves them: the 16-byte piece c
// of line r lies at c ^ (r % 8), so that eight rows of a matrix meet eight different banks. A line holds two tokens at
// D = 32, one at 64, and half of one at 128, where the second halves follow after all of the first.
template <int kDim>
struct TileLayout {
    static constexpr uint32_t kBytes = kTileTokens * kDim * 2;
    static constexpr int kLineTokens = kDim >= 64 ? 1 : 64 / kDim;
    static constexpr int kColumns = kDim >= 64 ? kDim / 64 : 1;
    static constexpr int kPageLines = kPageTokens / kLineTokens;
    static constexpr uint32_t kColumnBytes = kTileTokens / kLineTokens * 128;

    // Where 16-byte piece `piece` of `token` lies.
    static WARP_FN Lane<uint32_t> at(Lane<int> token, Lane<int> piece) {
        const Lane<int> line = token / kLineTokens;
        const Lane<int> of_line = (token & (kLineTokens - 1)) * (kDim / 8) + (piece & 7);
        const Lane<int> swizzled = mutant(8) ? of_line : of_line ^ (line & 7);
        return Lane<uint32_t>((piece >> 3) * static_cast<int>(kColumnBytes) + line * 128 + swizzled * 16);
    }
};

// Of one warp: 16 lane rows; this lane holds parts of rows lane / 4 and lane / 4 + 8.
template <int kDim>
struct State {
    Lane<uint32_t> q[kDim / 16][4];
    Lane<float> o[kDim / 8][4], m[2], l[2];  // of the open chunk; l is this lane's share of the sum
    Lane<float> total_m[2], total_l[2];      // of the chunks before it; their o is in shared memory
    Lane<bool> is_open[2];                   // has the row seen a token of the open chunk?
    Lane<int> visible[2];
};

WARP_FN Lane<float> quad_max(Lane<float> x) {
    x = larger(x, shfl_xor(x, 1));
    return larger(x, shfl_xor(x, 2));
}
WARP_FN Lane<float> quad_sum(Lane<float> x) {
    x = add_rn(x, shfl_xor(x, 1));
    return add_rn(x, shfl_xor(x, 2));
}

template <class Half>
WARP_FN Lane<uint32_t> pack(Lane<float> low, Lane<float> high) {
    if constexpr (std::is_same_v<Half, bf16>) {
        return pack_bf16(low, high);
    } else {
        return pack_f16(low, high);
    }
}

// S = Q K^T: s[t] holds tokens 8 t .. 8 t + 7.
template <int kDim, class Half>
WARP_FN void score_tile(Lane<float> (&s)[8][4], const State<kDim>& state, uint32_t k_tile) {
    using Layout = TileLayout<kDim>;
    const Lane<int> lane = lane_id();
    UNROLL for (int j = 0; j < 4; ++j) {
        UNROLL for (int kk = 0; kk < kDim / 16; ++kk) {
            Lane<uint32_t> b[4];
            const Lane<int> token = j * 16 + (lane >> 4) * 8 + (lane & 7);
            ldmatrix_x4(b, k_tile + Layout::at(token, kk * 2 + ((lane >> 3) & 1)));
            mma_m16n8k16<Half>(s[2 * j], state.q[kk], mutant(9) ? b[1] : b[0], mutant(9) ? b[0] : b[1]);
            mma_m16n8k16<Half>(s[2 * j + 1], state.q[kk], b[2], b[3]);
        }
    }
}

// O += P V.
template <int kDim, class Half>
WARP_FN void add_values(State<kDim>& state, const Lane<float> (&s)[8][4], uint32_t v_tile) {
    using Layout = TileLayout<kDim>;
    const Lane<int> lane = lane_id();
    UNROLL for (int j = 0; j < 4; ++j) {
        const Lane<uint32_t> weights[4] = {pack<Half>(s[2 * j][0], s[2 * j][1]), pack<Half>(s[2 * j][2], s[2 * j][3]),
                                           pack<Half>(s[2 * j + 1][0], s[2 * j + 1][1]),
                                           pack<Half>(s[2 * j + 1][2], s[2 * j + 1][3])};
        UNROLL for (int d = 0; d < kDim / 16; ++d) {
            Lane<uint32_t> b[4];
            const Lane<int> token = j * 16 + ((lane >> 3) & 1) * 8 + (lane & 7);
            if (mutant(10)) {
                ldmatrix_x4(b, v_tile + Layout::at(token, d * 2 + (lane >> 4)));
            } else {
                ldmatrix_x4_trans(b, v_tile + Layout::at(token, d * 2 + (lane >> 4)));
            }
            mma_m16n8k16<Half>(state.o[2 * d], weights, b[0], b[1]);
            mma_m16n8k16<Half>(state.o[2 * d + 1], weights, b[2], b[3]);
        }
    }
}

WARP_FN Lane<bool> is_seen(int t, int i, const Lane<int> (&sees)[2]) {
    const Lane<int> token = t * 8 + (lane_id() & 3) * 2 + (i & 1);
    return mutant(11) ? token <= sees[i >> 1] : token < sees[i >> 1];
}

// The tile's first sees[h] tokens join the open chunk of the lane's rows. A row that sees none of them keeps its state:
// its maximum stays, it is scaled by 1, and zeros are added.
template <int kDim, class Half>
WARP_FN void attend_tile(State<kDim>& state, uint32_t k_tile, uint32_t v_tile, const Lane<int> (&sees)[2],
                         float scale_log2e) {
    Lane<float> s[8][4] = {};
    score_tile<kDim, Half>(s, state, k_tile);
    Lane<float> top[2] = {state.m[0], state.m[1]};
    UNROLL for (int t = 0; t < 8; ++t) {
        UNROLL for (int i = 0; i < 4; ++i) {
            s[t][i] = select(is_seen(t, i, sees), mul_rn(s[t][i], scale_log2e), kLowest);
            top[i >> 1] = larger(top[i >> 1], s[t][i]);
        }
    }
    UNROLL for (int h = 0; h < 2; ++h) {
        top[h] = quad_max(top[h]);
        const Lane<float> shrink = mutant(12) ? Lane<float>(1.0f) : ex2(add_rn(state.m[h], -top[h]));
        state.m[h] = top[h];
        state.l[h] = mul_rn(state.l[h], shrink);
        UNROLL for (int d = 0; d < kDim / 8; ++d) {
            state.o[d][2 * h] = mul_rn(state.o[d][2 * h], shrink);
            state.o[d][2 * h + 1] = mul_rn(state.o[d][2 * h + 1], shrink);
        }
    }
    UNROLL for (int t = 0; t < 8; ++t) {
        UNROLL for (int i = 0; i < 4; ++i) {
            const Lane<float> weight = ex2(add_rn(s[t][i], -state.m[i >> 1]));
            // As long as a row has seen nothing its maximum is kLowest, and what it must not see would weigh 1: scaled
            // by 0 later on, but another sequence's values may have become infinite by then.
            s[t][i] = mutant(13) ? weight : select(is_seen(t, i, sees), weight, 0.0f);
            state.l[i >> 1] = add_rn(state.l[i >> 1], s[t][i]);
        }
    }
    add_values<kDim, Half>(state, s, v_tile);
    UNROLL for (int h = 0; h < 2; ++h) state.is_open[h] = state.is_open[h] | (sees[h] > 0);
}

// Two parts of a row's path: with top = max(m, m_c) the first is weighed by exp2(m - top), the second by exp2(m_c -
// top).
struct Weights {
    Lane<float> top, old, now;
};
WARP_FN Weights weigh(Lane<float> m, Lane<float> m_c) {
    const Lane<float> top = larger(m, m_c);
    return {top, ex2(add_rn(m, -top)), ex2(add_rn(m_c, -top))};
}
WARP_FN Lane<float> combine(const Weights& weights, Lane<float> x, Lane<float> x_c) {
    return add_rn(mul_rn(x, weights.old), mul_rn(x_c, weights.now));
}

WARP_FN Lane<float> log_sum(Lane<float> m, Lane<float> l) {
    constexpr float kLn2 = 0.6931471805599453f;
    const Lane<float> minus_infinity = bits_float(Lane<uint32_t>(0xff800000u));
    return select(l == 0.0f, minus_infinity, mul_rn(add_rn(m, lg2(l)), kLn2));
}
// NaN stays NaN.
WARP_FN Lane<float> normalised(Lane<float> o, Lane<float> l) {
    return select(l == 0.0f, Lane<float>(0.0f), mul_rn(o, rcp(l)));
}

}  // namespace editscore::attention
