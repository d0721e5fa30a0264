// sync_warp, sync_block, named barriers and fences.
#pragma once

#include <cstdint>
#include <string>

#include "memory.h"

namespace warp {

namespace host {

inline Barrier& named_barrier(int id, int warps) {
    Warp& warp = *machine().running;
    if (id < 0 || id > 15) fault("named barrier ", id, " is not one of 0 .. 15");
    if (warps < 1 || warps > machine().num_warps) {
        fault("barrier ", id, " with ", warps, " warps in a block of ", machine().num_warps);
    }
    Barrier& barrier = warp.block->named[static_cast<size_t>(id)];
    if (barrier.arrived > 0 && barrier.needed != warps) {
        fault("barrier ", id, " used with ", barrier.needed, " and with ", warps, " warps at once");
    }
    barrier.needed = warps;
    return barrier;
}

inline void arrive(Barrier& barrier) {
    Warp& warp = *machine().running;
    warp.tsan_fenced = false;  // for TSan a fence covers only what the warp knew then
    barrier.arrive(warp);
    if (barrier.arrived == barrier.needed) barrier.complete_phase();
}

inline void arrive_and_wait(Barrier& barrier, const char* name) {
    const uint32_t phase = barrier.phase;
    arrive(barrier);
    const auto describe = [&barrier, name] {
        return text(name, " (", barrier.arrived, " of ", barrier.needed, " warps are there)");
    };
    wait_until({[&barrier, phase] { return barrier.phase != phase; }, describe});
    Warp& warp = *machine().running;
    warp.acquire(barrier.passed);
    ++warp.step;
    tsan_acquire(barrier.token(phase));
}

}  // namespace host

inline void sync_warp(host::Where where = host::Where::current()) { ++host::enter(where).step; }

inline void sync_block(host::Where where = host::Where::current()) {
    host::enter(where);
    host::arrive_and_wait(host::named_barrier(0, host::machine().num_warps), "sync_block");
}
// Barrier `id` for `warps` warps; 0 is sync_block's. named_arrive does not wait.
inline void named_sync(int id, int warps, host::Where where = host::Where::current()) {
    host::enter(where);
    host::arrive_and_wait(host::named_barrier(id, warps), "named_sync");
}
inline void named_arrive(int id, int warps, host::Where where = host::Where::current()) {
    host::enter(where);
    host::arrive(host::named_barrier(id, warps));
}

// Device scope. What is known before it, the warp's next atomic passes on; what earlier atomics brought becomes known.
inline void fence_device(host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    warp.knows.learn(warp.from_atomics);
    warp.release(warp.fenced);
    for (host::AtomicWord* word : warp.tsan_atomics) host::tsan_acquire(&word->tsan_token);
    warp.tsan_atomics.clear();
    warp.tsan_fenced = true;
}

// Between ordinary shared-memory stores and bulk copies that overwrite the same bytes.
inline void fence_proxy_async(host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    host::join(warp.knows.proxied, warp.knows.seen);
    ++warp.knows.seen[warp.slot];
}

}  // namespace warp
