// The checks of check.h on a GPU: the same kernels that test_warp runs on the host twin. Exit code 0: all hold, 1: one
// does not, 2: no GPU. One translation unit, because kernels are not inline.
#include <cuda_runtime.h>

#include "check_memory.cpp"
#include "check_pipelines.cpp"
#include "check_values.cpp"

namespace {

void expect_success(cudaError_t error, const char* what) {
    primitives::expect(error == cudaSuccess, std::string(what) + ": " + cudaGetErrorString(error));
}

uint32_t* to_device(const primitives::Words& words) {
    void* memory = nullptr;
    expect_success(cudaMalloc(&memory, words.size() * 4), "cudaMalloc");
    expect_success(cudaMemcpy(memory, words.data(), words.size() * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
    return static_cast<uint32_t*>(memory);
}

primitives::Words run_on_gpu(primitives::Kernel kernel, const primitives::Launch& launch, const primitives::Words& in,
                             size_t out_words) {
    primitives::Words out(out_words, 0);
    uint32_t *in_device = to_device(in), *out_device = to_device(out);
    primitives::Params params = {in_device, out_device, {}};
    if (launch.map_rows > 0) {
        params.map = warp::make_tensor_map(reinterpret_cast<const uint16_t*>(in_device), launch.map_rows,
                                           launch.map_columns, 128, primitives::kBoxRows);
    }
    const dim3 grid(static_cast<unsigned>(launch.grid), static_cast<unsigned>(launch.grid_y));
    kernel<<<grid, static_cast<unsigned>(launch.threads), launch.shared_bytes>>>(params);
    expect_success(cudaGetLastError(), "launch");
    expect_success(cudaDeviceSynchronize(), "kernel");
    expect_success(cudaMemcpy(out.data(), out_device, out.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
    cudaFree(in_device);
    cudaFree(out_device);
    return out;
}

}  // namespace

int main() {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
        std::puts("no GPU");
        return 2;
    }
    for (uint32_t seed = 0; seed < 20; ++seed) {
        primitives::check_values(run_on_gpu, seed);
        primitives::check_memory(run_on_gpu, seed);
        primitives::check_atomics(run_on_gpu, seed);
        primitives::check_matrices(run_on_gpu, seed);
        primitives::check_pipelines(run_on_gpu, seed);
        if (properties.major >= 9) primitives::check_engine_copies(run_on_gpu, seed);
    }
    std::printf("the warp primitives hold on %s\n", properties.name);
}
