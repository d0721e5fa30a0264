// Tiles of 2 rows x 16 lanes in the vectors of four floats that GCC and clang know on every processor.
#include "attention_loops.h"
#include "attention_tiles.h"

namespace editscore {
namespace {

using Lanes = float __attribute__((vector_size(16)));
constexpr int kVectors = 4;  // 16 lanes
constexpr int kTileRows = 2;

EDITSCORE_INLINE Lanes load(const float* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof(lanes));
    return lanes;
}

template <int kRows>
void scores_tile(const ScoresTask& task, int page, int first_row) {
    const float* query = static_cast<const float*>(task.query) + first_row * kQueryStride;
    const float* keys = static_cast<const float*>(task.keys[page]);
    Lanes sum[kRows][kVectors] = {};
    for (int d = 0; d < task.head_dim; ++d) {
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) sum[r][v] += load(keys + 16 * d + 4 * v) * query[r * kQueryStride + d];
        }
    }
    for (int r = 0; r < kRows; ++r) {
        std::memcpy(task.scores + (first_row + r) * kPanelStride + 16 * page, sum[r], sizeof(sum[r]));
    }
}

template <int kRows>
void values_tile(const ValuesTask& task, int column, int first_row) {
    const float* weights = static_cast<const float*>(task.weights) + first_row * kPanelStride;
    float* out = task.out + first_row * kOutStride + column;
    Lanes sum[kRows][kVectors] = {};
    for (int r = 0; r < kRows && !task.starts; ++r) std::memcpy(sum[r], out + r * kOutStride, sizeof(sum[r]));
    for (int page = 0; page < task.num_pages; ++page, weights += 16) {
        const float* values = static_cast<const float*>(task.values[page]) + column;
        for (int t = 0; t < 16; ++t, values += task.head_dim) {
            for (int r = 0; r < kRows; ++r) {
                for (int v = 0; v < kVectors; ++v) sum[r][v] += load(values + 4 * v) * weights[r * kPanelStride + t];
            }
        }
    }
    for (int r = 0; r < kRows; ++r) std::memcpy(out + r * kOutStride, sum[r], sizeof(sum[r]));
}

void scores(const ScoresTask& task) {
    for (int page = 0; page < task.num_pages; ++page) {
        int row = 0;
        for (; row + kTileRows <= task.num_rows; row += kTileRows) scores_tile<kTileRows>(task, page, row);
        if (row < task.num_rows) scores_tile<1>(task, page, row);
    }
}

void values(const ValuesTask& task) {
    for (int column = 0; column < task.head_dim; column += 16) {
        int row = 0;
        for (; row + kTileRows <= task.num_rows; row += kTileRows) values_tile<kTileRows>(task, column, row);
        if (row < task.num_rows) values_tile<1>(task, column, row);
    }
}

EDITSCORE_ATTENTION_SPLITS()
EDITSCORE_ATTENTION_ROWS()
EDITSCORE_ATTENTION_ENDS()

}  // namespace

const AttentionTiles kAttentionPortable = {
    .dots_pairs = false,
    .value_pages = 8,
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

const AttentionTiles& attention_tiles(InstructionSet set, bool is_bfloat16) {
#if defined(__x86_64__)
    if (set == InstructionSet::kAvx512Bf16 && is_bfloat16) return kAttentionAvx512Bf16;
    if (set == InstructionSet::kAvx512Bf16 || set == InstructionSet::kAvx512) return kAttentionAvx512;
    if (set == InstructionSet::kAvx2) return kAttentionAvx2;
#endif
    (void)set;
    (void)is_bfloat16;
    return kAttentionPortable;
}

}  // namespace editscore
