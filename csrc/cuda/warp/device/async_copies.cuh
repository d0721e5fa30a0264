// cp.async: 16 bytes per lane from element i of p, past L1.
#pragma once

#include <cstdint>

#include "values.cuh"

namespace warp {

template <class T, class I>
WARP_FN void cp_async16(uint32_t to, const T* p, I i, bool mask = true) {
    if (mask) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(p + i) : "memory");
}
// Lanes outside of the mask write 16 zero bytes; their address is not read, so it may be any.
template <class T, class I>
WARP_FN void cp_async16_zero(uint32_t to, const T* p, I i, bool mask) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(p + (mask ? i : I{})),
                 "r"(mask ? 16 : 0)
                 : "memory");
}
WARP_FN void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
WARP_FN void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace warp
