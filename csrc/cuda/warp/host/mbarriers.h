// mbarriers: barriers in shared memory that count warps and bytes. init, arrive and expect are one operation per warp.
#pragma once

#include <cstdint>

#include "async_copies.h"
#include "synchronization.h"

namespace warp {

namespace host {

inline Mbarrier& mbarrier(uint32_t address, int lane = 0) {
    Warp& warp = *machine().running;
    SharedMemory& shared = warp.block->shared;
    shared.at(address, 8, 8);
    const auto found = warp.block->mbarriers.find(address);
    if (found == warp.block->mbarriers.end()) {
        fault("no mbarrier was initialised at shared byte ", SharedMemory::offset_text(address));
    }
    if (machine().options.check) shared.history.use_mbarrier(SharedMemory::offset(address), 8, warp, lane);
    return found->second;
}

inline void settle(Mbarrier& barrier) {
    if (barrier.arrived == barrier.needed && barrier.pending_bytes == 0) barrier.complete_phase();
}

// Bulk copies land as late as they can: when everybody has arrived and somebody waits.
inline void land_bulk_copies(Mbarrier& barrier) {
    Block& block = *machine().running->block;
    tsan_acquire(barrier.token(barrier.phase));
    const uint32_t time = ++block.engine_clock;
    for (const Copy& copy : barrier.copies) {
        land_copy(copy, {copy.where, time, 0, block.engine_slot, 0, 1});
        barrier.pending_bytes -= copy.bytes;
    }
    barrier.copies.clear();
    Clock& arriving = barrier.arriving.seen;
    if (arriving.size() <= block.engine_slot) arriving.resize(block.engine_slot + 1);
    arriving[block.engine_slot] = time;
    tsan_release(barrier.token(barrier.phase));
    settle(barrier);
}

inline void mbarrier_arrive(Mbarrier& barrier, uint32_t address) {
    if (barrier.arrived >= barrier.needed) {
        fault("arrival ", barrier.arrived + 1, " of ", barrier.needed, " on the mbarrier at shared byte ",
              SharedMemory::offset_text(address));
    }
    barrier.arrive(*machine().running);
    settle(barrier);
}

}  // namespace host

// `count` arrivals complete a phase.
inline void mbar_init(uint32_t address, int count, host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    uint8_t* data = warp.block->shared.at(address, 8, 8);
    if (count < 1) host::fault("mbarrier with a count of ", count);
    if (warp.block->mbarriers.contains(address)) {
        host::fault("the mbarrier at shared byte ", host::SharedMemory::offset_text(address), " was initialised at ",
                    host::place(warp.block->mbarriers[address].where), " already");
    }
    if (host::machine().options.check) {
        warp.block->shared.history.make_mbarrier(host::SharedMemory::offset(address), 8, warp, 0);
    }
    host::fill_data(data, 0, 8);
    host::Mbarrier& barrier = warp.block->mbarriers[address];
    barrier.needed = count;
    barrier.initialised_by = warp.id;
    barrier.where = where;
}
// After mbar_init, before the sync_block that lets others use it: the copy engine must see the barrier as well.
inline void mbar_fence_init(host::Where where = host::Where::current()) {
    host::Warp& warp = host::enter(where);
    for (auto& [address, barrier] : warp.block->mbarriers) {
        if (barrier.initialised_by == warp.id) barrier.is_visible_to_copies = true;
    }
}

// One arrival for the warp, after everything that its lanes did.
inline void mbar_arrive(uint32_t address, host::Where where = host::Where::current()) {
    ++host::enter(where).step;
    host::mbarrier_arrive(host::mbarrier(address), address);
}
// The same, and the phase also waits for `bytes` bytes of bulk copies.
inline void mbar_arrive_expect(uint32_t address, uint32_t bytes, host::Where where = host::Where::current()) {
    ++host::enter(where).step;
    host::Mbarrier& barrier = host::mbarrier(address);
    barrier.pending_bytes += bytes;
    host::mbarrier_arrive(barrier, address);
    ++host::machine().running->step;
}

// Until the phase of this parity is complete: 0 for the first, 1 for the second; 1 passes at once on a fresh mbarrier.
inline void mbar_wait(uint32_t address, uint32_t parity, host::Where where = host::Where::current()) {
    host::enter(where);
    if (parity > 1) host::fault("mbarrier parity ", parity, " is neither 0 nor 1");
    host::Mbarrier& barrier = host::mbarrier(address, 31);  // every lane looks, not only the one that initialised it
    const auto is_complete = [&barrier, parity] { return (barrier.phase & 1) != parity; };
    const auto can_land = [&barrier] { return barrier.arrived == barrier.needed && !barrier.copies.empty(); };
    const auto describe = [&barrier, address, parity] {
        return host::text("parity ", parity, " of the mbarrier at shared byte ",
                          host::SharedMemory::offset_text(address), " (", barrier.arrived, " of ", barrier.needed,
                          " arrived, ", barrier.pending_bytes, " bytes expected and not copied)");
    };
    while (!is_complete()) {
        host::wait_until({[=] { return is_complete() || can_land(); }, describe});
        if (!is_complete()) host::land_bulk_copies(barrier);
    }
    host::machine().running->acquire(barrier.passed);
    host::tsan_acquire(barrier.token(parity));
}

}  // namespace warp
