// The Python module of the twin: append_kv(...), arguments as AppendKvParams, then the numbers that lie behind k and v.
#include "bindings/twin.h"
#include "cuda/append_kv.cuh"
#include "editscore/append_kv.h"

PYBIND11_MODULE(append_kv_twin, m) {
    using namespace editscore;
    twin::add_host_twin(m);
    m.def("append_kv", [](uintptr_t k, uintptr_t v, uintptr_t k_pages, uintptr_t v_pages, uintptr_t slots,
                          int64_t num_tokens, int64_t num_kv_heads, int64_t head_dim, int64_t num_pages,
                          int64_t k_token_stride, int64_t k_head_stride, int64_t v_token_stride, int64_t v_head_stride,
                          int element_bytes, int64_t k_numbers, int64_t v_numbers, const py::kwargs& kwargs) {
        const AppendKvParams params = {twin::pointer<const void>(k),
                                       twin::pointer<const void>(v),
                                       twin::pointer<void>(k_pages),
                                       twin::pointer<void>(v_pages),
                                       twin::pointer<const int64_t>(slots),
                                       num_tokens,
                                       num_kv_heads,
                                       head_dim,
                                       num_pages,
                                       k_token_stride,
                                       k_head_stride,
                                       v_token_stride,
                                       v_head_stride,
                                       element_bytes,
                                       false};
        return append::with_words(params, [&]<class Word>(const append::Params<Word>& p) {
            using namespace warp::host;
            const auto words = [&](int64_t numbers) {
                return static_cast<size_t>(numbers * element_bytes) / sizeof(Word);
            };
            const int64_t pages = num_pages * num_kv_heads * append::kPageTokens * head_dim;
            Options options = twin::options(kwargs);
            options.buffers = {input("k", p.k, words(k_numbers)), input("v", p.v, words(v_numbers)),
                               inout("k_pages", p.k_pages, words(pages)), inout("v_pages", p.v_pages, words(pages)),
                               input("slots", p.slots, static_cast<size_t>(num_tokens))};
            const int grid = static_cast<int>((num_tokens + append::kWarps - 1) / append::kWarps);
            return launch([&] { append::append_kv_kernel<Word>(p); },
                          {.grid = grid > 0 ? grid : 1, .threads = append::kWarps * 32}, options);
        });
    });
}
