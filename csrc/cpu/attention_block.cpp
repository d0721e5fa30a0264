// A block takes up to 112 query rows through the chunks of their path; a chunk is done in two phases, all of its scores
// and then all of its weighted values. So a maximum is taken over whole chunks, nothing is rescaled inside of one, and
// no sum of a row depends on where its leaf ends or on who else is computed.
#include "attention_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention_loops.h"

namespace editscore {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr double kLn2 = 0.69314718055994530942;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Merges rows of `from` into those of `into`; `weights` is room for two floats per row.
void merge_rows(const State& into, const State& from, int num_rows, int head_dim, const AttentionTiles& tiles,
                float* weights) {
    for (int r = 0; r < num_rows; ++r) {
        const float top = std::max(into.maximum[r], from.maximum[r]);
        weights[r] = into.maximum[r] - top;
        weights[num_rows + r] = from.maximum[r] - top;
    }
    tiles.exp2(weights, 2 * num_rows);
    for (int r = 0; r < num_rows; ++r) {
        if (from.sum[r] == 0) continue;
        float* out = into.out + r * into.out_stride;
        const float* other = from.out + r * from.out_stride;
        if (into.sum[r] == 0) {
            std::memcpy(out, other, static_cast<size_t>(head_dim) * sizeof(float));
            into.maximum[r] = from.maximum[r];
            into.sum[r] = from.sum[r];
            continue;
        }
        tiles.merge(out, other, weights[r], weights[num_rows + r], head_dim);
        into.sum[r] = into.sum[r] * weights[r] + from.sum[r] * weights[num_rows + r];
        into.maximum[r] = std::max(into.maximum[r], from.maximum[r]);
    }
}

}  // namespace

BlockWorker::BlockWorker(const SharedPrefixAttentionParams& params, const AttentionTiles& tiles, const Block& block,
                         Scratch* scratch)
    : p_(params),
      tiles_(tiles),
      block_(block),
      s_(*scratch),
      group_(static_cast<int>(params.num_heads / params.num_kv_heads)),
      num_rows_((block.end - block.begin) * group_),
      head_dim_(static_cast<int>(params.head_dim)),
      element_bytes_(params.type == AttentionType::kFloat32 ? 4 : 2),
      page_bytes_(kPageTokens * params.head_dim * element_bytes_),
      panel_step_(int64_t{num_rows_} * kPanelStride),
      splits_pairs_(params.type != AttentionType::kFloat32 && !tiles.dots_pairs) {
    find_runs();
    const int64_t seq = p_.row_seq[row_of(0)], leaf = p_.seq_leaf[seq];
    leaf_length_ = leaf_length(p_, seq);
    leaf_table_ = leaf < 0 ? nullptr : p_.leaf_pages + leaf * p_.leaf_width;
}

void BlockWorker::find_runs() {
    s_.runs.clear();
    s_.visible.resize(static_cast<size_t>(num_rows_));
    for (int r = 0; r < num_rows_; r += group_) {
        const int64_t row = row_of(r), seq = p_.row_seq[row], length = p_.row_lengths[row];
        if (s_.runs.empty() || s_.runs.back().seq != seq) s_.runs.push_back({r, r, seq, 0});
        s_.runs.back().end = r + group_;
        s_.runs.back().length = std::max(s_.runs.back().length, length);
        for (int h = 0; h < group_; ++h) s_.visible[static_cast<size_t>(r + h)] = leaf_length(p_, seq) + length;
    }
}

void BlockWorker::load_query() {
    query_ = s_.query.reserve(int64_t{num_rows_} * kQueryStride);
    scores_ = s_.scores.reserve(panel_step_ * (p_.chunk_tokens / kPanelTokens));
    // Keys of two pages, and as many pages of values as one call takes.
    pages_ = splits_pairs_ ? s_.pages.reserve((kMaxTilePages + tiles_.value_pages) * kPageTokens * head_dim_) : nullptr;
    const bool negates = p_.scale < 0;  // then the largest score is found with the sign in the query
    for (int r = 0; r < num_rows_; ++r) {
        const int64_t offset = row_of(r) * p_.q_row_stride + head_of(r) * p_.q_head_stride;
        if (p_.type == AttentionType::kFloat32) {
            const float* from = static_cast<const float*>(p_.q) + offset;
            for (int d = 0; d < head_dim_; ++d) query_[r * kQueryStride + d] = negates ? -from[d] : from[d];
            continue;
        }
        const uint16_t* from = static_cast<const uint16_t*>(p_.q) + offset;
        const uint16_t sign = negates ? 0x8000 : 0;
        if (tiles_.dots_pairs) {
            uint16_t* to = reinterpret_cast<uint16_t*>(query_ + r * kPairsStride);
            for (int d = 0; d < head_dim_; ++d) to[d] = from[d] ^ sign;
        } else if (p_.type == AttentionType::kBfloat16) {
            for (int d = 0; d < head_dim_; ++d) {
                query_[r * kQueryStride + d] = bits_of<float>(static_cast<uint32_t>(from[d] ^ sign) << 16);
            }
        } else {
            for (int d = 0; d < head_dim_; ++d) {
                query_[r * kQueryStride + d] = float_of_half(static_cast<uint32_t>(from[d] ^ sign));
            }
        }
    }
}

const void* BlockWorker::loaded(const char* page, int rows, int length, int64_t place) {
    if (!splits_pairs_) return page;
    float* to = pages_ + place * kPageTokens * head_dim_;
    const auto split = p_.type == AttentionType::kBfloat16 ? tiles_.split_bfloat16 : tiles_.split_float16;
    split(reinterpret_cast<const uint32_t*>(page), rows, length, to);
    return to;
}

int64_t BlockWorker::within(int64_t chunk, int64_t length) const {
    return std::clamp<int64_t>(length - chunk * p_.chunk_tokens, 0, p_.chunk_tokens);
}

int64_t BlockWorker::leaf_pages_of(int64_t chunk) const { return within(chunk, leaf_length_) / kPageTokens; }

int64_t BlockWorker::own_pages_of(int64_t chunk, const Run& run) const {
    const int64_t tokens = within(chunk, leaf_length_ + run.length);
    return (tokens + kPageTokens - 1) / kPageTokens - leaf_pages_of(chunk);
}

void BlockWorker::list_pages(int64_t chunk, std::vector<PageAddress>* pages) const {
    pages->clear();
    const int64_t start = chunk * p_.chunk_tokens / kPageTokens, leaf_pages = leaf_pages_of(chunk);
    for (int64_t i = 0; i < leaf_pages; ++i) pages->push_back(address_of(leaf_table_[start + i]));
    const int64_t first_own = std::max<int64_t>(start - leaf_length_ / kPageTokens, 0);
    for (const Run& run : s_.runs) {
        const int32_t* table = p_.own_pages + run.seq * p_.own_width + first_own;
        const int64_t own = own_pages_of(chunk, run);
        for (int64_t i = 0; i < own; ++i) pages->push_back(address_of(table[i]));
    }
}

void BlockWorker::compute_scores(int64_t first, int64_t count, int begin_row, int end_row, int64_t column) {
    ScoresTask task = {};
    task.num_rows = end_row - begin_row;
    task.head_dim = head_dim_;
    task.query = query_ + begin_row * (tiles_.dots_pairs ? kPairsStride : kQueryStride);
    task.prefetch_step = static_cast<int>(page_bytes_ / (tiles_.dots_pairs ? head_dim_ / 2 : head_dim_));
    const int64_t num_now = static_cast<int64_t>(s_.pages_now.size());
    const int64_t num_next = static_cast<int64_t>(s_.pages_next.size());
    for (int64_t i = 0; i < count; i += task.num_pages) {
        // A call stays within a panel.
        const int64_t token = column + i * kPageTokens;
        task.num_pages = static_cast<int>(
            std::min({count - i, int64_t{kMaxTilePages}, (kPanelTokens - token % kPanelTokens) / kPageTokens}));
        task.scores = scores_ + token / kPanelTokens * panel_step_ + begin_row * kPanelStride + token % kPanelTokens;
        for (int j = 0; j < kMaxTilePages; ++j) {
            const int64_t place = first + i + std::min(j, task.num_pages - 1);
            const int64_t after = first + i + j + task.num_pages;
            const PageAddress& page = s_.pages_now[static_cast<size_t>(place)];
            const PageAddress* next = &page;
            if (after < num_now) next = &s_.pages_now[static_cast<size_t>(after)];
            if (after >= num_now && after - num_now < num_next)
                next = &s_.pages_next[static_cast<size_t>(after - num_now)];
            task.keys[j] = j < task.num_pages ? loaded(page.keys, head_dim_ / 2, kPageTokens, j) : nullptr;
            task.prefetch[2 * j] = next->keys;
            task.prefetch[2 * j + 1] = page.values;
        }
        tiles_.scores(task);
    }
}

void BlockWorker::compute_values(int64_t first, int64_t count, int begin_row, int end_row, int64_t column, bool starts,
                                 const State& to) {
    const void* pages[kPanelPages];
    const char* prefetch[kPanelPages];
    ValuesTask task = {};
    task.values = pages;
    task.prefetch = prefetch;
    task.page_bytes = static_cast<int>(page_bytes_);
    task.num_rows = end_row - begin_row;
    task.head_dim = head_dim_;
    task.out = to.out + begin_row * to.out_stride;
    task.starts = starts;
    for (int64_t i = 0; i < count; i += task.num_pages, task.starts = false) {
        const int64_t token = column + i * kPageTokens;
        task.num_pages = static_cast<int>(
            std::min({count - i, int64_t{tiles_.value_pages}, (kPanelTokens - token % kPanelTokens) / kPageTokens}));
        for (int j = 0; j < task.num_pages; ++j) {
            const size_t place = static_cast<size_t>(first + i + j);
            const char* values = s_.pages_now[place].values;
            pages[j] = loaded(values, kPageTokens / 2, head_dim_, kMaxTilePages + j);
            prefetch[j] = place < s_.pages_next.size() ? s_.pages_next[place].keys : values;
        }
        const int64_t place = token % kPanelTokens / (tiles_.dots_pairs ? 2 : 1);
        task.weights = scores_ + token / kPanelTokens * panel_step_ + begin_row * kPanelStride + place;
        tiles_.values(task);
    }
}

void BlockWorker::compute_chunk(int64_t chunk, const State& to) {
    const int64_t leaf_pages = leaf_pages_of(chunk), leaf_tokens = leaf_pages * kPageTokens;
    compute_scores(0, leaf_pages, 0, num_rows_, 0);
    int64_t place = leaf_pages;
    for (const Run& run : s_.runs) {
        compute_scores(place, own_pages_of(chunk, run), run.begin, run.end, leaf_tokens);
        place += own_pages_of(chunk, run);
    }
    const float scale = std::abs(p_.scale) * kLog2E;
    for (const Run& run : s_.runs) {
        const int64_t padded = leaf_tokens + own_pages_of(chunk, run) * kPageTokens;
        const auto visible = [&](int r) { return within(chunk, s_.visible[static_cast<size_t>(r)]); };
        for (int r = run.begin; r < run.end; ++r) {
            to.maximum[r] = tiles_.maximum(scores_ + r * kPanelStride, panel_step_, visible(r), scale);
        }
        // Apart from the maxima, so that no row waits for its own.
        for (int r = run.begin; r < run.end; ++r) {
            const float highest = std::max(to.maximum[r], std::numeric_limits<float>::lowest());
            to.sum[r] = tiles_.weights(scores_ + r * kPanelStride, panel_step_, visible(r), padded, scale, highest);
        }
    }
    compute_values(0, leaf_pages, 0, num_rows_, 0, true, to);
    place = leaf_pages;
    for (const Run& run : s_.runs) {
        compute_values(place, own_pages_of(chunk, run), run.begin, run.end, leaf_tokens, leaf_pages == 0, to);
        place += own_pages_of(chunk, run);
    }
}

void BlockWorker::step(int64_t chunk, int64_t end, const State& to) {
    s_.pages_next.clear();
    if (chunk + 1 < end) list_pages(chunk + 1, &s_.pages_next);
    compute_chunk(chunk, to);
    s_.pages_now.swap(s_.pages_next);
}

State BlockWorker::running_state() {
    float* sums = s_.sums.reserve(6 * int64_t{num_rows_});
    merge_weights_ = sums + 4 * num_rows_;
    State state = {sums, sums + num_rows_, s_.running.reserve(int64_t{num_rows_} * kOutStride), kOutStride};
    std::fill_n(state.maximum, num_rows_, -kInfinity);
    std::fill_n(state.sum, num_rows_, 0.0f);
    return state;
}

State BlockWorker::of_chunk(const State& partials, int64_t chunk) const {
    const int64_t first = chunk * num_rows_;
    return {partials.maximum + first, partials.sum + first, partials.out + first * kOutStride, kOutStride};
}

void BlockWorker::run(int64_t begin, int64_t end) {
    load_query();
    list_pages(begin, &s_.pages_now);
    const State running = running_state();
    const State chunk_state = {running.sum + num_rows_, running.sum + 2 * num_rows_,
                               s_.chunk.reserve(int64_t{num_rows_} * kOutStride), kOutStride};
    for (int64_t chunk = begin; chunk < end; ++chunk) {
        step(chunk, end, chunk == begin ? running : chunk_state);
        if (chunk > begin) merge_rows(running, chunk_state, num_rows_, head_dim_, tiles_, merge_weights_);
    }
    finish(running);
}

void BlockWorker::run_apart(int64_t begin, int64_t end, const State& partials) {
    load_query();
    list_pages(begin, &s_.pages_now);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
        step(chunk, end, of_chunk(partials, chunk));
    }
}

void BlockWorker::merge(const State& partials) {
    const State running = running_state();
    for (int32_t chunk = 0; chunk < block_.num_chunks; ++chunk) {
        merge_rows(running, of_chunk(partials, chunk), num_rows_, head_dim_, tiles_, merge_weights_);
    }
    finish(running);
}

void BlockWorker::finish(const State& state) {
    for (int r = 0; r < num_rows_; ++r) {
        const int64_t place = row_of(r) * p_.num_heads + head_of(r);
        const bool is_empty = state.sum[r] == 0;
        p_.lse[place] = is_empty
                            ? -kInfinity
                            : static_cast<float>(state.maximum[r] * kLn2 + std::log(static_cast<double>(state.sum[r])));
        char* out = static_cast<char*>(p_.out) + place * head_dim_ * element_bytes_;
        if (is_empty) {
            std::memset(out, 0, static_cast<size_t>(head_dim_ * element_bytes_));
        } else {
            tiles_.store(state.out + r * state.out_stride, 1.0f / state.sum[r], head_dim_, p_.type, out);
        }
    }
}

}  // namespace editscore
