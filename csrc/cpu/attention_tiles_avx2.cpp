// Tiles of 6 rows x 2 vectors of eight floats: 12 sums, two vectors of keys and one number of the query fill the 16
// registers.
#if defined(__x86_64__)

#include <immintrin.h>

#include "attention_loops.h"
#include "attention_tiles.h"

namespace editscore {
namespace {

#define EDITSCORE_TARGET __attribute__((target("avx2,fma")))
constexpr int kTileRows = 6;

template <int kRows>
EDITSCORE_TARGET void scores_tile(const ScoresTask& task, int page, int first_row) {
    const float* query = static_cast<const float*>(task.query) + first_row * kQueryStride;
    const float* keys = static_cast<const float*>(task.keys[page]);
    const bool prefetches = first_row == 0;
    const char* next0 = task.prefetch[2 * page];
    const char* next1 = task.prefetch[2 * page + 1];
    __m256 low[kRows], high[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm256_setzero_ps();
    for (int d = 0; d < task.head_dim; ++d) {
        if (prefetches) {
            __builtin_prefetch(next0 + d * task.prefetch_step, 0, 3);
            __builtin_prefetch(next1 + d * task.prefetch_step, 0, 2);
        }
        const __m256 key_low = _mm256_loadu_ps(keys + 16 * d), key_high = _mm256_loadu_ps(keys + 16 * d + 8);
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
            const __m256 q = _mm256_broadcast_ss(query + r * kQueryStride + d);
            low[r] = _mm256_fmadd_ps(key_low, q, low[r]);
            high[r] = _mm256_fmadd_ps(key_high, q, high[r]);
        }
    }
    float* to = task.scores + first_row * kPanelStride + 16 * page;
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
        _mm256_storeu_ps(to + r * kPanelStride, low[r]);
        _mm256_storeu_ps(to + r * kPanelStride + 8, high[r]);
    }
}

template <int kRows>
EDITSCORE_TARGET void values_tile(const ValuesTask& task, int column, int first_row) {
    const float* weights = static_cast<const float*>(task.weights) + first_row * kPanelStride;
    float* out = task.out + first_row * kOutStride + column;
    const bool prefetches = first_row == 0;
    const int strip_bytes = task.page_bytes * 16 / task.head_dim;
    __m256 low[kRows], high[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
        low[r] = task.starts ? _mm256_setzero_ps() : _mm256_loadu_ps(out + r * kOutStride);
        high[r] = task.starts ? _mm256_setzero_ps() : _mm256_loadu_ps(out + r * kOutStride + 8);
    }
    for (int page = 0; page < task.num_pages; ++page, weights += 16) {
        const float* values = static_cast<const float*>(task.values[page]) + column;
        const char* next = task.prefetch[page] + column / 16 * strip_bytes;
        for (int t = 0; t < 16; ++t, values += task.head_dim) {
            if (prefetches) __builtin_prefetch(next + t * strip_bytes / 16, 0, 2);
            const __m256 value_low = _mm256_loadu_ps(values), value_high = _mm256_loadu_ps(values + 8);
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const __m256 weight = _mm256_broadcast_ss(weights + r * kPanelStride + t);
                low[r] = _mm256_fmadd_ps(value_low, weight, low[r]);
                high[r] = _mm256_fmadd_ps(value_high, weight, high[r]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
        _mm256_storeu_ps(out + r * kOutStride, low[r]);
        _mm256_storeu_ps(out + r * kOutStride + 8, high[r]);
    }
}

using ScoresTile = void (*)(const ScoresTask&, int, int);
using ValuesTile = void (*)(const ValuesTask&, int, int);
constexpr ScoresTile kScores[kTileRows + 1] = {nullptr,        scores_tile<1>, scores_tile<2>, scores_tile<3>,
                                               scores_tile<4>, scores_tile<5>, scores_tile<6>};
constexpr ValuesTile kValues[kTileRows + 1] = {nullptr,        values_tile<1>, values_tile<2>, values_tile<3>,
                                               values_tile<4>, values_tile<5>, values_tile<6>};

void scores(const ScoresTask& task) {
    const int tiles = count_tiles(task.num_rows, kTileRows);
    for (int page = 0; page < task.num_pages; ++page) {
        for (int i = 0; i < tiles; ++i) {
            const int first = tile_start(task.num_rows, tiles, i), end = tile_start(task.num_rows, tiles, i + 1);
            kScores[end - first](task, page, first);
        }
    }
}

void values(const ValuesTask& task) {
    const int tiles = count_tiles(task.num_rows, kTileRows);
    for (int column = 0; column < task.head_dim; column += 16) {
        for (int i = 0; i < tiles; ++i) {
            const int first = tile_start(task.num_rows, tiles, i), end = tile_start(task.num_rows, tiles, i + 1);
            kValues[end - first](task, column, first);
        }
    }
}

EDITSCORE_ATTENTION_SPLITS(EDITSCORE_TARGET)
EDITSCORE_ATTENTION_ROWS(EDITSCORE_TARGET)
EDITSCORE_ATTENTION_ENDS(EDITSCORE_TARGET)

}  // namespace

const AttentionTiles kAttentionAvx2 = {
    .dots_pairs = false,
    .value_pages = 16,
    .scores = scores,
    .values = values,
    .maximum = maximum,
    .weights = weights,
    .exp2 = exp2,
    .merge = merge,
    .store = store,
    .split_bfloat16 = split_bfloat16,
    .split_float16 = split_float16,
};

}  // namespace editscore

#endif
