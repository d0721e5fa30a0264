// sync_warp, sync_block, named barriers and fences.
#pragma once

#include <cstdint>

#include "values.cuh"

namespace warp {

WARP_FN void sync_warp() { __syncwarp(); }
WARP_FN void sync_block() { __syncthreads(); }
WARP_FN void named_sync(int id, int warps) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(warps * 32) : "memory"); }
WARP_FN void named_arrive(int id, int warps) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(warps * 32) : "memory");
}
WARP_FN void fence_device() { __threadfence(); }
WARP_FN void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace warp
