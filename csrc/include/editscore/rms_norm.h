// rms_norm: out = weight * round(x / sqrt(mean(x^2) + epsilon)). Legend: N rows, W columns. Strides count elements.
#pragma once

#include <cstdint>

#include "editscore/element_type.h"
#include "editscore/instruction_set.h"

namespace editscore {

struct RmsNormParams {
    ElementType type;    // of x, weight and out
    const void* x;       // [N, W], the last dimension of stride 1
    const void* weight;  // [W]
    void* out;           // [N, W], contiguous, apart from x
    int64_t num_rows;    // N >= 0
    int64_t width;       // W >= 0
    int64_t x_row_stride;
    float epsilon;
};

// The same bits for a row at any place, from every instruction set, on any number of threads.
void rms_norm_cpu(const RmsNormParams& params, int num_threads, InstructionSet set);

}  // namespace editscore
