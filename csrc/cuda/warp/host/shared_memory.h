// The shared memory of one block: bytes, history of each 4-byte word, bank conflicts.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "history.h"
#include "lane.h"
#include "sanitizers.h"

namespace warp::host {

// Shared addresses start here, so that 0 is never valid; a multiple of 1024, as tensor-map copies want it.
constexpr uint32_t kSharedBase = 1024;
constexpr uint32_t kWordBytes = 4;
constexpr int kPoison = 0xff;  // NaN as bf16, fp16 and fp32; -1 as an integer

class SharedMemory {
  public:
    SharedMemory(uint32_t bytes, uint32_t num_warps)
        : bytes_(bytes),
          data_(static_cast<uint8_t*>(std::aligned_alloc(128, (bytes + 255) / 128 * 128)), &std::free),
          history("shared", bytes, kWordBytes, num_warps, true, false) {
        std::memset(data_.get(), kPoison, bytes);
    }

    // The bytes at a shared address, after checking alignment and range.
    uint8_t* at(uint32_t address, uint32_t bytes, uint32_t alignment) {
        if (address % alignment != 0) {
            fault("shared address ", offset_text(address), " is not aligned to ", alignment, " bytes");
        }
        if (address < kSharedBase || uint64_t{address} + bytes > uint64_t{kSharedBase} + bytes_) {
            fault("shared address ", offset_text(address), " (", bytes, " bytes) is outside of the block's ", bytes_);
        }
        return data_.get() + (address - kSharedBase);
    }

    static std::string offset_text(uint32_t address) {
        return std::to_string(static_cast<int64_t>(address) - int64_t{kSharedBase});
    }
    static size_t offset(uint32_t address) { return address - kSharedBase; }

  private:
    uint32_t bytes_;
    std::unique_ptr<uint8_t, void (*)(void*)> data_;

  public:
    History history;
};

// How many rounds the 32 banks need for `count` accesses of `words` words each: the most different words of one bank.
inline int bank_conflict_degree(const uint32_t* addresses, int count, int words) {
    std::array<std::array<uint32_t, kLanes>, 32> seen;
    std::array<int, 32> num_seen{};
    int worst = 0;
    for (int i = 0; i < count; ++i) {
        for (int k = 0; k < words; ++k) {
            const uint32_t word = addresses[i] / kWordBytes + static_cast<uint32_t>(k), bank = word % 32;
            bool known = false;
            for (int j = 0; j < num_seen[bank]; ++j) known |= seen[bank][j] == word;
            if (known) continue;
            seen[bank][num_seen[bank]++] = word;
            worst = num_seen[bank] > worst ? num_seen[bank] : worst;
        }
    }
    return worst;
}

}  // namespace warp::host
