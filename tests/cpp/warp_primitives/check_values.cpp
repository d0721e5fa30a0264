#include <algorithm>
#include <array>

#include "check.h"

namespace primitives {

namespace {

struct Lanes {
    std::array<uint32_t, 32> a, b, c;
    std::array<float, 32> x, y, z;
};

// One row of the answer, lane by lane; `tolerance` is relative, and 0 asks for the same bits.
struct Row {
    const char* name;
    std::function<uint32_t(int lane)> value;
    double tolerance = 0;
};

float butterfly(std::array<float, 32> x, float (*combine)(float, float)) {
    for (int distance = 16; distance > 0; distance /= 2) {
        std::array<float, 32> next;
        for (int i = 0; i < 32; ++i) next[i] = combine(x[i], x[i ^ distance]);
        x = next;
    }
    return x[0];
}

int bit_index(uint32_t x, bool highest) {
    for (int i = 0; i < 32; ++i) {
        const int bit = highest ? 31 - i : i;
        if (x >> bit & 1) return bit;
    }
    return -1;
}

std::vector<Row> selection_rows(const Lanes& in) {
    const auto& [a, b, c, x, y, z] = in;
    const auto as_int = [](uint32_t u) { return static_cast<int>(u); };
    return {
        {"lane_id", [](int l) { return static_cast<uint32_t>(l); }},
        {"select", [&](int l) { return a[l] < b[l] ? a[l] : c[l]; }},
        {"select of numbers", [](int l) { return l == 3 ? 7u : 9u; }},
        {"larger int", [&, as_int](int l) { return as_int(a[l]) > as_int(b[l]) ? a[l] : b[l]; }},
        {"larger uint", [&](int l) { return std::max(a[l], b[l]); }},
        {"larger float", [&](int l) { return word(std::fmax(x[l], y[l])); }},
        {"smaller int", [&, as_int](int l) { return as_int(a[l]) < as_int(b[l]) ? a[l] : b[l]; }},
        {"smaller uint", [&](int l) { return std::min(a[l], b[l]); }},
        {"smaller float", [&](int l) { return word(std::fmin(x[l], y[l])); }},
    };
}

std::vector<Row> arithmetic_rows(const Lanes& in) {
    const auto& [a, b, c, x, y, z] = in;
    const auto rounded = [](double value) { return word(static_cast<float>(value)); };
    return {
        {"ex2", [&, rounded](int l) { return rounded(std::exp2(double{x[l]})); }, 4e-7},
        {"lg2", [&, rounded](int l) { return rounded(std::log2(std::fabs(double{x[l]}))); }, 1e-6},
        {"rcp", [&, rounded](int l) { return rounded(1.0 / x[l]); }},
        {"round_down", [&, rounded](int l) { return rounded(std::floor(double{x[l]})); }},
        {"add_rn(mul_rn)",
         [&, rounded](int l) { return rounded(double{static_cast<float>(double{x[l]} * y[l])} + double{z[l]}); }},
        {"fma_rn", [&](int l) { return word(std::fma(x[l], y[l], z[l])); }},
        {"float_bits", [&](int l) { return word(x[l]); }},
        {"popc",
         [&](int l) {
             uint32_t count = 0;
             for (int bit = 0; bit < 32; ++bit) count += a[l] >> bit & 1;
             return count;
         }},
        {"lowest_bit", [&](int l) { return static_cast<uint32_t>(bit_index(a[l] & (a[l] >> 3), false)); }},
        {"highest_bit", [&](int l) { return static_cast<uint32_t>(bit_index(a[l] & (a[l] >> 3), true)); }},
        {"pack_bf16", [&](int l) { return word(nearest_bf16(x[l])) >> 16 | word(nearest_bf16(y[l])); }},
        {"pack_f16", [&](int l) { return f16_bits(nearest_f16(x[l])) | f16_bits(nearest_f16(y[l])) << 16; }},
        {"unpack bf16 low", [&](int l) { return word(nearest_bf16(x[l])); }},
        {"unpack bf16 high", [&](int l) { return word(nearest_bf16(y[l])); }},
        {"unpack f16 low", [&](int l) { return word(nearest_f16(x[l])); }},
        {"unpack f16 high", [&](int l) { return word(nearest_f16(y[l])); }},
        {"to_bf16", [&](int l) { return word(nearest_bf16(x[l])); }},
        {"to_f16", [&](int l) { return word(nearest_f16(x[l])); }},
    };
}

std::vector<Row> exchange_rows(const Lanes& in) {
    const auto& [a, b, c, x, y, z] = in;
    return {
        {"first", [&](int) { return a[0]; }},
        {"shfl", [&](int l) { return a[b[l] & 31]; }},
        {"shfl_xor", [&](int l) { return a[l ^ 5]; }},
        {"shfl_up", [&](int l) { return a[l < 3 ? l : l - 3]; }},
        {"shfl_down", [&](int l) { return a[l > 28 ? l : l + 3]; }},
        {"ballot",
         [&](int) {
             uint32_t bits = 0;
             for (int i = 0; i < 32; ++i) bits += a[i] < b[i] ? 1u << i : 0u;
             return bits;
         }},
        {"any of none", [](int) { return 0u; }},
        {"any of one", [](int) { return 1u; }},
        {"all but one", [](int) { return 0u; }},
        {"all", [](int) { return 1u; }},
        {"warp_sum",
         [&](int) {
             uint32_t sum = 0;
             for (uint32_t value : a) sum += value;
             return sum;
         }},
        {"warp_sum float", [&](int) { return word(butterfly(x, [](float p, float q) { return p + q; })); }},
        {"warp_max",
         [&](int) {
             int largest = static_cast<int>(a[0]);
             for (uint32_t value : a) largest = std::max(largest, static_cast<int>(value));
             return static_cast<uint32_t>(largest);
         }},
        {"warp_min", [&](int) { return word(*std::min_element(x.begin(), x.end())); }},
        {"warp_inclusive_sum",
         [&](int l) {
             uint32_t sum = 0;
             for (int i = 0; i <= l; ++i) sum += a[i];
             return sum;
         }},
        {"integer operators",
         [&](int l) {
             const int i = static_cast<int>(a[l]);
             return static_cast<uint32_t>((i / 7) % 5) - b[l];
         }},
        {"bit operators", [&](int l) { return ((a[l] << 3) ^ (b[l] >> 5)) | ~c[l]; }},
        {"boolean operators", [&](int l) { return static_cast<uint32_t>(!(x[l] < y[l]) && x[l] != z[l]); }},
    };
}

bool is_close(uint32_t got, uint32_t want, double tolerance) {
    if (got == want) return true;
    return tolerance > 0 && std::fabs(real(got) - real(want)) <= tolerance * (1 + std::fabs(real(want)));
}

}  // namespace

void check_values(const Run& run, uint32_t seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> size(-12.0f, 12.0f);
    Words in = random_words(192, seed);
    for (int i = 0; i < 32; ++i) in[32 + i] >>= 2;  // keeps (i / 7) % 5 - j from overflowing
    for (int i = 96; i < 192; ++i) {
        const float magnitude = std::exp2(size(random));
        in[i] = word(random() & 1 ? magnitude : -magnitude);
    }
    Lanes lanes;
    for (int i = 0; i < 32; ++i) {
        lanes.a[i] = in[i], lanes.b[i] = in[32 + i], lanes.c[i] = in[64 + i];
        lanes.x[i] = real(in[96 + i]), lanes.y[i] = real(in[128 + i]), lanes.z[i] = real(in[160 + i]);
    }
    std::vector<Row> rows = selection_rows(lanes);
    for (const Row& row : arithmetic_rows(lanes)) rows.push_back(row);
    for (const Row& row : exchange_rows(lanes)) rows.push_back(row);
    expect(rows.size() == kValueRows, "the answer has another number of rows than the kernel");
    const Words out = run(values_kernel, {}, in, kValueRows * 32);
    for (size_t r = 0; r < rows.size(); ++r) {
        for (int lane = 0; lane < 32; ++lane) {
            const uint32_t got = out[r * 32 + static_cast<size_t>(lane)], want = rows[r].value(lane);
            expect(is_close(got, want, rows[r].tolerance), std::string(rows[r].name) + ", lane " +
                                                               std::to_string(lane) + ": " + std::to_string(got) +
                                                               " instead of " + std::to_string(want));
        }
    }
}

}  // namespace primitives
