// Loops of shared_prefix_attention in plain C++ that compilers turn into vectors; each set's file inlines them into
// functions of its own target. No standard templates: see sample_tokens_loops.cpp.
#pragma once

#include <cstdint>
#include <limits>

#include "attention_tiles.h"
#include "half_floats.h"

namespace editscore {

constexpr float kLowestExponent = -126.0f;

// 2^x for x <= 0 (a little above is fine), 0 below 2^-126, NaN for NaN. Minimax of 2^f on [-1/2, 1/2] as in the
// sampler: relative error 2e-8 before rounding.
EDITSCORE_INLINE float exp2_nonpositive(float x) {
    constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
    const float power = x < kLowestExponent ? kLowestExponent : x;
    const float rounded = power + kRounder;
    const float part = power - (rounded - kRounder);
    float value = 0.00015353361959569156f;
    value = value * part + 0.0013398873852565885f;
    value = value * part + 0.0096184369176626205f;
    value = value * part + 0.055503323674201965f;
    value = value * part + 0.24022647738456726f;
    value = value * part + 0.69314718246459961f;
    value = value * part + 1.0f;
    const uint32_t exponent = (bits_of<uint32_t>(rounded) - bits_of<uint32_t>(kRounder) + 127u) << 23;
    return x < kLowestExponent ? 0.0f : value * bits_of<float>(exponent);
}

// Sum of 16 lanes: halves, quarters, ... so that every set could take the same tree.
EDITSCORE_INLINE float sum_lanes(float* lane) {
    for (int width = 8; width; width /= 2) {
        for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
    }
    return lane[0];
}

EDITSCORE_INLINE float maximum_body(const float* row, int64_t panel_step, int64_t visible, float scale) {
    float best[16];
    for (int j = 0; j < 16; ++j) best[j] = -std::numeric_limits<float>::infinity();
    for (int64_t t = 0; t < visible; t += 16) {
        const float* s = row + t / kPanelTokens * panel_step + t % kPanelTokens;
        const int64_t count = visible - t;
        for (int j = 0; j < 16; ++j) {
            const float value = j < count ? s[j] : -std::numeric_limits<float>::infinity();
            best[j] = value > best[j] ? value : best[j];
        }
    }
    for (int j = 1; j < 16; ++j) best[0] = best[j] > best[0] ? best[j] : best[0];
    return best[0] * scale;
}

EDITSCORE_INLINE float weights_body(float* row, int64_t panel_step, int64_t visible, int64_t padded, float scale,
                                    float maximum) {
    float sum[16] = {};
    for (int64_t t = 0; t < padded; t += 16) {
        float* s = row + t / kPanelTokens * panel_step + t % kPanelTokens;
        const int64_t count = visible - t;
        for (int j = 0; j < 16; ++j) {
            const float weight = exp2_nonpositive(s[j] * scale - maximum);
            s[j] = j < count ? weight : 0.0f;
            sum[j] += s[j];
        }
    }
    return sum_lanes(sum);
}

EDITSCORE_INLINE void merge_body(float* into, const float* from, float weight_into, float weight_from, int count) {
    for (int d = 0; d < count; ++d) into[d] = into[d] * weight_into + from[d] * weight_from;
}

EDITSCORE_INLINE void store_body(const float* x, float factor, int count, AttentionType type, void* to) {
    if (type == AttentionType::kFloat32) {
        for (int d = 0; d < count; ++d) static_cast<float*>(to)[d] = x[d] * factor;
        return;
    }
    uint16_t* half = static_cast<uint16_t*>(to);
    if (type == AttentionType::kBfloat16) {
        for (int d = 0; d < count; ++d) half[d] = bfloat16_of(x[d] * factor);
    } else {
        for (int d = 0; d < count; ++d) half[d] = half_of(x[d] * factor);
    }
}

EDITSCORE_INLINE void split_bfloat16_body(const uint32_t* pairs, int rows, int length, float* out) {
    for (int i = 0; i < rows; ++i, pairs += length, out += 2 * length) {
        for (int j = 0; j < length; ++j) out[j] = bits_of<float>(pairs[j] << 16);
        for (int j = 0; j < length; ++j) out[length + j] = bits_of<float>(pairs[j] & 0xFFFF0000u);
    }
}

EDITSCORE_INLINE void split_float16_body(const uint32_t* pairs, int rows, int length, float* out) {
    for (int i = 0; i < rows; ++i, pairs += length, out += 2 * length) {
        for (int j = 0; j < length; ++j) out[j] = float_of_half(pairs[j] & 0xFFFFu);
        for (int j = 0; j < length; ++j) out[length + j] = float_of_half(pairs[j] >> 16);
    }
}

// The functions of a set that are made of the loops above.
#define EDITSCORE_ATTENTION_ENDS(TARGET)                                                       \
    TARGET void exp2(float* x, int count) {                                                    \
        for (int i = 0; i < count; ++i) x[i] = exp2_nonpositive(x[i]);                         \
    }                                                                                          \
    TARGET void store(const float* x, float factor, int count, AttentionType type, void* to) { \
        store_body(x, factor, count, type, to);                                                \
    }
#define EDITSCORE_ATTENTION_SPLITS(TARGET)                                                \
    TARGET void split_bfloat16(const uint32_t* pairs, int rows, int length, float* out) { \
        split_bfloat16_body(pairs, rows, length, out);                                    \
    }                                                                                     \
    TARGET void split_float16(const uint32_t* pairs, int rows, int length, float* out) {  \
        split_float16_body(pairs, rows, length, out);                                     \
    }
#define EDITSCORE_ATTENTION_ROWS(TARGET)                                                                 \
    TARGET float maximum(const float* row, int64_t panel_step, int64_t visible, float scale) {           \
        return maximum_body(row, panel_step, visible, scale);                                            \
    }                                                                                                    \
    TARGET float weights(float* row, int64_t panel_step, int64_t visible, int64_t padded, float scale,   \
                         float highest) {                                                                \
        return weights_body(row, panel_step, visible, padded, scale, highest);                           \
    }                                                                                                    \
    TARGET void merge(float* into, const float* from, float weight_into, float weight_from, int count) { \
        merge_body(into, from, weight_into, weight_from, count);                                         \
    }

}  // namespace editscore
