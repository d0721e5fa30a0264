// Loads and stores of global and shared memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "values.cuh"

namespace warp {

// 1024 is what the 128-byte swizzle of tensor-map copies is relative to.
WARP_FN uint32_t smem_base() {
    extern __shared__ __align__(1024) unsigned char warp_shared_memory[];
    return static_cast<uint32_t>(__cvta_generic_to_shared(warp_shared_memory));
}

// ---- global memory: element i of p where mask; zero elsewhere
template <class T, class I>
WARP_FN T gload(const T* p, I i, bool mask = true) {
    return mask ? p[i] : T{};
}
template <class T, class I>
WARP_FN T gload_cg(const T* p, I i, bool mask = true) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    return mask ? __ldcg(p + i) : T{};
}
template <class T, class I>
WARP_FN T gload_cs(const T* p, I i, bool mask = true) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    return mask ? __ldcs(p + i) : T{};
}
template <class T, class I>
WARP_FN void gstore(T* p, I i, std::type_identity_t<T> x, bool mask = true) {
    if (mask) p[i] = x;
}

template <int kBytes>
struct VectorOf;
template <>
struct VectorOf<8> {
    using type = uint2;
};
template <>
struct VectorOf<16> {
    using type = uint4;
};
template <class R, int N>
using Vector = typename VectorOf<sizeof(R) * N>::type;

template <class R, int N, class V>
WARP_FN void unpack_vector(R (&r)[N], const V& vector) {
    static_assert(sizeof(V) == sizeof(R) * N);
    memcpy(r, &vector, sizeof vector);  // registers: no memory is touched
}

template <class R, int N, class T, class I>
WARP_FN void gload_vec(R (&r)[N], const T* p, I i, bool mask = true) {
    using V = Vector<R, N>;
    unpack_vector(r, mask ? *reinterpret_cast<const V*>(p + i) : V{});
}
template <class R, int N, class T, class I>
WARP_FN void gload_vec_cg(R (&r)[N], const T* p, I i, bool mask = true) {
    using V = Vector<R, N>;
    unpack_vector(r, mask ? __ldcg(reinterpret_cast<const V*>(p + i)) : V{});
}
template <class R, int N, class T, class I>
WARP_FN void gload_vec_cs(R (&r)[N], const T* p, I i, bool mask = true) {
    using V = Vector<R, N>;
    unpack_vector(r, mask ? __ldcs(reinterpret_cast<const V*>(p + i)) : V{});
}
template <class R, int N, class T, class I>
WARP_FN void gstore_vec(T* p, I i, const R (&r)[N], bool mask = true) {
    Vector<R, N> vector;
    memcpy(&vector, r, sizeof vector);
    if (mask) *reinterpret_cast<Vector<R, N>*>(p + i) = vector;
}

// ---- shared memory; addresses are in bytes
template <class T = uint32_t>
WARP_FN T sload(uint32_t address, bool mask = true) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    T x = {};
    if constexpr (sizeof(T) == 4) {
        uint32_t word = 0;
        if (mask) asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
        memcpy(&x, &word, sizeof x);
    } else {
        uint64_t word = 0;
        if (mask) asm volatile("ld.shared.u64 %0, [%1];" : "=l"(word) : "r"(address) : "memory");
        memcpy(&x, &word, sizeof x);
    }
    return x;
}
template <class T>
WARP_FN void sstore(uint32_t address, T x, bool mask = true) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    if constexpr (sizeof(T) == 4) {
        uint32_t word;
        memcpy(&word, &x, sizeof x);
        if (mask) asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
    } else {
        uint64_t word;
        memcpy(&word, &x, sizeof x);
        if (mask) asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(word) : "memory");
    }
}
template <class R, int N>
WARP_FN void sload_vec(R (&r)[N], uint32_t address, bool mask = true) {
    Vector<R, N> v = {};
    if (mask) {
        if constexpr (sizeof v == 16) {
            asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                         : "r"(address)
                         : "memory");
        } else {
            asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
        }
    }
    unpack_vector(r, v);
}
template <class R, int N>
WARP_FN void sstore_vec(uint32_t address, const R (&r)[N], bool mask = true) {
    Vector<R, N> v;
    memcpy(&v, r, sizeof v);
    if (!mask) return;
    if constexpr (sizeof v == 16) {
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                     : "memory");
    } else {
        asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(v.x), "r"(v.y) : "memory");
    }
}

}  // namespace warp
