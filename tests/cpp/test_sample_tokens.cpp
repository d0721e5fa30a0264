// The sampler without Python, for the sanitizers: every buffer has exactly its size, so a read or a write beyond it is
// an error under ASan, and several threads run under TSan. What the tokens should be is tested from Python; here the
// sets must agree with each other.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "editscore/philox.h"
#include "editscore/sample_tokens.h"
#include "parallel.h"
#include "sample_tokens_loops.h"

using namespace editscore;

namespace {

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<InstructionSet> sets_here() {
    std::vector<InstructionSet> sets;
    for (int i = 0; i < kNumInstructionSets; ++i) {
        if (has_instruction_set(static_cast<InstructionSet>(i))) sets.push_back(static_cast<InstructionSet>(i));
    }
    return sets;
}

void test_philox() {
    constexpr PhiloxWords out =
        philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0);
    static_assert(out.word[0] == 0xd16cfe09 && out.word[1] == 0x94fdcceb && out.word[2] == 0x5001e420 &&
                  out.word[3] == 0x24126ea1);
    std::mt19937_64 random(1);
    for (int i = 0; i < 1000; ++i) {
        const uint64_t bits = random(), total = random() >> (random() % 64);
        __extension__ using Wide = unsigned __int128;
        CHECK(scale_uniform(bits, total) == static_cast<uint64_t>((static_cast<Wide>(bits) * total) >> 64));
    }
}

void test_weights() {
    CHECK(token_weight(3.0f, 3.0f, 1.4f) == int64_t{1} << kWeightBits);
    CHECK(token_weight(-kInfinity, 3.0f, 1.4f) == 0);
    CHECK(token_weight(-3e38f, 3e38f, 9e4f) == 0);
    for (float x = 0; x > -27; x -= 0.00123f) {
        const double exact = std::exp2(40.0) * std::exp(static_cast<double>(x));
        CHECK(std::abs(static_cast<double>(token_weight(x, 0.0f, 1.44269504f)) - exact) <= 3e-6 * exact + 1);
    }
}

void test_half_precision() {
    std::vector<uint16_t> bits(1 << 16);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
    for (InstructionSet set : sets_here()) {
        std::vector<float> half(bits.size()), brain(bits.size());
        sample_loops(set).from_float16(bits.data(), 1 << 16, half.data());
        sample_loops(set).from_bfloat16(bits.data(), 1 << 16, brain.data());
        for (uint32_t i = 0; i < 1 << 16; ++i) {
            const uint32_t exponent = (i >> 10) & 31, mantissa = i & 1023;
            double value = exponent == 0 ? std::ldexp(mantissa, -24)
                                         : std::ldexp(1024.0 + mantissa, static_cast<int>(exponent) - 25);
            if (exponent == 31) value = mantissa ? std::nan("") : INFINITY;
            if (i >> 15) value = -value;
            CHECK(exponent == 31 && mantissa ? std::isnan(half[i])
                                             : half[i] == value && std::signbit(half[i]) == (i >> 15));
            CHECK(std::bit_cast<uint32_t>(brain[i]) == i << 16);
        }
    }
}

// One random batch; the outputs of all sets and thread counts must be the same bits.
struct Batch {
    int64_t rows, vocabulary, stride, words, options;
    std::vector<float> logits;
    std::vector<double> temperature, top_p;
    std::vector<int64_t> top_k, seed, request, position, option_ids;
    std::vector<int32_t> mask;
};

struct Result {
    std::vector<int64_t> token;
    std::vector<float> logprob_raw, logprob, option_logprob;
    std::vector<int32_t> status;
};

Batch random_batch(std::mt19937& random) {
    const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
    Batch b;
    b.rows = below(9);
    b.vocabulary = 1 + below(below(2) ? 100 : 3000);
    b.stride = b.vocabulary + below(3);
    b.words = below(2) ? (b.vocabulary + 31) / 32 : 1 + below(4);
    b.options = below(4);
    std::normal_distribution<float> normal(0.0f, below(2) ? 5.0f : 0.05f);
    b.logits.resize(static_cast<size_t>(b.rows ? (b.rows - 1) * b.stride + b.vocabulary : 0));
    for (float& x : b.logits) x = std::round(normal(random) * 64) / 64;
    if (!b.logits.empty() && below(3) == 0)
        b.logits[static_cast<size_t>(below(static_cast<int64_t>(b.logits.size())))] = NAN;
    if (!b.logits.empty() && below(2)) b.logits[0] = -kInfinity;
    constexpr double kTemperatures[] = {0.0, 0.3, 1.0, 50.0}, kTopP[] = {1e-9, 0.5, 0.97, 1.0};
    for (int64_t r = 0; r < b.rows; ++r) {
        b.temperature.push_back(kTemperatures[below(4)]);
        b.top_p.push_back(kTopP[below(4)]);
        b.top_k.push_back(below(3) ? below(200) : below(5000));
        b.seed.push_back(below(1000));
        b.request.push_back(-below(1000));
        b.position.push_back(r);
        for (int64_t w = 0; w < b.words; ++w)
            b.mask.push_back(static_cast<int32_t>(random() & (below(4) ? random() : 0u)));
        for (int64_t n = 0; n < b.options; ++n) b.option_ids.push_back(below(b.vocabulary + 1) - 1);
    }
    return b;
}

Result run(const Batch& b, bool has_mask, int num_threads, InstructionSet set) {
    const size_t rows = static_cast<size_t>(b.rows);
    Result out = {std::vector<int64_t>(rows), std::vector<float>(rows), std::vector<float>(rows),
                  std::vector<float>(rows * static_cast<size_t>(b.options)), std::vector<int32_t>(rows)};
    SampleTokensParams p = {};
    p.logits = b.logits.data();
    p.logit_type = LogitType::kFloat32;
    p.num_rows = b.rows;
    p.vocabulary = b.vocabulary;
    p.logits_row_stride = b.stride;
    p.temperature = b.temperature.data();
    p.top_k = b.top_k.data();
    p.top_p = b.top_p.data();
    p.seed = b.seed.data();
    p.request = b.request.data();
    p.position = b.position.data();
    p.mask = has_mask ? b.mask.data() : nullptr;
    p.mask_words = b.words;
    p.mask_row_stride = b.words;
    p.option_ids = b.option_ids.data();
    p.num_options = b.options;
    p.token = out.token.data();
    p.logprob_raw = out.logprob_raw.data();
    p.logprob = out.logprob.data();
    p.status = out.status.data();
    p.option_logprob = out.option_logprob.data();
    sample_tokens_cpu(p, num_threads, set);
    return out;
}

bool same_bits(const std::vector<float>& left, const std::vector<float>& right) {
    for (size_t i = 0; i < left.size(); ++i) {
        if (left[i] != right[i] && !(std::isnan(left[i]) && std::isnan(right[i]))) return false;
    }
    return left.size() == right.size();
}

void test_sets_and_threads_agree() {
    std::mt19937 random(7);
    for (int trial = 0; trial < 300; ++trial) {
        const Batch batch = random_batch(random);
        for (const bool has_mask : {false, true}) {
            const Result expected = run(batch, has_mask, 1, InstructionSet::kPortable);
            for (InstructionSet set : sets_here()) {
                const Result got = run(batch, has_mask, 1, set);
                CHECK(got.token == expected.token && got.status == expected.status);
                CHECK(same_bits(got.logprob_raw, expected.logprob_raw) && same_bits(got.logprob, expected.logprob));
                CHECK(same_bits(got.option_logprob, expected.option_logprob));
            }
            for (size_t r = 0; r < expected.token.size(); ++r) {
                CHECK((expected.status[r] == kSampleOk) == (expected.token[r] >= 0));
                CHECK(expected.token[r] < batch.vocabulary);
            }
        }
    }
}

void test_threads() {
    Batch batch;
    batch.rows = 64;
    batch.vocabulary = batch.stride = 20000;  // enough work for several threads
    batch.words = batch.options = 0;
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    for (int64_t i = 0; i < batch.rows * batch.stride; ++i) batch.logits.push_back(normal(random));
    batch.temperature.assign(64, 0.7);
    batch.top_p.assign(64, 0.9);
    batch.top_k.assign(64, 20);
    batch.seed.assign(64, 42);
    batch.position.assign(64, 0);
    for (int64_t r = 0; r < 64; ++r) batch.request.push_back(r);
    const Result expected = run(batch, false, 1, best_instruction_set());
    for (const int threads : {2, 3, 7, 100}) {
        const Result got = run(batch, false, threads, best_instruction_set());
        CHECK(got.token == expected.token && same_bits(got.logprob, expected.logprob));
    }
}

void test_for_rows() {
    for (const int64_t count : {0, 1, 5, 1000}) {
        for (const int threads : {0, 1, 3, 8}) {
            std::vector<int> visits(static_cast<size_t>(count));
            for_rows(count, threads, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
            });
            for (const int visit : visits) CHECK(visit == 1);
        }
    }
    bool caught = false;
    try {
        for_rows(100, 3, [](int64_t begin, int64_t) {
            if (begin > 50) throw std::bad_alloc();
        });
    } catch (const std::bad_alloc&) {
        caught = true;
    }
    CHECK(caught);
}

}  // namespace

int main() {
    test_philox();
    test_weights();
    test_half_precision();
    test_for_rows();
    test_sets_and_threads_agree();
    test_threads();
    std::puts("ok");
    return 0;
}
