// Every primitive on the host twin, under many schedules, against plain loops.
#include <cstdio>

#include "test_warp.h"
#include "warp_primitives/check.h"

using namespace warp;

namespace {

// Buffers have exactly their size, and the twin is told so.
primitives::Words run_on_host(uint32_t seed, int resident, primitives::Kernel kernel, const primitives::Launch& launch,
                              const primitives::Words& in, size_t out_words) {
    primitives::Words out(out_words, 0);
    primitives::Params params = {in.data(), out.data(), {}};
    if (launch.map_rows > 0) {
        params.map = make_tensor_map(reinterpret_cast<const uint16_t*>(in.data()), launch.map_rows, launch.map_columns,
                                     128, primitives::kBoxRows);
    }
    host::Options options;
    options.seed = seed;
    options.resident = resident;
    options.buffers = {host::input("in", in.data(), in.size()), host::inout("out", out.data(), out.size())};
    host::launch(
        [&] { kernel(params); },
        {.grid = launch.grid, .grid_y = launch.grid_y, .threads = launch.threads, .shared_bytes = launch.shared_bytes},
        options);
    return out;
}

}  // namespace

void test_primitives() {
    for (uint32_t seed = 0; seed < 20; ++seed) {
        const int resident = 1 + static_cast<int>(seed % 3);
        const primitives::Run run = [seed, resident](auto kernel, auto& launch, auto& in, size_t out_words) {
            return run_on_host(seed, resident, kernel, launch, in, out_words);
        };
        primitives::check_values(run, seed);
        primitives::check_memory(run, seed);
        primitives::check_atomics(run, seed);
        primitives::check_matrices(run, seed);
        primitives::check_pipelines(run, seed);
        primitives::check_engine_copies(run, seed);
    }
}
