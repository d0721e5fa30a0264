#include "editscore/append_kv.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "parallel.h"

namespace editscore {
namespace {

constexpr int64_t kPageTokens = 16;
constexpr int64_t kElementsPerThread = 1 << 16;  // some 50 us of work

template <class Element, int kPair>
void append_token(const AppendKvParams& p, int64_t token, int64_t slot) {
    const int64_t page = slot / kPageTokens, t = slot % kPageTokens;
    for (int64_t head = 0; head < p.num_kv_heads; ++head) {
        const int64_t start = (page * p.num_kv_heads + head) * kPageTokens * p.head_dim;
        const Element* k = static_cast<const Element*>(p.k) + token * p.k_token_stride + head * p.k_head_stride;
        const Element* v = static_cast<const Element*>(p.v) + token * p.v_token_stride + head * p.v_head_stride;
        Element* k_page = static_cast<Element*>(p.k_pages) + start;
        Element* v_page = static_cast<Element*>(p.v_pages) + start;
        if (!p.is_packed) {
            std::copy_n(k, p.head_dim, k_page + t * p.head_dim);
            std::copy_n(v, p.head_dim, v_page + t * p.head_dim);
            continue;
        }
        for (int64_t d = 0; d < p.head_dim; d += kPair) {
            for (int64_t j = 0; j < kPair; ++j) k_page[(d / kPair * kPageTokens + t) * kPair + j] = k[d + j];
        }
        Element* v_row = v_page + t / kPair * p.head_dim * kPair + t % kPair;
        for (int64_t d = 0; d < p.head_dim; ++d) v_row[d * kPair] = v[d];
    }
}

template <class Element, int kPair>
void append(const AppendKvParams& p, int threads) {
    for_rows(p.num_tokens, threads, [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) {
            if (p.slots[token] >= 0) append_token<Element, kPair>(p, token, p.slots[token]);
        }
    });
}

}  // namespace

void append_kv_cpu(const AppendKvParams& p, int num_threads) {
    for (int64_t token = 0; token < p.num_tokens; ++token) {
        if (p.slots[token] >= p.num_pages * kPageTokens) {
            throw std::invalid_argument("slots: " + std::to_string(p.slots[token]) + " is outside the " +
                                        std::to_string(p.num_pages) + " pages");
        }
    }
    const int threads = useful_threads(p.num_tokens * p.num_kv_heads * p.head_dim, kElementsPerThread, num_threads);
    if (p.element_bytes == 2) {
        append<uint16_t, 2>(p, threads);
    } else if (p.element_bytes == 4) {
        append<uint32_t, 1>(p, threads);
    } else if (p.element_bytes == 8) {
        append<uint64_t, 1>(p, threads);
    } else {
        throw std::invalid_argument("k: elements of " + std::to_string(p.element_bytes) + " bytes");
    }
}

}  // namespace editscore
