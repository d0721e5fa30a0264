// Tiles of 14 rows x 2 vectors of sixteen floats: 28 sums, two vectors of keys or values and the rest of the 32
// registers for numbers of the query or weights.
#if defined(__x86_64__)

#include <utility>

#include "attention_loops.h"
#include "attention_rows_avx512.h"  // and the intrinsics
#include "attention_tiles.h"

namespace editscore {
namespace {

constexpr int kTileRows = 14;

template <int kRows, int kVectors>
EDITSCORE_AVX512 void scores_tile(const ScoresTask& task, int first_row) {
    const float* query = static_cast<const float*>(task.query) + first_row * kQueryStride;
    const float* keys[2] = {static_cast<const float*>(task.keys[0]),
                            static_cast<const float*>(task.keys[kVectors - 1])};
    const bool prefetches = first_row == 0;
    const char* next[kPrefetches] = {task.prefetch[0], task.prefetch[1], task.prefetch[2], task.prefetch[3]};
    const int step = task.prefetch_step, head_dim = task.head_dim;
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
    }
    for (int d = 0; d < head_dim; ++d) {
        if (prefetches) {
            __builtin_prefetch(next[0] + d * step, 0, 3);
            __builtin_prefetch(next[1] + d * step, 0, 2);
            __builtin_prefetch(next[2] + d * step, 0, 3);
            __builtin_prefetch(next[3] + d * step, 0, 2);
        }
        __m512 key[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) key[v] = _mm512_loadu_ps(keys[v] + 16 * d);
#pragma GCC unroll 14
        for (int r = 0; r < kRows; ++r) {
            const __m512 q = _mm512_set1_ps(query[r * kQueryStride + d]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_fmadd_ps(key[v], q, sum[r][v]);
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
EDITSCORE_AVX512 void values_tile(const ValuesTask& task, int column, int first_row) {
    const float* weights = static_cast<const float*>(task.weights) + first_row * kPanelStride;
    float* out = task.out + first_row * kOutStride + column;
    const int head_dim = task.head_dim;
    const bool prefetches = first_row == 0;
    const int strip_bytes = task.page_bytes * 16 * kVectors / head_dim, step = strip_bytes / 16;
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            sum[r][v] = task.starts ? _mm512_setzero_ps() : _mm512_loadu_ps(out + r * kOutStride + 16 * v);
        }
    }
    for (int page = 0; page < task.num_pages; ++page, weights += 16) {
        const float* values = static_cast<const float*>(task.values[page]) + column;
        const char* next = task.prefetch[page] + column / (16 * kVectors) * strip_bytes;
        for (int t = 0; t < 16; ++t, values += head_dim) {
            if (prefetches) {
                __builtin_prefetch(next + t * step, 0, 2);
                __builtin_prefetch(next + t * step + step / 2, 0, 2);
            }
            __m512 value[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) value[v] = _mm512_loadu_ps(values + 16 * v);
#pragma GCC unroll 14
            for (int r = 0; r < kRows; ++r) {
                const __m512 weight = _mm512_set1_ps(weights[r * kPanelStride + t]);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_fmadd_ps(value[v], weight, sum[r][v]);
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

EDITSCORE_AVX512 float weights(float* row, int64_t panel_step, int64_t visible, int64_t padded, float scale,
                               float highest) {
    const __m512 factor = _mm512_set1_ps(scale), shift = _mm512_set1_ps(highest);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t start = 0; start < padded; start += kPanelTokens, row += panel_step) {
        const int64_t count = padded - start < kPanelTokens ? padded - start : kPanelTokens;
        for (int64_t t = 0; t < count; t += 16) {
            const __m512 power = _mm512_fmsub_ps(_mm512_loadu_ps(row + t), factor, shift);
            const __m512 weight = _mm512_maskz_mov_ps(visible_lanes(visible - start - t), exp2_avx512(power));
            _mm512_storeu_ps(row + t, weight);
            sum = _mm512_add_ps(sum, weight);
        }
    }
    return sum_lanes_avx512(sum);
}

EDITSCORE_ATTENTION_SPLITS(EDITSCORE_AVX512)
EDITSCORE_ATTENTION_ENDS(EDITSCORE_AVX512)

}  // namespace

const AttentionTiles kAttentionAvx512 = {
    .dots_pairs = false,
    .value_pages = 8,
    .scores = scores,
    .values = values,
    .maximum = maximum_avx512,
    .weights = weights,
    .exp2 = exp2,
    .merge = merge_avx512,
    .store = store,
    .split_bfloat16 = split_bfloat16,
    .split_float16 = split_float16,
};

}  // namespace editscore

#endif
