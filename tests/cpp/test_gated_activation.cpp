// gated_activation without Python, for the sanitizers: every buffer has exactly its size, so a read or a write beyond
// it is an error under ASan, and several threads run under TSan. What the numbers should be is tested from Python; here
// every set, number of threads and place must give an element the same bits.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "editscore/gated_activation.h"

using namespace editscore;

namespace {

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

using Bytes = std::vector<uint8_t>;

// Random bits: NaN, infinities and subnormals are among them.
Bytes random_bytes(size_t size, uint32_t seed) {
    std::mt19937 random(seed);
    Bytes bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    return bytes;
}

Bytes run(ActivationKind kind, ElementType type, const Bytes& x, const Bytes* up, int64_t rows, int64_t width,
          int64_t stride, int threads, InstructionSet set) {
    const size_t element = type == ElementType::kFloat32 ? 4 : 2;
    Bytes out(static_cast<size_t>(rows * width) * element);
    const GatedActivationParams params = {.kind = kind,
                                          .type = type,
                                          .x = x.data(),
                                          .up = up ? up->data() : nullptr,
                                          .out = out.data(),
                                          .num_rows = rows,
                                          .width = width,
                                          .x_row_stride = stride,
                                          .up_row_stride = stride};
    gated_activation_cpu(params, threads, set);
    return out;
}

void test_every_place_has_the_same_bits(ActivationKind kind, ElementType type, int64_t rows, int64_t width) {
    const size_t element = type == ElementType::kFloat32 ? 4 : 2;
    const int64_t stride = width + 3;
    const size_t reached = static_cast<size_t>((rows - 1) * stride + width) * element;
    const Bytes x = random_bytes(reached, 1), up = random_bytes(reached, 2);
    for (const Bytes* gate : {static_cast<const Bytes*>(nullptr), &up}) {
        const Bytes whole = run(kind, type, x, gate, rows, width, stride, 1, InstructionSet::kPortable);
        for (int i = 0; i < kNumInstructionSets; ++i) {
            const auto set = static_cast<InstructionSet>(i);
            if (!has_instruction_set(set)) continue;
            CHECK(run(kind, type, x, gate, rows, width, stride, 1, set) == whole);
            CHECK(run(kind, type, x, gate, rows, width, stride, 4, set) == whole);
        }
    }
}

void test_what_is_not_there_is_refused() {
    const Bytes x(64), *none = nullptr;
    for (const auto& [kind, type] : {std::pair{3, 0}, std::pair{-1, 0}, std::pair{0, 3}, std::pair{0, -1}}) {
        bool is_refused = false;
        try {
            run(static_cast<ActivationKind>(kind), static_cast<ElementType>(type), x, none, 1, 4, 4, 1,
                InstructionSet::kPortable);
        } catch (const std::invalid_argument&) {
            is_refused = true;
        }
        CHECK(is_refused);
    }
    CHECK(run(ActivationKind::kSilu, ElementType::kFloat32, {}, none, 0, 4, 4, 2, InstructionSet::kPortable) ==
          Bytes());
}

}  // namespace

int main() {
    for (int kind = 0; kind < 3; ++kind) {
        for (int type = 0; type < 3; ++type) {
            const auto k = static_cast<ActivationKind>(kind);
            const auto t = static_cast<ElementType>(type);
            for (const int64_t width : {1, 31, 64, 65, 127, 777}) test_every_place_has_the_same_bits(k, t, 5, width);
            test_every_place_has_the_same_bits(k, t, 80, 3420);  // enough for four threads
        }
    }
    test_what_is_not_there_is_refused();
    std::puts("gated_activation: all tests passed");
}
