// Copies that are used too early, refilled too early, never waited for, or issued wrongly.
#include <cstdint>
#include <vector>

#include "test_warp.h"

using namespace warp;

namespace {

const std::vector<uint32_t>& source() {
    static const std::vector<uint32_t> words(1024, 5);
    return words;
}
const uint32_t* source_words() { return source().data(); }

Lane<uint32_t> piece(int warp) { return smem_base() + Lane<uint32_t>((warp * 32 + lane_id()) * 16); }

void copy_own_piece() {
    cp_async16(piece(warp_id()), source_words(), lane_id() * 4);
    cp_async_commit();
}

void test_cp_async() {
    expect_block_fault("touches shared byte 0 while the copy started at test_warp_copies.cpp:", 1, [] {
        copy_own_piece();
        sload(piece(0));
    });
    expect_block_fault("is in flight", 1, [] {  // one group too many is left
        copy_own_piece();
        cp_async_wait<1>();
        sload(piece(0));
    });
    run_block(1, [] {  // groups end in order: the older one has landed
        copy_own_piece();
        cp_async16(piece(1), source_words(), lane_id() * 4);
        cp_async_commit();
        cp_async_wait<1>();
        CHECK(all(sload(piece(0)) == 5u));
        cp_async_wait<0>();
        CHECK(all(sload(piece(1)) == 5u));
    });
    expect_block_fault("is in flight", 1, [] {  // not committed: no group to wait for
        cp_async16(piece(0), source_words(), lane_id() * 4);
        cp_async_wait<0>();
        sload(piece(0));
    });
    const auto neighbour = [] { return smem_base() + Lane<uint32_t>((lane_id() ^ 1) * 16); };
    expect_block_fault("race between lanes", 1, [&] {  // waiting shows a lane its own copies only
        copy_own_piece();
        sync_warp();
        cp_async_wait<0>();
        sload(neighbour());
    });
    run_block(1, [&] {
        copy_own_piece();
        cp_async_wait<0>();
        sync_warp();
        sload(neighbour());
    });
    expect_block_fault("shared byte", 2, [] {  // the barrier stands before the wait instead of behind it
        copy_own_piece();
        sync_block();
        cp_async_wait<0>();
        sload(piece(1 - warp_id()));
    });
    expect_block_fault("exits with cp_async copies never waited for", 1, [] { copy_own_piece(); });
    expect_block_fault("race", 2, [] {  // a refill of what another warp may still read
        sstore(piece(warp_id()), 1u);
        sync_block();
        if (warp_id() == 0) sload(piece(1));
        if (warp_id() == 1) copy_own_piece();
        cp_async_wait<0>();
    });
    expect_block_fault("not aligned to 16", 1,
                       [] { cp_async16(piece(0) + 4u, source_words(), lane_id() * 4, lane_id() == 0); });
    expect_block_fault("not aligned to 16", 1, [] { cp_async16(piece(0), source_words(), lane_id() * 4 + 1); });
    expect_block_fault("is in flight", 1, [] {  // two copies onto one place
        copy_own_piece();
        copy_own_piece();
    });
}

void test_source_outside() {
    host::Options options;
    options.buffers = {host::input("source", source_words(), 64)};
    const auto kernel = [](bool masked) {
        return [masked] {
            const Lane<bool> mask = masked ? lane_id() < 16 : Lane<bool>(true);
            cp_async16_zero(piece(0), source_words(), lane_id() * 4, mask);
            cp_async_commit();
            cp_async_wait<0>();
            CHECK(all(sload(piece(0)) == select(mask, Lane<uint32_t>(5u), 0u)));
        };
    };
    const host::Shape shape = {.grid = 1, .grid_y = 1, .threads = 32, .shared_bytes = 512};
    host::launch(kernel(true), shape, options);
    expect_fault("lane 16 accesses 16 bytes of global memory that end 16 bytes behind 'source'",
                 [&] { host::launch(kernel(false), shape, options); });
}

uint32_t full() { return smem_base() + 2048; }

struct Bulk {
    bool fence_init = true, waits = true, proxy_fence = true, stores_first = false, stores_late = false;
    int fence_init_by = 0;
    uint32_t parity = 0, expected = 512, bytes = 16;

    void operator()() const {
        if (warp_id() == 0) mbar_init(full(), 1);
        if (fence_init && warp_id() == fence_init_by) mbar_fence_init();
        if (stores_first) sstore(smem_base() + Lane<uint32_t>(lane_id() * 4), 1u, warp_id() == 0);
        if (proxy_fence) fence_proxy_async();
        if (stores_late) sstore(smem_base() + Lane<uint32_t>(lane_id() * 4), 1u, warp_id() == 0);
        sync_block();
        if (warp_id() == 0) {
            mbar_arrive_expect(full(), expected);
            bulk_copy(piece(0), source_words(), lane_id() * 4, bytes, full());
        }
        if (waits) mbar_wait(full(), parity);
        CHECK(all(sload(piece(0)) == 5u));
    }
};

void test_bulk_copies() {
    run_block(2, Bulk{});
    run_block(2, Bulk{.stores_first = true});
    expect_block_fault("has had no mbar_fence_init", 2, Bulk{.fence_init = false});
    expect_block_fault("has had no mbar_fence_init", 2, Bulk{.fence_init_by = 1});  // of another's mbarrier
    expect_block_fault("shared byte 0", 2, Bulk{.waits = false});
    expect_block_fault("shared byte 0", 2, Bulk{.parity = 1});
    expect_block_fault("16 bytes expected and not copied", 2, Bulk{.expected = 528});
    expect_block_fault("-32 bytes expected and not copied", 2, Bulk{.expected = 480});
    expect_block_fault("bulk copy of 24 bytes", 2, Bulk{.bytes = 24});
    expect_block_fault("without fence_proxy_async since", 2, Bulk{.proxy_fence = false, .stores_first = true});
    expect_block_fault("without fence_proxy_async since", 2, Bulk{.stores_late = true});
    // Warp 1 never waits itself; that warp 0 has waited does not help it until they meet.
    const auto one_waits = [](bool meet) {
        if (warp_id() == 0) {
            mbar_init(full(), 1);
            mbar_fence_init();
            mbar_arrive_expect(full(), 512);
            bulk_copy(piece(0), source_words(), lane_id() * 4, 16, full());
            sync_warp();
            mbar_wait(full(), 0);
        }
        if (meet) sync_block();
        if (warp_id() == 1) CHECK(all(sload(piece(0)) == 5u));
    };
    run_block(2, [&] { one_waits(true); });
    expect_block_fault("shared byte 0", 2, [&] { one_waits(false); });
    // A copy tells who waits for it about its own bytes, not about what its issuer stored after it had arrived.
    expect_block_fault("shared byte 1024", 2, [] {
        if (warp_id() == 0) {
            mbar_init(full(), 1);
            mbar_fence_init();
        }
        sync_block();
        if (warp_id() == 0) {
            mbar_arrive_expect(full(), 512);
            sstore(smem_base() + 1024u + Lane<uint32_t>(lane_id() * 4), 1u);
            bulk_copy(piece(0), source_words(), lane_id() * 4, 16, full());
        } else {
            mbar_wait(full(), 0);
            sload(smem_base() + 1024u + Lane<uint32_t>(lane_id() * 4));
        }
    });
    const std::string text = expect_block_fault("ends with bulk copies in flight", 1, [] {
        mbar_init(full(), 1);
        mbar_fence_init();
        bulk_copy(piece(0), source_words(), lane_id() * 4, 16, full());
    });
    CHECK(text.find("test_warp_copies.cpp:") != std::string::npos);
}

void test_boxes() {
    const auto* halves = reinterpret_cast<const uint16_t*>(source_words());
    expect_fault("multiples of 16 bytes", [&] { make_tensor_map(halves + 1, 4, 64, 64, 4); });
    expect_fault("multiples of 16 bytes", [&] { make_tensor_map(halves, 4, 60, 60, 4); });
    expect_fault("out of range", [&] { make_tensor_map(halves, 0, 64, 64, 4); });
    expect_fault("out of range", [&] { make_tensor_map(halves, 4, 72, 64, 4); });
    expect_fault("out of range", [&] { make_tensor_map(halves, 4, 64, 64, 257); });
    const TensorMap map = make_tensor_map(halves, 8, 64, 64, 8);
    const auto copy_box = [map](uint32_t to, uint32_t swizzle) {
        mbar_init(full(), 1);
        mbar_fence_init();
        mbar_arrive_expect(full(), 8 * 128);
        bulk_copy_box(to, map, 0, 0, full());
        sync_warp();
        mbar_wait(full(), 0);
        Lane<uint32_t> r[4];
        const Lane<uint32_t> row = Lane<uint32_t>(lane_id() & 7);
        ldmatrix_x4(r, to + row * 128u + ((row & swizzle) << 4u));
    };
    expect_block_fault("not aligned to 1024", 1, [&] { copy_box(smem_base() + 512, 7); });
    const auto ways = [&](uint32_t swizzle) {
        const host::Shape shape = {.grid = 1, .grid_y = 1, .threads = 32, .shared_bytes = 4096};
        return host::launch([&] { copy_box(smem_base(), swizzle); }, shape).ldmatrix_ways;
    };
    CHECK(ways(7) == 1 && ways(3) == 2 && ways(0) == 8);
}

}  // namespace

void test_copy_faults() {
    test_cp_async();
    test_source_outside();
    test_bulk_copies();
    test_boxes();
}
