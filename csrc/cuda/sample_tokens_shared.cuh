// The shared memory of a block of sample_tokens, in bytes, and how warps pass values to each other through it.
#pragma once

#include <cstdint>

#include "warp/warp.h"

namespace editscore::sampler {

using namespace warp;

constexpr int kCapacity = 1024;  // candidates that are sorted in shared memory
constexpr int kNumBins = 2048;   // of a histogram over 11 bits of the key

// Two uses of the same bytes, one after another.
constexpr uint32_t kFound = 0;                          // [kCapacity] key << 32 | ~id, as they are met
constexpr uint32_t kSorted = kFound + kCapacity * 8;    // [kCapacity] the same, descending: x falling, then id rising
constexpr uint32_t kWeights = kSorted + kCapacity * 8;  // [kCapacity] weights in that order
constexpr uint32_t kBinWeights = 0;                     // [kNumBins] 64 bits
constexpr uint32_t kBinCounts = kBinWeights + kNumBins * 8;  // [kNumBins] 32 bits
static_assert(kWeights + kCapacity * 8 == kBinCounts + kNumBins * 4);

// One entry per warp.
constexpr uint32_t kRawBest = kBinCounts + kNumBins * 4;
constexpr uint32_t kBest = kRawBest + 128;
constexpr uint32_t kIsBad = kBest + 128;
constexpr uint32_t kTies = kIsBad + 128;
constexpr uint32_t kRawSum = kTies + 128;
constexpr uint32_t kSum = kRawSum + 256;
// One entry for every four threads.
constexpr uint32_t kGroupBest = kSum + 256;
// One value each.
constexpr uint32_t kNumFound = kGroupBest + 1024;
constexpr uint32_t kGreedy = kNumFound + 4;  // ~id of the lowest id that has the largest logit
constexpr uint32_t kToken = kGreedy + 4;
constexpr uint32_t kBound = kToken + 4;
constexpr uint32_t kLength = kBound + 4;
constexpr uint32_t kBin = kLength + 4;
constexpr uint32_t kKept = kBin + 4;
constexpr uint32_t kNeeded = kKept + 8;
constexpr uint32_t kAbove = kNeeded + 8;
constexpr uint32_t kSharedBytes = kAbove + 8;

WARP_FN Lane<uint32_t> shared_at(uint32_t place, Lane<int> index, uint32_t bytes) {
    return smem_base() + place + Lane<uint32_t>(index) * bytes;
}

// This warp's entry; and, after a sync_block, entry w in lane w (zero behind the last warp).
template <class T>
WARP_FN void put_of_warp(uint32_t place, Lane<T> x) {
    sstore(shared_at(place, warp_id(), sizeof(T)), x, lane_id() == 0);
}
template <class T, int kWarps>
WARP_FN Lane<T> get_of_warps(uint32_t place) {
    return sload<T>(shared_at(place, lane_id(), sizeof(T)), lane_id() < kWarps);
}

// One value: put by lane 0 of the calling warp, got by every warp after a sync_block.
template <class T>
WARP_FN void put(uint32_t place, T x) {
    sstore(Lane<uint32_t>(smem_base() + place), Lane<T>(x), lane_id() == 0);
}
template <class T>
WARP_FN T get(uint32_t place) {
    return first(sload<T>(Lane<uint32_t>(smem_base() + place)));
}

WARP_FN Lane<int> thread_id() { return warp_id() * 32 + lane_id(); }

}  // namespace editscore::sampler
