// The state of one launch: blocks, warps, memory, options. Nothing outlives a launch, and each host thread has its own
// machine, so launches may run side by side.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "barriers.h"
#include "fibers.h"
#include "global_memory.h"
#include "shared_memory.h"

namespace warp::host {

struct Shape {
    int grid = 1;
    int grid_y = 1;
    int threads = 32;
    uint32_t shared_bytes = 0;
};

struct Options {
    uint32_t seed = 1;                     // of the schedule: which warp runs next, which block starts next
    int resident = 2;                      // blocks that run at the same time
    bool check = true;                     // races, reads too early, bank conflicts; addresses are always checked
    int mutant = 0;                        // the bug that mutant(n) switches on; 0: none
    int64_t max_operations = 100'000'000;  // a launch of more is taken for an endless loop
    std::vector<Buffer> buffers = {};      // if not empty: all the global memory there is
};

struct Stats {
    int64_t operations = 0, mma = 0, ldmatrix = 0, bulk_copies = 0, bulk_bytes = 0;
    int64_t global_bytes = 0, global_sectors = 0;  // asked for by loads and stores, and 32-byte sectors moved for them
    int load_ways = 0, store_ways = 0, ldmatrix_ways = 0, atomic_ways = 0;  // worst bank-conflict degrees
};

struct Copy {
    uint32_t to = 0;
    const void* base = nullptr;     // what `from` was reached from
    const uint8_t* from = nullptr;  // null: zeros
    uint32_t bytes = 0;
    int lane = 0;
    Where where;
};

struct Mbarrier : Barrier {
    int64_t pending_bytes = 0;  // expected and not landed; bytes that landed early make it negative
    std::vector<Copy> copies;   // issued, not landed
    bool is_visible_to_copies = false;
    int initialised_by = 0;
    Where where;
};

struct Wait {
    std::function<bool()> is_over;
    std::function<std::string()> describe;
};

struct Block;

struct Warp : Actor {
    Block* block = nullptr;
    int id = 0;
    bool done = false;
    Fiber fiber;
    Wait wait;
    std::vector<Copy> open_copies;              // cp_async since the last commit
    std::deque<std::vector<Copy>> copy_groups;  // committed, not waited for
    Knowledge from_atomics;                     // becomes known at the next fence_device
    bool tsan_fenced = false;
    std::vector<AtomicWord*> tsan_atomics;
};

struct Block {
    Block(uint32_t shared_bytes, int num_warps) : shared(shared_bytes, static_cast<uint32_t>(num_warps)) {}

    int x = 0, y = 0;
    SharedMemory shared;
    std::array<Barrier, 16> named;
    std::map<uint32_t, Mbarrier> mbarriers;
    uint32_t engine_slot = 0, engine_clock = 0;
    std::vector<std::unique_ptr<Warp>> warps;
};

struct Machine {
    Machine(const Shape& shape, const Options& options)
        : shape(shape),
          options(options),
          num_warps(shape.threads / kLanes),
          random(options.seed),
          global(options.buffers, num_slots(), options.check) {}

    uint32_t num_slots() const {
        return static_cast<uint32_t>(shape.grid) * static_cast<uint32_t>(shape.grid_y) *
               static_cast<uint32_t>(num_warps + 1);
    }

    Shape shape;
    Options options;
    int num_warps;
    Stats stats;
    std::minstd_rand random;
    GlobalMemory global;
    const std::function<void()>* kernel = nullptr;
    Fiber scheduler;
    Warp* running = nullptr;
    std::exception_ptr error;
    bool is_cancelled = false;  // after a fault: every other warp unwinds and ends
};

inline thread_local Machine* current_machine = nullptr;

inline Machine& machine() {
    if (current_machine == nullptr) throw Fault("a warp primitive was called outside of a launch");
    return *current_machine;
}

inline std::string warp_name(uint32_t slot) {
    const Machine& m = machine();
    const int warps = m.num_warps + 1, block = static_cast<int>(slot) / warps, id = static_cast<int>(slot) % warps;
    const std::string name = m.shape.grid_y == 1
                                 ? text("block ", block)
                                 : text("block (", block % m.shape.grid, ", ", block / m.shape.grid, ")");
    return id == m.num_warps ? name + "'s copy engine" : text(name, " warp ", id);
}

inline std::string whereabouts() {
    if (current_machine == nullptr || current_machine->running == nullptr) return "";
    const Warp& warp = *current_machine->running;
    return text(warp_name(warp.slot), " at ", place(warp.where), ": ");
}

// Every primitive begins here: the running warp, with the line that called.
inline Warp& enter(const Where& where) {
    Machine& m = machine();
    m.running->where = where;
    if (++m.stats.operations > m.options.max_operations) {
        fault("more than ", m.options.max_operations, " operations: an endless loop, or raise max_operations");
    }
    return *m.running;
}

}  // namespace warp::host
