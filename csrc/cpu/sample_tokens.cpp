// sample_tokens on the CPU: one row at a time. Everything that is summed is an integer, so the ways taken below to
// avoid sorting a vocabulary change nothing in the result.
#include "editscore/sample_tokens.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "editscore/philox.h"
#include "parallel.h"
#include "sample_tokens_loops.h"

namespace editscore {
namespace {

constexpr double kLog2E = 1.4426950408889634;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kDrawBlock = 512;              // tokens whose weights are summed together when nothing filters
constexpr int64_t kPrefetchBlock = 512;          // tokens that are summed per 2 KB asked for
constexpr int64_t kFirstTry = 64;                // tokens that top-p without top-k sorts before it asks for more
constexpr int64_t kColumnsPerToken = 2;          // the k-th largest of 2 k column maxima leaves about 1.4 k candidates
constexpr int64_t kElementsPerThread = 1 << 17;  // about 100 us of work: five times what a thread costs

struct Candidate {
    float x;
    int32_t id;
    int64_t weight;
};

bool comes_before(const Candidate& left, const Candidate& right) {
    return left.x != right.x ? left.x > right.x : left.id < right.id;
}

double log_weight(int64_t total) { return std::log(static_cast<double>(total)) - kWeightBits * 0.69314718055994530942; }

// Memory of one thread, kept from row to row.
struct Scratch {
    std::vector<float> raw, masked, maxima, ranked;
    std::vector<int32_t> ids;
    std::vector<Candidate> candidates;
    std::vector<int64_t> block_sums;
};

// The allowed logits of a row, what is drawn from.
struct Row {
    const float* x;  // [V]
    int64_t vocabulary;
    float best;   // largest of x
    float scale;  // log2(e) / temperature
};

struct Draw {
    int64_t token;
    int64_t total;  // sum of the kept weights
};

class Sampler {
  public:
    Sampler(const SampleTokensParams& params, InstructionSet set) : p_(params), loops_(sample_loops(set)) {}

    void run(int64_t begin, int64_t end) {
        end_ = end;
        for (int64_t r = begin; r < end; ++r) sample_row(r);
    }

  private:
    void sample_row(int64_t r);
    void fail_row(int64_t r, SampleStatus status);
    const float* load_row(int64_t r);
    // Maxima of at least `num_columns` columns of x, or of all tokens when these are fewer, into s_.maxima; the largest
    // of all into `best`. Returns false if NaN or +inf is in x.
    bool find_maxima(const float* x, int64_t num_columns, float* best);
    // Ids of the tokens with x >= bound, ascending, into s_.ids; returns how many.
    int64_t find_at_least(const Row& row, float bound);
    void fill_options(int64_t r, const float* raw, double raw_log_sum);
    // The sum over the whole row at temperature 1. It is all arithmetic, so the next row comes from memory meanwhile.
    int64_t sum_raw_weights(int64_t r, const float* raw, float best);
    Draw draw_unfiltered(const Row& row, uint64_t bits);
    Draw draw_top(const Row& row, int64_t top_k, double top_p, uint64_t bits);
    // Fills s_.candidates with the first `count` tokens of `row` by comes_before, sorted; tokens at -inf are left out.
    void collect_first(const Row& row, int64_t count);

    const SampleTokensParams& p_;
    const SampleLoops& loops_;
    Scratch s_;
    int64_t end_ = 0;  // of the rows that this thread samples
};

const float* Sampler::load_row(int64_t r) {
    const int64_t offset = r * p_.logits_row_stride;
    if (p_.logit_type == LogitType::kFloat32) return static_cast<const float*>(p_.logits) + offset;
    s_.raw.resize(static_cast<size_t>(p_.vocabulary));
    const uint16_t* bits = static_cast<const uint16_t*>(p_.logits) + offset;
    (p_.logit_type == LogitType::kBfloat16 ? loops_.from_bfloat16 : loops_.from_float16)(bits, p_.vocabulary,
                                                                                         s_.raw.data());
    return s_.raw.data();
}

bool Sampler::find_maxima(const float* x, int64_t num_columns, float* best) {
    // Bands of equal length, each with its 64 columns: [bands, 64].
    const int64_t wanted_bands = std::max<int64_t>(1, (num_columns + kNumColumns - 1) / kNumColumns);
    const int64_t band = std::max<int64_t>(1, p_.vocabulary / (kNumColumns * wanted_bands)) * kNumColumns;
    const int64_t num_bands = (p_.vocabulary + band - 1) / band;
    s_.maxima.assign(static_cast<size_t>(num_bands * kNumColumns), -kInfinity);
    bool is_number = true;
    for (int64_t b = 0; b < num_bands; ++b) {
        const int64_t count = std::min(band, p_.vocabulary - b * band);
        is_number &= loops_.column_maxima(x + b * band, count, s_.maxima.data() + b * kNumColumns);
    }
    *best = *std::max_element(s_.maxima.begin(), s_.maxima.end());
    return is_number;
}

void Sampler::fail_row(int64_t r, SampleStatus status) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    p_.token[r] = -1;
    p_.logprob_raw[r] = kNan;
    p_.logprob[r] = kNan;
    p_.status[r] = status;
    std::fill_n(p_.option_logprob + r * p_.num_options, p_.num_options, kNan);
}

void Sampler::fill_options(int64_t r, const float* raw, double raw_log_sum) {
    for (int64_t n = 0; n < p_.num_options; ++n) {
        const int64_t id = p_.option_ids[r * p_.num_options + n];
        p_.option_logprob[r * p_.num_options + n] = id < 0 ? -kInfinity : static_cast<float>(raw[id] - raw_log_sum);
    }
}

void Sampler::sample_row(int64_t r) {
    const float* raw = load_row(r);
    const int64_t top_k = p_.top_k[r] > 0 && p_.top_k[r] < p_.vocabulary ? p_.top_k[r] : 0;
    const int64_t num_columns = kColumnsPerToken * (top_k ? top_k : p_.top_p[r] < 1.0 ? kFirstTry : 1);
    float raw_best = 0;
    if (!find_maxima(raw, num_columns, &raw_best)) return fail_row(r, kSampleNotANumber);
    Row row = {raw, p_.vocabulary, raw_best, 0.0f};
    if (p_.mask) {
        s_.masked.resize(static_cast<size_t>(p_.vocabulary));
        loops_.apply_mask(raw, p_.vocabulary, p_.mask + r * p_.mask_row_stride, p_.mask_words, s_.masked.data());
        row.x = s_.masked.data();
        find_maxima(row.x, num_columns, &row.best);
    }
    if (row.best == -kInfinity) return fail_row(r, kSampleAllMasked);

    const double temperature = p_.temperature[r];
    double logprob = 0.0;
    if (temperature == 0.0) {
        find_at_least(row, row.best);
        p_.token[r] = s_.ids[0];
    } else {
        row.scale = static_cast<float>(kLog2E / temperature);
        const uint64_t bits = draw_bits(static_cast<uint64_t>(p_.seed[r]), static_cast<uint64_t>(p_.request[r]),
                                        static_cast<uint64_t>(p_.position[r]));
        const bool is_filtered = top_k > 0 || p_.top_p[r] < 1.0;
        const Draw draw = is_filtered ? draw_top(row, top_k, p_.top_p[r], bits) : draw_unfiltered(row, bits);
        p_.token[r] = draw.token;
        logprob = (static_cast<double>(row.x[draw.token]) - row.best) / temperature - log_weight(draw.total);
    }
    const int64_t raw_total = sum_raw_weights(r, raw, raw_best);
    const double raw_log_sum = raw_best + log_weight(raw_total);
    p_.logprob_raw[r] = static_cast<float>(raw[p_.token[r]] - raw_log_sum);
    p_.logprob[r] = static_cast<float>(logprob);
    p_.status[r] = kSampleOk;
    fill_options(r, raw, raw_log_sum);
}

int64_t Sampler::sum_raw_weights(int64_t r, const float* raw, float best) {
    const int64_t bytes_per_logit = p_.logit_type == LogitType::kFloat32 ? 4 : 2;
    const char* next = static_cast<const char*>(p_.logits) + (r + 1) * p_.logits_row_stride * bytes_per_logit;
    const bool has_next = r + 1 < end_;
    int64_t total = 0;
    for (int64_t start = 0; start < p_.vocabulary; start += kPrefetchBlock) {
        const int64_t count = std::min(kPrefetchBlock, p_.vocabulary - start);
        if (has_next) {
            const char* block = next + start * bytes_per_logit;
            for (int64_t byte = 0; byte < count * bytes_per_logit; byte += 64) __builtin_prefetch(block + byte);
        }
        total += loops_.sum_weights(raw + start, count, best, static_cast<float>(kLog2E));
    }
    return total;
}

Draw Sampler::draw_unfiltered(const Row& row, uint64_t bits) {
    s_.block_sums.clear();
    int64_t total = 0;
    for (int64_t start = 0; start < row.vocabulary; start += kDrawBlock) {
        const int64_t count = std::min(kDrawBlock, row.vocabulary - start);
        s_.block_sums.push_back(loops_.sum_weights(row.x + start, count, row.best, row.scale));
        total += s_.block_sums.back();
    }
    int64_t left = static_cast<int64_t>(scale_uniform(bits, static_cast<uint64_t>(total)));
    size_t block = 0;
    while (left >= s_.block_sums[block]) left -= s_.block_sums[block++];
    int64_t token = static_cast<int64_t>(block) * kDrawBlock;
    for (;; ++token) {
        const int64_t weight = token_weight(row.x[token], row.best, row.scale);
        if (left < weight) return {token, total};
        left -= weight;
    }
}

int64_t Sampler::find_at_least(const Row& row, float bound) {
    s_.ids.resize(static_cast<size_t>(row.vocabulary));
    return loops_.find_at_least(row.x, row.vocabulary, bound, s_.ids.data());
}

void Sampler::collect_first(const Row& row, int64_t count) {
    float bound = std::numeric_limits<float>::lowest();
    const int64_t num_columns = kColumnsPerToken * count;
    if (num_columns <= row.vocabulary) {
        float best;
        if (static_cast<int64_t>(s_.maxima.size()) < num_columns) find_maxima(row.x, num_columns, &best);
        // `count` columns hold a token at least as large as this bound, so the wanted tokens all reach it.
        s_.ranked = s_.maxima;
        std::nth_element(s_.ranked.begin(), s_.ranked.begin() + (count - 1), s_.ranked.end(), std::greater<float>());
        bound = std::max(bound, s_.ranked[static_cast<size_t>(count - 1)]);
    }
    const int64_t found = find_at_least(row, bound);
    s_.candidates.clear();
    for (int64_t i = 0; i < found; ++i) s_.candidates.push_back({row.x[s_.ids[i]], s_.ids[i], 0});
    if (found > count) {
        std::nth_element(s_.candidates.begin(), s_.candidates.begin() + (count - 1), s_.candidates.end(), comes_before);
        s_.candidates.resize(static_cast<size_t>(count));
    }
    std::sort(s_.candidates.begin(), s_.candidates.end(), comes_before);
    for (Candidate& candidate : s_.candidates) candidate.weight = token_weight(candidate.x, row.best, row.scale);
}

Draw Sampler::draw_top(const Row& row, int64_t top_k, double top_p, uint64_t bits) {
    auto& list = s_.candidates;
    // With top-k the sum is over its k tokens; without, over the vocabulary, and the list grows until its head reaches
    // top_p.
    int64_t total = top_k ? 0 : loops_.sum_weights(row.x, row.vocabulary, row.best, row.scale);
    int64_t count = top_k ? top_k : std::min(kFirstTry, row.vocabulary);
    collect_first(row, count);
    if (top_k) {
        for (const Candidate& candidate : list) total += candidate.weight;
    }
    const double share = std::ceil(top_p * static_cast<double>(total));
    const int64_t needed = std::min(std::max<int64_t>(1, static_cast<int64_t>(share)), total);
    int64_t kept = 0;
    size_t length = 0;
    for (;;) {
        while (length < list.size() && kept < needed) kept += list[length++].weight;
        if (kept >= needed || count == row.vocabulary || top_k) break;
        count =
            count > row.vocabulary / 16 ? row.vocabulary : count * 8;  // same order, so the head that was summed stays
        collect_first(row, count);
    }
    list.resize(length);
    std::sort(list.begin(), list.end(),
              [](const Candidate& left, const Candidate& right) { return left.id < right.id; });
    int64_t left = static_cast<int64_t>(scale_uniform(bits, static_cast<uint64_t>(kept)));
    for (const Candidate& candidate : list) {
        if (left < candidate.weight) return {candidate.id, kept};
        left -= candidate.weight;
    }
    return {list.back().id, kept};  // not reached: left < kept
}

}  // namespace

void sample_tokens_cpu(const SampleTokensParams& params, int num_threads, InstructionSet set) {
    const int threads = useful_threads(params.num_rows * params.vocabulary, kElementsPerThread, num_threads);
    for_rows(params.num_rows, threads, [&](int64_t begin, int64_t end) { Sampler(params, set).run(begin, end); });
}

int64_t sample_weights_cpu(const float* x, int64_t count, float best, float scale, InstructionSet set) {
    return sample_loops(set).sum_weights(x, count, best, scale);
}

}  // namespace editscore
