// Loads and stores of global and shared memory, each lane checked.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "scheduler.h"
#include "values.h"

namespace warp {

namespace host {

// An index may be a number or a Lane of int or int64_t.
template <class T>
Lane<int64_t> offsets(const Lane<T>& index) {
    return Lane<int64_t>(index);
}
template <Number T>
Lane<int64_t> offsets(T index) {
    return Lane<int64_t>(static_cast<int64_t>(index));
}

inline void load_global(void* to, const void* base, const void* from, size_t bytes, int lane) {
    machine().global.access(base, from, bytes, bytes, AccessKind::kRead, *machine().running, lane);
    copy_data(to, from, bytes);
}
inline void store_global(void* base, void* to, const void* from, size_t bytes, int lane) {
    machine().global.access(base, to, bytes, bytes, AccessKind::kWrite, *machine().running, lane);
    copy_data(to, from, bytes);
}

inline void load_shared(void* to, uint32_t from, uint32_t bytes, uint32_t alignment, int lane) {
    SharedMemory& shared = machine().running->block->shared;
    const uint8_t* data = shared.at(from, bytes, alignment);
    if (machine().options.check) shared.history.read(SharedMemory::offset(from), bytes, *machine().running, lane);
    copy_data(to, data, bytes);
}
inline void store_shared(uint32_t to, const void* from, uint32_t bytes, int lane) {
    SharedMemory& shared = machine().running->block->shared;
    uint8_t* data = shared.at(to, bytes, bytes);
    if (machine().options.check) shared.history.write(SharedMemory::offset(to), bytes, *machine().running, lane);
    copy_data(data, from, bytes);
}

// The hardware serves 32 lanes at once for 4 bytes a lane, 16 for 8 and 8 for 16; the worst group counts.
inline void count_ways(int& worst, const Lane<uint32_t>& address, const Lane<bool>& mask, uint32_t bytes) {
    if (!machine().options.check) return;
    const int group = kLanes * 4 / static_cast<int>(bytes);
    for (int begin = 0; begin < kLanes; begin += group) {
        uint32_t used[kLanes];
        int count = 0;
        for (int i = begin; i < begin + group; ++i) {
            if (mask.v[i]) used[count++] = address.v[i];
        }
        const int ways = bank_conflict_degree(used, count, static_cast<int>(bytes / kWordBytes));
        worst = ways > worst ? ways : worst;
    }
}

// How many different 32-byte sectors one instruction touches: bytes / 32 where neighbours in lanes are neighbours in
// memory.
inline void count_sectors(const Lane<int64_t>& offset, const Lane<bool>& mask, const void* p, size_t element_bytes,
                          size_t bytes) {
    if (!machine().options.check) return;
    std::array<uintptr_t, kLanes> sectors;
    size_t count = 0, used = 0;
    for (int i = 0; i < kLanes; ++i) {
        if (!mask.v[i]) continue;
        ++used;
        const uintptr_t address = reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(offset.v[i]) * element_bytes;
        if (count == 0 || sectors[count - 1] != address / 32) sectors[count++] = address / 32;
    }
    std::sort(sectors.begin(), sectors.begin() + count);
    const auto end = std::unique(sectors.begin(), sectors.begin() + count);
    machine().stats.global_bytes += static_cast<int64_t>(used * bytes);
    machine().stats.global_sectors += end - sectors.begin();
}

}  // namespace host

// ---- where a warp is
inline int warp_id() { return host::machine().running->id; }
inline int block_id() { return host::machine().running->block->x; }
inline int block_id_y() { return host::machine().running->block->y; }
inline int grid_size() { return host::machine().shape.grid; }
inline int grid_size_y() { return host::machine().shape.grid_y; }
inline uint32_t smem_base() { return host::kSharedBase; }
// Is the bug number n switched on? On the device a constant false, so that a kernel can carry the bugs its tests
// inject.
inline bool mutant(int n) { return host::machine().options.mutant == n; }

// ---- global memory: element i of p where mask; zero elsewhere
template <class T, class I>
Lane<T> gload(const T* p, const I& index, const Lane<bool>& mask = true, host::Where where = host::Where::current()) {
    host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    Lane<T> values = {};
    for (int i = 0; i < kLanes; ++i) {
        if (mask.v[i]) host::load_global(&values.v[i], p, p + offset.v[i], sizeof(T), i);
    }
    host::count_sectors(offset, mask, p, sizeof(T), sizeof(T));
    return values;
}
// Past L1, for what other blocks wrote in this launch; and for what is read once.
template <class T, class I>
Lane<T> gload_cg(const T* p, const I& i, const Lane<bool>& mask = true, host::Where where = host::Where::current()) {
    return gload(p, i, mask, where);
}
template <class T, class I>
Lane<T> gload_cs(const T* p, const I& i, const Lane<bool>& mask = true, host::Where where = host::Where::current()) {
    return gload(p, i, mask, where);
}
template <class T, class I>
void gstore(T* p, const I& index, const std::type_identity_t<Lane<T>>& x, const Lane<bool>& mask = true,
            host::Where where = host::Where::current()) {
    host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        if (mask.v[i]) host::store_global(p, p + offset.v[i], &x.v[i], sizeof(T), i);
    }
    host::count_sectors(offset, mask, p, sizeof(T), sizeof(T));
}

// N neighbours per lane in one access of 8 or 16 bytes, which is also its alignment. `index` counts elements of p, and
// the registers may have another type than the memory: 16 bytes of bf16 are four uint32_t.
template <class R, int N, class T, class I>
void gload_vec(Lane<R> (&r)[N], const T* p, const I& index, const Lane<bool>& mask = true,
               host::Where where = host::Where::current()) {
    static_assert(sizeof(R) * N == 8 || sizeof(R) * N == 16);
    host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        R values[N] = {};
        if (mask.v[i]) host::load_global(values, p, p + offset.v[i], sizeof values, i);
        for (int n = 0; n < N; ++n) r[n].v[i] = values[n];
    }
    host::count_sectors(offset, mask, p, sizeof(T), sizeof(R) * N);
}
template <class R, int N, class T, class I>
void gload_vec_cg(Lane<R> (&r)[N], const T* p, const I& index, const Lane<bool>& mask = true,
                  host::Where where = host::Where::current()) {
    gload_vec(r, p, index, mask, where);
}
template <class R, int N, class T, class I>
void gload_vec_cs(Lane<R> (&r)[N], const T* p, const I& index, const Lane<bool>& mask = true,
                  host::Where where = host::Where::current()) {
    gload_vec(r, p, index, mask, where);
}
template <class R, int N, class T, class I>
void gstore_vec(T* p, const I& index, const Lane<R> (&r)[N], const Lane<bool>& mask = true,
                host::Where where = host::Where::current()) {
    static_assert(sizeof(R) * N == 8 || sizeof(R) * N == 16);
    host::enter(where);
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        R values[N];
        for (int n = 0; n < N; ++n) values[n] = r[n].v[i];
        if (mask.v[i]) host::store_global(p, p + offset.v[i], values, sizeof values, i);
    }
    host::count_sectors(offset, mask, p, sizeof(T), sizeof(R) * N);
}

// ---- shared memory; addresses are in bytes
template <class T = uint32_t>
Lane<T> sload(const Lane<uint32_t>& address, const Lane<bool>& mask = true,
              host::Where where = host::Where::current()) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    host::enter(where);
    Lane<T> values = {};
    for (int i = 0; i < kLanes; ++i) {
        if (mask.v[i]) host::load_shared(&values.v[i], address.v[i], sizeof(T), sizeof(T), i);
    }
    host::count_ways(host::machine().stats.load_ways, address, mask, sizeof(T));
    return values;
}
template <class T>
void sstore(const Lane<uint32_t>& address, const Lane<T>& x, const Lane<bool>& mask = true,
            host::Where where = host::Where::current()) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    host::enter(where);
    for (int i = 0; i < kLanes; ++i) {
        if (mask.v[i]) host::store_shared(address.v[i], &x.v[i], sizeof(T), i);
    }
    host::count_ways(host::machine().stats.store_ways, address, mask, sizeof(T));
}
template <Number T>
void sstore(const Lane<uint32_t>& address, T x, const Lane<bool>& mask = true,
            host::Where where = host::Where::current()) {
    sstore(address, Lane<T>(x), mask, where);
}
template <class R, int N>
void sload_vec(Lane<R> (&r)[N], const Lane<uint32_t>& address, const Lane<bool>& mask = true,
               host::Where where = host::Where::current()) {
    static_assert(sizeof(R) * N == 8 || sizeof(R) * N == 16);
    host::enter(where);
    for (int i = 0; i < kLanes; ++i) {
        R values[N] = {};
        if (mask.v[i]) host::load_shared(values, address.v[i], sizeof values, sizeof values, i);
        for (int n = 0; n < N; ++n) r[n].v[i] = values[n];
    }
    host::count_ways(host::machine().stats.load_ways, address, mask, sizeof(R) * N);
}
template <class R, int N>
void sstore_vec(const Lane<uint32_t>& address, const Lane<R> (&r)[N], const Lane<bool>& mask = true,
                host::Where where = host::Where::current()) {
    static_assert(sizeof(R) * N == 8 || sizeof(R) * N == 16);
    host::enter(where);
    for (int i = 0; i < kLanes; ++i) {
        R values[N];
        for (int n = 0; n < N; ++n) values[n] = r[n].v[i];
        if (mask.v[i]) host::store_shared(address.v[i], values, sizeof values, i);
    }
    host::count_ways(host::machine().stats.store_ways, address, mask, sizeof(R) * N);
}

}  // namespace warp
