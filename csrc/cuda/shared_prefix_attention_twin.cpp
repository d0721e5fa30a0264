// The sm_90a kernel on the host. It is a file of its own so that both kernels compile at the same time.
#include "shared_prefix_attention_twin.h"

namespace editscore::attention {

warp::host::Stats launch_sm90(const Params<warp::bf16>& params, const TwinShape& shape,
                              const warp::host::Options& options) {
    return with_config(shape, [&]<class C, class Half>(C, Half) {
        const Params<Half> p = with_type<Half>(params);
        const PageMaps maps = make_page_maps<C::kDim>(p.k_pages, p.v_pages, p.num_pages, p.num_kv_heads);
        const warp::host::Shape grid = {.grid = grid_x(params, C::kBlockRows),
                                        .grid_y = p.num_kv_heads * p.num_splits,
                                        .threads = (C::kWarps + 1) * 32,
                                        .shared_bytes = C::kSharedBytes};
        return warp::host::launch([&] { attend_sm90<C>(p, maps); }, grid, options);
    });
}

}  // namespace editscore::attention
