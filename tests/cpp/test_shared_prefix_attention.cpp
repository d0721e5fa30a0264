// shared_prefix_attention and append_kv without Python, for the sanitizers: every buffer has exactly its size, several
// threads run, every instruction set and type. What attention is stands here as a loop in double.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention_loops.h"
#include "editscore/append_kv.h"
#include "editscore/shared_prefix_attention.h"
#include "parallel.h"

using namespace editscore;

namespace {

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

constexpr int kHeads = 6, kKvHeads = 2, kDim = 48, kPages = 41, kLeafWidth = 20, kOwnWidth = 3;

// Numbers of one type, and the same as doubles.
struct Numbers {
    AttentionType type;
    std::vector<char> bytes;

    Numbers(AttentionType type, size_t count) : type(type), bytes(count * element_bytes()) {}
    size_t element_bytes() const { return type == AttentionType::kFloat32 ? 4 : 2; }
    void set(size_t i, float value) {
        const uint16_t half = type == AttentionType::kBfloat16 ? bfloat16_of(value) : half_of(value);
        std::memcpy(&bytes[i * element_bytes()], element_bytes() == 4 ? static_cast<const void*>(&value) : &half,
                    element_bytes());
    }
    double at(size_t i) const {
        uint32_t word = 0;
        std::memcpy(&word, &bytes[i * element_bytes()], element_bytes());
        if (type == AttentionType::kFloat32) return bits_of<float>(word);
        return type == AttentionType::kBfloat16 ? bits_of<float>(word << 16) : float_of_half(word);
    }
};

// Two prompts, one of them of two samples, a sequence without a prompt whose rows stand at successive positions, and a
// padding row.
struct Problem {
    AttentionType type;
    std::vector<int32_t> leaf_pages, leaf_lengths = {320, 16}, own_pages, seq_leaf = {0, 0, 1, -1};
    std::vector<int32_t> row_seq = {0, 1, -1, 2, 3, 3, 3}, row_lengths = {1, 33, 0, 0, 40, 41, 42};
    std::vector<int32_t> group_rows = {0, 1, 3, 4, 5, 6}, group_starts = {0, 2, 3, 6};
    Numbers q, k, v, out;
    std::vector<float> lse;

    explicit Problem(AttentionType t)
        : type(t),
          q(t, 7 * kHeads * kDim),
          k(t, kPages * kKvHeads * 16 * kDim),
          v(t, kPages * kKvHeads * 16 * kDim),
          out(t, 7 * kHeads * kDim),
          lse(7 * kHeads) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        for (Numbers* numbers : {&q, &k, &v}) {
            for (size_t i = 0; i < numbers->bytes.size() / numbers->element_bytes(); ++i)
                numbers->set(i, normal(random));
        }
        for (int i = 0; i < 2 * kLeafWidth; ++i) leaf_pages.push_back(1 + i * 7 % (kPages - 1));
        for (int i = 0; i < 4 * kOwnWidth; ++i) own_pages.push_back(1 + i * 11 % (kPages - 1));
    }

    SharedPrefixAttentionParams params(int64_t num_splits) {
        SharedPrefixAttentionParams p = {};
        p.type = type;
        p.q = q.bytes.data(), p.k_pages = k.bytes.data(), p.v_pages = v.bytes.data();
        p.num_rows = 7, p.num_heads = kHeads, p.num_kv_heads = kKvHeads, p.head_dim = kDim, p.num_pages = kPages;
        p.q_row_stride = kHeads * kDim, p.q_head_stride = kDim;
        p.leaf_pages = leaf_pages.data(), p.leaf_lengths = leaf_lengths.data(), p.own_pages = own_pages.data();
        p.seq_leaf = seq_leaf.data(), p.row_seq = row_seq.data(), p.row_lengths = row_lengths.data();
        p.group_rows = group_rows.data(), p.group_starts = group_starts.data();
        p.num_leaves = 2, p.leaf_width = kLeafWidth, p.num_seqs = 4, p.own_width = kOwnWidth;
        p.num_group_rows = static_cast<int64_t>(group_rows.size());
        p.num_groups = static_cast<int64_t>(group_starts.size()) - 1;
        p.scale = 0.15f, p.num_splits = num_splits, p.chunk_tokens = kChunkTokens;
        p.out = out.bytes.data(), p.lse = lse.data();
        return p;
    }
};

// Where element d of token t lies in a packed page of keys or values.
size_t packed_place(const Numbers& numbers, bool is_key, int page, int head, int t, int d) {
    const int pair = numbers.element_bytes() == 2 ? 2 : 1;
    const int place = is_key ? (d / pair * 16 + t) * pair + d % pair : (t / pair * kDim + d) * pair + t % pair;
    return static_cast<size_t>((page * kKvHeads + head) * 16 * kDim + place);
}

void check_row(const Problem& problem, size_t row, int head, double tolerance) {
    const int seq = problem.row_seq[row], leaf = seq < 0 ? -1 : problem.seq_leaf[static_cast<size_t>(seq)];
    std::vector<std::pair<int, int>> path;  // page, token
    for (int t = 0; leaf >= 0 && t < problem.leaf_lengths[static_cast<size_t>(leaf)]; ++t) {
        path.emplace_back(problem.leaf_pages[static_cast<size_t>(leaf * kLeafWidth + t / 16)], t % 16);
    }
    for (int t = 0; seq >= 0 && t < problem.row_lengths[row]; ++t) {
        path.emplace_back(problem.own_pages[static_cast<size_t>(seq * kOwnWidth + t / 16)], t % 16);
    }
    const int kv_head = head / (kHeads / kKvHeads);
    const size_t start = (row * kHeads + static_cast<size_t>(head)) * kDim;
    double sum = 0;
    std::vector<double> expected(kDim, 0.0);
    for (const auto& [page, t] : path) {
        double score = 0;
        for (int d = 0; d < kDim; ++d) {
            score += problem.q.at(start + static_cast<size_t>(d)) *
                     problem.k.at(packed_place(problem.k, true, page, kv_head, t, d));
        }
        const double weight = std::exp(0.15 * score);
        sum += weight;
        for (int d = 0; d < kDim; ++d) {
            expected[static_cast<size_t>(d)] +=
                weight * problem.v.at(packed_place(problem.v, false, page, kv_head, t, d));
        }
    }
    const float lse = problem.lse[row * kHeads + static_cast<size_t>(head)];
    CHECK(path.empty() ? lse == -std::numeric_limits<float>::infinity() : std::abs(lse - std::log(sum)) < 1e-4);
    for (size_t d = 0; d < kDim; ++d) {
        CHECK(std::abs(problem.out.at(start + d) - (path.empty() ? 0 : expected[d] / sum)) <= tolerance);
    }
}

void test_attention() {
    for (AttentionType type : {AttentionType::kFloat32, AttentionType::kBfloat16, AttentionType::kFloat16}) {
        const double tolerance = type == AttentionType::kFloat32 ? 1e-5 : type == AttentionType::kFloat16 ? 2e-3 : 2e-2;
        for (int set = 0; set < kNumInstructionSets; ++set) {
            if (!has_instruction_set(static_cast<InstructionSet>(set))) continue;
            std::vector<char> first;
            for (int threads : {1, 3}) {
                for (int64_t splits : {0, 1, 2, 7}) {
                    Problem problem(type);
                    shared_prefix_attention_cpu(problem.params(splits), threads, static_cast<InstructionSet>(set));
                    for (size_t row = 0; row < 7; ++row) {
                        for (int head = 0; head < kHeads; ++head) check_row(problem, row, head, tolerance);
                    }
                    if (first.empty()) first = problem.out.bytes;
                    CHECK(problem.out.bytes == first);
                }
            }
        }
    }
}

void expect_error(const char* name, const std::function<void(Problem&)>& damage) {
    Problem problem(AttentionType::kFloat32);
    damage(problem);
    std::string message;
    try {
        shared_prefix_attention_cpu(problem.params(0), 2, InstructionSet::kPortable);
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    if (message.rfind(std::string(name) + ": ", 0) != 0)
        std::fprintf(stderr, "%s: got \"%s\"\n", name, message.c_str());
    CHECK(message.rfind(std::string(name) + ": ", 0) == 0);
}

void test_bad_tables() {
    expect_error("leaf_pages", [](Problem& p) { p.leaf_pages[19] = kPages; });
    expect_error("leaf_pages", [](Problem& p) { p.leaf_pages[kLeafWidth] = -1; });
    expect_error("own_pages", [](Problem& p) { p.own_pages[kOwnWidth + 2] = kPages; });
    expect_error("leaf_lengths", [](Problem& p) { p.leaf_lengths[0] = 16 * kLeafWidth + 16; });
    expect_error("leaf_lengths", [](Problem& p) { p.leaf_lengths[0] = 17; });
    expect_error("row_lengths", [](Problem& p) { p.row_lengths[1] = 16 * kOwnWidth + 1; });
    expect_error("row_lengths", [](Problem& p) { p.row_lengths[1] = -1; });
    expect_error("row_seq", [](Problem& p) { p.row_seq[0] = 4; });
    expect_error("seq_leaf", [](Problem& p) { p.seq_leaf[3] = -2; });
    expect_error("group_rows", [](Problem& p) { p.group_rows[0] = 7; });
    expect_error("group_rows", [](Problem& p) { p.group_rows[0] = 2; });
    expect_error("group_rows", [](Problem& p) { p.group_rows[0] = 1; });
    expect_error("group_rows", [](Problem& p) { p.group_rows.pop_back(), p.group_starts.back() = 5; });
    expect_error("group_starts", [](Problem& p) { p.group_starts.back() = 7; });
    expect_error("group_starts", [](Problem& p) { p.group_starts = {0, 3, 2, 6}; });
    expect_error("group_starts", [](Problem& p) { p.group_starts = {0, 3, 6}; });
    Problem fine(AttentionType::kFloat32);  // beyond the lengths nothing is read
    fine.leaf_pages[kLeafWidth + 1] = -5, fine.own_pages[1] = kPages;
    shared_prefix_attention_cpu(fine.params(0), 2, InstructionSet::kPortable);
}

template <class Element>
void test_append(bool is_packed, int pair) {
    const int tokens = 37;
    std::vector<Element> k(tokens * kKvHeads * kDim), v(k.size()), k_pages(3 * kKvHeads * 16 * kDim), v_pages(k_pages);
    std::vector<int64_t> slots(tokens);
    for (size_t i = 0; i < k.size(); ++i) k[i] = static_cast<Element>(i + 1), v[i] = static_cast<Element>(i + 7);
    for (int i = 0; i < tokens; ++i) slots[static_cast<size_t>(i)] = i == 5 ? -1 : i * 29 % 48;
    AppendKvParams p = {};
    p.k = k.data(), p.v = v.data(), p.k_pages = k_pages.data(), p.v_pages = v_pages.data(), p.slots = slots.data();
    p.num_tokens = tokens, p.num_kv_heads = kKvHeads, p.head_dim = kDim, p.num_pages = 3;
    p.k_token_stride = p.v_token_stride = kKvHeads * kDim, p.k_head_stride = p.v_head_stride = kDim;
    p.element_bytes = sizeof(Element), p.is_packed = is_packed;
    append_kv_cpu(p, 3);
    for (int n = 0; n < tokens; ++n) {
        const int slot = static_cast<int>(slots[static_cast<size_t>(n)]), t = slot % 16;
        for (int head = 0; head < kKvHeads && slot >= 0; ++head) {
            for (int d = 0; d < kDim; ++d) {
                const size_t from = static_cast<size_t>((n * kKvHeads + head) * kDim + d);
                const int start = (slot / 16 * kKvHeads + head) * 16 * kDim, plain = t * kDim + d;
                const int k_place = is_packed ? (d / pair * 16 + t) * pair + d % pair : plain;
                const int v_place = is_packed ? (t / pair * kDim + d) * pair + t % pair : plain;
                CHECK(k_pages[static_cast<size_t>(start + k_place)] == k[from]);
                CHECK(v_pages[static_cast<size_t>(start + v_place)] == v[from]);
            }
        }
    }
    slots[36] = 48;
    bool threw = false;
    try {
        append_kv_cpu(p, 3);
    } catch (const std::invalid_argument&) {
        threw = true;
    }
    CHECK(threw);
}

void test_conversions() {
    for (uint32_t i = 0; i < 1u << 16; ++i) {
        const float value = float_of_half(i);
        CHECK(std::isnan(value) ? (half_of(value) & 0x7FFFu) > 0x7C00u : half_of(value) == i);
        const float brain = bits_of<float>(i << 16);
        CHECK(std::isnan(brain) ? (bfloat16_of(brain) & 0x7FFFu) > 0x7F80u : bfloat16_of(brain) == i);
        const float up = float_of_half(i + 1);  // halfway to the next number goes to the even one
        if (!std::isfinite(value) || !std::isfinite(up)) continue;
        CHECK(half_of((value + up) / 2) == (i % 2 ? i + 1 : i));
    }
    CHECK(half_of(65519.0f) == 0x7BFF && half_of(65520.0f) == 0x7C00 && half_of(-1e30f) == 0xFC00);
    for (float x = 0; x > -126; x -= 0.0137f) {
        CHECK(std::abs(exp2_nonpositive(x) - std::exp2(static_cast<double>(x))) <=
              1.5e-7 * std::exp2(static_cast<double>(x)));
    }
    CHECK(exp2_nonpositive(-std::numeric_limits<float>::infinity()) == 0 && std::isnan(exp2_nonpositive(NAN)));
}

void test_failure_in_a_thread() {
    bool threw = false;
    try {
        for_rows(100, 4, [](int64_t begin, int64_t) {
            if (begin >= 50) throw std::runtime_error("row");
        });
    } catch (const std::runtime_error&) {
        threw = true;
    }
    CHECK(threw);
}

}  // namespace

int main() {
    test_conversions();
    test_failure_in_a_thread();
    test_attention();
    test_bad_tables();
    for (bool is_packed : {false, true}) {
        test_append<uint16_t>(is_packed, 2);
        test_append<uint32_t>(is_packed, 1);
        test_append<uint64_t>(is_packed, 1);
    }
    std::puts("ok");
}
