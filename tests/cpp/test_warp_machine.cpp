// The machine itself: schedules, counters, and that launches leave nothing behind.
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "test_warp.h"

using namespace warp;

namespace {

// Which warps of which blocks came one after another, as one number.
uint64_t schedule(uint32_t seed) {
    uint32_t count = 0;
    std::vector<uint32_t> order(12);
    host::Options options;
    options.seed = seed;
    options.resident = 3;
    const auto kernel = [&] {
        const uint32_t mine = warp_atomic_add(&count, 1);
        gstore(order.data(), static_cast<int>(mine), Lane<uint32_t>(static_cast<uint32_t>(block_id() * 4 + warp_id())),
               lane_id() == 0);
    };
    host::launch(kernel, {.grid = 3, .grid_y = 1, .threads = 128}, options);
    uint64_t number = 0;
    for (uint32_t x : order) number = number * 12 + x;
    return number;
}

void test_schedules() {
    std::set<uint64_t> seen;
    for (uint32_t seed = 0; seed < 16; ++seed) {
        CHECK(schedule(seed) == schedule(seed));
        seen.insert(schedule(seed));
    }
    CHECK(seen.size() >= 15);
}

void test_grid() {
    std::vector<uint32_t> visits(6, 0);
    const auto kernel = [&] {
        CHECK(grid_size() == 3 && grid_size_y() == 2);
        gstore(visits.data(), block_id_y() * 3 + block_id(), Lane<uint32_t>(1u), lane_id() == 0);
    };
    for (int resident : {1, 2, 100}) {
        host::Options options;
        options.resident = resident;
        std::fill(visits.begin(), visits.end(), 0);
        host::launch(kernel, {.grid = 3, .grid_y = 2}, options);
        for (uint32_t x : visits) CHECK(x == 1);
    }
    host::launch([] { CHECK(false); }, {.grid = 0});  // no block: nothing runs
    expect_fault("33 threads", [] { host::launch([] {}, {.grid = 1, .grid_y = 1, .threads = 33}); });
    expect_fault("1056 threads", [] { host::launch([] {}, {.grid = 1, .grid_y = 1, .threads = 1056}); });
    expect_fault("block (2, 1) warp 0", [] {
        host::launch(
            [] {
                if (block_id() == 2 && block_id_y() == 1) sload(Lane<uint32_t>(smem_base()));
            },
            {.grid = 3, .grid_y = 2, .threads = 32, .shared_bytes = 16});
    });
    expect_fault("outside of a launch", [] { sync_block(); });
    expect_fault("a launch inside of a launch", [] { host::launch([] { host::launch([] {}, {}); }, {}); });
}

void test_counters() {
    alignas(128) static uint32_t data[4096];
    const host::Shape shape = {.grid = 1, .grid_y = 1, .threads = 32, .shared_bytes = 8192};
    const auto stats_of = [&](auto kernel) { return host::launch(kernel, shape); };
    for (const auto& [stride, ways] : {std::pair{1, 1}, {2, 2}, {4, 4}, {32, 32}, {33, 1}}) {
        const Lane<uint32_t> at = smem_base() + Lane<uint32_t>(lane_id() * (4 * stride));
        CHECK(stats_of([&] { sstore(at, 1u); }).store_ways == ways);
        CHECK(stats_of([&] { sstore(at, 1u), sload(at); }).load_ways == ways);
        CHECK(stats_of([&] { sstore(at, 1u), satomic_add(at, 1u); }).atomic_ways == ways);
    }
    const auto broadcast = stats_of([] { sstore(Lane<uint32_t>(smem_base()), 1u, lane_id() == 3); });
    CHECK(broadcast.store_ways == 1);
    const auto pairs = stats_of([] {  // 16 lanes of 8 bytes fill the banks once
        sstore(smem_base() + Lane<uint32_t>(lane_id() * 8), Lane<uint64_t>(uint64_t{1}));
    });
    CHECK(pairs.store_ways == 1);
    const auto row = stats_of([&] { gload(data, lane_id()); });
    CHECK(row.global_bytes == 128 && row.global_sectors == 4);
    CHECK(stats_of([&] { gload(data, lane_id() + 1); }).global_sectors == 5);
    CHECK(stats_of([&] { gload(data, lane_id() * 32); }).global_sectors == 32);
    CHECK(stats_of([&] { gload(data, lane_id() * 32, lane_id() < 5); }).global_bytes == 20);
    CHECK(stats_of([&] { sync_warp(), sync_block(); }).operations == 2);
    host::Options few;
    few.max_operations = 10;
    expect_fault("more than 10 operations", [&] {
        host::launch(
            [] {
                for (;;) sync_warp();
            },
            shape, few);
    });
    host::Options unchecked;
    unchecked.check = false;  // races are not looked for, addresses are
    const auto reads_too_early = [] {
        const Lane<uint32_t> at = smem_base() + Lane<uint32_t>(lane_id() * 16);
        CHECK(all(sload(at) == 0xffffffffu));  // NaN, not what happens to lie there
        sstore(at, 1u);
        cp_async16(at, data, lane_id() * 4);
        cp_async_commit();
        CHECK(all(sload(at) == 0xffffffffu));
        cp_async_wait<0>();
        CHECK(all(sload(at) == 0u));
    };
    host::launch(reads_too_early, shape, unchecked);
    expect_fault("outside", [&] { host::launch([] { sload(Lane<uint32_t>(smem_base() + 8192)); }, shape, unchecked); });
}

// A kernel that fails takes its other warps down with their destructors; the next launch knows nothing of it.
void test_after_a_fault() {
    int alive = 0;
    struct Counted {
        int& count;
        explicit Counted(int& c) : count(c) { ++count; }
        ~Counted() { --count; }
    };
    for (uint32_t seed = 0; seed < 12; ++seed) {
        host::Options options;
        options.seed = seed;
        expect_fault("nobody has written", [&] {
            host::launch(
                [&] {
                    const Counted counted(alive);
                    sync_block();
                    if (warp_id() == 2) sload(Lane<uint32_t>(smem_base()));
                    sync_block();
                },
                {.grid = 3, .grid_y = 1, .threads = 128, .shared_bytes = 64}, options);
        });
        CHECK(alive == 0);
    }
    try {
        host::launch([] { throw 5; }, {});
        CHECK(false);
    } catch (int thrown) {  // what a kernel throws arrives as it is
        CHECK(thrown == 5);
    }
    run_block(4, [] { sync_block(); });
}

void test_launches_side_by_side() {
    std::vector<std::thread> threads;
    std::vector<uint64_t> found(4);
    for (size_t i = 0; i < found.size(); ++i) {
        threads.emplace_back([&found, i] {
            for (int round = 0; round < 10; ++round) found[i] = schedule(static_cast<uint32_t>(i));
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == schedule(static_cast<uint32_t>(i)));
}

}  // namespace

void test_machine() {
    test_schedules();
    test_grid();
    test_counters();
    test_after_a_fault();
    test_launches_side_by_side();
}
