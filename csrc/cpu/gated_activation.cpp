// One body per loop, plain C++ that compilers turn into vectors, inlined into one function per instruction set by the
// `target` attribute; see sample_tokens_loops.cpp. A row is worked on in blocks of one length, its end in a buffer, so
// that odd widths leave no long loop over single elements; the operations, and so the bits, are the same either way.
#include "editscore/gated_activation.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "editscore/gated_activation_formulas.h"
#include "numbers.h"
#include "parallel.h"
#include "targets.h"

namespace editscore {
namespace {

constexpr int64_t kElementsPerThread = 1 << 16;  // some 50 us of work
constexpr int64_t kBlock = 64;

struct Scalars {
    using Float = float;
    using Word = uint32_t;
    static EDITSCORE_INLINE float mul(float a, float b) { return a * b; }
    // By bits: of a branch GCC makes one path for each bound, which costs SiLU three divisions instead of one.
    static EDITSCORE_INLINE float select(bool mask, float yes, float no) {
        const uint32_t chosen = 0u - static_cast<uint32_t>(mask);
        return value((bits(yes) & chosen) | (bits(no) & ~chosen));
    }
    static EDITSCORE_INLINE uint32_t bits(float x) { return bits_of<uint32_t>(x); }
    static EDITSCORE_INLINE float value(uint32_t x) { return bits_of<float>(x); }
};

template <ActivationKind kKind, ElementType kType, bool kIsGated>
EDITSCORE_INLINE void activate_block(const typename Numbers<kType>::Element* x,
                                     const typename Numbers<kType>::Element* up,
                                     typename Numbers<kType>::Element* out) {
    using N = Numbers<kType>;
    typename N::Element result[kBlock];  // out may be x: written when all of the block is read
    for (int64_t j = 0; j < kBlock; ++j) {
        const float act = formulas::activation<Scalars, kKind>(N::read(x[j]));
        result[j] = N::write(kIsGated ? N::round(act) * N::read(up[j]) : act);
    }
    std::memcpy(out, result, sizeof(result));
}

template <ActivationKind kKind, ElementType kType, bool kIsGated>
EDITSCORE_INLINE void activate_row(const void* x_row, const void* up_row, void* out_row, int64_t count) {
    using Element = typename Numbers<kType>::Element;
    const Element* x = static_cast<const Element*>(x_row);
    const Element* up = static_cast<const Element*>(up_row);
    Element* out = static_cast<Element*>(out_row);
    int64_t start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        activate_block<kKind, kType, kIsGated>(x + start, kIsGated ? up + start : up, out + start);
    }
    if (start == count) return;
    const size_t bytes = static_cast<size_t>(count - start) * sizeof(Element);
    Element x_end[kBlock] = {}, up_end[kBlock] = {}, out_end[kBlock];
    std::memcpy(x_end, x + start, bytes);
    if (kIsGated) std::memcpy(up_end, up + start, bytes);
    activate_block<kKind, kType, kIsGated>(x_end, up_end, out_end);
    std::memcpy(out + start, out_end, bytes);
}

using ActivateRow = void (*)(const void* x, const void* up, void* out, int64_t count);

// f<kind, type, is gated>() for the parameters' own.
template <ActivationKind kKind, class F>
ActivateRow with_type_and_gate(const GatedActivationParams& p, F f) {
    return with_type(p.type, [&]<ElementType kType>() -> ActivateRow {
        return p.up ? f.template operator()<kKind, kType, true>() : f.template operator()<kKind, kType, false>();
    });
}
template <class F>
ActivateRow with_kind(const GatedActivationParams& p, F f) {
    switch (p.kind) {
        case ActivationKind::kSilu:
            return with_type_and_gate<ActivationKind::kSilu>(p, f);
        case ActivationKind::kGeluTanh:
            return with_type_and_gate<ActivationKind::kGeluTanh>(p, f);
        case ActivationKind::kGelu:
            return with_type_and_gate<ActivationKind::kGelu>(p, f);
    }
    throw std::invalid_argument("kind: " + std::to_string(static_cast<int>(p.kind)) + " is none");
}

#define EDITSCORE_ACTIVATION_ROWS(NAME, TARGET)                                                           \
    template <ActivationKind kKind, ElementType kType, bool kIsGated>                                     \
    TARGET void row_##NAME(const void* x, const void* up, void* out, int64_t count) {                     \
        activate_row<kKind, kType, kIsGated>(x, up, out, count);                                          \
    }                                                                                                     \
    ActivateRow choose_##NAME(const GatedActivationParams& p) {                                           \
        return with_kind(p, []<ActivationKind kKind, ElementType kType, bool kIsGated>() -> ActivateRow { \
            return row_##NAME<kKind, kType, kIsGated>;                                                    \
        });                                                                                               \
    }                                                                                                     \
    static_assert(true)

EDITSCORE_FOR_EACH_SET(EDITSCORE_ACTIVATION_ROWS);

}  // namespace

void gated_activation_cpu(const GatedActivationParams& p, int num_threads, InstructionSet set) {
    const int threads = useful_threads(p.num_rows * p.width, kElementsPerThread, num_threads);
    const int64_t bytes = bytes_of(p.type);
    const ActivateRow activate = EDITSCORE_OF_SET(set, choose)(p);
    for_rows(p.num_rows, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const char* up = p.up ? static_cast<const char*>(p.up) + row * p.up_row_stride * bytes : nullptr;
            activate(static_cast<const char*>(p.x) + row * p.x_row_stride * bytes, up,
                     static_cast<char*>(p.out) + row * p.width * bytes, p.width);
        }
    });
}

}  // namespace editscore
