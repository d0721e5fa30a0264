// Which tokens of a row are kept, and which of them is drawn. Two ways with one result: among a few hundred candidates
// in shared memory, or over the row with a threshold found digit by digit of the key.
#pragma once

#include <cmath>
#include <cstdint>

#include "editscore/philox.h"
#include "sample_tokens_row.cuh"
#include "sample_tokens_shared.cuh"

namespace editscore::sampler {

// What is drawn from, the same in all threads.
struct Target {
    float best;       // the largest allowed logit
    float scale;      // float(log2(e) / temperature)
    int top_k;        // 0: off
    double top_p;     // 1: off
    uint64_t random;  // 64 bits
};

// The weight that the kept prefix has to reach.
WARP_FN uint64_t needed_weight(double top_p, uint64_t total) {
    const double share = ::ceil(top_p * static_cast<double>(total));
    const uint64_t needed = share >= 1.0 ? static_cast<uint64_t>(share) : 1;
    return needed < total ? needed : total;
}

// The `wanted`-th largest of the maxima of groups of four threads: at least so many tokens of the row reach it. Each
// group counts the maxima that come before its own; exactly one has the wanted rank.
template <int kWarps>
WARP_FN float bound_of_groups(int wanted) {
    constexpr int kGroups = kWarps * 8;
    static_assert(kGroups % 16 == 0);
    const Lane<int> group = thread_id() >> 2, part = thread_id() & 3;
    const Lane<float> mine = sload<float>(shared_at(kGroupBest, group, 4));
    Lane<int> rank = 0;
    for (int i = 0; i < kGroups / 16; ++i) {
        const Lane<int> other = (part + i * 4) * 4;
        Lane<float> maxima[4];
        sload_vec(maxima, shared_at(kGroupBest, other, 4));
        UNROLL for (int n = 0; n < 4; ++n) {
            const Lane<bool> is_before =
                (maxima[n] > mine) | ((maxima[n] == mine) & (other + n < (mutant(8) ? group + 1 : group)));
            rank += select(is_before, 1, 0);
        }
    }
    rank += shfl_xor(rank, 1);
    rank += shfl_xor(rank, 2);
    sstore(shared_at(kBound, 0, 4), larger(mine, kLowest), (rank == wanted - 1) & (part == 0));
    sync_block();
    return get<float>(kBound);
}

// Sorts the candidates: each counts those before it. The entries differ, so the ranks are a permutation.
template <int kWarps>
WARP_FN void sort_candidates(const Target& target, int num_found) {
    for (int start = 0; start < num_found; start += kWarps * 32) {
        const Lane<int> i = thread_id() + start;
        const Lane<bool> is_mine = i < num_found;
        const Lane<uint64_t> mine = sload<uint64_t>(shared_at(kFound, i, 8), is_mine);
        Lane<int> rank = 0;
        for (int j = 0; j < num_found; ++j) {
            const Lane<uint64_t> other = sload<uint64_t>(shared_at(kFound, j, 8));
            rank += select(other > mine, 1, 0);
        }
        const Lane<float> x = key_value(Lane<uint32_t>(mine >> Lane<uint64_t>(32)));
        sstore(shared_at(kSorted, rank, 8), mine, is_mine);
        sstore(shared_at(kWeights, rank, 8), token_weight(x, target.best, target.scale), is_mine);
    }
    if (!mutant(4)) sync_block();
}

// By one warp: how many of the sorted candidates are kept, their weight and the weight that was needed.
WARP_FN void keep_prefix(const Target& target, int num_found, uint64_t row_total) {
    const int limit = target.top_k > 0 ? smaller(target.top_k + (mutant(3) ? 1 : 0), num_found) : num_found;
    uint64_t total = row_total;
    if (target.top_k > 0) {
        Lane<uint64_t> sum = 0;
        for (int i = 0; i < limit; i += 32) {
            sum += sload<uint64_t>(shared_at(kWeights, lane_id() + i, 8), lane_id() + i < limit);
        }
        total = first(warp_sum(sum));
    }
    const uint64_t needed = needed_weight(target.top_p, total);
    uint64_t kept = 0;
    int length = 0;
    while (length < limit && kept < needed) {
        const Lane<int> i = lane_id() + length;
        const Lane<uint64_t> weight = sload<uint64_t>(shared_at(kWeights, i, 8), i < limit);
        const Lane<uint64_t> reached = warp_inclusive_sum(weight) + kept;
        const int hit = lowest_bit(ballot((reached >= needed) & (i < limit)));
        const int last = hit >= 0 ? hit : smaller(limit - length, 32) - 1;
        kept = first(shfl(reached, Lane<int>(last)));
        length += last + 1;
    }
    put(kLength, length);
    put(kKept, kept);
    put(kNeeded, needed);
}

// Draws among the candidates into kToken and returns the weight of the kept ones; 0 if they do not reach top_p, which
// only happens without top-k.
template <int kWarps>
WARP_FN uint64_t draw_from_candidates(const Target& target, int num_found, uint64_t row_total) {
    sort_candidates<kWarps>(target, num_found);
    if (warp_id() == 0) keep_prefix(target, num_found, row_total);
    sync_block();
    const int length = get<int>(kLength);
    const uint64_t kept = get<uint64_t>(kKept);
    if (kept < get<uint64_t>(kNeeded)) return 0;
    const uint64_t drawn = scale_uniform(target.random, kept);
    for (int start = 0; start < length; start += kWarps * 32) {
        const Lane<int> i = thread_id() + start;
        const Lane<bool> is_mine = i < length;
        // The lower half of an entry is ~id, so a lower id is a larger half.
        const Lane<uint32_t> mine = Lane<uint32_t>(sload<uint64_t>(shared_at(kSorted, i, 8), is_mine));
        const Lane<uint64_t> weight = sload<uint64_t>(shared_at(kWeights, i, 8), is_mine);
        Lane<uint64_t> before = 0;
        for (int j = 0; j < length; ++j) {
            const Lane<uint32_t> other = Lane<uint32_t>(sload<uint64_t>(shared_at(kSorted, j, 8)));
            before += select(mutant(12) ? other < mine : other > mine, sload<uint64_t>(shared_at(kWeights, j, 8)),
                             uint64_t{0});
        }
        sstore(shared_at(kToken, 0, 4), Lane<int>(~mine), is_mine & (before <= drawn) & (before + weight > drawn));
    }
    sync_block();
    return kept;
}

// The kept tokens of a row: those with a larger key, and the first `ties` ids of those with this key.
struct Threshold {
    uint32_t key;
    int ties;
    uint64_t kept;  // their weight
};

// By one warp, from the highest bin down: the bin in which the sum of `measures` (counts or weights) reaches `needed`
// (no more than the sum of all), what is still needed there, and the weight above it.
WARP_FN void find_bin(bool by_count, uint64_t needed, bool is_first) {
    Lane<uint64_t> all = 0;
    if (is_first) {
        for (int i = 0; i < kNumBins; i += 32) {
            all += by_count ? Lane<uint64_t>(sload<uint32_t>(shared_at(kBinCounts, lane_id() + i, 4)))
                            : sload<uint64_t>(shared_at(kBinWeights, lane_id() + i, 8));
        }
        const uint64_t total = first(warp_sum(all));
        needed = smaller(needed, total);
    }
    uint64_t above = 0;
    for (int top = kNumBins - 1; top >= 0; top -= 32) {
        const Lane<int> bin = -lane_id() + top;
        const Lane<uint64_t> count = Lane<uint64_t>(sload<uint32_t>(shared_at(kBinCounts, bin, 4)));
        const Lane<uint64_t> weight = sload<uint64_t>(shared_at(kBinWeights, bin, 8));
        const Lane<uint64_t> measure = by_count ? count : weight;
        const Lane<uint64_t> reached = warp_inclusive_sum(measure), weights = warp_inclusive_sum(weight);
        const int hit = lowest_bit(ballot(reached >= needed));
        if (hit >= 0) {
            put(kBin, top - hit);
            put(kNeeded, needed - first(shfl(reached - measure, Lane<int>(hit))));
            put(kAbove, above + first(shfl(weights - weight, Lane<int>(hit))));
            return;
        }
        needed -= first(shfl(reached, Lane<int>(31)));
        above += first(shfl(weights, Lane<int>(31)));
    }
}

// Three reads of the row: 11, 11 and 10 bits of the key.
template <class T, int kWarps>
WARP_FN Threshold find_threshold(const Row<T>& row, const Target& target, bool by_count, uint64_t needed) {
    Threshold found = {0, 0, 0};
    UNROLL for (int level = 0; level < 3; ++level) {
        const int shift = level == 0 ? 21 : level == 1 ? 10 : 0, bits = level == 2 ? 10 : 11;
        sync_block();  // what this memory was used for before has been read
        for (int i = 0; i < kNumBins; i += kWarps * 32) {
            sstore(shared_at(kBinCounts, thread_id() + i, 4), 0u);
            sstore(shared_at(kBinWeights, thread_id() + i, 8), uint64_t{0});
        }
        if (!mutant(9)) sync_block();
        const uint32_t prefix = found.key;
        for_each_tile<1>(row, [&](Lane<int>, const auto&, const auto& x) {
            UNROLL for (int e = 0; e < Element<T>::kPerVector; ++e) {
                const Lane<uint32_t> key = ordered_key(x[e]);
                Lane<bool> is_in = x[e] > -kInfinity;
                if (level > 0 && !(mutant(10) && level == 2)) is_in = is_in & (key >> (shift + bits) == prefix);
                if (!any(is_in)) continue;
                const Lane<int> bin = Lane<int>((key >> shift) & ((1u << bits) - 1));
                satomic_add(shared_at(kBinCounts, bin, 4), Lane<uint32_t>(1u), is_in);
                satomic_add(shared_at(kBinWeights, bin, 8), token_weight(x[e], target.best, target.scale), is_in);
            }
        });
        sync_block();
        if (warp_id() == 0) find_bin(by_count, needed, level == 0);
        sync_block();
        needed = get<uint64_t>(kNeeded);
        found.kept += get<uint64_t>(kAbove);
        found.key = found.key << bits | static_cast<uint32_t>(get<int>(kBin));
    }
    const uint64_t weight = first(token_weight(key_value(Lane<uint32_t>(found.key)), target.best, target.scale));
    found.ties = static_cast<int>(by_count ? needed : (needed + weight - 1) / weight);
    found.kept += static_cast<uint64_t>(found.ties) * weight;
    return found;
}

}  // namespace editscore::sampler
