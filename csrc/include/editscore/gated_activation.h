// gated_activation: out = act(x) * up, or act(x). The formulas stand in gated_activation_formulas.h. Legend: N rows, W
// columns. Strides count elements.
#pragma once

#include <cstdint>

#include "editscore/element_type.h"
#include "editscore/instruction_set.h"

namespace editscore {

enum class ActivationKind : int { kSilu = 0, kGeluTanh = 1, kGelu = 2 };

struct GatedActivationParams {
    ActivationKind kind;
    ElementType type;  // of x, up and out
    const void* x;     // [N, W], the last dimension of stride 1
    const void* up;    // likewise, or null: out = act(x)
    void* out;         // [N, W], contiguous; x or up itself, or apart from both
    int64_t num_rows;  // N >= 0
    int64_t width;     // W >= 0
    int64_t x_row_stride;
    int64_t up_row_stride;
};

// The same bits for an element at any place, from every instruction set, on any number of threads.
void gated_activation_cpu(const GatedActivationParams& params, int num_threads, InstructionSet set);

// Launched on `stream` (a cudaStream_t), without waiting; every pointer is one of the device. Throws
// std::invalid_argument for more than 2^30 columns, std::runtime_error when CUDA refuses the launch.
void gated_activation_cuda(const GatedActivationParams& params, void* stream);

}  // namespace editscore
