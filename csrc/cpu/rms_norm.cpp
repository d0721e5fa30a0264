// One body per loop, plain C++ that compilers turn into vectors, inlined into one function per instruction set by the
// `target` attribute; see sample_tokens_loops.cpp. Column j of a row is added to lane j % 64, lanes are added in
// halves: one order whatever the vectors' length. A row's end stands in a buffer of zeros, whose squares change no sum.
#include "editscore/rms_norm.h"

#include <cstring>

#include "numbers.h"
#include "parallel.h"
#include "targets.h"

namespace editscore {
namespace {

constexpr int64_t kElementsPerThread = 1 << 17;  // some 50 us of work
constexpr int64_t kBlock = 64;

template <class N>
EDITSCORE_INLINE void add_squares(const typename N::Element* x, float* lanes) {
    for (int64_t j = 0; j < kBlock; ++j) lanes[j] += N::read(x[j]) * N::read(x[j]);
}

template <class N>
EDITSCORE_INLINE void scale_block(const typename N::Element* x, const typename N::Element* weight, float scale,
                                  typename N::Element* out) {
    for (int64_t j = 0; j < kBlock; ++j) out[j] = N::write(N::round(N::read(x[j]) * scale) * N::read(weight[j]));
}

template <ElementType kType>
EDITSCORE_INLINE void norm_row(const void* x_row, const void* weight_row, void* out_row, int64_t width, float epsilon) {
    using N = Numbers<kType>;
    using Element = typename N::Element;
    const Element *x = static_cast<const Element*>(x_row), *weight = static_cast<const Element*>(weight_row);
    Element* out = static_cast<Element*>(out_row);
    const int64_t whole = width / kBlock * kBlock;
    const size_t rest = static_cast<size_t>(width - whole) * sizeof(Element);
    Element x_end[kBlock] = {};
    if (rest) std::memcpy(x_end, x + whole, rest);

    float lanes[kBlock] = {};
    for (int64_t start = 0; start < whole; start += kBlock) add_squares<N>(x + start, lanes);
    if (rest) add_squares<N>(x_end, lanes);
    for (int64_t half = kBlock / 2; half > 0; half /= 2) {
        for (int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    }
    const float scale = 1.0f / __builtin_sqrtf(lanes[0] / static_cast<float>(width) + epsilon);

    for (int64_t start = 0; start < whole; start += kBlock)
        scale_block<N>(x + start, weight + start, scale, out + start);
    if (rest == 0) return;
    Element weight_end[kBlock] = {}, out_end[kBlock];
    std::memcpy(weight_end, weight + whole, rest);
    scale_block<N>(x_end, weight_end, scale, out_end);
    std::memcpy(out + whole, out_end, rest);
}

using NormRow = void (*)(const void* x, const void* weight, void* out, int64_t width, float epsilon);

#define EDITSCORE_NORM_ROWS(NAME, TARGET)                                                                \
    template <ElementType kType>                                                                         \
    TARGET void row_##NAME(const void* x, const void* weight, void* out, int64_t width, float epsilon) { \
        norm_row<kType>(x, weight, out, width, epsilon);                                                 \
    }                                                                                                    \
    NormRow choose_##NAME(ElementType type) {                                                            \
        return with_type(type, []<ElementType kType>() -> NormRow { return row_##NAME<kType>; });        \
    }                                                                                                    \
    static_assert(true)

EDITSCORE_FOR_EACH_SET(EDITSCORE_NORM_ROWS);

}  // namespace

void rms_norm_cpu(const RmsNormParams& p, int num_threads, InstructionSet set) {
    const int threads = useful_threads(p.num_rows * p.width, kElementsPerThread, num_threads);
    const int64_t bytes = bytes_of(p.type);
    const NormRow norm = EDITSCORE_OF_SET(set, choose)(p.type);
    for_rows(p.num_rows, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            norm(static_cast<const char*>(p.x) + row * p.x_row_stride * bytes, p.weight,
                 static_cast<char*>(p.out) + row * p.width * bytes, p.width, p.epsilon);
        }
    });
}

}  // namespace editscore
