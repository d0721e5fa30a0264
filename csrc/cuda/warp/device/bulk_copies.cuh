// Bulk copies (sm_90): the copy engine moves bytes and reports them to an mbarrier.
#pragma once

#include <cstdint>

#include "tensor_map.cuh"
#include "values.cuh"

namespace warp {

// `bytes` (a multiple of 16) from element i of p, for each lane of the mask.
template <class T, class I>
WARP_FN void bulk_copy(uint32_t to, const T* p, I i, uint32_t bytes, uint32_t barrier, bool mask = true) {
    if (mask) {
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
            "l"(p + i), "r"(bytes), "r"(barrier)
            : "memory");
    }
}

// The box of the map whose first element is (row, column), issued once by lane 0; see the host build for the layout.
WARP_FN void bulk_copy_box(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier) {
    if (lane_id() == 0) {
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
            "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
            "l"(&map), "r"(column), "r"(row), "r"(barrier)
            : "memory");
    }
}

}  // namespace warp
