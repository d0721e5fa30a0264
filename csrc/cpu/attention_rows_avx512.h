// What both AVX-512 sets do with whole rows: maxima, the exponential, merges.
#pragma once

#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// The header of GCC 12 makes a register "undefined" by reading it (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

#include "attention_tiles.h"

namespace editscore {

#define EDITSCORE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

// As exp2_nonpositive.
EDITSCORE_AVX512 inline __m512 exp2_avx512(__m512 x) {
    const __m512 power = _mm512_max_ps(_mm512_set1_ps(-200.0f), x);  // the second operand where x is NaN
    const __m512 rounded = _mm512_roundscale_ps(power, 8);
    const __m512 part = _mm512_sub_ps(power, rounded);
    __m512 value = _mm512_set1_ps(0.00015353361959569156f);
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(0.0013398873852565885f));
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(0.0096184369176626205f));
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(0.055503323674201965f));
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(0.24022647738456726f));
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(0.69314718246459961f));
    value = _mm512_fmadd_ps(value, part, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(value, rounded);
}

EDITSCORE_AVX512 inline __mmask16 visible_lanes(int64_t count) {
    return static_cast<__mmask16>(count >= 16 ? 0xFFFF : count <= 0 ? 0 : (1 << count) - 1);
}

EDITSCORE_AVX512 inline float maximum_avx512(const float* row, int64_t panel_step, int64_t visible, float scale) {
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
    __m512 best[2] = {lowest, lowest};
    for (int64_t start = 0; start < visible; start += kPanelTokens, row += panel_step) {
        const int64_t count = visible - start < kPanelTokens ? visible - start : kPanelTokens;
        int64_t t = 0;
        for (; t + 32 <= count; t += 32) {
            best[0] = _mm512_max_ps(best[0], _mm512_loadu_ps(row + t));
            best[1] = _mm512_max_ps(best[1], _mm512_loadu_ps(row + t + 16));
        }
        for (; t < count; t += 16) {
            best[0] = _mm512_max_ps(best[0], _mm512_mask_loadu_ps(lowest, visible_lanes(count - t), row + t));
        }
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(best[0], best[1])) * scale;
}

EDITSCORE_AVX512 inline void merge_avx512(float* into, const float* from, float weight_into, float weight_from,
                                          int count) {
    const __m512 a = _mm512_set1_ps(weight_into), b = _mm512_set1_ps(weight_from);
    for (int d = 0; d < count; d += 16) {
        const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(into + d), a);
        _mm512_storeu_ps(into + d, _mm512_fmadd_ps(_mm512_loadu_ps(from + d), b, old));
    }
}

// Sum of 16 lanes by halves.
EDITSCORE_AVX512 inline float sum_lanes_avx512(__m512 x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace editscore

#endif
