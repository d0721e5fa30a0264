// Who last wrote and read each granule of a memory, and whether that is ordered before an access now. Exact: it depends
// on what the kernel synchronises, not on the schedule that happened to run.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "clocks.h"

namespace warp::host {

class History {
  public:
    // `granule_bytes`, a power of two: the finest access that is told apart. `readers`: how many warps can reach this
    // memory.
    History(std::string name, size_t bytes, uint32_t granule_bytes, uint32_t readers, bool readers_are_local,
            bool is_set)
        : name_(std::move(name)),
          granule_shift_(std::countr_zero(granule_bytes)),
          readers_(readers),
          readers_are_local_(readers_are_local),
          cells_((bytes + granule_bytes - 1) / granule_bytes) {
        for (Cell& cell : cells_) cell.state = is_set ? State::kSet : State::kUnset;
    }

    void read(size_t offset, size_t bytes, const Actor& actor, int lane) {
        const Access now = access(actor, lane);
        for (size_t i = first(offset), end = behind(offset, bytes); i < end; ++i) {
            Cell& cell = cells_[i];
            if (cell.state != State::kSet) refuse(cell, i, "reads");
            expect_before(cell.write, i, actor, lane, "reads", "write");
            if (cell.atomic_row != 0) expect_row_before(cell.atomic_row, i, actor, lane, "reads", "atomic");
            remember_read(cell, now, actor);
        }
    }

    void write(size_t offset, size_t bytes, const Actor& actor, int lane) {
        change(offset, bytes, actor, lane, State::kSet, false);
    }
    // A copy was started: until it lands nobody may touch its target.
    void start_copy(size_t offset, size_t bytes, const Actor& actor, int lane, bool by_copy_engine) {
        change(offset, bytes, actor, lane, State::kInFlight, by_copy_engine);
    }
    // It landed: `as` is who is taken to have written it, and when.
    void land_copy(size_t offset, size_t bytes, const Access& as) {
        for (size_t i = first(offset), end = behind(offset, bytes); i < end; ++i) {
            cells_[i].state = State::kSet;
            cells_[i].write = as;
        }
    }

    // `time`: when other warps take it to have happened.
    void atomic(size_t offset, size_t bytes, const Actor& actor, int lane, uint32_t time) {
        Access now = access(actor, lane);
        now.clock = time;
        for (size_t i = first(offset), end = behind(offset, bytes); i < end; ++i) {
            Cell& cell = cells_[i];
            if (cell.state != State::kSet) refuse(cell, i, "updates");
            expect_before(cell.write, i, actor, lane, "updates", "write");
            expect_before(cell.read, i, actor, lane, "updates", "read");
            if (cell.read_row != 0) expect_row_before(cell.read_row, i, actor, lane, "updates", "read");
            merge_into_row(cell.atomic_row, now, row_entry(actor));
        }
    }

    // An mbarrier lies here from now on: only mbarrier operations may touch it, once its initialisation is known to
    // them.
    void make_mbarrier(size_t offset, size_t bytes, const Actor& actor, int lane) {
        change(offset, bytes, actor, lane, State::kMbarrier, false);
    }
    void use_mbarrier(size_t offset, size_t bytes, const Actor& actor, int lane) {
        for (size_t i = first(offset), end = behind(offset, bytes); i < end; ++i) {
            expect_before(cells_[i].write, i, actor, lane, "uses the mbarrier at", "initialisation");
        }
    }

    static Access access(const Actor& actor, int lane) {
        return {actor.where, actor.now(), actor.step, actor.slot, static_cast<int16_t>(lane), 0};
    }

  private:
    enum class State : uint8_t { kUnset, kSet, kInFlight, kMbarrier };

    struct Cell {
        Access write;
        Access read;            // the last one, while readers are ordered one after another
        uint32_t read_row = 0;  // else one entry per warp, in rows_; 0: none
        uint32_t atomic_row = 0;
        State state = State::kUnset;
    };

    size_t first(size_t offset) const { return offset >> granule_shift_; }
    size_t behind(size_t offset, size_t bytes) const { return ((offset + bytes - 1) >> granule_shift_) + 1; }
    std::string name(size_t cell) const { return text(name_, " byte ", cell << granule_shift_); }

    void change(size_t offset, size_t bytes, const Actor& actor, int lane, State to, bool by_copy_engine) {
        const Access now = access(actor, lane);
        for (size_t i = first(offset), end = behind(offset, bytes); i < end; ++i) {
            Cell& cell = cells_[i];
            if (cell.state > State::kSet) refuse(cell, i, "writes");
            expect_before(cell.write, i, actor, lane, "writes", "write");
            expect_before(cell.read, i, actor, lane, "writes", "read");
            if (cell.read_row != 0) expect_row_before(cell.read_row, i, actor, lane, "writes", "read");
            if (cell.atomic_row != 0) expect_row_before(cell.atomic_row, i, actor, lane, "writes", "atomic");
            if (by_copy_engine) expect_proxy_fence(cell.write, i, actor);
            cell.write = now;
            cell.state = to;
        }
    }

    [[noreturn, gnu::cold]] void refuse(const Cell& cell, size_t i, const char* does) const {
        if (cell.state == State::kUnset) fault(does, " ", name(i), ", which nobody has written");
        const std::string line = place(cell.write.where);
        if (cell.state == State::kMbarrier) fault("touches ", name(i), ", where the mbarrier of ", line, " lies");
        fault("touches ", name(i), " while the copy started at ", line, " is in flight");
    }
    void expect_before(const Access& old, size_t i, const Actor& actor, int lane, const char* does,
                       const char* did) const {
        if (!old.is_before(actor, lane)) [[unlikely]]
            report_race(old, i, actor, lane, does, did);
    }
    [[noreturn, gnu::cold]] void report_race(const Access& old, size_t i, const Actor& actor, int lane,
                                             const char* does, const char* did) const {
        if (old.slot == actor.slot) {
            fault("race between lanes: lane ", lane, " ", does, " ", name(i), " after the ", did, " of ",
                  old.lane == kSeveralLanes ? std::string("several lanes") : text("lane ", int{old.lane}), " at ",
                  place(old.where), " without sync_warp");
        }
        fault("race: ", does, " ", name(i), ", not ordered after the ", did, " of ", warp_name(old.slot), " at ",
              place(old.where));
    }
    void expect_row_before(uint32_t row, size_t i, const Actor& actor, int lane, const char* does,
                           const char* did) const {
        for (uint32_t r = 0; r < readers_; ++r) expect_before(rows_[row + r], i, actor, lane, does, did);
    }
    void expect_proxy_fence(const Access& old, size_t i, const Actor& actor) const {
        if (old.clock == 0 || old.by_copy_engine) return;
        const Clock& proxied = actor.knows.proxied;
        if (old.slot < proxied.size() && old.clock <= proxied[old.slot]) return;
        fault("bulk copy onto ", name(i), ", written by ", warp_name(old.slot), " at ", place(old.where),
              " without fence_proxy_async since");
    }

    // `now` in the place of an earlier access of the same warp.
    static void replace(Access& old, const Access& now) {
        const bool several = old.clock != 0 && old.step == now.step && old.lane != now.lane;
        old = now;
        if (several) old.lane = kSeveralLanes;
    }
    uint32_t row_entry(const Actor& actor) const { return readers_are_local_ ? actor.local : actor.slot; }
    uint32_t row_entry(const Access& access) const {
        return readers_are_local_ ? access.slot % (readers_ + 1) : access.slot;
    }
    void merge_into_row(uint32_t& row, const Access& access, uint32_t entry) {
        if (row == 0) {
            if (rows_.empty()) rows_.resize(1);  // row 0 means none
            row = static_cast<uint32_t>(rows_.size());
            rows_.resize(rows_.size() + readers_);
        }
        replace(rows_[row + entry], access);
    }
    // A reader that comes after the last one stands for it; from readers in no order each keeps its own entry.
    void remember_read(Cell& cell, const Access& now, const Actor& actor) {
        if (cell.read.clock != 0 && cell.read.slot == now.slot) {
            replace(cell.read, now);
        } else if (cell.read_row == 0 && cell.read.is_before(actor, now.lane)) {
            cell.read = now;
        } else {
            if (cell.read.clock != 0) merge_into_row(cell.read_row, cell.read, row_entry(cell.read));
            cell.read.clock = 0;
            merge_into_row(cell.read_row, now, row_entry(actor));
        }
    }

    std::string name_;
    int granule_shift_;
    uint32_t readers_;
    bool readers_are_local_;
    std::vector<Cell> cells_;
    std::vector<Access> rows_;
};

}  // namespace warp::host
