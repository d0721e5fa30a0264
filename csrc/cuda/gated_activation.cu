// Launches gated_activation. Compiled and tested on its host twin; it has never run on a GPU.
#include <stdexcept>
#include <string>

#include "gated_activation.cuh"

namespace editscore {

void gated_activation_cuda(const GatedActivationParams& params, void* stream) {
    if (params.width > gated::kMaxWidth) throw std::invalid_argument("gated_activation: more than 2^30 columns");
    gated::with_kernel(
        params, [&]<class T, ActivationKind kKind, bool kIsVector>(const gated::Params& p, int64_t blocks) {
            if (blocks > 0x7fffffff) throw std::invalid_argument("gated_activation: too many rows");
            gated::gated_activation_kernel<T, kKind, kIsVector>
                <<<static_cast<unsigned>(blocks), gated::kWarps * 32, 0, static_cast<cudaStream_t>(stream)>>>(p);
            const cudaError_t error = cudaGetLastError();
            if (error != cudaSuccess) {
                throw std::runtime_error(std::string("gated_activation: ") + cudaGetErrorString(error));
            }
        });
}

}  // namespace editscore
