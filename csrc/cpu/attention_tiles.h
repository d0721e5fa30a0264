// The inner loops of shared_prefix_attention, once per instruction set. Queries stand in rows (row x head of a group);
// a register tile holds some rows by some vectors, and every row has its own chain of sums in a fixed order, so no bit
// of it depends on the rows beside it. Scores and weights lie in panels of 256 tokens.
// All strides are constants: then a tile reaches its rows by fixed offsets and needs no register for any of them. They
// are odd numbers of cache lines, so that rows do not fall into the same set of the first cache.
#pragma once

#include <cstdint>

#include "editscore/instruction_set.h"
#include "editscore/shared_prefix_attention.h"

namespace editscore {

constexpr int kPanelTokens = 256;
constexpr int kPanelPages = kPanelTokens / 16;
constexpr int kPanelStride = 272;  // floats, or pairs of bfloat16, from row to row of a panel
constexpr int kOutStride = 272;    // floats
constexpr int kQueryStride = 272;  // floats
constexpr int kPairsStride = 144;  // pairs of bfloat16: the query where dot products eat them
constexpr int kMaxTilePages = 2;   // keys that one call of `scores` takes
constexpr int kPrefetches = 4;

// scores[r][16 i + t] = sum_d query[r][d] keys[i][d][t], d ascending.
struct ScoresTask {
    const void* keys[kMaxTilePages];  // packed pages: float [D][16], or pairs [D / 2][16] where the set dots pairs
    int num_pages;                    // 1 or 2
    int num_rows;
    int head_dim;
    const void* query;                  // rows of kQueryStride floats or kPairsStride pairs
    float* scores;                      // rows of kPanelStride
    const char* prefetch[kPrefetches];  // memory wanted next, brought in while the first tile is computed
    int prefetch_step;                  // bytes of each per element (or pair) of the head
};

// out[r][d] (+)= sum_t weights[r][t] values[t][d], t ascending.
struct ValuesTask {
    const void* const* values;  // packed pages: float [16][D], or pairs [8][D]
    int num_pages;              // up to kPanelPages
    int num_rows;
    int head_dim;
    const void* weights;  // rows of kPanelStride floats or pairs
    float* out;           // rows of kOutStride
    bool starts;          // out is overwritten, not added to
    // Memory wanted next, `page_bytes` beside each page, brought into the second cache while the first rows are
    // computed: then both phases of a chunk read from memory at the same rate.
    const char* const* prefetch;
    int page_bytes;
};

// The maximum of a row (times log2 e and the scale) and the sum of its weights.
struct RowSums {
    float maximum, sum;
};

struct AttentionTiles {
    bool dots_pairs;  // queries, keys, weights and values are pairs of bfloat16, otherwise floats
    int value_pages;  // pages that one call of `values` should take, so that what it reads again stays near
    void (*scores)(const ScoresTask& task);
    void (*values)(const ValuesTask& task);
    // Maximum of scale * s over the first `visible` tokens of a row whose panels are `panel_step` floats apart.
    float (*maximum)(const float* row, int64_t panel_step, int64_t visible, float scale);
    // Replaces s by 2^(scale s - maximum), by exactly 0 from token `visible` on to `padded`, in place (floats, or pairs
    // of bfloat16 in the front half of each panel's row). Returns the sum, by lanes t % 16, then a fixed tree.
    float (*weights)(float* row, int64_t panel_step, int64_t visible, int64_t padded, float scale, float maximum);
    // x = 2^x for x <= 0, as in `exp2_nonpositive`.
    void (*exp2)(float* x, int count);
    // into = into * weight_into + from * weight_from.
    void (*merge)(float* into, const float* from, float weight_into, float weight_from, int count);
    // to = x * factor, rounded to the type.
    void (*store)(const float* x, float factor, int count, AttentionType type, void* to);
    // Pairs [rows][length] of 16-bit numbers into floats [2 rows][length].
    void (*split_bfloat16)(const uint32_t* pairs, int rows, int length, float* out);
    void (*split_float16)(const uint32_t* pairs, int rows, int length, float* out);
};

// The loops of a set for which has_instruction_set is true; those that dot pairs only for bfloat16.
const AttentionTiles& attention_tiles(InstructionSet set, bool is_bfloat16);

extern const AttentionTiles kAttentionPortable;
#if defined(__x86_64__)
extern const AttentionTiles kAttentionAvx2;
extern const AttentionTiles kAttentionAvx512;
extern const AttentionTiles kAttentionAvx512Bf16;
#endif

// How many tiles of at most `most` rows, and the first row of tile i when they are as equal as they can be.
constexpr int count_tiles(int rows, int most) { return (rows + most - 1) / most; }
constexpr int tile_start(int rows, int tiles, int i) {
    return rows / tiles * i + (i < rows % tiles ? i : rows % tiles);
}

}  // namespace editscore
