// What a warp computes without touching memory: selection, arithmetic, conversions, exchange between lanes.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "float16.h"
#include "lane.h"

namespace warp {

template <class T>
concept Number = std::is_arithmetic_v<T>;

inline Lane<int> lane_id() {
    Lane<int> id;
    for (int i = 0; i < kLanes; ++i) id.v[i] = i;
    return id;
}

// ---- selection; a plain number stands for 32 equal ones
template <class T>
Lane<T> select(const Lane<bool>& mask, const Lane<T>& yes, const std::type_identity_t<Lane<T>>& no) {
    return each([](bool m, T a, T b) { return m ? a : b; }, mask, yes, no);
}
template <Number T>
Lane<T> select(const Lane<bool>& mask, T yes, std::type_identity_t<T> no) {
    return select(mask, Lane<T>(yes), Lane<T>(no));
}

template <Number T>
T larger(T a, std::type_identity_t<T> b) {
    if constexpr (std::is_floating_point_v<T>) return (a > b || b != b) ? a : b;  // as fmaxf: a NaN loses
    return a > b ? a : b;
}
template <Number T>
T smaller(T a, std::type_identity_t<T> b) {
    if constexpr (std::is_floating_point_v<T>) return (a < b || b != b) ? a : b;
    return a < b ? a : b;
}
template <class T>
Lane<T> larger(const Lane<T>& a, const std::type_identity_t<Lane<T>>& b) {
    return each([](T x, T y) { return larger(x, y); }, a, b);
}
template <class T>
Lane<T> smaller(const Lane<T>& a, const std::type_identity_t<Lane<T>>& b) {
    return each([](T x, T y) { return smaller(x, y); }, a, b);
}

// ---- single precision. The device's ex2 and lg2 are off by 2 ulp and flush subnormals; rcp is exactly rounded on
// both.
inline float flush_subnormal(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline Lane<float> ex2(const Lane<float>& a) {
    return each([](float x) { return flush_subnormal(std::exp2(flush_subnormal(x))); }, a);
}
inline Lane<float> lg2(const Lane<float>& a) {
    return each([](float x) { return std::log2(flush_subnormal(x)); }, a);
}
inline Lane<float> rcp(const Lane<float>& a) {
    return each([](float x) { return 1.0f / x; }, a);
}
inline Lane<float> round_down(const Lane<float>& a) {
    return each([](float x) { return std::floor(x); }, a);
}
// Rounded on their own: nvcc contracts a * b + c into one operation, these it leaves alone.
inline Lane<float> mul_rn(const Lane<float>& a, const Lane<float>& b) { return a * b; }
inline Lane<float> add_rn(const Lane<float>& a, const Lane<float>& b) { return a + b; }
inline Lane<float> fma_rn(const Lane<float>& a, const Lane<float>& b, const Lane<float>& c) {
    return each([](float x, float y, float z) { return std::fma(x, y, z); }, a, b, c);
}

// ---- bits and conversions
inline Lane<uint32_t> float_bits(const Lane<float>& a) {
    return each([](float x) { return std::bit_cast<uint32_t>(x); }, a);
}
inline Lane<float> bits_float(const Lane<uint32_t>& a) {
    return each([](uint32_t x) { return std::bit_cast<float>(x); }, a);
}
inline int popc(uint32_t x) { return std::popcount(x); }
inline Lane<int> popc(const Lane<uint32_t>& a) {
    return each([](uint32_t x) { return std::popcount(x); }, a);
}
// Index of the lowest and of the highest set bit; -1 for zero.
inline int lowest_bit(uint32_t x) { return x == 0 ? -1 : std::countr_zero(x); }
inline int highest_bit(uint32_t x) { return 31 - std::countl_zero(x); }
inline Lane<int> lowest_bit(const Lane<uint32_t>& a) {
    return each([](uint32_t x) { return lowest_bit(x); }, a);
}
inline Lane<int> highest_bit(const Lane<uint32_t>& a) {
    return each([](uint32_t x) { return highest_bit(x); }, a);
}
inline Lane<float> to_float(const Lane<bf16>& a) {
    return each([](bf16 x) { return to_float(x); }, a);
}
inline Lane<float> to_float(const Lane<f16>& a) {
    return each([](f16 x) { return to_float(x); }, a);
}
inline Lane<bf16> to_bf16(const Lane<float>& a) {
    return each([](float x) { return to_bf16(x); }, a);
}
inline Lane<f16> to_f16(const Lane<float>& a) {
    return each([](float x) { return to_f16(x); }, a);
}
inline Lane<uint32_t> pack_bf16(const Lane<float>& low, const Lane<float>& high) {
    return each([](float a, float b) { return to_bf16(a).bits | static_cast<uint32_t>(to_bf16(b).bits) << 16; }, low,
                high);
}
inline Lane<uint32_t> pack_f16(const Lane<float>& low, const Lane<float>& high) {
    return each([](float a, float b) { return to_f16(a).bits | static_cast<uint32_t>(to_f16(b).bits) << 16; }, low,
                high);
}
// unpack<bf16>(word, 1) is the upper half of a packed word as fp32.
template <class Half>
Lane<float> unpack(const Lane<uint32_t>& word, int half) {
    return each([half](uint32_t x) { return to_float(Half{static_cast<uint16_t>(x >> (16 * half))}); }, word);
}

// ---- exchange between lanes; all 32 take part
template <class T>
T first(const Lane<T>& x) {
    return x.v[0];
}
template <class T>
Lane<T> shfl(const Lane<T>& x, const Lane<int>& source) {
    return each([&x](int lane) { return x.v[lane & 31]; }, source);
}
template <class T>
Lane<T> shfl_xor(const Lane<T>& x, int mask) {
    return each([&x, mask](int lane) { return x.v[(lane ^ mask) & 31]; }, lane_id());
}
// Lanes that have no lane `distance` below (up) or above (down) them keep their own value.
template <class T>
Lane<T> shfl_up(const Lane<T>& x, int distance) {
    return each([&x, distance](int lane) { return x.v[lane < distance ? lane : lane - distance]; }, lane_id());
}
template <class T>
Lane<T> shfl_down(const Lane<T>& x, int distance) {
    return each([&x, distance](int lane) { return x.v[lane + distance > 31 ? lane : lane + distance]; }, lane_id());
}
inline uint32_t ballot(const Lane<bool>& mask) {
    uint32_t bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(mask.v[i]) << i;
    return bits;
}
inline bool any(const Lane<bool>& mask) { return ballot(mask) != 0; }
inline bool all(const Lane<bool>& mask) { return ballot(mask) == 0xffffffffu; }

}  // namespace warp
