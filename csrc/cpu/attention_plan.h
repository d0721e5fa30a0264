// What shared_prefix_attention will do: its tables checked, and the work cut into units.
#pragma once

#include <cstdint>
#include <vector>

#include "editscore/shared_prefix_attention.h"

namespace editscore {

// Query rows (row x head of a group) that one unit takes at most, unless one row has more heads: their scores and
// outputs stay in the second cache (100 KB each) while keys and values pass.
constexpr int64_t kBlockRows = 112;

// Rows group_rows[begin] .. group_rows[end - 1], which share a leaf, for one head of keys.
struct Block {
    int32_t begin, end;
    int32_t kv_head;
    int32_t num_chunks;         // of the longest path
    int64_t first_partial = 0;  // where its partial results begin when its path is split, in query rows
};

// Chunks [begin, end) of a block.
struct Unit {
    int32_t block;
    int32_t begin, end;
};

struct AttentionPlan {
    std::vector<Block> blocks;
    std::vector<Unit> units;
    bool is_split;         // units leave partial results of every chunk; they are merged in a second turn
    int64_t num_partials;  // query rows x chunks
};

int64_t leaf_length(const SharedPrefixAttentionParams& params, int64_t seq);

// Throws std::invalid_argument naming the table at fault.
void check_tables(const SharedPrefixAttentionParams& params);

AttentionPlan plan_attention(const SharedPrefixAttentionParams& params, int num_threads);

}  // namespace editscore
