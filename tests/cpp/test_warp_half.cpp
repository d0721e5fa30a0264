// fp16 and bf16 of the host build, all of them.
#include <cmath>
#include <cstdint>
#include <random>

#include "test_warp.h"

using namespace warp;

namespace {

// The value of an fp16 pattern by its definition.
double f16_value(uint32_t bits) {
    const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double size =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024.0 + mantissa, static_cast<int>(exponent) - 25);
    return bits >> 15 ? -size : size;
}

// The fp16 pattern whose value is nearest to |x|, the even one of two; counted up from `guess`.
uint32_t nearest_f16_pattern(double x, uint32_t guess) {
    while (guess > 0 && f16_value(guess) > x) --guess;
    while (f16_value(guess + 1) <= x && guess < 0x7bff) ++guess;
    const double below = x - f16_value(guess), above = f16_value(guess + 1) - x;
    return below < above || (below == above && guess % 2 == 0) ? guess : guess + 1;
}

}  // namespace

void test_half_precision() {
    for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
        const bool is_special = (bits >> 10 & 31) == 31;
        const float x = to_float(f16{static_cast<uint16_t>(bits)});
        if (is_special) {
            CHECK((bits & 1023) ? std::isnan(x) : std::isinf(x) && std::signbit(x) == (bits >> 15 != 0));
        } else {
            CHECK(x == f16_value(bits) && std::signbit(x) == (bits >> 15 != 0));
            CHECK(to_f16(x).bits == bits);
        }
        const float brain = to_float(bf16{static_cast<uint16_t>(bits)});
        CHECK(std::isnan(brain) || to_bf16(brain).bits == bits);
    }
    std::mt19937 random(1);
    std::uniform_real_distribution<float> exponent(-26.0f, 17.0f);
    for (int i = 0; i < 20000; ++i) {
        float x = std::exp2(exponent(random));
        if (i % 3 == 0)
            x = static_cast<float>(f16_value(random() % 0x7c00) + f16_value(random() % 0x7c00)) / 2;  // ties
        const uint32_t got = to_f16(x).bits;
        CHECK(got == (x >= 65520.0f ? 0x7c00u : nearest_f16_pattern(x, std::min(got, 0x7bffu))));
        CHECK(to_f16(-x).bits == (got | 0x8000));
        const uint32_t brain = to_bf16(x).bits;
        const double below = x - to_float(bf16{static_cast<uint16_t>(brain - 1)}),
                     here = x - to_float(bf16{static_cast<uint16_t>(brain)});
        const double above = to_float(bf16{static_cast<uint16_t>(brain + 1)}) - x;
        CHECK(std::fabs(here) <= below && std::fabs(here) <= above);
    }
    CHECK(to_f16(NAN).bits == 0x7fff && to_bf16(NAN).bits == 0x7fff);
    CHECK(to_bf16(-INFINITY).bits == 0xff80 && to_f16(-INFINITY).bits == 0xfc00);
    CHECK(to_bf16(1.00390625f).bits == 0x3f80 && to_bf16(1.01171875f).bits == 0x3f82);  // ties go to the even one
}
