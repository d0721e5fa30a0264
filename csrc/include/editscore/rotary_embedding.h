// rotary_embedding: rotates the two halves of every head of q and k against each other, by the angles of its token.
// Legend: N tokens, H heads, D head size. Strides count elements.
#pragma once

#include <cstdint>

#include "editscore/element_type.h"
#include "editscore/instruction_set.h"

namespace editscore {

struct RotaryHeads {
    const void* x;         // [N, H, D], the last dimension of stride 1
    void* out;             // [N, H, D], contiguous; x itself or apart from it
    int64_t num_heads;     // H >= 0
    int64_t token_stride;  // of x
    int64_t head_stride;   // of x
};

struct RotaryEmbeddingParams {
    ElementType type;  // of everything
    RotaryHeads q, k;
    const void* cos;     // [N, D], the last dimension of stride 1
    const void* sin;     // likewise
    int64_t num_tokens;  // N >= 0
    int64_t head_dim;    // D, even
    int64_t cos_token_stride;
    int64_t sin_token_stride;
};

// The same bits for an element at any place, from every instruction set, on any number of threads.
void rotary_embedding_cpu(const RotaryEmbeddingParams& params, int num_threads, InstructionSet set);

}  // namespace editscore
