// Floats of 16 bits in plain C++ that compilers turn into vectors: the same bits from every instruction set, subnormals
// too, which the conversions of some processors flush. No standard templates: see sample_tokens_loops.cpp.
#pragma once

#include <cstdint>
#include <cstring>

namespace editscore {

#define EDITSCORE_INLINE inline __attribute__((always_inline))

template <class To, class From>
EDITSCORE_INLINE To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

EDITSCORE_INLINE float float_of_half(uint32_t bits) {
    // Exponent and mantissa move to their place in a float; the product with 2^112 corrects the bias and makes
    // subnormals exact; infinity and NaN keep their mantissa.
    const uint32_t sign = (bits & 0x8000u) << 16, rest = (bits & 0x7FFFu) << 13;
    const uint32_t scaled = bits_of<uint32_t>(bits_of<float>(rest) * 0x1p112f);
    return bits_of<float>(scaled | (rest >= 0x0F800000u ? 0x7F800000u : 0u) | sign);
}

// Round to nearest even; NaN stays NaN.
EDITSCORE_INLINE uint16_t bfloat16_of(float x) {
    const uint32_t bits = bits_of<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return static_cast<uint16_t>(x != x ? 0x7FC0u : rounded);
}

// The same for half precision: adding a float whose last bit stands where the half's last bit does lets the processor
// round, for subnormals too.
EDITSCORE_INLINE uint16_t half_of(float x) {
    const uint32_t bits = bits_of<uint32_t>(x);
    const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    const uint32_t exponent = magnitude < 0x38800000u ? 0x38800000u : magnitude & 0x7F800000u;  // at least 2^-14
    const uint32_t anchor = exponent + (13u << 23);                                             // 2^13 times as large
    const float rounded = bits_of<float>(magnitude) + bits_of<float>(anchor);
    const uint32_t half = bits_of<uint32_t>(rounded) - anchor + ((exponent - 0x38800000u) >> 13);
    const uint32_t finite = magnitude >= 0x477FF000u ? 0x7C00u : half;
    return static_cast<uint16_t>(sign | (magnitude > 0x7F800000u ? 0x7E00u : finite));
}

}  // namespace editscore
