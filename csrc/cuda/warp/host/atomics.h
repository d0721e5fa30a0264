// Atomics of shared and global memory. The order in which the lanes of a warp get their turn is drawn from the seed, as
// the hardware promises none.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "memory.h"

namespace warp {

namespace host {

inline std::array<int, kLanes> random_lane_order() {
    std::array<int, kLanes> order;
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), machine().random);
    return order;
}

// Relaxed and sequentially one after another; f(old, x) is the new value.
template <class T, class F>
Lane<T> shared_atomic(const Lane<uint32_t>& address, const Lane<T>& x, const Lane<bool>& mask, const Where& where,
                      F f) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    Warp& warp = enter(where);
    Lane<T> old = {};
    for (int i : random_lane_order()) {
        if (!mask.v[i]) continue;
        SharedMemory& shared = warp.block->shared;
        T* data = reinterpret_cast<T*>(shared.at(address.v[i], sizeof(T), sizeof(T)));
        if (machine().options.check)
            shared.history.atomic(SharedMemory::offset(address.v[i]), sizeof(T), warp, i, warp.now());
        old.v[i] = *data;
        *data = f(*data, x.v[i]);
    }
    count_ways(machine().stats.atomic_ways, address, mask, sizeof(T));
    return old;
}

// A device-scope atomic passes on what the warp's last fence_device covered, and what others passed on to it becomes
// known to this warp at its next fence_device.
inline void order_by_atomic(Warp& warp, const void* p) {
    AtomicWord& word = machine().global.atomic_word(p);
    warp.from_atomics.learn(word.released);
    word.released.learn(warp.fenced);
    if (warp.tsan_fenced) tsan_release(&word.tsan_token);
    warp.tsan_atomics.push_back(&word);
}

}  // namespace host

// Each lane of the mask adds, or takes the larger, at its own address, and gets the value from before.
template <class T>
Lane<T> satomic_add(const Lane<uint32_t>& address, const Lane<T>& x, const Lane<bool>& mask = true,
                    host::Where where = host::Where::current()) {
    return host::shared_atomic(address, x, mask, where, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
Lane<T> satomic_max(const Lane<uint32_t>& address, const Lane<T>& x, const Lane<bool>& mask = true,
                    host::Where where = host::Where::current()) {
    return host::shared_atomic(address, x, mask, where, [](T a, T b) { return a > b ? a : b; });
}

template <Number T>
Lane<T> satomic_add(const Lane<uint32_t>& address, T x, const Lane<bool>& mask = true,
                    host::Where where = host::Where::current()) {
    return satomic_add(address, Lane<T>(x), mask, where);
}
template <Number T>
Lane<T> satomic_max(const Lane<uint32_t>& address, T x, const Lane<bool>& mask = true,
                    host::Where where = host::Where::current()) {
    return satomic_max(address, Lane<T>(x), mask, where);
}

// One add per warp; every lane's earlier accesses come before it, and the old value is returned to all lanes.
inline uint32_t warp_atomic_add(uint32_t* p, uint32_t x, host::Where where = host::Where::current()) {
    host::enter(where);
    host::yield();
    host::Warp& warp = *host::machine().running;
    ++warp.step;
    host::machine().global.access(p, p, sizeof *p, sizeof *p, host::AccessKind::kAtomic, warp, 0);
    host::order_by_atomic(warp, p);
    return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}

}  // namespace warp
