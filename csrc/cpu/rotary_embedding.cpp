// One body per loop, plain C++ that compilers turn into vectors, inlined into one function per instruction set by the
// `target` attribute; see sample_tokens_loops.cpp. The end of a half that is no whole block stands in buffers, so that
// its operations are the same.
#include "editscore/rotary_embedding.h"

#include <cstring>

#include "numbers.h"
#include "parallel.h"
#include "targets.h"

namespace editscore {
namespace {

constexpr int64_t kElementsPerThread = 1 << 16;  // some 50 us of work
constexpr int64_t kBlock = 16;

// One block of the two halves of a head. Every product and the sum are rounded, as torch rounds them.
template <class N, class Element>
EDITSCORE_INLINE void rotate_block(const Element* low, const Element* high, const Element* cos_low,
                                   const Element* cos_high, const Element* sin_low, const Element* sin_high,
                                   Element* out_low, Element* out_high) {
    Element turned_low[kBlock], turned_high[kBlock];  // out may be x: written when both halves are read
    for (int64_t j = 0; j < kBlock; ++j) {
        const float a = N::read(low[j]), b = N::read(high[j]);
        turned_low[j] = N::write(N::round(a * N::read(cos_low[j])) + N::round(-b * N::read(sin_low[j])));
        turned_high[j] = N::write(N::round(b * N::read(cos_high[j])) + N::round(a * N::read(sin_high[j])));
    }
    std::memcpy(out_low, turned_low, sizeof(turned_low));
    std::memcpy(out_high, turned_high, sizeof(turned_high));
}

template <ElementType kType>
EDITSCORE_INLINE void rotate_head(const void* x_head, const void* cos_token, const void* sin_token, void* out_head,
                                  int64_t half) {
    using N = Numbers<kType>;
    using Element = typename N::Element;
    const Element *x = static_cast<const Element*>(x_head), *cos = static_cast<const Element*>(cos_token),
                  *sin = static_cast<const Element*>(sin_token);
    Element* out = static_cast<Element*>(out_head);
    int64_t d = 0;
    for (; d + kBlock <= half; d += kBlock) {
        rotate_block<N>(x + d, x + half + d, cos + d, cos + half + d, sin + d, sin + half + d, out + d, out + half + d);
    }
    if (d == half) return;
    const size_t bytes = static_cast<size_t>(half - d) * sizeof(Element);
    Element ends[8][kBlock] = {};
    const Element* sources[] = {x + d, x + half + d, cos + d, cos + half + d, sin + d, sin + half + d};
    for (int i = 0; i < 6; ++i) std::memcpy(ends[i], sources[i], bytes);
    rotate_block<N>(ends[0], ends[1], ends[2], ends[3], ends[4], ends[5], ends[6], ends[7]);
    std::memcpy(out + d, ends[6], bytes);
    std::memcpy(out + half + d, ends[7], bytes);
}

template <ElementType kType>
EDITSCORE_INLINE void rotate_heads(const RotaryHeads& heads, const void* cos, const void* sin, int64_t token,
                                   int64_t head_dim) {
    const int64_t bytes = bytes_of(kType);
    const char* x = static_cast<const char*>(heads.x) + token * heads.token_stride * bytes;
    char* out = static_cast<char*>(heads.out) + token * heads.num_heads * head_dim * bytes;
    for (int64_t head = 0; head < heads.num_heads; ++head) {
        rotate_head<kType>(x + head * heads.head_stride * bytes, cos, sin, out + head * head_dim * bytes, head_dim / 2);
    }
}

template <ElementType kType>
EDITSCORE_INLINE void rotate_token(const RotaryEmbeddingParams& p, int64_t token) {
    const char* cos = static_cast<const char*>(p.cos) + token * p.cos_token_stride * bytes_of(kType);
    const char* sin = static_cast<const char*>(p.sin) + token * p.sin_token_stride * bytes_of(kType);
    rotate_heads<kType>(p.q, cos, sin, token, p.head_dim);
    rotate_heads<kType>(p.k, cos, sin, token, p.head_dim);
}

using RotateToken = void (*)(const RotaryEmbeddingParams& p, int64_t token);

#define EDITSCORE_ROTATE_TOKEN(NAME, TARGET)                                                            \
    template <ElementType kType>                                                                        \
    TARGET void token_##NAME(const RotaryEmbeddingParams& p, int64_t token) {                           \
        rotate_token<kType>(p, token);                                                                  \
    }                                                                                                   \
    RotateToken choose_##NAME(ElementType type) {                                                       \
        return with_type(type, []<ElementType kType>() -> RotateToken { return token_##NAME<kType>; }); \
    }                                                                                                   \
    static_assert(true)

EDITSCORE_FOR_EACH_SET(EDITSCORE_ROTATE_TOKEN);

}  // namespace

void rotary_embedding_cpu(const RotaryEmbeddingParams& p, int num_threads, InstructionSet set) {
    const int threads =
        useful_threads(p.num_tokens * (p.q.num_heads + p.k.num_heads) * p.head_dim, kElementsPerThread, num_threads);
    const RotateToken rotate = EDITSCORE_OF_SET(set, choose)(p.type);
    for_rows(p.num_tokens, threads, [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) rotate(p, token);
    });
}

}  // namespace editscore
