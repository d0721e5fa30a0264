// Atomics of shared and global memory.
#pragma once

#include <cstdint>

#include "values.cuh"

namespace warp {

// Each lane of the mask adds, or takes the larger, at its own address, and gets the value from before.
WARP_FN uint32_t satomic_add(uint32_t address, uint32_t x, bool mask = true) {
    uint32_t old = 0;
    if (mask) asm volatile("atom.shared.add.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(x) : "memory");
    return old;
}
WARP_FN uint64_t satomic_add(uint32_t address, uint64_t x, bool mask = true) {
    uint64_t old = 0;
    if (mask) asm volatile("atom.shared.add.u64 %0, [%1], %2;" : "=l"(old) : "r"(address), "l"(x) : "memory");
    return old;
}
WARP_FN uint32_t satomic_max(uint32_t address, uint32_t x, bool mask = true) {
    uint32_t old = 0;
    if (mask) asm volatile("atom.shared.max.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(x) : "memory");
    return old;
}
WARP_FN uint64_t satomic_max(uint32_t address, uint64_t x, bool mask = true) {
    uint64_t old = 0;
    if (mask) asm volatile("atom.shared.max.u64 %0, [%1], %2;" : "=l"(old) : "r"(address), "l"(x) : "memory");
    return old;
}
WARP_FN int satomic_add(uint32_t address, int x, bool mask = true) {
    return static_cast<int>(satomic_add(address, static_cast<uint32_t>(x), mask));
}
WARP_FN int satomic_max(uint32_t address, int x, bool mask = true) {
    int old = 0;
    if (mask) asm volatile("atom.shared.max.s32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(x) : "memory");
    return old;
}

// One add per warp by lane 0; every lane's earlier accesses come before it, every lane's later ones behind it.
WARP_FN uint32_t warp_atomic_add(uint32_t* p, uint32_t x) {
    __syncwarp();
    uint32_t old = 0;
    if (lane_id() == 0) old = atomicAdd(p, x);
    __syncwarp();
    return first(old);
}

}  // namespace warp
