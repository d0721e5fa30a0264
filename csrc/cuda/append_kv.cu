// Launches append_kv. Compiled and tested on its host twin; it has never run on a GPU.
#include <stdexcept>
#include <string>

#include "append_kv.cuh"
#include "editscore/attention_cuda.h"

namespace editscore {

void append_kv_cuda(const AppendKvParams& params, void* stream) {
    if (params.is_packed) throw std::invalid_argument("append_kv: the CUDA kernel writes the plain layout");
    const int64_t blocks = (params.num_tokens + append::kWarps - 1) / append::kWarps;
    if (blocks == 0) return;
    if (blocks > 0x7fffffff) throw std::invalid_argument("append_kv: too many tokens");
    append::with_words(params, [&]<class Word>(const append::Params<Word>& p) {
        append::append_kv_kernel<Word>
            <<<static_cast<unsigned>(blocks), append::kWarps * 32, 0, static_cast<cudaStream_t>(stream)>>>(p);
    });
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) throw std::runtime_error(std::string("append_kv: ") + cudaGetErrorString(error));
}

}  // namespace editscore
