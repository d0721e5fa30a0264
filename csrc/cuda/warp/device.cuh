// The device build: a Lane<T> is this thread's T, and a primitive is an instruction or two of its warp.
#pragma once

#include <cuda.h>

#include <cstdint>

#define WARP_FN __device__ __forceinline__
#define WARP_KERNEL(...) __global__ void __launch_bounds__(__VA_ARGS__)  // threads, and optionally blocks per SM
#define WARP_GRID_CONSTANT __grid_constant__
#define UNROLL _Pragma("unroll")

#include "device/async_copies.cuh"
#include "device/atomics.cuh"
#include "device/bulk_copies.cuh"
#include "device/matrix.cuh"
#include "device/mbarriers.cuh"
#include "device/memory.cuh"
#include "device/synchronization.cuh"
#include "device/values.cuh"
