// One kernel source, two builds. Under nvcc a Lane<T> is one thread's T and a primitive is an instruction or two. Under
// g++ a Lane<T> is the 32 values of a warp, a warp is a fiber, and every primitive checks what it is asked to do.
// docs/host-twin.md says how to write a kernel for both.
#pragma once

#if defined(__CUDACC__)
#include "device.cuh"
#else
#include "host.h"
#endif
#include "collectives.h"
