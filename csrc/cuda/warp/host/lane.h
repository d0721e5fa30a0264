// Lane<T> on the host: the 32 values of a warp with element-wise operators. There is no conversion to bool, so an `if`
// whose lanes could disagree does not compile: control flow is uniform, divergence is select() and masks.
#pragma once

#include <cstdint>
#include <type_traits>

namespace warp {

constexpr int kLanes = 32;

template <class T>
struct Lane;

// Calls f on each lane: each(f, a, b).v[i] == f(a.v[i], b.v[i]).
template <class F, class A, class... B>
auto each(F f, const Lane<A>& a, const Lane<B>&... b) {
    Lane<decltype(f(a.v[0], b.v[0]...))> result;
    for (int i = 0; i < kLanes; ++i) result.v[i] = f(a.v[i], b.v[i]...);
    return result;
}

template <class T>
struct Lane {
    T v[kLanes];

    Lane() = default;  // not initialised, as on the device; `Lane<T> x = {}` is zero
    Lane(T value) {
        for (T& lane : v) lane = value;
    }
    template <class U>
    explicit Lane(const Lane<U>& other) {
        for (int i = 0; i < kLanes; ++i) v[i] = static_cast<T>(other.v[i]);
    }

#define WARP_BINARY_OPERATOR(op)                                            \
    friend Lane operator op(const Lane& a, const Lane& b) {                 \
        return each([](T x, T y) { return static_cast<T>(x op y); }, a, b); \
    }                                                                       \
    friend Lane& operator op## = (Lane & a, const Lane& b) { return a = a op b; }
    WARP_BINARY_OPERATOR(+)
    WARP_BINARY_OPERATOR(-)
    WARP_BINARY_OPERATOR(*)
    WARP_BINARY_OPERATOR(/)
    WARP_BINARY_OPERATOR(%)
    WARP_BINARY_OPERATOR(&)
    WARP_BINARY_OPERATOR(|)
    WARP_BINARY_OPERATOR(^)
    WARP_BINARY_OPERATOR(<<)
    WARP_BINARY_OPERATOR(>>)
#undef WARP_BINARY_OPERATOR

#define WARP_COMPARISON(op)                                       \
    friend Lane<bool> operator op(const Lane& a, const Lane& b) { \
        return each([](T x, T y) { return x op y; }, a, b);       \
    }
    WARP_COMPARISON(<)
    WARP_COMPARISON(<=)
    WARP_COMPARISON(>)
    WARP_COMPARISON(>=)
    WARP_COMPARISON(==)
    WARP_COMPARISON(!=)
#undef WARP_COMPARISON

    friend Lane operator-(const Lane& a) {
        return each([](T x) { return static_cast<T>(-x); }, a);
    }
    friend Lane operator~(const Lane& a) {
        return each([](T x) { return static_cast<T>(~x); }, a);
    }
    friend Lane<bool> operator!(const Lane& a) {
        return each([](T x) { return !x; }, a);
    }
};

}  // namespace warp
