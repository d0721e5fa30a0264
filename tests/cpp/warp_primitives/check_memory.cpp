#include <algorithm>

#include "check.h"

namespace primitives {

namespace {

// The rows of memory_kernel, one after another.
class Answer {
  public:
    explicit Answer(const Words& out) : out_(out) {}

    void next(const char* name, const std::function<uint32_t(size_t lane)>& want) {
        for (size_t lane = 0; lane < 32; ++lane) {
            expect_equal(out_[row_ * 32 + lane], want(lane), std::string(name) + ", lane " + std::to_string(lane));
        }
        ++row_;
    }
    size_t row() const { return row_; }

  private:
    const Words& out_;
    size_t row_ = 0;
};

void expect_global(Answer& answer, const Words& in) {
    const auto even = [](size_t lane) { return lane % 2 == 0; };
    answer.next("gload", [&](size_t l) { return in[l]; });
    answer.next("gload with 64-bit index", [&](size_t l) { return even(l) ? in[l + 32] : 0; });
    answer.next("gload_cg", [&](size_t l) { return in[31 - l]; });
    answer.next("gload_cs", [&](size_t l) { return even(l) ? in[2 * l] : 0; });
    answer.next("gload of 64 bits, low", [&](size_t l) { return in[2 * l]; });
    answer.next("gload of 64 bits, high", [&](size_t l) { return in[2 * l + 1]; });
    answer.next("gload_vec of 2", [&](size_t l) { return in[2 * l] - in[2 * l + 1]; });
    answer.next("gload_vec_cg of 4", [&](size_t l) { return even(l) ? in[4 * l] ^ in[4 * l + 3] : 0; });
    answer.next("gload_vec_cs of 4", [&](size_t l) { return in[4 * l + 1] ^ in[4 * l + 2]; });
    for (size_t row = 0; row < 4; ++row) {
        answer.next("gstore_vec of 4", [&](size_t l) { return in[row * 32 + l]; });
    }
    for (size_t row = 0; row < 2; ++row) {
        answer.next("gstore_vec of 2", [&](size_t l) { return l / 2 % 2 == 0 ? in[row * 32 + l] : 0; });
    }
    answer.next("gstore", [&](size_t l) { return even(l) ? 5u : 0u; });
}

void expect_shared(Answer& answer, const Words& in) {
    const auto even = [](size_t lane) { return lane % 2 == 0; };
    answer.next("sload", [&](size_t l) { return in[31 - l]; });
    answer.next("sload with mask", [&](size_t l) { return even(l) ? in[l] : 0; });
    answer.next("sload of 64 bits", [&](size_t l) { return even(l) ? in[2 * (l ^ 2)] : 0; });
    answer.next("sload_vec of 4", [&](size_t l) { return in[4 * (l ^ 1)] ^ in[4 * (l ^ 1) + 2]; });
    answer.next("sload_vec of 2", [&](size_t l) { return even(l) ? in[2 * (l ^ 1)] ^ in[2 * (l ^ 1) + 1] : 0; });
    answer.next("sstore_vec of 2", [&](size_t l) {  // word l was stored by lane l / 2, from what it had loaded
        const size_t owner = l / 2;
        return even(owner) ? in[2 * (owner ^ 1) + l % 2] : 0;
    });
    answer.next("sstore of floats", [&](size_t l) { return in[4 * (l ^ 7 ^ 1) + 3]; });
}

}  // namespace

void check_memory(const Run& run, uint32_t seed) {
    const Words in = random_words(256, seed);
    const Launch launch = {.grid = 1, .grid_y = 1, .threads = 32, .shared_bytes = kMemoryShared};
    const Words out = run(memory_kernel, launch, in, kMemoryRows * 32);
    Answer answer(out);
    expect_global(answer, in);
    expect_shared(answer, in);
    answer.next("block_id, grid_size, warp_id", [](size_t) { return 10; });
    answer.next("block_id_y, grid_size_y, mutant", [](size_t) { return 10; });
    expect(answer.row() == kMemoryRows, "the answer has another number of rows than the kernel");
}

void check_atomics(const Run& run, uint32_t seed) {
    const size_t per_block = kAtomicWarps * 32;
    const Words in = random_words(kAtomicBlocks * per_block, seed);
    const Launch launch = {
        .grid = kAtomicBlocks, .grid_y = 1, .threads = kAtomicWarps * 32, .shared_bytes = kAtomicShared};
    const Words out = run(atomics_kernel, launch, in, 8 + kAtomicBlocks * 16);
    uint32_t total = 0;
    for (size_t block = 0; block < kAtomicBlocks; ++block) {
        uint32_t sum = 0, largest = 0, last_added = 0, smallest = 1024;
        int largest_half = 0;
        uint64_t wide_sum = 0, wide_largest = 0;
        for (size_t i = 0; i < per_block; ++i) {
            const uint32_t x = in[block * per_block + i];
            if (x % 4 != 0) {
                sum += x % 1024;
                last_added = std::max(last_added, x % 1024);
                smallest = std::min(smallest, x % 1024);
            }
            largest = std::max(largest, x);
            largest_half = std::max(largest_half, static_cast<int>(x >> 1));
            wide_sum += x;
            wide_largest = std::max(wide_largest, uint64_t{x} << 8);
        }
        const uint32_t* got = &out[8 + block * 16];
        const std::string name = "block " + std::to_string(block) + ", ";
        expect_equal(got[0], sum, name + "satomic_add");
        expect_equal(got[1], static_cast<uint32_t>(largest_half), name + "satomic_max int");
        expect_equal(got[2], largest, name + "satomic_max");
        expect_equal(got[4], static_cast<uint32_t>(wide_sum), name + "satomic_add 64, low");
        expect_equal(got[5], static_cast<uint32_t>(wide_sum >> 32), name + "satomic_add 64, high");
        expect_equal(got[6], static_cast<uint32_t>(wide_largest), name + "satomic_max 64, low");
        expect_equal(got[7], static_cast<uint32_t>(wide_largest >> 32), name + "satomic_max 64, high");
        expect_equal(got[8], per_block, name + "satomic_add int");
        // The lane that came last saw all but its own summand.
        expect(got[9] >= sum - last_added && got[9] <= sum - smallest, name + "the value from before");
        total += sum;
    }
    expect_equal(out[0], kAtomicBlocks, "warp_atomic_add");
    expect_equal(out[1], total, "what the last block saw");
}

// The values are small integers, so that every sum is exact in any order.
void check_matrices(const Run& run, uint32_t seed) {
    std::mt19937 random(seed);
    const auto small = [&random] { return static_cast<float>(static_cast<int>(random() % 17) - 8); };
    for (const bool is_bf16 : {true, false}) {
        float a[16][16], b[16][8], c[16][8];
        Words in(384);
        std::vector<uint16_t> halves(512);
        const auto half = [is_bf16](float x) {
            if (is_bf16) return static_cast<uint16_t>(word(x) >> 16);
            return static_cast<uint16_t>(x == 0 ? 0 : f16_bits(x));
        };
        for (int i = 0; i < 16; ++i) {
            for (int k = 0; k < 16; ++k) halves[static_cast<size_t>(i * 16 + k)] = half(a[i][k] = small());
            for (int j = 0; j < 8; ++j) {
                halves[static_cast<size_t>(256 + i * 8 + j)] = half(b[i][j] = small());
                halves[static_cast<size_t>(384 + j * 16 + i)] = half(b[i][j]);
                in[static_cast<size_t>(256 + i * 8 + j)] = word(c[i][j] = small());
            }
        }
        for (size_t i = 0; i < 256; ++i) in[i] = halves[2 * i] | static_cast<uint32_t>(halves[2 * i + 1]) << 16;
        const Launch launch = {.grid = 1, .grid_y = 1, .threads = 32, .shared_bytes = kMatrixShared};
        const Words out = run(is_bf16 ? matrix_kernel<bf16> : matrix_kernel<f16>, launch, in, 8 * 32);
        for (int i = 0; i < 16; ++i) {
            for (int j = 0; j < 8; ++j) {
                float want = c[i][j];
                for (int k = 0; k < 16; ++k) want += a[i][k] * b[k][j];
                const int lane = i % 8 * 4 + j / 2, element = i / 8 * 2 + j % 2;
                for (int way = 0; way < 2; ++way) {
                    const float got = real(out[static_cast<size_t>((way * 4 + element) * 32 + lane)]);
                    expect(got == want,
                           std::string(is_bf16 ? "bf16" : "fp16") + " product, way " + std::to_string(way));
                }
            }
        }
    }
}

}  // namespace primitives
