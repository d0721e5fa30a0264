// The attention ops on CUDA. The addresses are of the device, and a launch does not wait for its end.
#include "editscore/attention_cuda.h"

#include "arguments.h"

namespace editscore::bindings {
namespace {

namespace py = pybind11;

[[maybe_unused]] void shared_prefix_attention_cuda(
    int type, uintptr_t q, uintptr_t k_pages, uintptr_t v_pages, int64_t num_rows, int64_t num_heads,
    int64_t num_kv_heads, int64_t head_dim, int64_t num_pages, int64_t q_row_stride, int64_t q_head_stride,
    uintptr_t leaf_pages, uintptr_t leaf_lengths, uintptr_t own_pages, uintptr_t seq_leaf, uintptr_t row_seq,
    uintptr_t row_lengths, uintptr_t group_rows, uintptr_t group_starts, int64_t num_leaves, int64_t leaf_width,
    int64_t num_seqs, int64_t own_width, int64_t num_group_rows, int64_t num_groups, double scale, int64_t num_splits,
    uintptr_t out, uintptr_t lse, uintptr_t status, int64_t max_chunks, uintptr_t part_o, uintptr_t part_ml,
    uintptr_t part_status, uintptr_t arrivals, uintptr_t stream) {
    SharedPrefixAttentionCudaParams params = {};
    params.attention = {
        .type = static_cast<AttentionType>(type),
        .q = pointer<const void>(q),
        .k_pages = pointer<const void>(k_pages),
        .v_pages = pointer<const void>(v_pages),
        .num_rows = num_rows,
        .num_heads = num_heads,
        .num_kv_heads = num_kv_heads,
        .head_dim = head_dim,
        .num_pages = num_pages,
        .q_row_stride = q_row_stride,
        .q_head_stride = q_head_stride,
        .leaf_pages = pointer<const int32_t>(leaf_pages),
        .leaf_lengths = pointer<const int32_t>(leaf_lengths),
        .own_pages = pointer<const int32_t>(own_pages),
        .seq_leaf = pointer<const int32_t>(seq_leaf),
        .row_seq = pointer<const int32_t>(row_seq),
        .row_lengths = pointer<const int32_t>(row_lengths),
        .group_rows = pointer<const int32_t>(group_rows),
        .group_starts = pointer<const int32_t>(group_starts),
        .num_leaves = num_leaves,
        .leaf_width = leaf_width,
        .num_seqs = num_seqs,
        .own_width = own_width,
        .num_group_rows = num_group_rows,
        .num_groups = num_groups,
        .scale = static_cast<float>(scale),
        .num_splits = num_splits,
        .chunk_tokens = kChunkTokens,
        .out = pointer<void>(out),
        .lse = pointer<float>(lse),
    };
    params.status = pointer<int32_t>(status);
    params.max_chunks = max_chunks;
    params.part_o = pointer<float>(part_o);
    params.part_ml = pointer<float>(part_ml);
    params.part_status = pointer<int32_t>(part_status);
    params.arrivals = pointer<uint32_t>(arrivals);
    const py::gil_scoped_release released;
    editscore::shared_prefix_attention_cuda(params, pointer<void>(stream));
}

[[maybe_unused]] void append_kv_cuda(uintptr_t k, uintptr_t v, uintptr_t k_pages, uintptr_t v_pages, uintptr_t slots,
                                     int64_t num_tokens, int64_t num_kv_heads, int64_t head_dim, int64_t num_pages,
                                     int64_t k_token_stride, int64_t k_head_stride, int64_t v_token_stride,
                                     int64_t v_head_stride, int element_bytes, uintptr_t stream) {
    const AppendKvParams params = {
        .k = pointer<const void>(k),
        .v = pointer<const void>(v),
        .k_pages = pointer<void>(k_pages),
        .v_pages = pointer<void>(v_pages),
        .slots = pointer<const int64_t>(slots),
        .num_tokens = num_tokens,
        .num_kv_heads = num_kv_heads,
        .head_dim = head_dim,
        .num_pages = num_pages,
        .k_token_stride = k_token_stride,
        .k_head_stride = k_head_stride,
        .v_token_stride = v_token_stride,
        .v_head_stride = v_head_stride,
        .element_bytes = element_bytes,
        .is_packed = false,
    };
    const py::gil_scoped_release released;
    editscore::append_kv_cuda(params, pointer<void>(stream));
}

}  // namespace

void add_attention_cuda(pybind11::module_& m) {
    // Without CUDA objects this is discarded, so that nothing refers to a function that is not there.
    if constexpr (sizeof(EDITSCORE_CUDA_ARCHITECTURES) > 1) {
        m.def("shared_prefix_attention_cuda", &shared_prefix_attention_cuda,
              "Arguments as SharedPrefixAttentionCudaParams without chunk_tokens, then the stream.");
        m.def("append_kv_cuda", &append_kv_cuda, "Arguments as AppendKvParams without is_packed, then the stream.");
    }
}

}  // namespace editscore::bindings
