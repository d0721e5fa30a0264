// append_kv: writes keys and values of new tokens into pages. The layouts stand in
// kernels/editscore_kernels/append_kv.py. Legend: N tokens, Hkv heads, D head size, P pages. Strides count elements.
#pragma once

#include <cstdint>

namespace editscore {

struct AppendKvParams {
    const void* k;         // [N, Hkv, D], the last dimension of stride 1
    const void* v;         // likewise
    void* k_pages;         // [P, Hkv, 16, D]
    void* v_pages;         // [P, Hkv, 16, D]
    const int64_t* slots;  // [N]: page * 16 + offset, negative for nowhere
    int64_t num_tokens;    // N >= 0
    int64_t num_kv_heads;  // Hkv
    int64_t head_dim;      // D, even where 16-bit numbers are packed
    int64_t num_pages;     // P
    int64_t k_token_stride;
    int64_t k_head_stride;
    int64_t v_token_stride;
    int64_t v_head_stride;
    int element_bytes;  // 2, 4 or 8
    bool is_packed;     // the packed layout; otherwise plain
};

// Throws std::invalid_argument before anything is written when a slot lies beyond the pages.
void append_kv_cpu(const AppendKvParams& params, int num_threads);

}  // namespace editscore
