// A matrix in global memory, as bulk_copy_box sees it. The map must lie in a WARP_GRID_CONSTANT parameter of the
// kernel.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>

namespace warp {

using TensorMap = CUtensorMap;

// [rows, columns] of 2-byte elements, copied in boxes of box_rows rows by 64 columns (128 bytes), swizzled. The
// driver's function is looked up when it is first needed, so that the library also loads where there is no driver.
template <class T>
inline TensorMap make_tensor_map(const T* data, int64_t rows, int columns, int64_t row_stride, int box_rows) {
    static_assert(sizeof(T) == 2);
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status);
    if (error != cudaSuccess || status != cudaDriverEntryPointSuccess || found == nullptr) {
        throw std::runtime_error("this driver has no cuTensorMapEncodeTiled");
    }
    const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
    const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
    const cuuint64_t strides[1] = {static_cast<cuuint64_t>(row_stride) * sizeof(T)};
    const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)};
    const cuuint32_t steps[2] = {1, 1};
    // 16 bits are moved as they are: the type matters only for what is filled in outside of the matrix, zero in all.
    TensorMap map;
    const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<T*>(data), sizes, strides, box,
                                   steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled refuses this matrix");
    return map;
}

}  // namespace warp
