// One body per loop, plain C++ that compilers turn into vectors, inlined into one function per instruction set by the
// `target` attribute. No intrinsics, so aarch64 and macOS compile the same text; no standard templates, so no AVX-512
// copy of one of them can end up in a function that every processor runs.
#include "sample_tokens_loops.h"

#include <cstring>
#include <limits>

#include "targets.h"

namespace editscore {
namespace {

#define EDITSCORE_INLINE inline __attribute__((always_inline))
constexpr float kInfinity = std::numeric_limits<float>::infinity();

EDITSCORE_INLINE bool column_maxima_body(const float* x, int64_t count, float* column_max) {
    float best[kNumColumns];
    int32_t bad[kNumColumns] = {};
    std::memcpy(best, column_max, sizeof(best));
    int64_t start = 0;
    for (; start + kNumColumns <= count; start += kNumColumns) {
        for (int64_t j = 0; j < kNumColumns; ++j) {
            const float value = x[start + j];
            best[j] = value > best[j] ? value : best[j];
            bad[j] |= !(value < kInfinity);  // true for NaN too
        }
    }
    for (int64_t j = 0; start + j < count; ++j) {
        const float value = x[start + j];
        best[j] = value > best[j] ? value : best[j];
        bad[j] |= !(value < kInfinity);
    }
    std::memcpy(column_max, best, sizeof(best));
    int32_t any = 0;
    for (int64_t j = 0; j < kNumColumns; ++j) any |= bad[j];
    return any == 0;
}

EDITSCORE_INLINE int64_t sum_weights_body(const float* x, int64_t count, float best, float scale) {
    int64_t sum = 0;
    for (int64_t t = 0; t < count; ++t) sum += token_weight(x[t], best, scale);
    return sum;
}

// The same integers where floats convert to 64-bit integers in one instruction: value * 2^40 * 2^rounded is exact, and
// the conversion rounds towards zero as the shift of token_weight does. Every coefficient of token_weight times 2^40 is
// exact too, and so is each step that follows. 59 instead of 71 us for 152,064 tokens on AVX-512.
EDITSCORE_INLINE int64_t sum_weights_by_conversion_body(const float* x, int64_t count, float best, float scale) {
    constexpr float kOne = static_cast<float>(int64_t{1} << kWeightBits);
    int64_t sum = 0;
    for (int64_t t = 0; t < count; ++t) {
        float power = (x[t] - best) * scale;
        power = power > kLowestPower ? power : kLowestPower;
        const float rounded = power + kRounder;
        const float part = power - (rounded - kRounder);
        float value = 0.00015353361959569156f * kOne;
        value = value * part + 0.0013398873852565885f * kOne;
        value = value * part + 0.0096184369176626205f * kOne;
        value = value * part + 0.055503323674201965f * kOne;
        value = value * part + 0.24022647738456726f * kOne;
        value = value * part + 0.69314718246459961f * kOne;
        value = value * part + kOne;
        const int32_t exponent = (std::bit_cast<int32_t>(rounded) - std::bit_cast<int32_t>(kRounder)) * (1 << 23);
        sum += static_cast<int64_t>(std::bit_cast<float>(std::bit_cast<int32_t>(value) + exponent));
    }
    return sum;
}

// Appends the ids of start <= t < start + length with x[t] >= bound.
EDITSCORE_INLINE int64_t append_at_least(const float* x, int64_t start, int64_t length, float bound, int32_t* ids,
                                         int64_t found) {
    for (int64_t t = start; t < start + length; ++t) {
        ids[found] = static_cast<int32_t>(t);
        found += x[t] >= bound;
    }
    return found;
}

EDITSCORE_INLINE int64_t find_at_least_body(const float* x, int64_t count, float bound, int32_t* ids) {
    constexpr int64_t kBlock = 64,
                      kPart = 16;  // blocks without a hit are skipped whole, then parts; only the rest is walked
    int64_t found = 0;
    int64_t start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        int32_t in_block = 0;
        for (int64_t j = 0; j < kBlock; ++j) in_block |= x[start + j] >= bound;
        if (!in_block) continue;
        for (int64_t part = start; part < start + kBlock; part += kPart) {
            int32_t in_part = 0;
            for (int64_t j = 0; j < kPart; ++j) in_part |= x[part + j] >= bound;
            if (in_part) found = append_at_least(x, part, kPart, bound, ids, found);
        }
    }
    return append_at_least(x, start, count - start, bound, ids, found);
}

EDITSCORE_INLINE void from_bfloat16_body(const uint16_t* bits, int64_t count, float* x) {
    for (int64_t t = 0; t < count; ++t) x[t] = std::bit_cast<float>(static_cast<uint32_t>(bits[t]) << 16);
}

EDITSCORE_INLINE void from_float16_body(const uint16_t* bits, int64_t count, float* x) {
    // Exponent and mantissa move to their place in a float; the product with 2^112 corrects the bias and makes
    // subnormals exact.
    for (int64_t t = 0; t < count; ++t) {
        const uint32_t sign = static_cast<uint32_t>(bits[t] & 0x8000u) << 16;
        const uint32_t rest = static_cast<uint32_t>(bits[t] & 0x7FFFu) << 13;
        const float scaled = std::bit_cast<float>(rest) * 0x1p112f;
        const uint32_t special = rest >= 0x0F800000u ? 0x7F800000u : 0u;  // infinity and NaN keep their mantissa
        x[t] = std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
    }
}

EDITSCORE_INLINE void apply_mask_body(const float* x, int64_t count, const int32_t* words, int64_t num_words,
                                      float* masked) {
    for (int64_t start = 0; start < count; start += 32) {
        const int64_t length = count - start < 32 ? count - start : 32;
        const uint32_t word = start / 32 < num_words ? static_cast<uint32_t>(words[start / 32]) : 0u;
        if (length == 32) {
            for (uint32_t j = 0; j < 32; ++j) masked[start + j] = (word >> j) & 1u ? x[start + j] : -kInfinity;
        } else {
            for (int64_t j = 0; j < length; ++j) masked[start + j] = (word >> j) & 1u ? x[start + j] : -kInfinity;
        }
    }
}

// The six functions of one instruction set and their table.
#define EDITSCORE_SAMPLE_LOOPS(NAME, TARGET, SUM_WEIGHTS)                                                 \
    TARGET bool column_maxima_##NAME(const float* x, int64_t count, float* column_max) {                  \
        return column_maxima_body(x, count, column_max);                                                  \
    }                                                                                                     \
    TARGET int64_t sum_weights_##NAME(const float* x, int64_t count, float best, float scale) {           \
        return SUM_WEIGHTS(x, count, best, scale);                                                        \
    }                                                                                                     \
    TARGET int64_t find_at_least_##NAME(const float* x, int64_t count, float bound, int32_t* ids) {       \
        return find_at_least_body(x, count, bound, ids);                                                  \
    }                                                                                                     \
    TARGET void from_bfloat16_##NAME(const uint16_t* bits, int64_t count, float* x) {                     \
        from_bfloat16_body(bits, count, x);                                                               \
    }                                                                                                     \
    TARGET void from_float16_##NAME(const uint16_t* bits, int64_t count, float* x) {                      \
        from_float16_body(bits, count, x);                                                                \
    }                                                                                                     \
    TARGET void apply_mask_##NAME(const float* x, int64_t count, const int32_t* words, int64_t num_words, \
                                  float* masked) {                                                        \
        apply_mask_body(x, count, words, num_words, masked);                                              \
    }                                                                                                     \
    constexpr SampleLoops k_##NAME = {column_maxima_##NAME, sum_weights_##NAME,  find_at_least_##NAME,    \
                                      from_bfloat16_##NAME, from_float16_##NAME, apply_mask_##NAME}

EDITSCORE_SAMPLE_LOOPS(portable, , sum_weights_body);
#if defined(__x86_64__)
EDITSCORE_SAMPLE_LOOPS(avx2, EDITSCORE_AVX2, sum_weights_body);
EDITSCORE_SAMPLE_LOOPS(avx512, EDITSCORE_AVX512, sum_weights_by_conversion_body);
#endif

}  // namespace

const SampleLoops& sample_loops(InstructionSet set) { return EDITSCORE_OF_SET(set, k); }

}  // namespace editscore
