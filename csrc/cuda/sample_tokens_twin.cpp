// The host twin of sample_tokens: the launcher of sample_tokens.cu on warp::host, with every buffer registered.
#include "sample_tokens_twin.h"

#include <vector>

#include "sample_tokens.cuh"

namespace editscore::sampler {
namespace {

using warp::host::Buffer;

std::vector<Buffer> buffers_of(const SampleTokensParams& p) {
    using warp::host::input;
    using warp::host::output;
    const size_t rows = static_cast<size_t>(p.num_rows);
    const size_t reached = static_cast<size_t>((p.num_rows - 1) * p.logits_row_stride + p.vocabulary);
    std::vector<Buffer> buffers = {
        p.logit_type == LogitType::kFloat32 ? input("logits", static_cast<const float*>(p.logits), reached)
                                            : input("logits", static_cast<const uint16_t*>(p.logits), reached),
        input("temperature", p.temperature, rows),
        input("top_k", p.top_k, rows),
        input("top_p", p.top_p, rows),
        input("seed", p.seed, rows),
        input("request", p.request, rows),
        input("position", p.position, rows),
        output("token", p.token, rows),
        output("logprob_raw", p.logprob_raw, rows),
        output("logprob", p.logprob, rows),
        output("status", p.status, rows),
        output("option_logprob", p.option_logprob, rows * static_cast<size_t>(p.num_options)),
        input("option_ids", p.option_ids, rows * static_cast<size_t>(p.num_options)),
    };
    if (p.mask != nullptr) {
        const size_t words = static_cast<size_t>((p.num_rows - 1) * p.mask_row_stride + p.mask_words);
        buffers.push_back(input("mask", p.mask, words));
    }
    return buffers;
}

template <class T, int kWarps>
warp::host::Stats launch(const SampleTokensParams& p, const warp::host::Options& options) {
    const warp::host::Shape shape = {
        .grid = static_cast<int>(p.num_rows), .threads = kWarps * 32, .shared_bytes = kSharedBytes};
    return warp::host::launch([&] { sample_tokens_kernel<T, kWarps>(p); }, shape, options);
}

template <int kWarps>
warp::host::Stats launch(const SampleTokensParams& p, const warp::host::Options& options) {
    if (p.logit_type == LogitType::kFloat32) return launch<float, kWarps>(p, options);
    if (p.logit_type == LogitType::kBfloat16) return launch<warp::bf16, kWarps>(p, options);
    return launch<warp::f16, kWarps>(p, options);
}

}  // namespace

warp::host::Stats sample_tokens_twin(const SampleTokensParams& p, int num_warps, warp::host::Options options) {
    if (p.num_rows == 0) return {};
    options.buffers = buffers_of(p);
    return num_warps == kBlockWarps ? launch<kBlockWarps>(p, options) : launch<kFewWarps>(p, options);
}

void token_weights_twin(const float* x, int64_t count, float best, float scale, uint64_t* weights,
                        const warp::host::Options& options) {
    const auto kernel = [&] {
        for (int64_t start = 0; start < count; start += 32) {
            const warp::Lane<int64_t> i = warp::Lane<int64_t>(warp::lane_id()) + start;
            const warp::Lane<bool> is_inside = i < count;
            warp::gstore(weights, i, token_weight(warp::gload(x, i, is_inside), best, scale), is_inside);
        }
    };
    warp::host::launch(kernel, {}, options);
}

}  // namespace editscore::sampler
