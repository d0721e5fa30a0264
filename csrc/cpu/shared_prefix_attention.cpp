// shared_prefix_attention on the CPU: units of work over threads, then partial results merged where paths were split.
#include "editscore/shared_prefix_attention.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>

#include "attention_block.h"
#include "attention_plan.h"
#include "attention_tiles.h"
#include "parallel.h"

namespace editscore {
namespace {

Scratch& scratch() {
    thread_local Scratch of_thread;
    return of_thread;
}

void clear_padding(const SharedPrefixAttentionParams& p) {
    const int64_t row_bytes = p.num_heads * p.head_dim * (p.type == AttentionType::kFloat32 ? 4 : 2);
    for (int64_t row = 0; row < p.num_rows; ++row) {
        if (p.row_seq[row] >= 0) continue;
        std::memset(static_cast<char*>(p.out) + row * row_bytes, 0, static_cast<size_t>(row_bytes));
        std::fill_n(p.lse + row * p.num_heads, p.num_heads, -std::numeric_limits<float>::infinity());
    }
}

}  // namespace

void shared_prefix_attention_cpu(const SharedPrefixAttentionParams& params, int num_threads, InstructionSet set) {
    check_tables(params);
    clear_padding(params);
    const AttentionTiles& tiles = attention_tiles(set, params.type == AttentionType::kBfloat16);
    const AttentionPlan plan = plan_attention(params, num_threads);
    const std::unique_ptr<float[]> sums(new float[static_cast<size_t>(2 * plan.num_partials)]);
    Buffer outs;
    float* out = outs.reserve(plan.num_partials * kOutStride);
    const auto partials_of = [&](const Block& block) {
        float* sum = sums.get() + 2 * block.first_partial;
        const int64_t count = (block.end - block.begin) * (params.num_heads / params.num_kv_heads) * block.num_chunks;
        return State{sum, sum + count, out + block.first_partial * kOutStride, kOutStride};
    };
    for_rows(
        static_cast<int64_t>(plan.units.size()), num_threads,
        [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const Unit& unit = plan.units[static_cast<size_t>(i)];
                const Block& block = plan.blocks[static_cast<size_t>(unit.block)];
                BlockWorker worker(params, tiles, block, &scratch());
                if (plan.is_split) {
                    worker.run_apart(unit.begin, unit.end, partials_of(block));
                } else {
                    worker.run(unit.begin, unit.end);
                }
            }
        },
        1);
    if (!plan.is_split) return;
    for_rows(
        static_cast<int64_t>(plan.blocks.size()), num_threads,
        [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const Block& block = plan.blocks[static_cast<size_t>(i)];
                BlockWorker(params, tiles, block, &scratch()).merge(partials_of(block));
            }
        },
        1);
}

}  // namespace editscore
