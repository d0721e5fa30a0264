// mbarriers (sm_90); init, arrive and expect are one operation per warp, by lane 0.
#pragma once

#include <cstdint>

#include "values.cuh"

namespace warp {

WARP_FN void mbar_init(uint32_t address, int count) {
    if (lane_id() == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(count) : "memory");
    }
}
WARP_FN void mbar_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
WARP_FN void mbar_arrive(uint32_t address) {
    __syncwarp();
    if (lane_id() == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
}
WARP_FN void mbar_arrive_expect(uint32_t address, uint32_t bytes) {
    __syncwarp();
    if (lane_id() == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes) : "memory");
    }
    __syncwarp();
}
WARP_FN void mbar_wait(uint32_t address, uint32_t parity) {
    uint32_t is_complete;
    do {
        asm volatile(
            "{\n"
            ".reg .pred complete;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
            "selp.u32 %0, 1, 0, complete;\n"
            "}\n"
            : "=r"(is_complete)
            : "r"(address), "r"(parity)
            : "memory");
    } while (is_complete == 0);
}

}  // namespace warp
