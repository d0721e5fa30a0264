// sample_tokens, one block per row; the formula stands in kernels/editscore_kernels/sample_tokens.py. Reads of a row:
//
//   1  maxima, NaN; for filters the maximum of every four threads, which bounds the wanted tokens from below
//   2  the integer sum behind logprob_raw, the sum to draw from, and the candidates that reach the bound
//
// then a filtered row is sorted, cut and drawn in shared memory, and an unfiltered one is drawn by the warp whose ids
// hold the token (1/32 of a read). The second read comes from L2 when it holds the rows of the running blocks: 132 rows
// of 152,064 bf16 logits are 40 MB. Rows whose filter keeps more than the candidates (top-k above half of the groups, a
// flat row under top-p, hundreds of ties) take 3 reads for a threshold, 3 more if top-p follows such a top-k, and 1 +
// 1/32 for the draw.
#pragma once

#include <cmath>
#include <cstdint>

#include "sample_tokens_draw.cuh"

namespace editscore::sampler {

constexpr int kBlockWarps = 32;

// The largest logits of a row.
struct Maxima {
    float raw;    // of all
    float best;   // of those that are allowed
    bool is_bad;  // NaN or +inf is among all
};

template <class T, int kWarps>
WARP_FN Maxima find_maxima(const Row<T>& row) {
    Lane<float> raw_best = -kInfinity, best = -kInfinity;
    Lane<bool> is_number = true;
    for_each_tile<4>(row, [&](Lane<int>, const auto& raw, const auto& x) {
        UNROLL for (int e = 0; e < Element<T>::kPerVector; ++e) {
            raw_best = larger(raw_best, raw[e]);
            best = larger(best, x[e]);
            is_number = is_number & ((mutant(14) ? x[e] : raw[e]) < kInfinity);
        }
    });
    put_of_warp(kRawBest, warp_max(raw_best));
    put_of_warp(kBest, warp_max(best));
    put_of_warp(kIsBad, Lane<int>(all(is_number) ? 0 : 1));
    Lane<float> group = larger(best, shfl_xor(best, 1));
    group = larger(group, shfl_xor(group, 2));
    sstore(shared_at(kGroupBest, thread_id() >> 2, 4), group, (lane_id() & 3) == 0);
    if (warp_id() == 0) {
        put(kNumFound, 0u);
        put(kGreedy, 0u);
        put(kToken, -1);
    }
    if (!mutant(1)) sync_block();
    const Lane<bool> has_warp = lane_id() < kWarps;
    const Lane<float> raw_of_warps = get_of_warps<float, kWarps>(kRawBest),
                      of_warps = get_of_warps<float, kWarps>(kBest);
    return {first(warp_max(select(has_warp, raw_of_warps, -kInfinity))),
            first(warp_max(select(has_warp, of_warps, -kInfinity))), any(get_of_warps<int, kWarps>(kIsBad) != 0)};
}

struct Sums {
    uint64_t raw;  // of weights at temperature 1 below the largest of all logits
    uint64_t row;  // of weights to draw from; without meaning under top-k and for greedy rows, which need no such sum
};

// The second read. Candidates are those that reach `bound`, or for a greedy row the one with the lowest id.
template <class T, int kWarps>
WARP_FN Sums sum_and_collect(const Row<T>& row, const Maxima& maxima, const Target& target, float bound, bool is_greedy,
                             bool needs_sum) {
    constexpr int kElements = Element<T>::kPerVector;
    const bool is_same = row.mask == nullptr && target.scale == kRawScale;  // then the second sum is the first
    const bool needs_own_sum = needs_sum && !is_same;
    Lane<uint64_t> raw_sum = 0, row_sum = 0;
    for_each_tile<2>(row, [&](Lane<int> id, const auto& raw, const auto& x) {
        Lane<float> raw_best = raw[0], best = x[0];
        UNROLL for (int e = 1; e < kElements; ++e) {
            raw_best = larger(raw_best, raw[e]);
            best = larger(best, x[e]);
        }
        if (any(has_weight(raw_best, maxima.raw, kRawScale))) {
            UNROLL for (int e = 0; e < kElements; ++e) raw_sum += token_weight(raw[e], maxima.raw, kRawScale);
        }
        if (needs_own_sum && any(has_weight(best, target.best, target.scale))) {
            const float top = mutant(16) ? maxima.raw : target.best;
            UNROLL for (int e = 0; e < kElements; ++e) row_sum += token_weight(x[e], top, target.scale);
        }
        if (!any(best >= bound)) return;
        UNROLL for (int e = 0; e < kElements; ++e) {
            const Lane<bool> is_hit = x[e] >= bound;
            const Lane<uint32_t> inverse_id = ~Lane<uint32_t>(id + e);
            if (is_greedy) {
                satomic_max(shared_at(kGreedy, 0, 4), inverse_id, is_hit);
            } else {
                const Lane<uint32_t> slot = satomic_add(shared_at(kNumFound, 0, 4), Lane<uint32_t>(1u), is_hit);
                const Lane<bool> has_room = slot < (mutant(15) ? 0xffffffffu : static_cast<uint32_t>(kCapacity));
                const Lane<uint64_t> key = Lane<uint64_t>(ordered_key(x[e]));
                sstore(shared_at(kFound, Lane<int>(slot), 8), (key << Lane<uint64_t>(32)) | Lane<uint64_t>(inverse_id),
                       is_hit & has_room);
            }
        }
    });
    put_of_warp(kRawSum, warp_sum(raw_sum));
    put_of_warp(kSum, warp_sum(is_same ? raw_sum : row_sum));
    sync_block();
    return {first(warp_sum(get_of_warps<uint64_t, kWarps>(kRawSum))),
            first(warp_sum(get_of_warps<uint64_t, kWarps>(kSum)))};
}

// Draws into kToken and returns the weight of what was drawn from.
template <class T, int kWarps>
WARP_FN uint64_t draw(const Row<T>& row, const Target& target, bool is_filtered, bool has_bound, uint64_t row_sum) {
    if (!is_filtered) {
        draw_in_order<T, kWarps>(row, target, false, Threshold{});
        return row_sum;
    }
    const int num_found = has_bound ? get<int>(kNumFound) : kCapacity + 1;
    if (num_found <= kCapacity) {
        const uint64_t kept = draw_from_candidates<kWarps>(target, num_found, row_sum);
        if (kept > 0) return kept;
    }
    Threshold threshold = {0, 0, row_sum};
    if (target.top_k > 0) threshold = find_threshold<T, kWarps>(row, target, true, static_cast<uint64_t>(target.top_k));
    const uint64_t needed = needed_weight(target.top_p, threshold.kept);
    if (needed < threshold.kept) threshold = find_threshold<T, kWarps>(row, target, false, needed);
    const bool has_threshold = threshold.key != 0;  // the key of a finite number is not 0
    draw_in_order<T, kWarps>(row, target, has_threshold, threshold);
    return threshold.kept;
}

WARP_FN double log_weight(uint64_t total) {
    return ::log(static_cast<double>(total)) - kWeightBits * 0.69314718055994530942;
}

template <class T>
WARP_FN Lane<double> logit_at(const Row<T>& row, Lane<int> id, Lane<bool> mask) {
    const Lane<uint32_t> bits = Lane<uint32_t>(gload(row.logits, id, mask));
    if constexpr (std::is_same_v<T, float>) {
        return Lane<double>(bits_float(bits));
    } else {
        return Lane<double>(unpack<T>(bits, 0));
    }
}

// By one warp: the row's outputs. Logarithms in double, once per row.
template <class T>
WARP_FN void write_row(const SampleTokensParams& p, const Row<T>& row, const Maxima& maxima, double temperature,
                       SampleStatus status, int token, uint64_t raw_sum, uint64_t kept) {
    const int64_t r = block_id();
    const Lane<bool> is_first = lane_id() == 0;
    const bool is_ok = status == kSampleOk;
    const double raw_log_sum = is_ok ? maxima.raw + log_weight(raw_sum) : 0.0;
    const Lane<double> x = logit_at(row, Lane<int>(token), is_first & is_ok);
    // Greedy rows are certain; `kept` is 0 for them.
    const Lane<double> logprob = temperature == 0.0
                                     ? Lane<double>(0.0)
                                     : (x - static_cast<double>(maxima.best)) / temperature - log_weight(kept);
    gstore(p.token, r, Lane<int64_t>(is_ok ? token : -1), is_first);
    gstore(p.status, r, Lane<int32_t>(status), is_first);
    gstore(p.logprob_raw, r, select(is_ok, Lane<float>(x - raw_log_sum), kNan), is_first);
    gstore(p.logprob, r, select(is_ok, Lane<float>(logprob), kNan), is_first);
    for (int64_t start = 0; start < p.num_options; start += 32) {
        const Lane<int64_t> n = Lane<int64_t>(lane_id()) + start;
        const Lane<bool> has_option = n < p.num_options;
        const Lane<int64_t> id = gload(p.option_ids, n + r * p.num_options, has_option);
        const Lane<bool> is_known = has_option & (id >= 0) & (id < p.vocabulary) & is_ok;
        const Lane<float> value = Lane<float>(logit_at(row, Lane<int>(id), is_known) - raw_log_sum);
        const Lane<float> otherwise = select((id < 0) & is_ok, -kInfinity, kNan);
        gstore(p.option_logprob, n + r * p.num_options, select(is_known, value, otherwise), has_option);
    }
}

template <class T, int kWarps>
WARP_KERNEL(kWarps * 32)
sample_tokens_kernel(const SampleTokensParams p) {
    const int64_t r = block_id();
    const Row<T> row = make_row<T, kWarps>(p);
    const double temperature = first(Lane<double>(gload(p.temperature, r)));
    const int64_t top_k = first(Lane<int64_t>(gload(p.top_k, r)));
    const Maxima maxima = find_maxima<T, kWarps>(row);
    if (maxima.is_bad || maxima.best == -kInfinity) {
        const SampleStatus status = maxima.is_bad ? kSampleNotANumber : kSampleAllMasked;
        if (warp_id() == 0) write_row(p, row, maxima, temperature, status, -1, 0, 0);
        return;
    }
    Target target;
    target.best = maxima.best;
    target.scale = static_cast<float>(kLog2E / (temperature == 0.0 ? 1.0 : temperature));
    target.top_k = top_k > 0 && top_k < p.vocabulary ? static_cast<int>(top_k) : 0;
    target.top_p = first(Lane<double>(gload(p.top_p, r)));
    target.random = draw_bits(static_cast<uint64_t>(first(Lane<int64_t>(gload(p.seed, r)))),
                              static_cast<uint64_t>(first(Lane<int64_t>(gload(p.request, r)))),
                              static_cast<uint64_t>(first(Lane<int64_t>(gload(p.position, r)))));
    constexpr int kMostCandidates =
        kWarps * 4;  // half of the groups: on average 1.4 times as many tokens reach the bound
    const bool is_greedy = temperature == 0.0, is_filtered = target.top_k > 0 || target.top_p < 1.0;
    const bool has_bound = !is_greedy && is_filtered && target.top_k <= kMostCandidates;
    float bound = is_greedy ? maxima.best : kInfinity;  // nothing reaches infinity
    if (has_bound) bound = bound_of_groups<kWarps>(target.top_k > 0 ? target.top_k : kMostCandidates);
    const bool needs_sum = !is_greedy && target.top_k == 0;
    const Sums sums = sum_and_collect<T, kWarps>(row, maxima, target, bound, is_greedy, needs_sum);
    const uint64_t kept = is_greedy ? 0 : draw<T, kWarps>(row, target, is_filtered, has_bound, sums.row);
    if (warp_id() != 0) return;
    const int token = is_greedy ? static_cast<int>(~get<uint32_t>(kGreedy)) : get<int>(kToken);
    // No token: a temperature on the device that is negative or NaN, which nobody reads back to check.
    write_row(p, row, maxima, temperature, token < 0 ? kSampleNotANumber : kSampleOk, token, sums.raw, kept);
}

}  // namespace editscore::sampler
