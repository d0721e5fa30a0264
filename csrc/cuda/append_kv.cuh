// append_kv on CUDA: a warp per token copies its keys and values into their pages. What is copied has no type: Word is
// 8 bytes where sizes and strides allow it, otherwise an element, and everything is counted in words.
#pragma once

#include <cstdint>

#include "warp/warp.h"

namespace editscore::append {

using namespace warp;

constexpr int kWarps = 4, kPageTokens = 16;

template <class Word>
struct Params {
    const Word* k;  // [N, Hkv, width]
    const Word* v;
    Word* k_pages;  // [P, Hkv, 16, width]
    Word* v_pages;
    const int64_t* slots;  // [N], page * 16 + offset; elsewhere than in the pages: dropped
    int64_t num_tokens, num_pages;
    int64_t k_token_stride, k_head_stride, v_token_stride, v_head_stride;
    int num_kv_heads, width;
};

template <class Word>
WARP_FN void copy_token(const Params<Word>& p, int64_t token) {
    const int64_t slot = first(gload(p.slots, Lane<int64_t>(token)));
    if (slot < 0 || slot >= p.num_pages * kPageTokens) return;
    const int64_t page = slot / kPageTokens, offset = slot % kPageTokens;
    const int words = p.num_kv_heads * p.width;
    for (int begin = 0; begin < words; begin += kLanes) {
        const Lane<int> word = begin + lane_id();
        const Lane<bool> inside = word < words;
        const Lane<int64_t> head = Lane<int64_t>(word / p.width), of_head = Lane<int64_t>(word % p.width);
        const Lane<int64_t> to =
            ((page * p.num_kv_heads + head) * int64_t{kPageTokens} + offset) * int64_t{p.width} + of_head;
        gstore(p.k_pages, to, gload(p.k, token * p.k_token_stride + head * p.k_head_stride + of_head, inside), inside);
        gstore(p.v_pages, to, gload(p.v, token * p.v_token_stride + head * p.v_head_stride + of_head, inside), inside);
    }
}

template <class Word>
WARP_KERNEL(kWarps * 32)
append_kv_kernel(const WARP_GRID_CONSTANT Params<Word> p) {
    const int64_t token = static_cast<int64_t>(block_id()) * kWarps + warp_id();
    if (token < p.num_tokens) copy_token(p, token);
}

// The parameters in words of sizeof(Word) bytes.
template <class Word, class From>
Params<Word> in_words(const From& from) {
    const int64_t elements = static_cast<int64_t>(sizeof(Word)) / from.element_bytes;
    return {static_cast<const Word*>(from.k),
            static_cast<const Word*>(from.v),
            static_cast<Word*>(from.k_pages),
            static_cast<Word*>(from.v_pages),
            from.slots,
            from.num_tokens,
            from.num_pages,
            from.k_token_stride / elements,
            from.k_head_stride / elements,
            from.v_token_stride / elements,
            from.v_head_stride / elements,
            static_cast<int>(from.num_kv_heads),
            static_cast<int>(from.head_dim / elements)};
}

// Calls f with parameters in the largest words that everything is a multiple of.
template <class From, class F>
auto with_words(const From& from, F f) {
    const int64_t sizes =
        from.head_dim | from.k_token_stride | from.k_head_stride | from.v_token_stride | from.v_head_stride;
    const uint64_t addresses = reinterpret_cast<uintptr_t>(from.k) | reinterpret_cast<uintptr_t>(from.v) |
                               reinterpret_cast<uintptr_t>(from.k_pages) | reinterpret_cast<uintptr_t>(from.v_pages);
    if (((static_cast<uint64_t>(sizes) * static_cast<uint64_t>(from.element_bytes)) | addresses) % 8 == 0) {
        return f(in_words<uint64_t>(from));
    }
    return from.element_bytes == 2 ? f(in_words<uint16_t>(from)) : f(in_words<uint32_t>(from));
}

}  // namespace editscore::append
