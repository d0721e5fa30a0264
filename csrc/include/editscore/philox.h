// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Integers only, so every
// backend has the same.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define EDITSCORE_ANYWHERE __host__ __device__
#else
#define EDITSCORE_ANYWHERE
#endif

namespace editscore {

struct PhiloxWords {
    uint32_t word[4];
};

EDITSCORE_ANYWHERE constexpr PhiloxWords philox4x32_10(PhiloxWords counter, uint32_t key0, uint32_t key1) {
    PhiloxWords c = counter;
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = uint64_t{0xD2511F53u} * c.word[0];
        const uint64_t product1 = uint64_t{0xCD9E8D57u} * c.word[2];
        c = {{static_cast<uint32_t>(product1 >> 32) ^ c.word[1] ^ key0, static_cast<uint32_t>(product1),
              static_cast<uint32_t>(product0 >> 32) ^ c.word[3] ^ key1, static_cast<uint32_t>(product0)}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// The uniform 64-bit number of a draw: key = seed, counter = (position, request), output words 0 (high) and 1 (low).
EDITSCORE_ANYWHERE constexpr uint64_t draw_bits(uint64_t seed, uint64_t request, uint64_t position) {
    const PhiloxWords counter = {{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                                  static_cast<uint32_t>(request), static_cast<uint32_t>(request >> 32)}};
    const PhiloxWords out = philox4x32_10(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    return (uint64_t{out.word[0]} << 32) | out.word[1];
}

// floor(bits * total / 2^64), an integer in [0, total).
EDITSCORE_ANYWHERE constexpr uint64_t scale_uniform(uint64_t bits, uint64_t total) {
    const uint64_t b_high = bits >> 32, b_low = bits & 0xFFFFFFFFu;
    const uint64_t t_high = total >> 32, t_low = total & 0xFFFFFFFFu;
    const uint64_t middle0 = b_high * t_low, middle1 = b_low * t_high;
    const uint64_t carry = ((middle0 & 0xFFFFFFFFu) + (middle1 & 0xFFFFFFFFu) + ((b_low * t_low) >> 32)) >> 32;
    return b_high * t_high + (middle0 >> 32) + (middle1 >> 32) + carry;
}

}  // namespace editscore
