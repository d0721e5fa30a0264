// gated_activation on CUDA: a warp works on a stretch of a row, kBatch times 32 lanes of 16 bytes each, or of one
// element each where rows do not begin at multiples of 16 bytes. The formulas are those of the C++, and so are the
// bits.
#pragma once

#include <cstdint>
#include <type_traits>

#include "editscore/gated_activation.h"
#include "editscore/gated_activation_formulas.h"
#include "warp/warp.h"

namespace editscore::gated {

using namespace warp;

constexpr int kWarps = 4, kBatch = 2;
constexpr int64_t kMaxWidth = 1 << 30;  // columns are counted in int

struct Lanes {  // the machine of the formulas
    using Float = Lane<float>;
    using Word = Lane<uint32_t>;
    static WARP_FN Float mul(Float a, Float b) { return mul_rn(a, b); }
    static WARP_FN Float select(Lane<bool> mask, Float yes, Float no) { return warp::select(mask, yes, no); }
    static WARP_FN Word bits(Float x) { return float_bits(x); }
    static WARP_FN Float value(Word x) { return bits_float(x); }
};

template <class T>
struct Element {  // bf16 and f16
    using Word = uint16_t;
    static WARP_FN Lane<float> round(Lane<float> x) {
        if constexpr (std::is_same_v<T, bf16>) {
            return to_float(to_bf16(x));
        } else {
            return to_float(to_f16(x));
        }
    }
    static WARP_FN Lane<uint32_t> pack(Lane<float> low, Lane<float> high) {
        if constexpr (std::is_same_v<T, bf16>) {
            return pack_bf16(low, high);
        } else {
            return pack_f16(low, high);
        }
    }
};
template <>
struct Element<float> {
    using Word = uint32_t;
    static WARP_FN Lane<float> round(Lane<float> x) { return x; }
};

// The elements that a lane reads at once, as 32-bit words.
template <class T, bool kIsVector>
struct Chunk {
    using Word = typename Element<T>::Word;
    static constexpr int kElements = kIsVector ? 16 / static_cast<int>(sizeof(Word)) : 1;
    static constexpr int kWords = kIsVector ? 4 : 1;
    Lane<uint32_t> words[kWords];

    WARP_FN void load(const Word* row, Lane<int> column, Lane<bool> mask) {
        if constexpr (kIsVector) {
            gload_vec(words, row, column, mask);
        } else {
            words[0] = Lane<uint32_t>(gload(row, column, mask));
        }
    }
    WARP_FN void store(Word* row, Lane<int> column, Lane<bool> mask) const {
        if constexpr (kIsVector) {
            gstore_vec(row, column, words, mask);
        } else {
            gstore(row, column, Lane<Word>(words[0]), mask);
        }
    }
    WARP_FN Lane<float> get(int e) const {
        if constexpr (std::is_same_v<T, float>) {
            return bits_float(words[e]);
        } else {
            return unpack<T>(words[e / 2], mutant(9) ? 0 : e % 2);
        }
    }
    WARP_FN void set(const Lane<float> (&values)[kElements]) {
        UNROLL for (int w = 0; w < kWords; ++w) {
            if constexpr (std::is_same_v<T, float>) {
                words[w] = float_bits(values[w]);
            } else {
                words[w] = Element<T>::pack(values[2 * w % kElements], values[(2 * w + 1) % kElements]);
            }
        }
    }
};

struct Params {
    const void* x;
    const void* up;  // or null
    void* out;
    int64_t num_rows, x_row_stride, up_row_stride;
    int width, items_per_row;
};

template <class T, ActivationKind kKind, bool kIsVector>
WARP_FN void activate(Chunk<T, kIsVector>& x, const Chunk<T, kIsVector>& up, bool is_gated) {
    constexpr int kElements = Chunk<T, kIsVector>::kElements;
    Lane<float> values[kElements];
    UNROLL for (int e = 0; e < kElements; ++e) {
        const bool is_swapped = mutant(3) && is_gated;
        const Lane<float> act = formulas::activation<Lanes, kKind>(is_swapped ? up.get(e) : x.get(e));
        const Lane<float> rounded = mutant(6) ? act : Element<T>::round(act);
        values[e] = is_gated ? mul_rn(rounded, is_swapped ? x.get(e) : up.get(e)) : act;
    }
    x.set(values);
}

template <class T, ActivationKind kKind, bool kIsVector>
WARP_KERNEL(kWarps * 32)
gated_activation_kernel(const WARP_GRID_CONSTANT Params p) {
    using Part = Chunk<T, kIsVector>;
    using Word = typename Part::Word;
    constexpr int kTile = kLanes * Part::kElements;
    const int64_t item = static_cast<int64_t>(block_id()) * kWarps + warp_id();
    const int64_t row = item / p.items_per_row;
    if (!mutant(4) && row >= p.num_rows) return;
    const int begin = static_cast<int>(item % p.items_per_row) * (mutant(7) ? kTile : kBatch * kTile);
    const Word* x_row = static_cast<const Word*>(p.x) + row * (mutant(2) ? p.width : p.x_row_stride);
    const Word* up_row = static_cast<const Word*>(p.up) + row * (mutant(5) ? p.x_row_stride : p.up_row_stride);
    Word* out_row = static_cast<Word*>(p.out) + row * (mutant(8) ? p.x_row_stride : int64_t{p.width});
    const bool is_gated = p.up != nullptr;
    Part x[kBatch], up[kBatch];
    UNROLL for (int b = 0; b < kBatch; ++b) {  // all loads before the first result
        const Lane<int> column = begin + b * kTile + lane_id() * Part::kElements;
        const Lane<bool> is_inside = column < p.width + (mutant(1) ? Part::kElements : 0);
        x[b].load(x_row, column, is_inside);
        if (is_gated) up[b].load(up_row, column, is_inside);
    }
    UNROLL for (int b = 0; b < kBatch; ++b) {
        const Lane<int> column = begin + b * kTile + lane_id() * Part::kElements;
        activate<T, kKind, kIsVector>(x[b], up[b], is_gated);
        x[b].store(out_row, column, column < p.width + (mutant(10) ? Part::kElements : 0));
    }
}

// Calls f<T, kind, is vector>(params, blocks) for a launch; no call where there is nothing to do.
template <class T, ActivationKind kKind, class F>
void with_width(const GatedActivationParams& from, F f) {
    constexpr int64_t kBytes = sizeof(typename Element<T>::Word), kPerVector = 16 / kBytes;
    const int64_t strides =
        from.width | (from.num_rows > 1 ? from.x_row_stride | (from.up ? from.up_row_stride : 0) : 0);
    const uintptr_t addresses = reinterpret_cast<uintptr_t>(from.x) | reinterpret_cast<uintptr_t>(from.up) |
                                reinterpret_cast<uintptr_t>(from.out);
    const bool is_vector = strides % kPerVector == 0 && addresses % 16 == 0;
    const int64_t per_item = kBatch * kLanes * (is_vector ? kPerVector : 1);
    const int64_t items = (from.width + per_item - 1) / per_item;
    const Params p = {from.x,
                      from.up,
                      from.out,
                      from.num_rows,
                      from.x_row_stride,
                      from.up_row_stride,
                      static_cast<int>(from.width),
                      static_cast<int>(items)};
    const int64_t blocks = (from.num_rows * items + kWarps - 1) / kWarps;
    if (is_vector) {
        f.template operator()<T, kKind, true>(p, blocks);
    } else {
        f.template operator()<T, kKind, false>(p, blocks);
    }
}

template <class T, class F>
void with_kind(const GatedActivationParams& from, F f) {
    if (from.kind == ActivationKind::kSilu) return with_width<T, ActivationKind::kSilu>(from, f);
    if (from.kind == ActivationKind::kGeluTanh) return with_width<T, ActivationKind::kGeluTanh>(from, f);
    with_width<T, ActivationKind::kGelu>(from, f);
}

template <class F>
void with_kernel(const GatedActivationParams& from, F f) {
    if (from.num_rows == 0 || from.width == 0) return;
    if (from.type == ElementType::kFloat32) return with_kind<float>(from, f);
    if (from.type == ElementType::kBfloat16) return with_kind<bf16>(from, f);
    with_kind<f16>(from, f);
}

}  // namespace editscore::gated
