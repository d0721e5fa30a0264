// One unit of shared_prefix_attention: some rows that share a leaf, one head of keys, some chunks of their path.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "attention_plan.h"
#include "attention_tiles.h"
#include "editscore/shared_prefix_attention.h"

namespace editscore {

struct AlignedDelete {
    void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};

// Memory that grows and is not initialised.
class Buffer {
  public:
    float* reserve(int64_t count) {
        if (count > size_) {
            memory_.reset();
            size_ = 0;
            memory_.reset(static_cast<float*>(
                ::operator new[](static_cast<size_t>(count) * sizeof(float), std::align_val_t{64})));
            size_ = count;
        }
        return memory_.get();
    }

  private:
    std::unique_ptr<float[], AlignedDelete> memory_;
    int64_t size_ = 0;
};

// The rows of one sequence within a block: query rows [begin, end).
struct Run {
    int begin, end;
    int64_t seq;
    int64_t length;  // tokens of own pages that its longest row sees
};

// Where one head of a page lies.
struct PageAddress {
    const char* keys;
    const char* values;
};

// Running results of some query rows, or those of one chunk.
struct State {
    float* maximum;  // in units of log2
    float* sum;
    float* out;
    int64_t out_stride;
};

// Memory of one thread, kept from call to call: taking half a megabyte from the system costs more than a small call.
struct Scratch {
    Buffer query, scores, running, chunk, sums, pages;
    std::vector<Run> runs;
    std::vector<PageAddress> pages_now, pages_next;  // of this chunk and of the next one, in the order of use
    std::vector<int64_t> visible;                    // tokens of its path that a query row sees
};

// One block over some of its chunks.
class BlockWorker {
  public:
    BlockWorker(const SharedPrefixAttentionParams& params, const AttentionTiles& tiles, const Block& block,
                Scratch* scratch);

    // The running result of chunks [begin, end), into out and lse.
    void run(int64_t begin, int64_t end);
    // Results of every chunk of [begin, end), into `partials` [chunks of the block][rows].
    void run_apart(int64_t begin, int64_t end, const State& partials);
    // Merges the partial results of all chunks, into out and lse.
    void merge(const State& partials);

  private:
    void find_runs();
    void load_query();
    // One chunk of those before `end`, while the pages of the next one come near.
    void step(int64_t chunk, int64_t end, const State& to);
    void compute_chunk(int64_t chunk, const State& to);
    // The pages of a chunk: the leaf's, then those of every run.
    void list_pages(int64_t chunk, std::vector<PageAddress>* pages) const;
    int64_t leaf_pages_of(int64_t chunk) const;
    int64_t own_pages_of(int64_t chunk, const Run& run) const;
    // Scores of query rows against `count` of the chunk's pages from place `first` on; they begin at token `column`.
    void compute_scores(int64_t first, int64_t count, int begin_row, int end_row, int64_t column);
    void compute_values(int64_t first, int64_t count, int begin_row, int end_row, int64_t column, bool starts,
                        const State& to);
    int64_t within(int64_t chunk, int64_t length) const;
    void finish(const State& state);
    State running_state();
    // The results of one chunk among those of all chunks.
    State of_chunk(const State& partials, int64_t chunk) const;

    PageAddress address_of(int64_t page) const {
        const int64_t offset = (page * p_.num_kv_heads + block_.kv_head) * page_bytes_;
        return {static_cast<const char*>(p_.k_pages) + offset, static_cast<const char*>(p_.v_pages) + offset};
    }
    // A page as the tiles want it: as it is, or as floats in `place` of s_.pages.
    const void* loaded(const char* page, int rows, int length, int64_t place);

    int64_t row_of(int query_row) const { return p_.group_rows[block_.begin + query_row / group_]; }
    int64_t head_of(int query_row) const { return block_.kv_head * group_ + query_row % group_; }

    const SharedPrefixAttentionParams& p_;
    const AttentionTiles& tiles_;
    const Block block_;
    Scratch& s_;
    const int group_, num_rows_, head_dim_;
    const int64_t element_bytes_, page_bytes_, panel_step_;
    const bool splits_pairs_;
    int64_t leaf_length_ = 0;
    const int32_t* leaf_table_ = nullptr;
    float* query_ = nullptr;
    float* scores_ = nullptr;
    float* pages_ = nullptr;
    float* merge_weights_ = nullptr;
};

}  // namespace editscore
