// The loops of sample_tokens that touch the whole vocabulary, once per instruction set and with the same bits from
// each.
#pragma once

#include <bit>
#include <cstdint>

#include "editscore/instruction_set.h"

namespace editscore {

constexpr int kWeightBits = 40;          // a weight of 1 is 2^40
constexpr int64_t kNumColumns = 64;      // token t belongs to column t % 64 of its band
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
constexpr float kLowestPower = -60.0f;

// floor(2^40 * exp((x - best) / T)) for x <= best, scale = float(log2(e) / T). The sequence of operations is the
// definition; it must not be contracted (-ffp-contract=off). Coefficients: minimax of 2^f on [-1/2, 1/2], see
// reference/sample_tokens.py.
inline __attribute__((always_inline)) int64_t token_weight(float x, float best, float scale) {
    float power = (x - best) * scale;
    power = power > kLowestPower ? power : kLowestPower;
    const float rounded = power + kRounder;
    const float part = power - (rounded - kRounder);
    float value = 0.00015353361959569156f;
    value = value * part + 0.0013398873852565885f;
    value = value * part + 0.0096184369176626205f;
    value = value * part + 0.055503323674201965f;
    value = value * part + 0.24022647738456726f;
    value = value * part + 0.69314718246459961f;
    value = value * part + 1.0f;
    const int32_t mantissa =
        static_cast<int32_t>(value * 1073741824.0f);  // exact: 24 significant bits in [0.7, 1.42) times 2^30
    const int32_t shift = std::bit_cast<int32_t>(kRounder) - std::bit_cast<int32_t>(rounded);  // 0 .. 60
    return (static_cast<int64_t>(mantissa) << (kWeightBits - 30)) >> static_cast<int64_t>(shift);
}

struct SampleLoops {
    // Raises column_max[t % 64] to the maximum of the tokens 0 <= t < count of each column. Returns false if NaN or
    // +inf is among them.
    bool (*column_maxima)(const float* x, int64_t count, float* column_max);
    // Sum of token_weight over the tokens.
    int64_t (*sum_weights)(const float* x, int64_t count, float best, float scale);
    // Writes t for every token t with x[t] >= bound, ascending, and returns how many; `ids` has room for `count`.
    int64_t (*find_at_least)(const float* x, int64_t count, float bound, int32_t* ids);
    void (*from_bfloat16)(const uint16_t* bits, int64_t count, float* x);
    void (*from_float16)(const uint16_t* bits, int64_t count, float* x);
    // masked[t] = x[t] where bit t % 32 of word t // 32 is set, else -inf.
    void (*apply_mask)(const float* x, int64_t count, const int32_t* words, int64_t num_words, float* masked);
};

// The loops of a set for which has_instruction_set is true.
const SampleLoops& sample_loops(InstructionSet set);

}  // namespace editscore
