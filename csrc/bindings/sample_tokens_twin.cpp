// The Python module of sample_tokens' host twin: pointers as integers, arguments in the order of SampleTokensParams.
#include "sample_tokens_twin.h"

#include "twin.h"

namespace {

using twin::pointer;

warp::host::Stats sample_tokens(uintptr_t logits, int logit_type, int64_t num_rows, int64_t vocabulary,
                                int64_t logits_row_stride, uintptr_t temperature, uintptr_t top_k, uintptr_t top_p,
                                uintptr_t seed, uintptr_t request, uintptr_t position, uintptr_t mask,
                                int64_t mask_words, int64_t mask_row_stride, uintptr_t option_ids, int64_t num_options,
                                uintptr_t token, uintptr_t logprob_raw, uintptr_t logprob, uintptr_t status,
                                uintptr_t option_logprob, int num_warps, const py::kwargs& kwargs) {
    const editscore::SampleTokensParams params = {
        .logits = pointer<const void>(logits),
        .logit_type = static_cast<editscore::LogitType>(logit_type),
        .num_rows = num_rows,
        .vocabulary = vocabulary,
        .logits_row_stride = logits_row_stride,
        .temperature = pointer<const double>(temperature),
        .top_k = pointer<const int64_t>(top_k),
        .top_p = pointer<const double>(top_p),
        .seed = pointer<const int64_t>(seed),
        .request = pointer<const int64_t>(request),
        .position = pointer<const int64_t>(position),
        .mask = pointer<const int32_t>(mask),
        .mask_words = mask_words,
        .mask_row_stride = mask_row_stride,
        .option_ids = pointer<const int64_t>(option_ids),
        .num_options = num_options,
        .token = pointer<int64_t>(token),
        .logprob_raw = pointer<float>(logprob_raw),
        .logprob = pointer<float>(logprob),
        .status = pointer<int32_t>(status),
        .option_logprob = pointer<float>(option_logprob),
    };
    return editscore::sampler::sample_tokens_twin(params, num_warps, twin::options(kwargs));
}

void token_weights(uintptr_t x, int64_t count, float best, float scale, uintptr_t weights, const py::kwargs& kwargs) {
    editscore::sampler::token_weights_twin(pointer<const float>(x), count, best, scale, pointer<uint64_t>(weights),
                                           twin::options(kwargs));
}

}  // namespace

PYBIND11_MODULE(sample_tokens_twin, m) {
    twin::add_host_twin(m);
    m.attr("few_warps") = editscore::sampler::kFewWarps;
    m.attr("block_warps") = 32;
    m.attr("capacity") = 1024;
    m.def("sample_tokens", &sample_tokens, "Arguments as SampleTokensParams, then the warps of a block, and options.");
    m.def("token_weights", &token_weights, "Address, count, best, scale, address of the weights, and options.");
}
