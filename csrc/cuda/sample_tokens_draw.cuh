// The draw over a whole row in ascending ids, with or without a threshold.
#pragma once

#include <cstdint>

#include "sample_tokens_filter.cuh"

namespace editscore::sampler {

// One warp walks its tiles to the token at which the running sum exceeds `left`; `ties` of those at the threshold
// count.
template <class T>
WARP_FN void walk_tiles(const Row<T>& row, const Target& target, uint32_t key, uint64_t left, int ties) {
    constexpr int kElements = Element<T>::kPerVector;
    bool is_found = false;
    for_each_tile<1>(row, [&](Lane<int> id, const auto&, const auto& x) {
        if (is_found) return;
        Lane<int> num_ties = 0;
        UNROLL for (int e = 0; e < kElements; ++e) num_ties += select(ordered_key(x[e]) == key, 1, 0);
        const Lane<int> ties_so_far = warp_inclusive_sum(num_ties);
        Lane<int> tie = ties_so_far - num_ties;
        Lane<uint64_t> weight[kElements], sum = 0;
        UNROLL for (int e = 0; e < kElements; ++e) {
            const Lane<uint32_t> here = ordered_key(x[e]);
            const Lane<bool> is_tie = here == key,
                             is_kept = (here > key) | (is_tie & (tie < ties + (mutant(2) ? 1 : 0)));
            weight[e] = select(is_kept, token_weight(x[e], target.best, target.scale), uint64_t{0});
            tie += select(is_tie, 1, 0);
            sum += weight[e];
        }
        const Lane<uint64_t> reached = warp_inclusive_sum(sum);
        Lane<uint64_t> before = reached - sum;
        UNROLL for (int e = 0; e < kElements; ++e) {
            const Lane<bool> is_drawn = (before <= left) & (before + weight[e] > left);
            sstore(shared_at(kToken, 0, 4), id + e, is_drawn);
            before += weight[e];
        }
        const uint64_t tile_sum = first(shfl(reached, Lane<int>(31)));
        is_found = tile_sum > left;
        left -= is_found ? 0 : tile_sum;
        ties -= smaller(ties, first(shfl(ties_so_far, Lane<int>(31))));
    });
}

// Draws into kToken. Without a filter every warp's sum is in kSum already; with one, one more read of the row.
template <class T, int kWarps>
WARP_FN void draw_in_order(const Row<T>& row, const Target& target, bool is_filtered, const Threshold& threshold) {
    const uint32_t key = is_filtered ? threshold.key : 0;
    if (is_filtered) {
        Lane<uint64_t> sum = 0;
        Lane<int> num_ties = 0;
        for_each_tile<1>(row, [&](Lane<int>, const auto&, const auto& x) {
            UNROLL for (int e = 0; e < Element<T>::kPerVector; ++e) {
                const Lane<uint32_t> here = ordered_key(x[e]);
                num_ties += select(here == key, 1, 0);
                if (!any(here > key)) continue;
                sum += select(here > key, token_weight(x[e], target.best, target.scale), uint64_t{0});
            }
        });
        put_of_warp(kSum, warp_sum(sum));
        put_of_warp(kTies, warp_sum(num_ties));
        sync_block();
    }
    Lane<uint64_t> sum = get_of_warps<uint64_t, kWarps>(kSum);
    Lane<int> ties = 0;
    if (is_filtered) {
        const Lane<int> all_ties = get_of_warps<int, kWarps>(kTies);
        const Lane<int> before = warp_inclusive_sum(all_ties) - all_ties;
        ties = smaller(larger(-before + threshold.ties, 0), mutant(11) ? threshold.ties : all_ties);
        const Lane<uint64_t> weight = token_weight(key_value(Lane<uint32_t>(key)), target.best, target.scale);
        sum += Lane<uint64_t>(ties) * weight;
    }
    const Lane<uint64_t> reached = warp_inclusive_sum(sum);
    const uint64_t total = first(shfl(reached, Lane<int>(31)));
    const uint64_t drawn = scale_uniform(target.random, is_filtered ? threshold.kept : total);
    const int holder = lowest_bit(ballot(reached > drawn));
    if (warp_id() == holder) {
        const uint64_t before = first(shfl(reached - sum, Lane<int>(holder)));
        walk_tiles(row, target, key, drawn - before, first(shfl(ties, Lane<int>(holder))));
    }
    sync_block();
}

}  // namespace editscore::sampler
