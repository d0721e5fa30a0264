// What one block of sample_tokens reads: a row of logits in 16-byte vectors, its mask, and the weight of a logit.
// Legend: V vocabulary, W words of mask, E elements of a vector. A tile is one vector per lane of a warp.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "editscore/sample_tokens.h"
#include "warp/warp.h"

namespace editscore::sampler {

using namespace warp;
using warp::all;  // CUDA has functions of these three names in the global namespace
using warp::any;
using warp::ballot;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr double kLog2E = 1.4426950408889634;
constexpr float kRawScale = static_cast<float>(kLog2E);  // of log-softmax: temperature 1
constexpr int kWeightBits = 40;                          // a weight of 1 is 2^40

// floor(2^40 * exp((x - best) / T)) for x <= best, scale = float(log2(e) / T). The sequence of operations is the
// definition, each rounded on its own; see reference/sample_tokens.py. 26 instructions or so, and the reason why the
// kernel is bound by arithmetic rather than by memory.
WARP_FN Lane<uint64_t> token_weight(Lane<float> x, float best, float scale) {
    constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
    Lane<float> power = mul_rn(add_rn(x, -best), scale);
    power = select(power > -60.0f, power, -60.0f);
    const Lane<float> rounded = add_rn(power, kRounder);
    const Lane<float> part = add_rn(power, -add_rn(rounded, -kRounder));
    Lane<float> value = 0.00015353361959569156f;
    value = add_rn(mul_rn(value, part), 0.0013398873852565885f);
    value = add_rn(mul_rn(value, part), 0.0096184369176626205f);
    value = add_rn(mul_rn(value, part), 0.055503323674201965f);
    value = add_rn(mul_rn(value, part), 0.24022647738456726f);
    value = add_rn(mul_rn(value, part), 0.69314718246459961f);
    value = mutant(7) ? fma_rn(value, part, 1.0f) : add_rn(mul_rn(value, part), 1.0f);
    const Lane<int> mantissa = Lane<int>(mul_rn(value, 1073741824.0f));  // exact: 24 bits in [0.7, 1.42) times 2^30
    const Lane<int> shift = Lane<int>(float_bits(Lane<float>(kRounder)) - float_bits(rounded));  // 0 .. 60
    return (Lane<uint64_t>(mantissa) << (kWeightBits - 30)) >> Lane<uint64_t>(shift);
}

// Whether the weight can be 1 or more: 2^40 * 2^-40.75 is 0 as an integer, and the margin is far above the error of the
// exponential. Where the bulk of a vocabulary lies 28 / T nats below the best token, whole vectors are passed over.
WARP_FN Lane<bool> has_weight(Lane<float> x, float best, float scale) {
    return mul_rn(add_rn(x, -best), scale) > (mutant(17) ? -20.0f : -40.75f);
}

// Unsigned integers in the order of floats, -0 equal to 0; and back.
WARP_FN Lane<uint32_t> ordered_key(Lane<float> x) {
    const Lane<uint32_t> bits = float_bits(mutant(13) ? x : add_rn(x, 0.0f));
    return select(bits >= 0x80000000u, ~bits, bits | 0x80000000u);
}
WARP_FN Lane<float> key_value(Lane<uint32_t> key) {
    return bits_float(select(key >= 0x80000000u, key & 0x7fffffffu, ~key));
}

template <class T>
struct Element {  // bf16 and f16
    using Word = uint16_t;
    static constexpr int kPerVector = 8;
    static constexpr uint32_t kNothing = std::is_same_v<T, bf16> ? 0xff80ff80u : 0xfc00fc00u;  // -inf, twice
};
template <>
struct Element<float> {
    using Word = uint32_t;
    static constexpr int kPerVector = 4;
    static constexpr uint32_t kNothing = 0xff800000u;
};

template <class T>
struct Row {
    const typename Element<T>::Word* logits;  // [V]
    int vocabulary;
    int shift;            // elements between the 16-byte boundary at or before the row and the row
    int num_tiles;        // of 32 vectors
    int tiles_per_warp;   // every warp has one run of neighbouring tiles, so sums per warp are sums in the order of ids
    const int32_t* mask;  // [W] or null
    int mask_words;
};

template <class T, int kWarps>
WARP_FN Row<T> make_row(const SampleTokensParams& p) {
    constexpr int kElements = Element<T>::kPerVector;
    using Word = typename Element<T>::Word;
    const int64_t r = block_id();
    Row<T> row;
    row.logits = static_cast<const Word*>(p.logits) + r * p.logits_row_stride;
    row.vocabulary = static_cast<int>(p.vocabulary);
    row.shift = static_cast<int>(reinterpret_cast<uintptr_t>(row.logits) % 16 / sizeof(Word));
    row.num_tiles = (row.vocabulary + row.shift + 32 * kElements - 1) / (32 * kElements);
    row.tiles_per_warp = (row.num_tiles + kWarps - 1) / kWarps;
    row.mask = p.mask == nullptr ? nullptr : p.mask + r * p.mask_row_stride;
    row.mask_words = static_cast<int>(p.mask_words);
    return row;
}

template <class T>
WARP_FN Lane<int> first_id(const Row<T>& row, int tile) {
    return (tile * 32 + lane_id()) * Element<T>::kPerVector - row.shift;
}

// The vector of each lane; what lies outside of the row is -inf. Only the row's first and last vectors are read element
// by element.
template <class T>
WARP_FN void load_words(const Row<T>& row, int tile, Lane<uint32_t> (&words)[4]) {
    constexpr int kElements = Element<T>::kPerVector;
    const Lane<int> id = first_id(row, tile);
    const Lane<bool> is_whole = (id >= 0) & (id + kElements <= row.vocabulary + (mutant(5) ? 1 : 0));
    gload_vec(words, row.logits, id, is_whole);
    if (all(is_whole)) return;
    UNROLL for (int w = 0; w < 4; ++w) words[w] = select(is_whole, words[w], Element<T>::kNothing);
    UNROLL for (int e = 0; e < kElements; ++e) {
        const Lane<int> at = id + e;
        const Lane<bool> is_inside = (at >= 0) & (at < row.vocabulary) & !is_whole;
        const Lane<uint32_t> bits = Lane<uint32_t>(gload(row.logits, at, is_inside));
        if constexpr (kElements == 4) {
            words[e] = select(is_inside, bits, words[e]);
        } else {
            const uint32_t kept = e % 2 == 0 ? 0xffff0000u : 0x0000ffffu;
            const Lane<uint32_t> merged = (words[e / 2] & kept) | (bits << (e % 2 * 16));
            words[e / 2] = select(is_inside, merged, words[e / 2]);
        }
    }
}

// Bit e: is token id + e allowed? Tokens beyond the last word are not.
template <class T>
WARP_FN Lane<uint32_t> allowed_bits(const Row<T>& row, Lane<int> id) {
    const int words = row.mask_words + (mutant(6) ? 1 : 0);
    const Lane<int> word = id >> 5;  // -1 for ids before the row
    const Lane<int> bit = id & 31;
    const Lane<bool> has_low = (word >= 0) & (word < words);
    const Lane<bool> has_high = (bit + Element<T>::kPerVector > 32) & (word + 1 < words);
    const Lane<uint32_t> low = Lane<uint32_t>(gload(row.mask, word, has_low));
    const Lane<uint32_t> high = Lane<uint32_t>(gload(row.mask, word + 1, has_high));
    const Lane<uint64_t> both = (Lane<uint64_t>(high) << 32) | Lane<uint64_t>(low);
    return Lane<uint32_t>(both >> Lane<uint64_t>(bit));
}

// raw: the logits as they came; x: what may be drawn, -inf where the mask is off.
template <class T>
WARP_FN void unpack_tile(const Row<T>& row, Lane<int> id, const Lane<uint32_t> (&words)[4],
                         Lane<float> (&raw)[Element<T>::kPerVector], Lane<float> (&x)[Element<T>::kPerVector]) {
    Lane<uint32_t> allowed = 0xffffffffu;
    if (row.mask != nullptr) allowed = allowed_bits(row, id);
    UNROLL for (int e = 0; e < Element<T>::kPerVector; ++e) {
        if constexpr (std::is_same_v<T, float>) {
            raw[e] = bits_float(words[e]);
        } else {
            raw[e] = unpack<T>(words[e / 2], e % 2);
        }
        x[e] = select((allowed & (1u << e)) != 0u, raw[e], -kInfinity);
    }
}

// f(id, raw, x) for every tile of this warp, ascending. kBatch vectors per lane are in flight.
template <int kBatch, class T, class F>
WARP_FN void for_each_tile(const Row<T>& row, F f) {
    const int begin = warp_id() * row.tiles_per_warp;
    const int end = smaller(begin + row.tiles_per_warp, row.num_tiles);
    for (int tile = begin; tile < end; tile += kBatch) {
        Lane<uint32_t> words[kBatch][4];
        UNROLL for (int b = 0; b < kBatch; ++b) {
            if (tile + b < end) load_words(row, tile + b, words[b]);
        }
        UNROLL for (int b = 0; b < kBatch; ++b) {
            if (tile + b >= end) continue;
            Lane<float> raw[Element<T>::kPerVector], x[Element<T>::kPerVector];
            const Lane<int> id = first_id(row, tile + b);
            unpack_tile(row, id, words[b], raw, x);
            f(id, raw, x);
        }
    }
}

}  // namespace editscore::sampler
