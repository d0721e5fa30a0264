// shared_prefix_attention: the formula and the tables stand in kernels/editscore_kernels/shared_prefix_attention.py and
// page_tables.py.
// Legend: R rows, Hq query heads, Hkv heads of the pages, D head size, P pages, L leaves, S sequences, n rows that are
// not padding. Strides count elements.
#pragma once

#include <cstdint>

#include "editscore/instruction_set.h"

namespace editscore {

enum class AttentionType : int { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

constexpr int64_t kPageTokens = 16;
constexpr int64_t kChunkTokens = 256;  // the canonical chunk
constexpr int64_t kMaxHeadDim = 256;

struct SharedPrefixAttentionParams {
    AttentionType type;    // of q, pages and out
    const void* q;         // [R, Hq, D], the last dimension of stride 1
    const void* k_pages;   // [P, Hkv, D / p, 16, p], p = 1 for float32, otherwise 2
    const void* v_pages;   // [P, Hkv, 16 / p, D, p]
    int64_t num_rows;      // R >= 0
    int64_t num_heads;     // Hq, a multiple of Hkv
    int64_t num_kv_heads;  // Hkv >= 1
    int64_t head_dim;      // D, a multiple of 16 up to kMaxHeadDim
    int64_t num_pages;     // P
    int64_t q_row_stride;
    int64_t q_head_stride;
    const int32_t* leaf_pages;    // [L, leaf_width]
    const int32_t* leaf_lengths;  // [L]
    const int32_t* own_pages;     // [S, own_width]
    const int32_t* seq_leaf;      // [S]
    const int32_t* row_seq;       // [R]
    const int32_t* row_lengths;   // [R]
    const int32_t* group_rows;    // [n]
    const int32_t* group_starts;  // [num_groups + 1]
    int64_t num_leaves;           // L
    int64_t leaf_width;
    int64_t num_seqs;  // S
    int64_t own_width;
    int64_t num_group_rows;  // n
    int64_t num_groups;
    float scale;
    int64_t num_splits;    // parts of a path that are computed apart, 0: as the threads want it
    int64_t chunk_tokens;  // kChunkTokens; another multiple of it only to measure what the chunks cost
    void* out;             // [R, Hq, D] contiguous
    float* lse;            // [R, Hq] natural logarithm
};

// Runs on at most `num_threads` threads; no bit of a row depends on their number, on the other rows or on the splits.
// Throws std::invalid_argument naming the table when one names what is not there (checked before anything is read),
// std::bad_alloc or std::system_error when memory or threads run out.
void shared_prefix_attention_cpu(const SharedPrefixAttentionParams& params, int num_threads, InstructionSet set);

}  // namespace editscore
