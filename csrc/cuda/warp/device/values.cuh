// What a warp computes without touching memory: selection, arithmetic, conversions, exchange between lanes.
#pragma once

#include <cstdint>
#include <type_traits>

namespace warp {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
using Lane = T;

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

// ---- where a warp is
WARP_FN int lane_id() { return static_cast<int>(threadIdx.x & 31); }
// Through a shuffle, so that the compiler knows it to be the same in all lanes.
WARP_FN int warp_id() { return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x >> 5), 0); }
WARP_FN int block_id() { return static_cast<int>(blockIdx.x); }
WARP_FN int block_id_y() { return static_cast<int>(blockIdx.y); }
WARP_FN int grid_size() { return static_cast<int>(gridDim.x); }
WARP_FN int grid_size_y() { return static_cast<int>(gridDim.y); }
WARP_FN constexpr bool mutant(int) { return false; }  // bugs are switched on in the host twin only

// ---- selection; the first value gives the type
template <class T>
WARP_FN T select(bool mask, T yes, std::type_identity_t<T> no) {
    return mask ? yes : no;
}
template <class T>
WARP_FN T larger(T a, std::type_identity_t<T> b) {
    if constexpr (std::is_same_v<T, float>) return fmaxf(a, b);
    return a > b ? a : b;
}
template <class T>
WARP_FN T smaller(T a, std::type_identity_t<T> b) {
    if constexpr (std::is_same_v<T, float>) return fminf(a, b);
    return a < b ? a : b;
}

// ---- single precision
WARP_FN float ex2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
WARP_FN float lg2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
WARP_FN float rcp(float x) { return __frcp_rn(x); }
WARP_FN float round_down(float x) { return floorf(x); }
WARP_FN float mul_rn(float a, float b) { return __fmul_rn(a, b); }
WARP_FN float add_rn(float a, float b) { return __fadd_rn(a, b); }
WARP_FN float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// ---- bits and conversions
WARP_FN uint32_t float_bits(float x) { return __float_as_uint(x); }
WARP_FN float bits_float(uint32_t x) { return __uint_as_float(x); }
WARP_FN int popc(uint32_t x) { return __popc(x); }
WARP_FN int lowest_bit(uint32_t x) { return __ffs(static_cast<int>(x)) - 1; }
WARP_FN int highest_bit(uint32_t x) { return 31 - __clz(static_cast<int>(x)); }

WARP_FN float to_float(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
WARP_FN float to_float(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
WARP_FN bf16 to_bf16(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
WARP_FN f16 to_f16(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
WARP_FN uint32_t pack_bf16(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
WARP_FN uint32_t pack_f16(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
template <class Half>
WARP_FN float unpack(uint32_t word, int half) {
    return to_float(Half{static_cast<uint16_t>(word >> (16 * half))});
}

// ---- exchange between lanes; all 32 take part
template <class T>
WARP_FN T first(T x) {
    return __shfl_sync(kAllLanes, x, 0);
}
template <class T>
WARP_FN T shfl(T x, int source) {
    return __shfl_sync(kAllLanes, x, source);
}
template <class T>
WARP_FN T shfl_xor(T x, int mask) {
    return __shfl_xor_sync(kAllLanes, x, mask);
}
template <class T>
WARP_FN T shfl_up(T x, int distance) {
    return __shfl_up_sync(kAllLanes, x, static_cast<unsigned>(distance));
}
template <class T>
WARP_FN T shfl_down(T x, int distance) {
    return __shfl_down_sync(kAllLanes, x, static_cast<unsigned>(distance));
}
WARP_FN uint32_t ballot(bool mask) { return __ballot_sync(kAllLanes, mask); }
WARP_FN bool any(bool mask) { return __any_sync(kAllLanes, mask) != 0; }
WARP_FN bool all(bool mask) { return __all_sync(kAllLanes, mask) != 0; }

}  // namespace warp
