// The formulas of gated_activation, written once for C++ loops (a Float is a float) and for CUDA and its host twin (a
// Float is a lane's). Each operation is rounded on its own, so all of them give the same bits.
//
//     silu(x)      = x / (1 + exp(-x))
//     gelu_tanh(x) = x / (1 + exp(-2 u)),  u = sqrt(2 / pi) (x + 0.044715 x^3)     as 1 + tanh(u) = 2 / (1 + exp(-2 u))
//     gelu(x)      = x t(|x|) for x < 0, else x (1 - t(|x|)),  t(a) = erfc(a / sqrt(2)) / 2 = exp(-a^2 / 2) r(a)
//
// None of these subtracts nearly equal numbers, as 1 + tanh(u) and 1 + erf(z) do for negative x. M, the machine, brings
// Float, Word (32 bits), mul (a product that is not contracted), select, bits and value.
#pragma once

#include <cstdint>

#include "editscore/gated_activation.h"

#if defined(__CUDACC__)
#define EDITSCORE_FORMULA __device__ __forceinline__
#else
#define EDITSCORE_FORMULA inline __attribute__((always_inline))
#endif

namespace editscore::formulas {

// exp(high - low) for |low| below 0.01, as `value * factor` with factor = 2^(n + kBias), so that neither the largest
// nor subnormal results are lost before the caller takes 2^kBias back. n + kBias lies in -126 .. 127. NaN for NaN.
template <class M, int kBias>
EDITSCORE_FORMULA typename M::Float biased_exp(typename M::Float high, typename M::Float low) {
    using Float = typename M::Float;
    constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
    constexpr uint32_t kRounderBits = 0x4B400000u;
    // ln 2 in two parts (Cody and Waite, "Software Manual for the Elementary Functions", 1980): a product of the first
    // with |n| < 2^14 is exact.
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    const Float rounded = M::mul(high, 1.44269504f) + kRounder;
    const Float n = rounded - kRounder;
    const Float r = ((high - M::mul(n, kLn2High)) - M::mul(n, kLn2Low)) - low;
    // 1 + r + r^2 p(r) on [-ln(2)/2, ln(2)/2]: relative error 4e-9 before rounding (minimax, by reweighted least
    // squares in float64).
    Float p = M::mul(r, 0.0013814596459269524f) + 0.0083687175065279f;
    p = M::mul(p, r) + 0.04166838899254799f;
    p = M::mul(p, r) + 0.1666652113199234f;
    p = M::mul(p, r) + 0.4999999403953552f;
    const Float value = (M::mul(M::mul(r, r), p) + r) + 1.0f;
    const typename M::Word exponent = (M::bits(rounded) - (kRounderBits - 127u - static_cast<uint32_t>(kBias))) << 23;
    return M::mul(value, M::value(exponent));
}

// x / (1 + exp(power)). Past 89 the exponential is infinite, as torch's is past 88.73: -0 for x < 0, NaN for -inf.
template <class M>
EDITSCORE_FORMULA typename M::Float over_one_plus_exp(typename M::Float x, typename M::Float power) {
    using Float = typename M::Float;
    const Float capped = M::select(power > 89.0f, Float(89.0f), power);
    const Float bounded = M::select(capped < -86.0f, Float(-86.0f), capped);  // 1 + exp(-86) is 1
    const Float exponential = M::mul(biased_exp<M, -1>(bounded, Float(0.0f)), 2.0f);
    return x / (exponential + 1.0f);
}

template <class M>
EDITSCORE_FORMULA typename M::Float silu(typename M::Float x) {
    return over_one_plus_exp<M>(x, -x);
}

template <class M>
EDITSCORE_FORMULA typename M::Float gelu_tanh(typename M::Float x) {
    // -2 sqrt(2 / pi) and that times 0.044715
    const typename M::Float factor = M::mul(M::mul(x, x), -0.07135481627f) + -1.59576912f;
    return over_one_plus_exp<M>(x, M::mul(x, factor));
}

template <class M>
EDITSCORE_FORMULA typename M::Float gelu(typename M::Float x) {
    using Float = typename M::Float;
    const Float magnitude = M::value(M::bits(x) & 0x7FFFFFFFu);
    const Float a = M::select(magnitude > 15.0f, Float(15.0f), magnitude);  // t(15) is below all floats
    // a^2 / 2 as an exact square of 12 bits and a remainder: exp keeps its relative error however large a is.
    const Float head = M::value(M::bits(a) & 0xFFFFF000u);
    const Float square = M::mul(M::mul(head, head), -0.5f);
    const Float rest = M::mul(M::mul(a - head, a + head), 0.5f);
    const Float exponential = biased_exp<M, 64>(square, rest);
    // r(a) on [0, 15], a rational function: relative error 1.1e-8 before rounding (as above, with coefficients of
    // float32 searched around the fit); all coefficients are positive, so nothing cancels.
    Float over = M::mul(a, 0.004153213929384947f) + 0.04088101536035538f;
    over = M::mul(over, a) + 0.18396884202957153f;
    over = M::mul(over, a) + 0.43928295373916626f;
    over = M::mul(over, a) + 0.5f;
    Float under = M::mul(a, 0.010410452261567116f) + 0.10247962176799774f;
    under = M::mul(under, a) + 0.4714078903198242f;
    under = M::mul(under, a) + 1.2055469751358032f;
    under = M::mul(under, a) + 1.6764508485794067f;
    under = M::mul(under, a) + 1.0f;
    const Float tail = M::mul(M::mul(exponential, over) / under, 0x1p-64f);
    return M::mul(x, M::select(x < 0.0f, tail, 1.0f - tail));
}

template <class M, ActivationKind kKind>
EDITSCORE_FORMULA typename M::Float activation(typename M::Float x) {
    if constexpr (kKind == ActivationKind::kSilu) {
        return silu<M>(x);
    } else if constexpr (kKind == ActivationKind::kGeluTanh) {
        return gelu_tanh<M>(x);
    } else {
        return gelu<M>(x);
    }
}

}  // namespace editscore::formulas
