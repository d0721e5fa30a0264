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

    // `base` is the pointer that `data` was reached from: if it lies in a buffer, the access must stay in that buffer,
    // also where another one happens to lie next to it.
    void access(const void* base, const void* data, size_t bytes, size_t alignment, AccessKind kind, const Actor& actor,
                int lane) {
        const uintptr_t address = reinterpret_cast<uintptr_t>(data);
        if (address % alignment != 0) fault("global access of ", bytes, " bytes is not aligned to ", alignment);
        if (!is_checked_) return;
        if (base != last_base_) {
            last_base_ = base;
            last_region_ = region_of(reinterpret_cast<uintptr_t>(base));
        }
        Region* from_address = last_region_ != nullptr ? last_region_ : region_of(address);
        if (from_address == nullptr) {
            fault("lane ", lane, " accesses ", bytes, " bytes of global memory outside of all buffers");
        }
        Region& region = *from_address;
        expect_inside(region, address, bytes, lane);
        const size_t offset = address - begin(region);
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

    static uintptr_t begin(const Region& region) { return reinterpret_cast<uintptr_t>(region.buffer.data); }
    static uintptr_t end(const Region& region) { return begin(region) + region.buffer.bytes; }

    // The buffer that an address lies in or directly behind.
    Region* region_of(uintptr_t address) {
        const auto after = regions_.upper_bound(address);
        if (after == regions_.begin()) return nullptr;
        Region& region = std::prev(after)->second;
        return address <= end(region) ? &region : nullptr;
    }

    static void expect_inside(const Region& region, uintptr_t address, size_t bytes, int lane) {
        if (address >= begin(region) && address + bytes <= end(region)) return;
        const bool is_before = address < begin(region);
        fault("lane ", lane, " accesses ", bytes, " bytes of global memory that ",
              is_before ? text("begin ", begin(region) - address, " bytes before '")
                        : text("end ", address + bytes - end(region), " bytes behind '"),
              region.buffer.name, "' (", region.buffer.bytes, " bytes)");
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
    const void* last_base_ = nullptr;
    Region* last_region_ = nullptr;
    std::map<uintptr_t, Region> regions_;
    std::map<const void*, AtomicWord> atomic_words_;
};

}  // namespace warp::host
