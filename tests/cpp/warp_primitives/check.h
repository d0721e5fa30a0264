// What the kernels of kernels.cuh and pipelines.cuh must write, by plain loops; `run` executes a kernel on the host
// twin or on a GPU and gives back `out`.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "pipelines.cuh"

namespace primitives {

using Words = std::vector<uint32_t>;

struct Launch {
    int grid = 1, grid_y = 1, threads = 32;
    uint32_t shared_bytes = 0;
    int map_rows = 0, map_columns = 0;  // of `in` as a matrix of 2-byte elements, in boxes of kBoxRows; 0: no map
};

// out_words words of out, which hold 0 where the kernel does not write.
using Run = std::function<Words(Kernel kernel, const Launch& launch, const Words& in, size_t out_words)>;

inline void expect(bool condition, const std::string& what) {
    if (condition) return;
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}
inline void expect_equal(uint32_t got, uint32_t want, const std::string& what) {
    expect(got == want, what + ": " + std::to_string(got) + " instead of " + std::to_string(want));
}
inline float real(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t word(float x) { return std::bit_cast<uint32_t>(x); }

inline Words random_words(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    Words words(count);
    for (uint32_t& x : words) x = random();
    return words;
}

// The nearest number with `bits` bits of fraction and exponents from `smallest`, ties to the even one.
inline float nearest(float x, int bits, int smallest) {
    if (x == 0) return x;
    const int exponent = std::max(std::ilogb(x), smallest);
    const double unit = std::ldexp(1.0, exponent - bits);
    return static_cast<float>(std::nearbyint(x / unit) * unit);
}
inline float nearest_bf16(float x) { return nearest(x, 7, -126); }
inline float nearest_f16(float x) { return nearest(x, 10, -14); }
inline uint32_t f16_bits(float x) {  // of a float that is an fp16 number, |x| in [2^-14, 2^16)
    const uint32_t bits = word(x);
    return (bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023);
}

void check_values(const Run& run, uint32_t seed);
void check_memory(const Run& run, uint32_t seed);
void check_atomics(const Run& run, uint32_t seed);
void check_matrices(const Run& run, uint32_t seed);
void check_pipelines(const Run& run, uint32_t seed);
void check_engine_copies(const Run& run, uint32_t seed);  // sm_90 and above

}  // namespace primitives
