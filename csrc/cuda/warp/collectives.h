// Reductions and scans over a warp, written once for both builds. Floats are combined in one fixed order (distances 16,
// 8, 4, 2, 1), and every lane gets the same bits because a + b == b + a.
#pragma once

namespace warp {

template <class T>
WARP_FN Lane<T> warp_sum(Lane<T> x) {
    UNROLL for (int distance = 16; distance > 0; distance /= 2) x = x + shfl_xor(x, distance);
    return x;
}
template <class T>
WARP_FN Lane<T> warp_max(Lane<T> x) {
    UNROLL for (int distance = 16; distance > 0; distance /= 2) x = larger(x, shfl_xor(x, distance));
    return x;
}
template <class T>
WARP_FN Lane<T> warp_min(Lane<T> x) {
    UNROLL for (int distance = 16; distance > 0; distance /= 2) x = smaller(x, shfl_xor(x, distance));
    return x;
}

// Lane i gets the sum of lanes 0 .. i.
template <class T>
WARP_FN Lane<T> warp_inclusive_sum(Lane<T> x) {
    UNROLL for (int distance = 1; distance < 32; distance *= 2) {
        const Lane<T> below = shfl_up(x, distance);
        x = select(lane_id() >= distance, x + below, x);
    }
    return x;
}

}  // namespace warp
