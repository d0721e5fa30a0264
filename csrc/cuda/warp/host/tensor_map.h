// A matrix in global memory, as bulk_copy_box sees it.
#pragma once

#include <cstdint>

#include "fault.h"

namespace warp {

struct TensorMap {
    const uint8_t* data = nullptr;
    int64_t rows = 0;
    int columns = 0;
    int64_t row_bytes = 0;
    int box_rows = 0;
    int element_bytes = 2;
};

// [rows, columns] of 2-byte elements, copied in boxes of box_rows rows by 64 columns (128 bytes). What the device's
// cuTensorMapEncodeTiled would refuse is a Fault.
template <class T>
TensorMap make_tensor_map(const T* data, int64_t rows, int columns, int64_t row_stride, int box_rows) {
    static_assert(sizeof(T) == 2);
    const int64_t row_bytes = row_stride * static_cast<int64_t>(sizeof(T));
    if (reinterpret_cast<uintptr_t>(data) % 16 != 0 || row_bytes % 16 != 0) {
        throw host::Fault("tensor map: base and row stride must be multiples of 16 bytes");
    }
    if (rows < 1 || columns < 1 || columns > row_stride || box_rows < 1 || box_rows > 256) {
        throw host::Fault("tensor map: rows, columns or box_rows out of range");
    }
    return {reinterpret_cast<const uint8_t*>(data), rows, columns, row_bytes, box_rows, sizeof(T)};
}

}  // namespace warp
