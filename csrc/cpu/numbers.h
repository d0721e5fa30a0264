// Elements of each type as kernels that compute in float32 read, round and write them, in plain C++ that compilers turn
// into vectors. No standard templates: see sample_tokens_loops.cpp.
#pragma once

#include <stdexcept>
#include <string>

#include "editscore/element_type.h"
#include "half_floats.h"

namespace editscore {

// How an element is read, rounded between two operations, and written. A NaN is written as one and the same NaN:
// which of two NaNs a product hands on is left to the compiler.
template <ElementType kType>
struct Numbers;

template <>
struct Numbers<ElementType::kFloat32> {
    using Element = float;
    static EDITSCORE_INLINE float read(float x) { return x; }
    static EDITSCORE_INLINE float round(float x) { return x; }
    static EDITSCORE_INLINE float write(float x) { return x != x ? bits_of<float>(0x7FC00000u) : x; }
};

template <>
struct Numbers<ElementType::kBfloat16> {
    using Element = uint16_t;
    static EDITSCORE_INLINE float read(uint16_t x) { return bits_of<float>(static_cast<uint32_t>(x) << 16); }
    static EDITSCORE_INLINE float round(float x) {
        // A NaN from a bfloat16 has zeros in its lower half, so adding less than 2^16 leaves it one.
        const uint32_t bits = bits_of<uint32_t>(x);
        return bits_of<float>((bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
    }
    static EDITSCORE_INLINE uint16_t write(float x) { return bfloat16_of(x); }
};

template <>
struct Numbers<ElementType::kFloat16> {
    using Element = uint16_t;
    static EDITSCORE_INLINE float read(uint16_t x) { return float_of_half(x); }
    static EDITSCORE_INLINE float round(float x) {
        // As half_of rounds, but without leaving single precision.
        const uint32_t sign = bits_of<uint32_t>(x) & 0x80000000u, magnitude = bits_of<uint32_t>(x) & 0x7FFFFFFFu;
        const uint32_t exponent = magnitude < 0x38800000u ? 0x38800000u : magnitude & 0x7F800000u;  // at least 2^-14
        const float anchor = bits_of<float>(exponent + (13u << 23));  // its last bit is the last that a half keeps
        const uint32_t rounded = bits_of<uint32_t>((bits_of<float>(magnitude) + anchor) - anchor);
        const uint32_t finite = magnitude >= 0x477FF000u ? 0x7F800000u : rounded;
        return bits_of<float>((magnitude > 0x7F800000u ? magnitude : finite) | sign);
    }
    static EDITSCORE_INLINE uint16_t write(float x) { return x != x ? uint16_t{0x7E00u} : half_of(x); }
};

inline int64_t bytes_of(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

// f<type>() for a type that is known when it runs.
template <class F>
auto with_type(ElementType type, F f) {
    switch (type) {
        case ElementType::kFloat32:
            return f.template operator()<ElementType::kFloat32>();
        case ElementType::kBfloat16:
            return f.template operator()<ElementType::kBfloat16>();
        case ElementType::kFloat16:
            return f.template operator()<ElementType::kFloat16>();
    }
    throw std::invalid_argument("type: " + std::to_string(static_cast<int>(type)) + " is none");
}

}  // namespace editscore
