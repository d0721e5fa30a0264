// Barriers used wrongly: deadlocks are reported with who waits where for what.
#include <cstdint>
#include <source_location>
#include <string>

#include "test_warp.h"

using namespace warp;

namespace {

void test_blocks_and_names() {
    const uint32_t line = std::source_location::current().line() + 2;  // of the sync_block
    const std::string text = expect_block_fault("deadlock:", 3, [] {
        if (warp_id() != 1) sync_block();
    });
    const std::string warp_0 = "block 0 warp 0 at test_warp_barriers.cpp:" + std::to_string(line);
    CHECK(text.find(warp_0 + " waits for sync_block (2 of 3 warps are there)") != std::string::npos);
    CHECK(text.find("block 0 warp 1 has ended") != std::string::npos);
    expect_block_fault("waits for named_sync (1 of 2", 2, [] { named_sync(warp_id() == 0 ? 1 : 2, 2); });
    expect_block_fault("barrier 1 used with", 3, [] {
        named_sync(2, 3);
        if (warp_id() < 2) named_sync(1, warp_id() == 0 ? 3 : 2);
    });
    expect_block_fault("named barrier 16 is not one of 0 .. 15", 1, [] { named_sync(16, 1); });
    expect_block_fault("barrier 3 with 2 warps in a block of 1", 1, [] { named_sync(3, 2); });
    for (int i = 0; i < 3; ++i) {  // barriers are used again and again
        run_block(4, [] {
            for (int round = 0; round < 20; ++round) {
                if (warp_id() == round % 4) sstore(smem_base() + Lane<uint32_t>(lane_id() * 4), uint32_t{7});
                sync_block();
                CHECK(all(sload(smem_base() + Lane<uint32_t>(lane_id() * 4)) == 7u));
                sync_block();
            }
        });
    }
}

// Block 1 waits for block 0 and cannot: only one block runs at a time, and the second comes first.
void test_blocks_that_wait_for_each_other() {
    const auto kernel = [] {
        if (block_id() == 1) named_sync(1, 2);
        if (block_id() == 1 && warp_id() == 0) named_sync(2, 2);
    };
    host::Options options;
    options.seed = 0;
    options.resident = 1;
    expect_fault("1 more blocks have not started", [&] {
        host::launch(
            [&] {
                if (block_id() == 0 && warp_id() == 0) sync_block();
                kernel();
            },
            {.grid = 2, .grid_y = 1, .threads = 64}, options);
    });
}

uint32_t full() { return smem_base() + 256; }

void init_and_sync(int count, bool fence = true) {
    if (warp_id() == 0) {
        mbar_init(full(), count);
        if (fence) mbar_fence_init();
    }
    sync_block();
}

void test_arrivals() {
    run_block(2, [] {
        init_and_sync(2);
        for (uint32_t round = 0; round < 5; ++round) {
            mbar_arrive(full());
            mbar_wait(full(), round & 1);
        }
    });
    run_block(1, [] {
        init_and_sync(1);
        mbar_wait(full(), 1);  // the phase before the first is complete
    });
    expect_block_fault("no mbarrier was initialised at shared byte 256", 1, [] { mbar_arrive(full()); });
    expect_block_fault("race: uses the mbarrier at shared byte 256", 2, [] {
        if (warp_id() == 0) {
            mbar_init(full(), 2);
            named_arrive(1, 2);
        } else {
            while (host::machine().running->block->mbarriers.empty()) host::yield();
            mbar_arrive(full());
            named_sync(1, 2);
        }
    });
    expect_block_fault("race between lanes", 1, [] {
        mbar_init(full(), 1);
        mbar_wait(full(), 1);
    });
    expect_block_fault("was initialised at test_warp_barriers.cpp:", 1, [] {
        mbar_init(full(), 1);
        mbar_init(full(), 1);
    });
    expect_block_fault("mbarrier with a count of 0", 1, [] { mbar_init(full(), 0); });
    expect_block_fault("not aligned to 8", 1, [] { mbar_init(full() + 4, 1); });
    expect_block_fault("parity 2 is neither 0 nor 1", 1, [] {
        init_and_sync(1);
        mbar_wait(full(), 2);
    });
}

void test_wrong_counts() {
    expect_block_fault("(1 of 2 arrived, 0 bytes", 1, [] {  // a count too large
        init_and_sync(2);
        mbar_arrive(full());
        mbar_wait(full(), 0);
    });
    expect_block_fault("arrival 2 of 1 on the mbarrier at shared byte 256", 1, [] {  // bytes hold the phase open
        init_and_sync(1);
        mbar_arrive_expect(full(), 16);
        mbar_arrive(full());
    });
    expect_block_fault("waits for parity 1", 1, [] {  // a parity too far
        init_and_sync(1);
        mbar_arrive(full());
        mbar_wait(full(), 0);
        mbar_wait(full(), 1);
    });
    expect_block_fault("where the mbarrier of test_warp_barriers.cpp", 1, [] {
        init_and_sync(1);
        sstore(Lane<uint32_t>(full()), 1u, lane_id() == 0);
    });
    expect_block_fault("where the mbarrier of test_warp_barriers.cpp", 1, [] {
        init_and_sync(1);
        sload(Lane<uint32_t>(full() + 4));
    });
    // An arrival passes on what the warp did; without it the reader races.
    const auto handing_over = [](bool waits) {
        init_and_sync(1);
        const Lane<uint32_t> at = smem_base() + Lane<uint32_t>(lane_id() * 4);
        if (warp_id() == 0) {
            sstore(at, 9u);
            mbar_arrive(full());
        } else {
            if (waits) mbar_wait(full(), 0);
            CHECK(all(sload(at) == 9u));
        }
    };
    run_block(2, [&] { handing_over(true); });
    expect_block_fault("shared byte 0", 2, [&] {
        if (warp_id() == 0) sstore(smem_base() + Lane<uint32_t>(lane_id() * 4), 9u);
        handing_over(false);
    });
}

}  // namespace

void test_barrier_faults() {
    test_blocks_and_names();
    test_blocks_that_wait_for_each_other();
    test_arrivals();
    test_wrong_counts();
}
