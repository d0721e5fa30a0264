// cp.async: a copy poisons its target when issued and lands when its warp waits for its group, so that one run shows a
// read that is too early as well as a refill that is too early.
#pragma once

#include <cstdint>
#include <utility>

#include "memory.h"

namespace warp {

namespace host {

inline void start_copy(const Copy& copy, bool by_copy_engine) {
    Warp& warp = *machine().running;
    SharedMemory& shared = warp.block->shared;
    uint8_t* target = shared.at(copy.to, copy.bytes, 16);
    if (copy.from != nullptr) {
        machine().global.access(copy.base, copy.from, copy.bytes, 16, AccessKind::kRead, warp, copy.lane);
    }
    if (machine().options.check) {
        shared.history.start_copy(SharedMemory::offset(copy.to), copy.bytes, warp, copy.lane, by_copy_engine);
    }
    fill_data(target, kPoison, copy.bytes);
}

inline void land_copy(const Copy& copy, const Access& as) {
    SharedMemory& shared = machine().running->block->shared;
    uint8_t* target = shared.at(copy.to, copy.bytes, 16);
    if (copy.from != nullptr) {
        copy_data(target, copy.from, copy.bytes);
    } else {
        fill_data(target, 0, copy.bytes);
    }
    if (machine().options.check) shared.history.land_copy(SharedMemory::offset(copy.to), copy.bytes, as);
}

}  // namespace host

// 16 bytes per lane from element i of p; both sides aligned to 16.
template <class T, class I>
void cp_async16(const Lane<uint32_t>& to, const T* p, const I& index, const Lane<bool>& mask = true,
                host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        if (!mask.v[i]) continue;
        const host::Copy copy = {to.v[i], p, reinterpret_cast<const uint8_t*>(p + offset.v[i]), 16, i, where};
        host::start_copy(copy, false);
        warp.open_copies.push_back(copy);
    }
    host::count_ways(host::machine().stats.store_ways, to, mask, 16);
}
// As cp_async16, and lanes outside of the mask write 16 zero bytes.
template <class T, class I>
void cp_async16_zero(const Lane<uint32_t>& to, const T* p, const I& index, const Lane<bool>& mask,
                     host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        const uint8_t* from = mask.v[i] ? reinterpret_cast<const uint8_t*>(p + offset.v[i]) : nullptr;
        const host::Copy copy = {to.v[i], p, from, 16, i, where};
        host::start_copy(copy, false);
        warp.open_copies.push_back(copy);
    }
    host::count_ways(host::machine().stats.store_ways, to, true, 16);
}

inline void cp_async_commit(host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    warp.copy_groups.push_back(std::exchange(warp.open_copies, {}));
}

// Until at most N groups are left. Each lane then sees what it copied itself; others need a barrier.
template <int N>
void cp_async_wait(host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    while (warp.copy_groups.size() > N) {
        for (const host::Copy& copy : warp.copy_groups.front()) {
            host::land_copy(copy, host::History::access(warp, copy.lane));
        }
        warp.copy_groups.pop_front();
    }
}

}  // namespace warp
