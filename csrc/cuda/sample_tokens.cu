// Launches sample_tokens. Compiled and tested on its host twin; it has never run on a GPU.
#include <stdexcept>
#include <string>

#include "sample_tokens.cuh"

namespace editscore {
namespace {

template <class T>
void launch(const SampleTokensParams& params, cudaStream_t stream) {
    using sampler::kBlockWarps;
    static_assert(sampler::kSharedBytes <= 48 * 1024);  // what a block gets without asking
    sampler::sample_tokens_kernel<T, kBlockWarps>
        <<<static_cast<unsigned>(params.num_rows), kBlockWarps * 32, sampler::kSharedBytes, stream>>>(params);
}

}  // namespace

void sample_tokens_cuda(const SampleTokensParams& params, void* stream) {
    if (params.num_rows == 0) return;
    if (params.num_rows > 0x7fffffff) throw std::invalid_argument("sample_tokens: more than 2^31 - 1 rows");
    const cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (params.logit_type == LogitType::kFloat32) {
        launch<float>(params, on);
    } else if (params.logit_type == LogitType::kBfloat16) {
        launch<warp::bf16>(params, on);
    } else {
        launch<warp::f16>(params, on);
    }
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) throw std::runtime_error(std::string("sample_tokens: ") + cudaGetErrorString(error));
}

}  // namespace editscore
