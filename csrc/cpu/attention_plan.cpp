#include "attention_plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace editscore {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

void check_pages(const char* name, const int32_t* pages, int64_t count, int64_t num_pages) {
    for (int64_t i = 0; i < count; ++i) {
        if (pages[i] < 0 || pages[i] >= num_pages) {
            fail(std::string(name) + ": names page " + std::to_string(pages[i]) + " of " + std::to_string(num_pages));
        }
    }
}

void check_index(const char* name, int64_t index, int64_t size) {
    if (index < -1 || index >= size) {
        fail(std::string(name) + ": names entry " + std::to_string(index) + " of " + std::to_string(size));
    }
}

void check_length(const char* name, int64_t length, int64_t width) {
    if (length < 0 || length > width * kPageTokens) {
        fail(std::string(name) + ": " + std::to_string(length) + " is outside 0.." +
             std::to_string(width * kPageTokens) + ", the tokens of its pages");
    }
}

// Every row that is not padding stands in exactly one group, and the rows of a group share a leaf.
void check_groups(const SharedPrefixAttentionParams& p) {
    std::vector<bool> is_listed(static_cast<size_t>(p.num_rows));
    for (int64_t i = 0; i < p.num_group_rows; ++i) {
        const int64_t row = p.group_rows[i];
        if (row < 0 || row >= p.num_rows || p.row_seq[row] < 0) fail("group_rows: names a row that is not there");
        if (is_listed[static_cast<size_t>(row)]) fail("group_rows: names a row twice");
        is_listed[static_cast<size_t>(row)] = true;
    }
    const int64_t real = std::count_if(p.row_seq, p.row_seq + p.num_rows, [](int32_t seq) { return seq >= 0; });
    if (p.num_group_rows != real) fail("group_rows: a row is in no group");
    if (p.group_starts[0] != 0 || p.group_starts[p.num_groups] != p.num_group_rows) {
        fail("group_starts: does not cover group_rows");
    }
    for (int64_t g = 0; g < p.num_groups; ++g) {
        if (p.group_starts[g] > p.group_starts[g + 1]) fail("group_starts: not ascending");
    }
    for (int64_t g = 0; g < p.num_groups; ++g) {
        for (int64_t i = p.group_starts[g]; i < p.group_starts[g + 1]; ++i) {
            if (p.seq_leaf[p.row_seq[p.group_rows[i]]] != p.seq_leaf[p.row_seq[p.group_rows[p.group_starts[g]]]]) {
                fail("group_starts: rows of one group have different leaves");
            }
        }
    }
}

int32_t first_page(const SharedPrefixAttentionParams& p, int64_t group) {
    if (p.group_starts[group] == p.group_starts[group + 1]) return -1;
    const int64_t leaf = p.seq_leaf[p.row_seq[p.group_rows[p.group_starts[group]]]];
    return leaf < 0 || p.leaf_lengths[leaf] == 0 ? -1 : p.leaf_pages[leaf * p.leaf_width];
}

void add_blocks(const SharedPrefixAttentionParams& p, int64_t group, int64_t kv_head, std::vector<Block>* blocks) {
    const int64_t begin = p.group_starts[group], rows = p.group_starts[group + 1] - begin;
    const int64_t count = ceil_div(rows, std::max<int64_t>(1, kBlockRows / (p.num_heads / p.num_kv_heads)));
    for (int64_t i = 0; i < count; ++i) {
        Block block = {static_cast<int32_t>(begin + rows * i / count),
                       static_cast<int32_t>(begin + rows * (i + 1) / count), static_cast<int32_t>(kv_head), 0};
        int64_t longest = 0;
        for (int32_t r = block.begin; r < block.end; ++r) {
            const int64_t row = p.group_rows[r];
            longest = std::max(longest, leaf_length(p, p.row_seq[row]) + p.row_lengths[row]);
        }
        block.num_chunks = static_cast<int32_t>(ceil_div(longest, p.chunk_tokens));
        blocks->push_back(block);
    }
}

}  // namespace

int64_t leaf_length(const SharedPrefixAttentionParams& p, int64_t seq) {
    const int64_t leaf = p.seq_leaf[seq];
    return leaf < 0 ? 0 : p.leaf_lengths[leaf];
}

void check_tables(const SharedPrefixAttentionParams& p) {
    for (int64_t leaf = 0; leaf < p.num_leaves; ++leaf) {
        check_length("leaf_lengths", p.leaf_lengths[leaf], p.leaf_width);
        if (p.leaf_lengths[leaf] % kPageTokens) fail("leaf_lengths: not a multiple of 16");
        check_pages("leaf_pages", p.leaf_pages + leaf * p.leaf_width, p.leaf_lengths[leaf] / kPageTokens, p.num_pages);
    }
    for (int64_t seq = 0; seq < p.num_seqs; ++seq) check_index("seq_leaf", p.seq_leaf[seq], p.num_leaves);
    std::vector<int32_t> own_length(static_cast<size_t>(p.num_seqs));
    for (int64_t row = 0; row < p.num_rows; ++row) {
        check_index("row_seq", p.row_seq[row], p.num_seqs);
        if (p.row_seq[row] < 0) continue;
        check_length("row_lengths", p.row_lengths[row], p.own_width);
        int32_t& length = own_length[static_cast<size_t>(p.row_seq[row])];
        length = std::max(length, p.row_lengths[row]);
    }
    for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
        const int64_t pages = ceil_div(own_length[static_cast<size_t>(seq)], kPageTokens);
        check_pages("own_pages", p.own_pages + seq * p.own_width, pages, p.num_pages);
    }
    check_groups(p);
}

AttentionPlan plan_attention(const SharedPrefixAttentionParams& p, int num_threads) {
    AttentionPlan plan = {};
    // Groups that begin with the same page follow one another; head by head, so that what they share is still near.
    for (int64_t group = 0; group < p.num_groups;) {
        int64_t end = group + 1;
        while (end < p.num_groups && first_page(p, end) >= 0 && first_page(p, end) == first_page(p, group)) ++end;
        for (int64_t head = 0; head < p.num_kv_heads; ++head) {
            for (int64_t member = group; member < end; ++member) add_blocks(p, member, head, &plan.blocks);
        }
        group = end;
    }
    const int64_t num_blocks = static_cast<int64_t>(plan.blocks.size());
    // Two units for every thread even out what their number leaves over; a split costs a trip of the partial results
    // through memory.
    const bool has_idle_threads = num_threads > 1 && num_blocks && num_blocks < 2 * num_threads;
    const int64_t splits = p.num_splits ? p.num_splits : has_idle_threads ? ceil_div(2 * num_threads, num_blocks) : 1;
    plan.is_split = splits > 1;
    const int64_t group_size = p.num_heads / p.num_kv_heads;
    for (int32_t b = 0; b < num_blocks; ++b) {
        Block& block = plan.blocks[static_cast<size_t>(b)];
        block.first_partial = plan.num_partials;
        if (plan.is_split) plan.num_partials += (block.end - block.begin) * group_size * block.num_chunks;
        const int64_t parts = std::clamp<int64_t>(splits, 1, std::max(block.num_chunks, 1));
        for (int64_t i = 0; i < parts; ++i) {
            plan.units.push_back({b, static_cast<int32_t>(block.num_chunks * i / parts),
                                  static_cast<int32_t>(block.num_chunks * (i + 1) / parts)});
        }
    }
    return plan;
}

}  // namespace editscore
