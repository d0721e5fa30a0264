// The host twin of shared_prefix_attention: a launch of either kernel on the CPU, in some of the configurations that
// the launcher has: every head size, every number of warps, both 16-bit types.
#pragma once

#include <stdexcept>

#include "shared_prefix_attention.cuh"

namespace editscore::attention {

constexpr int kTwinStages = 3;

struct TwinShape {
    int head_dim, warps;
    bool is_half;  // fp16 rather than bf16
};

// Calls f(config, number of its type).
template <class F>
warp::host::Stats with_config(const TwinShape& shape, F f) {
    const auto is = [&](int dim, int warps, bool is_half) {
        return shape.head_dim == dim && shape.warps == warps && shape.is_half == is_half;
    };
    if (is(32, 2, false)) return f(Config<32, 2, kTwinStages>{}, warp::bf16{});
    if (is(64, 1, false)) return f(Config<64, 1, kTwinStages>{}, warp::bf16{});
    if (is(64, 4, true)) return f(Config<64, 4, kTwinStages>{}, warp::f16{});
    if (is(128, 2, false)) return f(Config<128, 2, kTwinStages>{}, warp::bf16{});
    throw std::invalid_argument("the twin has no such configuration");
}

// Pointers of Params<bf16> stand for numbers of either type.
template <class Half>
Params<Half> with_type(const Params<warp::bf16>& from) {
    Params<Half> p;
    static_assert(sizeof p == sizeof from);
    std::memcpy(static_cast<void*>(&p), &from, sizeof p);
    return p;
}

inline int grid_x(const Params<warp::bf16>& p, int block_rows) {
    const int in_use = p.num_groups + p.num_group_rows * p.num_queries_per_head / block_rows;
    return in_use > 0 ? in_use : 1;
}

warp::host::Stats launch_sm80(const Params<warp::bf16>& params, const TwinShape& shape, const warp::host::Options&);
warp::host::Stats launch_sm90(const Params<warp::bf16>& params, const TwinShape& shape, const warp::host::Options&);

}  // namespace editscore::attention
