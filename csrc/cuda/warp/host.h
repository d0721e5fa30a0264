// The host build: what a warp computes with, the machine that runs it, and the primitives on that machine.
#pragma once

#include "host/async_copies.h"
#include "host/atomics.h"
#include "host/bulk_copies.h"
#include "host/float16.h"
#include "host/lane.h"
#include "host/matrix.h"
#include "host/mbarriers.h"
#include "host/memory.h"
#include "host/scheduler.h"
#include "host/synchronization.h"
#include "host/values.h"

#define WARP_FN inline
#define WARP_KERNEL(...) inline void  // the launch bounds of the device build mean nothing here
#define WARP_GRID_CONSTANT
#define UNROLL
