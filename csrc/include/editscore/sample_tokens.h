// sample_tokens: one seeded token per row of logits. The formula stands in kernels/editscore_kernels/sample_tokens.py.
// Legend: R rows, V vocabulary, W words of mask, N options. Strides count elements; the last dimension has stride 1.
#pragma once

#include <cstdint>

#include "editscore/instruction_set.h"

namespace editscore {

enum class LogitType : int { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

enum SampleStatus : int32_t { kSampleOk = 0, kSampleAllMasked = 1, kSampleNotANumber = 2 };

struct SampleTokensParams {
    const void* logits;         // [R, V]
    LogitType logit_type;       // of `logits`
    int64_t num_rows;           // R >= 0
    int64_t vocabulary;         // 1 <= V < 2^22
    int64_t logits_row_stride;  // >= V, or 0 for one row read R times
    const double* temperature;  // [R], 0 = greedy
    const int64_t* top_k;       // [R], 0 = off
    const double* top_p;        // [R], in (0, 1], 1 = off
    const int64_t* seed;        // [R], 64 bits
    const int64_t* request;     // [R], 64 bits
    const int64_t* position;    // [R], 64 bits
    const int32_t* mask;        // [R, W] or null
    int64_t mask_words;         // W; tokens beyond 32 W are not allowed
    int64_t mask_row_stride;
    const int64_t* option_ids;  // [R, N] in -1 .. V - 1, or null
    int64_t num_options;        // N
    int64_t* token;             // [R], -1 where the status is not ok
    float* logprob_raw;         // [R], NaN where the status is not ok
    float* logprob;             // [R], likewise
    int32_t* status;            // [R]
    float* option_logprob;      // [R, N], -inf where the id is -1
};

// Rows are shared out over at most `num_threads` threads; no result depends on their number or on the instruction set.
// Throws std::bad_alloc or std::system_error when memory or threads run out.
void sample_tokens_cpu(const SampleTokensParams& params, int num_threads, InstructionSet set);

// Queued on `stream`, a cudaStream_t of the device that holds every pointer. Tokens and statuses are those of the CPU
// bit for bit; an option id outside of -1 .. V - 1 gives NaN. Throws std::runtime_error when the launch fails. Only in
// builds with CUDA.
void sample_tokens_cuda(const SampleTokensParams& params, void* stream);

// Sum of floor(2^40 * exp((x - best) / T)) over `count` logits, scale = float(log2(e) / T): what the sampler adds up,
// for tests.
int64_t sample_weights_cpu(const float* x, int64_t count, float best, float scale, InstructionSet set);

}  // namespace editscore
