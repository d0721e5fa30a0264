// Tiles of 14 rows x 2 vectors as in attention_tiles_avx512.cpp, but a step takes a pair of bfloat16 per lane
// (vdpbf16ps): keys and values as they lie in their pages, queries and weights as pairs.
#if defined(__x86_64__)

#include <utility>

#include "attention_loops.h"
#include "attention_rows_avx512.h"  // and the intrinsics
#include "attention_tiles.h"

namespace editscore {
namespace {

#define EDITSCORE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
constexpr int kTileRows = 14;

EDITSCORE_TARGET inline __m512bh load_pairs(const uint32_t* pairs) { return (__m512bh)_mm512_loadu_si512(pairs); }

EDITSCORE_TARGET inline __m512bh broadcast_pair(const uint32_t* pair) {
    return (__m512bh)_mm512_set1_epi32(static_cast<int>(*pair));
}

template <int kRows, int kVectors>
EDITSCORE_TARGET void scores_tile(const ScoresTask& task, int first_row) {
    const uint32_t* query = static_cast<const uint32_t*>(task.query) + first_row * kPairsStride;
    const uint32_t* keys[2] = {static_cast<const uint32_t*>(task.keys[0]),
                               static_cast<const uint32_t*>(task.keys[kVectors - 1])};
    const bool prefetches = first_row == 0;
    const char* next[kPrefetches] = {task.prefetch[0], task.prefetch[1], task.prefetch[2], task.prefetch[3]};
    const int step = task.prefetch_step, num_pairs = task.head_dim / 2;
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
    }
    for (int d = 0; d < num_pairs; ++d) {
        if (prefetches) {
            __builtin_prefetch(next[0] + d * step, 0, 3);
            __builtin_prefetch(next[1] + d * step, 0, 2);
            __builtin_prefetch(next[2] + d * step, 0, 3);
            __builtin_prefetch(next[3] + d * step, 0, 2);
        }
        __m512bh key[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) key[v] = load_pairs(keys[v] + 16 * d);
#pragma GCC unroll 14
        for (int r = 0; r < kRows; ++r) {
            const __m512bh q = broadcast_pair(query + r * kPairsStride + d);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], key[v], q);
        }
    }
    float* to = task.scores + first_row * kPanelStride;
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(to + r * kPanelStride + 16 * v, sum[r][v]);
    }
}

template <int kRows, int kVectors>
EDITSCORE_TARGET void values_tile(const ValuesTask& task, int column, int first_row) {
    const uint32_t* weights = static_cast<const uint32_t*>(task.weights) + first_row * kPanelStride;
    float* out = task.out + first_row * kOutStride + column;
    const int head_dim = task.head_dim;
    const bool prefetches = first_row == 0;
    const int strip_bytes = task.page_bytes * 16 * kVectors / head_dim, step = strip_bytes / 8;
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            sum[r][v] = task.starts ? _mm512_setzero_ps() : _mm512_loadu_ps(out + r * kOutStride + 16 * v);
        }
    }
    for (int page = 0; page < task.num_pages; ++page, weights += 8) {
        const uint32_t* values = static_cast<const uint32_t*>(task.values[page]) + column;
        const char* next = task.prefetch[page] + column / (16 * kVectors) * strip_bytes;
        for (int t = 0; t < 8; ++t, values += head_dim) {
            if (prefetches) {
                __builtin_prefetch(next + t * step, 0, 2);
                __builtin_prefetch(next + t * step + step / 2, 0, 2);
            }
            __m512bh value[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) value[v] = load_pairs(values + 16 * v);
#pragma GCC unroll 14
            for (int r = 0; r < kRows; ++r) {
                const __m512bh weight = broadcast_pair(weights + r * kPanelStride + t);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], value[v], weight);
            }
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + r * kOutStride + 16 * v, sum[r][v]);
    }
}

// Functions for 1 .. kTileRows rows.
template <int kVectors, class Rows = std::make_integer_sequence<int, kTileRows>>
struct Tiles;
template <int kVectors, int... kRow>
struct Tiles<kVectors, std::integer_sequence<int, kRow...>> {
    static constexpr void (*scores[])(const ScoresTask&, int) = {scores_tile<kRow + 1, kVectors>...};
    static constexpr void (*values[])(const ValuesTask&, int, int) = {values_tile<kRow + 1, kVectors>...};
};

void scores(const ScoresTask& task) {
    const int tiles = count_tiles(task.num_rows, kTileRows);
    const auto* of = task.num_pages == 2 ? Tiles<2>::scores : Tiles<1>::scores;
    for (int i = 0; i < tiles; ++i) {
        const int first = tile_start(task.num_rows, tiles, i), end = tile_start(task.num_rows, tiles, i + 1);
        of[end - first - 1](task, first);
    }
}

void values(const ValuesTask& task) {
    const int tiles = count_tiles(task.num_rows, kTileRows);
    for (int column = 0; column < task.head_dim; column += 32) {
        const auto* of = column + 32 <= task.head_dim ? Tiles<2>::values : Tiles<1>::values;
        for (int i = 0; i < tiles; ++i) {
            const int first = tile_start(task.num_rows, tiles, i), end = tile_start(task.num_rows, tiles, i + 1);
            of[end - first - 1](task, column, first);
        }
    }
}

EDITSCORE_TARGET inline __m512 weights_of(const float* scores, __m512 factor, __m512 shift, int64_t visible) {
    const __m512 power = _mm512_fmsub_ps(_mm512_loadu_ps(scores), factor, shift);
    return _mm512_maskz_mov_ps(visible_lanes(visible), exp2_avx512(power));
}

EDITSCORE_TARGET float weights(float* row, int64_t panel_step, int64_t visible, int64_t padded, float scale,
                               float highest) {
    const __m512 factor = _mm512_set1_ps(scale), shift = _mm512_set1_ps(highest);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t start = 0; start < padded; start += kPanelTokens, row += panel_step) {
        const int64_t count = padded - start < kPanelTokens ? padded - start : kPanelTokens;
        for (int64_t t = 0; t < count; t += 32) {
            const __m512 first = weights_of(row + t, factor, shift, visible - start - t);
            const __m512 second = weights_of(row + t + 16, factor, shift, visible - start - t - 16);
            _mm512_storeu_si512(row + t / 2, (__m512i)_mm512_cvtne2ps_pbh(second, first));
            sum = _mm512_add_ps(_mm512_add_ps(sum, first), second);
        }
    }
    return sum_lanes_avx512(sum);
}

EDITSCORE_ATTENTION_ENDS(EDITSCORE_TARGET)

}  // namespace

const AttentionTiles kAttentionAvx512Bf16 = {
    .dots_pairs = true,
    .value_pages = 16,
    .scores = scores,
    .values = values,
    .maximum = maximum_avx512,
    .weights = weights,
    .exp2 = exp2,
    .merge = merge_avx512,
    .store = store,
    .split_bfloat16 = nullptr,
    .split_float16 = nullptr,
};

}  // namespace editscore

#endif
