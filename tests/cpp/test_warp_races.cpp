// Races of warps, lanes and blocks: found under every schedule, and nothing is reported where there is none.
#include <cstdint>
#include <string>
#include <vector>

#include "test_warp.h"

using namespace warp;

namespace {

Lane<uint32_t> word_of_lane() { return smem_base() + Lane<uint32_t>(lane_id() * 4); }

void fill() {
    if (warp_id() == 0) sstore(word_of_lane(), 1u);
    sync_block();
}

void test_between_warps() {
    expect_block_fault("race", 2, [] {  // a write and a read
        fill();
        if (warp_id() == 0) sstore(word_of_lane(), 2u);
        if (warp_id() == 1) sload(word_of_lane());
    });
    expect_block_fault("race: writes shared byte 0", 2, [] {  // two writes
        fill();
        sstore(word_of_lane(), 2u);
    });
    expect_block_fault("which nobody has written", 1, [] { sload(word_of_lane()); });
    // Warps 1 and 2 read. Warp 0 waits for warp 1 only.
    expect_block_fault("race", 3, [] {
        fill();
        if (warp_id() > 0) sload(word_of_lane());
        if (warp_id() < 2) named_sync(1, 2);
        if (warp_id() == 0) sstore(word_of_lane(), 2u);
    });
    // 0 to 1 to 2, each with its own barrier: ordered, though 0 and 2 never meet.
    run_block(3, [] {
        if (warp_id() == 0) sstore(word_of_lane(), 2u);
        if (warp_id() < 2) named_sync(1, 2);
        if (warp_id() > 0) named_sync(2, 2);
        if (warp_id() == 2) sstore(word_of_lane(), sload(word_of_lane()) + 1u);
    });
    // named_arrive passes on what came before it and waits for nothing: the other direction is a race.
    expect_block_fault("race", 2, [] {
        fill();
        if (warp_id() == 0) {
            named_arrive(1, 2);
            sstore(word_of_lane(), 3u);
        } else {
            sload(word_of_lane());
            named_sync(1, 2);
        }
    });
}

void test_between_lanes() {
    const auto neighbour = [] { return smem_base() + Lane<uint32_t>((lane_id() ^ 1) * 4); };
    expect_block_fault("race between lanes: lane 0 reads", 1, [&] {
        sstore(word_of_lane(), 1u);
        sload(neighbour());
    });
    run_block(1, [&] {
        sstore(word_of_lane(), 1u);
        sync_warp();
        sload(neighbour());
    });
    expect_block_fault("without sync_warp", 1, [&] {  // read by one lane, then written by another
        sstore(word_of_lane(), 1u);
        sync_warp();
        sload(neighbour());
        sstore(word_of_lane(), 2u);
    });
    expect_block_fault("after the read of several lanes", 1,
                       [] {  // one of the readers writes: the others are in its way
                           sstore(word_of_lane(), 1u);
                           sync_warp();
                           sload(Lane<uint32_t>(smem_base()));
                           sstore(word_of_lane(), 2u, lane_id() == 0);
                       });
    expect_block_fault("lane 1 writes shared byte 0", 1, [] { sstore(Lane<uint32_t>(smem_base()), 1u); });
    expect_block_fault("race between lanes", 2, [&] {  // arriving orders what others do, not the lanes of this warp
        if (warp_id() == 1) return named_sync(1, 2);
        sstore(word_of_lane(), 1u);
        named_arrive(1, 2);
        sload(neighbour());
    });
    // A shuffle exchanges registers and orders no memory.
    expect_block_fault("race between lanes", 1, [&] {
        sstore(word_of_lane(), 1u);
        shfl_xor(lane_id(), 1);
        sload(neighbour());
    });
}

void test_atomics() {
    run_block(3, [] {
        fill();
        satomic_add(Lane<uint32_t>(smem_base()), 1u);
        sync_block();
        CHECK(first(sload(Lane<uint32_t>(smem_base()))) == 97);
    });
    expect_block_fault("race", 2, [] {
        fill();
        if (warp_id() == 0) satomic_add(Lane<uint32_t>(smem_base()), 1u);
        if (warp_id() == 1) sload(word_of_lane());
    });
    expect_block_fault("race", 2, [] {
        fill();
        if (warp_id() == 0) satomic_max(Lane<uint32_t>(smem_base()), 7u);
        if (warp_id() == 1) sstore(word_of_lane(), 2u);
    });
    expect_block_fault("which nobody has written", 1, [] { satomic_add(word_of_lane(), 1u); });
}

// Every block stores a partial result; the last to arrive adds them up. Each piece can be left out.
struct LastArriver {
    bool block_barrier = true, release = true, acquire = true, second_barrier = true, check = true;

    uint32_t run(uint32_t seed) const {
        constexpr int kBlocks = 4;
        std::vector<uint32_t> partial(kBlocks * 64), arrivals(1, 0), total(1, 0);
        host::Options options;
        options.seed = seed;
        options.resident = 1 + static_cast<int>(seed % 4);
        options.check = check;
        options.buffers = {host::output("partial", partial.data(), partial.size()),
                           host::inout("arrivals", arrivals.data(), 1), host::output("total", total.data(), 1)};
        const auto kernel = [&, this] {
            const Lane<int> thread = warp_id() * 32 + lane_id();
            gstore(partial.data(), block_id() * 64 + thread, Lane<uint32_t>(1u));
            if (block_barrier) sync_block();
            if (warp_id() == 0) {
                if (release) fence_device();
                const uint32_t order = warp_atomic_add(arrivals.data(), 1);
                if (acquire) fence_device();
                sstore(Lane<uint32_t>(smem_base()), order, lane_id() == 0);
            }
            if (second_barrier) sync_block();
            if (first(sload(Lane<uint32_t>(smem_base()))) != grid_size() - 1u || warp_id() != 1) return;
            Lane<uint32_t> sum = 0u;
            for (int i = 0; i < 2 * kBlocks; ++i) sum += gload_cg(partial.data(), i * 32 + lane_id());
            gstore(total.data(), 0, warp_sum(sum), lane_id() == 0);
            gstore(arrivals.data(), 0, Lane<uint32_t>(0u), lane_id() == 0);
        };
        host::launch(kernel, {.grid = kBlocks, .grid_y = 1, .threads = 64, .shared_bytes = 16}, options);
        CHECK(arrivals[0] == 0);
        return total[0];
    }
};

void test_between_blocks() {
    for (uint32_t seed = 0; seed < 12; ++seed) {
        CHECK(LastArriver{}.run(seed) == 256);
        expect_fault("race: reads 'partial'", [&] { LastArriver{.block_barrier = false}.run(seed); });
        expect_fault("race: reads 'partial'", [&] { LastArriver{.release = false}.run(seed); });
        expect_fault("race: reads 'partial'", [&] { LastArriver{.acquire = false}.run(seed); });
        expect_fault("shared byte 0", [&] { LastArriver{.second_barrier = false}.run(seed); });
        std::vector<uint32_t> out(32);
        host::Options options;
        options.seed = seed;
        options.buffers = {host::output("out", out.data(), out.size())};
        const auto both_write = [&] { gstore(out.data(), lane_id(), Lane<uint32_t>(7u)); };
        expect_fault("race: writes 'out' byte 0", [&] { host::launch(both_write, {.grid = 2}, options); });
        const auto too_early = [&] { gload(out.data(), lane_id()); };
        expect_fault("'out' byte 0, which nobody has written", [&] { host::launch(too_early, {}, options); });
    }
}

// An atomic and a plain load of one word: ordered by a barrier that comes after the atomic, and by nothing else.
void test_global_atomics() {
    for (uint32_t seed = 0; seed < 12; ++seed) {
        const auto run = [seed](bool fence, bool meet_before, bool meet_after) {
            std::vector<uint32_t> counter(1, 0);
            host::Options options;
            options.seed = seed;
            options.buffers = {host::inout("counter", counter.data(), 1)};
            const auto kernel = [&] {
                if (warp_id() == 0 && fence) fence_device();
                if (meet_before) sync_block();
                if (warp_id() == 0) warp_atomic_add(counter.data(), 1);
                if (meet_after) sync_block();
                if (warp_id() == 1) CHECK(first(gload(counter.data(), Lane<int>(0))) == 1 || !meet_after);
            };
            host::launch(kernel, {.grid = 1, .grid_y = 1, .threads = 64}, options);
        };
        run(false, false, true);
        run(true, true, true);
        for (const bool fence : {false, true}) {
            expect_fault("'counter' byte 0", [&] { run(fence, false, false); });
            expect_fault("'counter' byte 0", [&] { run(fence, true, false); });
        }
    }
}

// It orders the lanes of its warp, too.
void test_lanes_around_an_atomic() {
    std::vector<uint32_t> counter(1, 0), data(32);
    host::Options options;
    options.buffers = {host::inout("counter", counter.data(), 1), host::output("data", data.data(), 32)};
    host::launch(
        [&] {
            gstore(data.data(), lane_id(), Lane<uint32_t>(4u));
            warp_atomic_add(counter.data(), 1);
            CHECK(all(gload(data.data(), 31 - lane_id()) == 4u));
        },
        {}, options);
}

// Neighbours of two bytes are two places, though they share a word.
void test_granularity() {
    std::vector<uint16_t> out(64);
    host::Options options;
    options.buffers = {host::output("out", out.data(), out.size())};
    const auto kernel = [&] { gstore(out.data(), block_id() + lane_id() * 2, Lane<uint16_t>(uint16_t{3})); };
    host::launch(kernel, {.grid = 2}, options);
    for (uint16_t x : out) CHECK(x == 3);
}

}  // namespace

void run_race_unchecked(const std::string& missing) {
    LastArriver kernel = {.check = false};
    if (missing == "barrier") kernel.block_barrier = false;
    if (missing == "release") kernel.release = false;
    if (missing == "acquire") kernel.acquire = false;
    for (uint32_t seed = 0; seed < 12; ++seed) kernel.run(seed);
}

void test_races() {
    test_between_warps();
    test_between_lanes();
    test_atomics();
    test_between_blocks();
    test_global_atomics();
    test_lanes_around_an_atomic();
    test_granularity();
}
