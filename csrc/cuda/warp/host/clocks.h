// Vector clocks. Every warp of a launch has a slot, and every block one more for its engine of bulk copies. A warp's
// own entry counts its releases; another entry says up to which release of that warp it has synchronised.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fault.h"

namespace warp::host {

using Clock = std::vector<uint32_t>;

inline void join(Clock& into, const Clock& from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

// What a warp (or a barrier) knows to have happened. Bulk copies go through another path to memory, the async proxy: an
// ordinary store is ordered before one only when a fence_proxy_async lies between.
struct Knowledge {
    Clock seen;     // ordered before what comes next
    Clock proxied;  // ordered before bulk copies that come next

    void learn(const Knowledge& other) {
        join(seen, other.seen);
        join(proxied, other.proxied);
    }
};

struct Actor {
    uint32_t slot = 0;   // in the launch: the index into clocks
    uint32_t local = 0;  // in its block
    uint32_t step = 1;   // counts sync_warp: lanes of a warp are ordered only across it
    Knowledge knows;
    Knowledge fenced;  // what the last fence_device covered
    Where where;

    uint32_t now() const { return knows.seen[slot]; }
    // When others take a device-scope atomic of this warp to have happened: with the fence before it, if there was one,
    // because who reads its value and fences is ordered after both.
    uint32_t atomic_time() const {
        const uint32_t fence = slot < fenced.seen.size() ? fenced.seen[slot] : 0;
        return fence != 0 && fence + 1 == now() ? fence : now();
    }
    void release(Knowledge& into) {
        into.learn(knows);
        ++knows.seen[slot];
    }
    void acquire(const Knowledge& from) { knows.learn(from); }
};

constexpr int16_t kSeveralLanes = -1;

struct Access {
    Where where;
    uint32_t clock = 0;  // 0: none
    uint32_t step = 0;
    uint32_t slot = 0;
    int16_t lane = 0;
    uint16_t by_copy_engine = 0;  // a flag; two bytes, so that a copy of all this is two moves

    bool is_before(const Actor& actor, int its_lane) const {
        if (clock == 0) return true;
        if (slot == actor.slot) return step != actor.step || lane == its_lane;
        return clock <= actor.knows.seen[slot];
    }
};

}  // namespace warp::host
