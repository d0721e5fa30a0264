// Addresses that are not aligned or lie outside, of shared and of global memory.
#include <cstdint>
#include <vector>

#include "test_warp.h"

using namespace warp;

namespace {

void test_shared() {
    const auto at = [](uint32_t offset) { return Lane<uint32_t>(smem_base() + offset); };
    const Lane<bool> one = lane_id() == 0;
    expect_block_fault("shared address 2 is not aligned to 4", 1, [&] { sstore(at(2), 1u, one); });
    expect_block_fault("shared address 12 is not aligned to 8", 1, [&] { sstore(at(12), uint64_t{1}, one); });
    expect_block_fault(
        "shared address 64 (4 bytes) is outside of the block's 64", 1, [&] { sstore(at(64), 1u, one); }, 64);
    expect_block_fault(
        "shared address 64 (16 bytes) is outside", 1,
        [&] {
            Lane<uint32_t> words[4] = {};
            sstore_vec(at(48), words, one);
            sload_vec(words, at(64), one);
        },
        72);
    expect_block_fault("shared address -4 (4 bytes) is outside", 1, [&] { sload(at(0) - 4u, one); });
    expect_block_fault("is outside", 1, [&] { sload(Lane<uint32_t>(0xfffffffcu), one); });
    expect_block_fault("shared address 8 is not aligned to 16", 1, [&] {
        Lane<uint32_t> r[4];
        ldmatrix_x4(r, at(8));
    });
    run_block(1, [&] { sstore(at(60), 1u, one); }, 64);
    run_block(1, [&] { sstore(at(64), 1u, Lane<bool>(false)); }, 64);  // nobody stores
}

void test_global() {
    std::vector<uint32_t> data(64, 1), other(16, 1), out(8);
    host::Options options;
    options.buffers = {host::input("data", data.data(), data.size()), host::output("out", out.data(), out.size())};
    const auto expect_global = [&](const char* part, auto kernel) {
        const std::string text = expect_fault(part, [&] { host::launch(kernel, {}, options); });
        CHECK(text.find("block 0 warp 0 at test_warp_addresses.cpp:") == 0);
    };
    expect_global("lane 31 accesses 4 bytes of global memory that end 4 bytes behind 'data' (256 bytes)",
                  [&] { gload(data.data(), lane_id() + 33); });
    expect_global("lane 0 accesses 4 bytes of global memory that begin 4 bytes before 'data'",
                  [&] { gload(data.data(), lane_id() - 1); });
    expect_global("outside of all buffers", [&] { gload(other.data(), 0); });
    expect_global("behind 'data'", [&] { gload(data.data(), Lane<int64_t>(int64_t{1} << 32)); });
    expect_global("writes the input 'data' at byte 12",
                  [&] { gstore(data.data(), 3, Lane<uint32_t>(1u), lane_id() == 5); });
    expect_global("not aligned to 16", [&] {
        Lane<uint32_t> words[4];
        gload_vec(words, data.data(), lane_id() * 4 + 1);
    });
    expect_global("not aligned to 4",
                  [&] { gload(reinterpret_cast<const uint32_t*>(reinterpret_cast<const char*>(data.data()) + 2), 0); });
    expect_global("behind 'out'", [&] { gstore(out.data(), lane_id(), Lane<uint32_t>(1u)); });
    host::launch([&] { gload(data.data(), lane_id() + 33, lane_id() < 31); }, {}, options);

    options.buffers = {host::input("data", data.data(), 0)};
    expect_global("outside of all buffers", [&] { gload(data.data(), 0); });
    // From one buffer into its neighbour: allowed to neither side.
    options.buffers = {host::input("left", data.data(), 32), host::input("right", data.data() + 32, 32)};
    expect_global("end 4 bytes behind 'left'", [&] { gload(data.data() + 8, lane_id() - 7); });
    expect_global("begin 4 bytes before 'right'", [&] { gload(data.data() + 40, lane_id() - 9); });
    host::launch([&] { gload(data.data() + 32, lane_id()); }, {}, options);

    options.buffers = {host::input("data", data.data(), 64), host::inout("tail", data.data() + 32, 4)};
    expect_fault("'data' and 'tail' overlap", [&] { host::launch([] {}, {}, options); });
    options.buffers = {host::input("data", data.data(), 64), host::output("again", data.data(), 64)};
    expect_fault("two buffers at one address", [&] { host::launch([] {}, {}, options); });
    options.buffers = {};  // no buffers: the sanitizers alone look at global memory
    host::launch([&] { CHECK(first(gload(other.data(), 3)) == 1); }, {}, options);
}

}  // namespace

void test_addresses() {
    test_shared();
    test_global();
}
