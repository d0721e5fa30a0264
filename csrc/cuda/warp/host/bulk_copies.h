// Bulk copies (sm_90): the copy engine moves bytes and reports them to an mbarrier.
#pragma once

#include <cstdint>

#include "mbarriers.h"
#include "tensor_map.h"

namespace warp {

namespace host {

inline Mbarrier& copy_target_barrier(uint32_t address) {
    Mbarrier& barrier = mbarrier(address);
    if (!barrier.is_visible_to_copies) {
        fault("bulk copy reports to the mbarrier of ", place(barrier.where), ", which has had no mbar_fence_init");
    }
    return barrier;
}

inline void issue(Mbarrier& barrier, const Copy& copy) {
    start_copy(copy, true);
    barrier.copies.push_back(copy);
    tsan_release(barrier.token(barrier.phase));  // for TSan it is the waiting warp that writes; the clocks know better
    ++machine().stats.bulk_copies;
    machine().stats.bulk_bytes += copy.bytes;
}

}  // namespace host

// `bytes` (a multiple of 16) from element i of p, for each lane of the mask.
template <class T, class I>
void bulk_copy(const Lane<uint32_t>& to, const T* p, const I& index, uint32_t bytes, uint32_t barrier_address,
               const Lane<bool>& mask = true, host::Where where = host::Where::current()) {
    host::enter(where);
    host::Mbarrier& barrier = host::copy_target_barrier(barrier_address);
    if (bytes == 0 || bytes % 16 != 0) host::fault("bulk copy of ", bytes, " bytes: not a multiple of 16");
    const Lane<int64_t> offset = host::offsets(index);
    for (int i = 0; i < kLanes; ++i) {
        if (!mask.v[i]) continue;
        host::issue(barrier, {to.v[i], p, reinterpret_cast<const uint8_t*>(p + offset.v[i]), bytes, i, where});
    }
}

// The box of the map whose first element is (row, column), issued once by lane 0. Rows of 128 bytes, swizzled: 16-byte
// chunk c of row r lies at chunk c ^ (r % 8). Rows behind the last are zeros, and count as bytes that were copied.
inline void bulk_copy_box(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier_address,
                          host::Where where = host::Where::current()) {
    host::enter(where);
    host::Mbarrier& barrier = host::copy_target_barrier(barrier_address);
    if (to % 1024 != 0)
        host::fault("box at shared address ", host::SharedMemory::offset_text(to), ": not aligned to 1024");
    for (int r = 0; r < map.box_rows; ++r) {
        for (int chunk = 0; chunk < 8; ++chunk) {
            const int64_t at_row = int64_t{row} + r;
            const int64_t at_byte = int64_t{column} * map.element_bytes + chunk * 16;
            const bool is_inside =
                at_row >= 0 && at_row < map.rows && at_byte >= 0 && at_byte < int64_t{map.columns} * map.element_bytes;
            const uint8_t* from = is_inside ? map.data + at_row * map.row_bytes + at_byte : nullptr;
            const uint32_t target = to + static_cast<uint32_t>(r * 128 + (chunk ^ (r % 8)) * 16);
            host::issue(barrier, {target, map.data, from, 16, 0, where});
        }
    }
    host::machine().stats.bulk_copies -= map.box_rows * 8 - 1;  // one instruction
}

}  // namespace warp
