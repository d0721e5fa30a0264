// bf16 and fp16 on the host, rounded to nearest even as cvt.rn does.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace warp {

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

inline float to_float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

inline float to_float(f16 x) {
    const uint32_t exponent = (x.bits >> 10) & 31, mantissa = x.bits & 1023;
    const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in fp32
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f));
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + 112;  // infinity and NaN stay what they are
    return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

inline bf16 to_bf16(float x) {
    if (std::isnan(x)) return {0x7fff};
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline f16 to_f16(float x) {
    if (std::isnan(x)) return {0x7fff};
    const uint32_t sign = std::signbit(x) ? 0x8000u : 0u;
    const float size = std::fabs(x);
    if (size >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};  // half way from the largest to the next
    if (size < 0x1p-14f) {  // subnormal: adding 2^-1 rounds to a multiple of 2^-24
        const uint32_t rounded = std::bit_cast<uint32_t>(size + 0.5f) - std::bit_cast<uint32_t>(0.5f);
        return {static_cast<uint16_t>(sign | rounded)};
    }
    const uint32_t bits = std::bit_cast<uint32_t>(size) - (112u << 23);
    return {static_cast<uint16_t>(sign | (bits + 0xfff + ((bits >> 13) & 1)) >> 13)};
}

}  // namespace warp
