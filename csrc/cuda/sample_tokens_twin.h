// The host twin of sample_tokens, for its tests.
#pragma once

#include <cstdint>

#include "editscore/sample_tokens.h"
#include "warp/warp.h"

namespace editscore::sampler {

constexpr int kFewWarps = 4;  // a small block: 32 groups of threads, so that small rows have many tiles per warp

// As sample_tokens_cuda, with a block of 32 warps or of kFewWarps.
warp::host::Stats sample_tokens_twin(const SampleTokensParams& params, int num_warps, warp::host::Options options);

// The integer weight of each x, for the test that compares them bit for bit.
void token_weights_twin(const float* x, int64_t count, float best, float scale, uint64_t* weights,
                        const warp::host::Options& options);

}  // namespace editscore::sampler
