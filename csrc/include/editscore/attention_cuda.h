// The attention ops on CUDA: what the kernels take beside the parameters of shared_prefix_attention.h and append_kv.h.
// Every pointer is one of the device. Pages are in plain layout: [P, Hkv, 16, D].
#pragma once

#include <cstdint>

#include "editscore/append_kv.h"
#include "editscore/shared_prefix_attention.h"

namespace editscore {

struct SharedPrefixAttentionCudaParams {
    SharedPrefixAttentionParams attention;  // bf16 or fp16, D in 32, 64, 128, strides of q even, num_splits >= 1
    int32_t* status;                        // [R]: 1 where a table names what is not there; nothing is read outside
    // With more than one split; C = max_chunks, the chunks of the longest path that the tables can name:
    int64_t max_chunks;
    float* part_o;         // [R, Hq, C, D]
    float* part_ml;        // [R, Hq, C, 2]
    int32_t* part_status;  // [num_splits, R]
    uint32_t* arrivals;    // [num_groups + n G / 16 + 1, Hkv], zero before and after
};

// Launched on `stream` (a cudaStream_t), without waiting. Throws std::invalid_argument when the shape is not one of
// those above, std::runtime_error when CUDA refuses the launch.
void shared_prefix_attention_cuda(const SharedPrefixAttentionCudaParams& params, void* stream);

// Plain layout. Slots outside of the pages are dropped.
void append_kv_cuda(const AppendKvParams& params, void* stream);

}  // namespace editscore
