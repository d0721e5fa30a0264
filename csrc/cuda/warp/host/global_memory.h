// Global memory as a launch sees it: the buffers that it registered. With at least one registered, an access outside of
// all of them is a fault, and every word of an output has a history, so races between blocks are found as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "history.h"

namespace warp::host {

enum class BufferKind {
    kInput,   // read only
    kOutput,  // may be read only after the kernel wrote it
    kInOut,   // holds values already
};

struct Buffer {
    std::string name;
    const void* data = nullptr;
    size_t bytes = 0;
    uint32_t element_bytes = 4;
    BufferKind kind = BufferKind::kInput;
};

template <class T>
Buffer input(std::string name, const T* data, size_t count) {
    return {std::move(name), data, count * sizeof(T), sizeof(T), BufferKind::kInput};
}
template <class T>
Buffer output(std::string name, T* data, size_t count) {
    return {std::move(name), data, count * sizeof(T), sizeof(T), BufferKind::kOutput};
}
template <class T>
Buffer inout(std::string name, T* data, size_t count) {
    return {std::move(name), data, count * sizeof(T), sizeof(T), BufferKind::kInOut};
}

// What atomics on one word pass on between warps that fence around them.
struct AtomicWord {
    Knowledge released;
    char tsan_token = 0;
};

enum class AccessKind { kRead, kWrite, kAtomic };

class GlobalMemory {
  public:
    GlobalMemory(const std::vector<Buffer>& buffers, uint32_t num_slots, bool check) : is_checked_(!buffers.empty()) {
        for (const Buffer& buffer : buffers) {
            if (buffer.bytes == 0) continue;
            Region region{buffer, nullptr};
            if (check && buffer.kind != BufferKind::kInput) {
                const uint32_t granule = buffer.element_bytes < 4 ? buffer.element_bytes : 4;
                region.history = std::make_unique<History>("'" + buffer.name + "'", buffer.bytes, granule, num_slots,
                                                           false, buffer.kind == BufferKind::kInOut);
            }
            if (!regions_.emplace(reinterpret_cast<uintptr_t>(buffer.data), std::move(region)).second) {
                throw Fault("two buffers at one address: '" + buffer.name + "' and another");
            }
        }
        expect_no_overlap();
    }

    void access(const void* data, size_t bytes, size_t alignment, AccessKind kind, const Actor& actor, int lane) {
        const uintptr_t address = reinterpret_cast<uintptr_t>(data);
        if (address % alignment != 0) fault("global access of ", bytes, " bytes is not aligned to ", alignment);
        if (!is_checked_) return;
        Region& region = find(address, bytes, lane);
        const size_t offset = address - reinterpret_cast<uintptr_t>(region.buffer.data);
        if (kind != AccessKind::kRead && region.buffer.kind == BufferKind::kInput) {
            fault("writes the input '", region.buffer.name, "' at byte ", offset);
        }
        if (region.history == nullptr) return;
        if (kind == AccessKind::kRead) region.history->read(offset, bytes, actor, lane);
        if (kind == AccessKind::kWrite) region.history->write(offset, bytes, actor, lane);
        if (kind == AccessKind::kAtomic) region.history->atomic(offset, bytes, actor, lane, actor.atomic_time());
    }

    AtomicWord& atomic_word(const void* data) { return atomic_words_[data]; }

  private:
    struct Region {
        Buffer buffer;
        std::unique_ptr<History> history;
    };

    Region& find(uintptr_t address, size_t bytes, int lane) {
        auto after = regions_.upper_bound(address);
        if (after == regions_.begin()) {
            fault("lane ", lane, " accesses global memory ",
                  after == regions_.end() ? "though every buffer is empty"
                                          : "before '" + after->second.buffer.name + "', the first buffer");
        }
        Region& region = std::prev(after)->second;
        const uintptr_t end = reinterpret_cast<uintptr_t>(region.buffer.data) + region.buffer.bytes;
        if (address + bytes > end) {
            fault("lane ", lane, " accesses ", bytes, " bytes of global memory that end ", address + bytes - end,
                  " bytes behind '", region.buffer.name, "' (", region.buffer.bytes, " bytes)");
        }
        return region;
    }

    void expect_no_overlap() const {
        const Region* before = nullptr;
        for (const auto& [address, region] : regions_) {
            if (before != nullptr &&
                reinterpret_cast<uintptr_t>(before->buffer.data) + before->buffer.bytes > address) {
                throw Fault("buffers '" + before->buffer.name + "' and '" + region.buffer.name + "' overlap");
            }
            before = &region;
        }
    }

    bool is_checked_;
    std::map<uintptr_t, Region> regions_;
    std::map<const void*, AtomicWord> atomic_words_;
};

}  // namespace warp::host
