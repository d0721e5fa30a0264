// What the parts of test_warp share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "warp/warp.h"

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

// The text of the Fault that f() throws; no Fault, or one without `part` in its text, fails the test.
template <class F>
std::string expect_fault(const std::string& part, F f) {
    try {
        f();
    } catch (const warp::host::Fault& fault) {
        const std::string text = fault.what();
        if (text.find(part) != std::string::npos) return text;
        std::fprintf(stderr, "expected a fault with '%s', not: %s\n", part.c_str(), text.c_str());
        std::exit(1);
    }
    std::fprintf(stderr, "expected a fault with '%s', but there was none\n", part.c_str());
    std::exit(1);
}

void test_primitives();
void test_half_precision();
void test_races();
void run_race_unchecked(const std::string& missing);  // for ThreadSanitizer to find
void test_addresses();
void test_barrier_faults();
void test_copy_faults();

void test_machine();

// Runs a kernel in one block under many schedules; what is expected of it is expected under each.
template <class Kernel>
void run_block(int warps, Kernel kernel, uint32_t shared_bytes = 4096) {
    for (uint32_t seed = 0; seed < 12; ++seed) {
        warp::host::Options options;
        options.seed = seed;
        warp::host::launch(kernel, {.grid = 1, .grid_y = 1, .threads = 32 * warps, .shared_bytes = shared_bytes},
                           options);
    }
}
// The kernel throws a Fault with `part` in its text under every schedule.
template <class Kernel>
std::string expect_block_fault(const std::string& part, int warps, Kernel kernel, uint32_t shared_bytes = 4096) {
    std::string text;
    for (uint32_t seed = 0; seed < 12; ++seed) {
        warp::host::Options options;
        options.seed = seed;
        text = expect_fault(part, [&] {
            warp::host::launch(kernel, {.grid = 1, .grid_y = 1, .threads = 32 * warps, .shared_bytes = shared_bytes},
                               options);
        });
    }
    return text;
}
