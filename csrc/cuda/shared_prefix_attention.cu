// Launches shared_prefix_attention. Compiled and tested on its host twin; it has never run on a GPU.
#include <limits>
#include <stdexcept>
#include <string>

#include "editscore/attention_cuda.h"
#include "shared_prefix_attention.cuh"

namespace editscore {
namespace {

using attention::Config;
using attention::PageMaps;
using attention::Params;

constexpr int kStages = 3;

// The bodies are compiled for the architecture that they run on, and declared on both.
template <class C, class Half>
__global__ void __launch_bounds__(C::kWarps * 32) sm80(const __grid_constant__ Params<Half> p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 900
    attention::attend_sm80<C>(p);
#endif
}
template <class C, class Half>
__global__ void __launch_bounds__((C::kWarps + 1) * 32)
    sm90(const __grid_constant__ Params<Half> p, const __grid_constant__ PageMaps maps) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    attention::attend_sm90<C>(p, maps);
#endif
}

void check(cudaError_t error) {
    if (error != cudaSuccess) {
        throw std::runtime_error(std::string("shared_prefix_attention: ") + cudaGetErrorString(error));
    }
}

int checked_int(int64_t value, const char* name) {
    if (value < 0 || value > std::numeric_limits<int>::max()) {
        throw std::invalid_argument(std::string("shared_prefix_attention: ") + name + " does not fit in 31 bits");
    }
    return static_cast<int>(value);
}

template <class Half>
Params<Half> device_params(const SharedPrefixAttentionCudaParams& from) {
    const SharedPrefixAttentionParams& a = from.attention;
    constexpr double kLog2e = 1.4426950408889634;
    // Lane rows, and the lines of the tensor maps, are counted in 31 bits.
    checked_int(a.num_group_rows * (a.num_heads / a.num_kv_heads), "rows times heads");
    checked_int(a.num_pages * a.num_kv_heads * kPageTokens, "pages times heads times 16");
    return {.q = static_cast<const Half*>(a.q),
            .k_pages = static_cast<const Half*>(a.k_pages),
            .v_pages = static_cast<const Half*>(a.v_pages),
            .q_row_stride = a.q_row_stride,
            .q_head_stride = a.q_head_stride,
            .leaf_pages = a.leaf_pages,
            .leaf_lengths = a.leaf_lengths,
            .own_pages = a.own_pages,
            .seq_leaf = a.seq_leaf,
            .row_seq = a.row_seq,
            .row_lengths = a.row_lengths,
            .group_rows = a.group_rows,
            .group_starts = a.group_starts,
            .num_rows = checked_int(a.num_rows, "num_rows"),
            .num_kv_heads = checked_int(a.num_kv_heads, "num_kv_heads"),
            .num_queries_per_head = checked_int(a.num_heads / a.num_kv_heads, "num_heads"),
            .num_pages = checked_int(a.num_pages, "num_pages"),
            .num_leaves = checked_int(a.num_leaves, "num_leaves"),
            .leaf_width = checked_int(a.leaf_width, "leaf_width"),
            .num_seqs = checked_int(a.num_seqs, "num_seqs"),
            .own_width = checked_int(a.own_width, "own_width"),
            .num_group_rows = checked_int(a.num_group_rows, "num_group_rows"),
            .num_groups = checked_int(a.num_groups, "num_groups"),
            .scale_log2e = static_cast<float>(a.scale * kLog2e),
            .out = static_cast<Half*>(a.out),
            .lse = a.lse,
            .status = from.status,
            .num_splits = checked_int(a.num_splits, "num_splits"),
            .max_chunks = checked_int(from.max_chunks, "max_chunks"),
            .part_o = from.part_o,
            .part_ml = from.part_ml,
            .part_status = from.part_status,
            .arrivals = from.arrivals};
}

template <class C, class Half>
void launch(const Params<Half>& p, bool is_sm90, cudaStream_t stream) {
    static_assert(C::kSharedBytes <= 163 * 1024);  // what a block of sm_80 may have; sm_90 allows 227
    const int blocks = p.num_groups + p.num_group_rows * p.num_queries_per_head / C::kBlockRows;
    const dim3 grid(blocks > 0 ? blocks : 1, p.num_kv_heads * p.num_splits);
    if (is_sm90) {
        const PageMaps maps = attention::make_page_maps<C::kDim>(p.k_pages, p.v_pages, p.num_pages, p.num_kv_heads);
        check(cudaFuncSetAttribute(sm90<C, Half>, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes));
        sm90<C, Half><<<grid, (C::kWarps + 1) * 32, C::kSharedBytes, stream>>>(p, maps);
    } else {
        check(cudaFuncSetAttribute(sm80<C, Half>, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kSharedBytes));
        sm80<C, Half><<<grid, C::kWarps * 32, C::kSharedBytes, stream>>>(p);
    }
    check(cudaGetLastError());
}

// As many warps as the rows of an average group fill, so that its pages are read once.
template <int kDim, class Half>
void launch_for_rows(const Params<Half>& p, bool is_sm90, cudaStream_t stream) {
    const int64_t lane_rows = int64_t{p.num_group_rows} * p.num_queries_per_head;
    const int64_t per_group = p.num_groups == 0 ? 0 : (lane_rows + p.num_groups - 1) / p.num_groups;
    if (per_group <= 16) {
        launch<Config<kDim, 1, kStages>>(p, is_sm90, stream);
    } else if (per_group <= 32) {
        launch<Config<kDim, 2, kStages>>(p, is_sm90, stream);
    } else {
        launch<Config<kDim, 4, kStages>>(p, is_sm90, stream);
    }
}

template <class Half>
void launch_for_width(const SharedPrefixAttentionCudaParams& params, bool is_sm90, cudaStream_t stream) {
    const Params<Half> p = device_params<Half>(params);
    if (p.num_kv_heads * p.num_splits > 65535) {
        throw std::invalid_argument("shared_prefix_attention: more than 65535 heads times splits");
    }
    switch (params.attention.head_dim) {
        case 32:
            return launch_for_rows<32>(p, is_sm90, stream);
        case 64:
            return launch_for_rows<64>(p, is_sm90, stream);
        case 128:
            return launch_for_rows<128>(p, is_sm90, stream);
        default:
            throw std::invalid_argument("shared_prefix_attention: head_dim is none of 32, 64, 128");
    }
}

}  // namespace

void shared_prefix_attention_cuda(const SharedPrefixAttentionCudaParams& params, void* stream) {
    const SharedPrefixAttentionParams& a = params.attention;
    if (a.num_rows == 0) return;
    if (a.num_splits < 1 || a.num_pages < 1 || a.num_kv_heads < 1 || a.q_row_stride % 2 != 0 ||
        a.q_head_stride % 2 != 0) {
        throw std::invalid_argument("shared_prefix_attention: num_splits, num_pages, heads or strides out of range");
    }
    int device = 0, major = 0;
    check(cudaGetDevice(&device));
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    const cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (a.type == AttentionType::kBfloat16) {
        launch_for_width<warp::bf16>(params, major >= 9, on);
    } else if (a.type == AttentionType::kFloat16) {
        launch_for_width<warp::f16>(params, major >= 9, on);
    } else {
        throw std::invalid_argument("shared_prefix_attention: type is neither bf16 nor fp16");
    }
}

}  // namespace editscore
