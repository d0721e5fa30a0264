// Who last wrote and read each granule of a memory, and whether that is ordered before an access now. Exact: it depends
// on what the kernel synchronises, not on the schedule that happened to run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "clocks.h"

namespace warp::host {

class History {
  public:
    // `granule_bytes`: the finest access that is told apart. `readers`: how many warps can reach this memory.
    History(std::string name, size_t bytes, uint32_t granule_bytes, uint32_t readers, bool readers_are_local, bool set)
        : name_(std::move(name)),
          granule_bytes_(granule_bytes),
          readers_(readers),
          readers_are_local_(readers_are_local),
          cells_((bytes + granule_bytes - 1) / granule_bytes) {
        for (Cell& cell : cells_) cell.set = set;
    }

    void read(size_t offset, size_t bytes, const Actor& actor, int lane) {
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) {
            Cell& cell = cells_[i];
            expect_plain(cell, i);
            expect_landed(cell, i);
            if (!cell.set) fault("reads ", name(i), ", which nobody has written");
            expect_before(cell.write, i, actor, lane, "reads", "write");
            expect_row_before(cell.atomic_row, i, actor, lane, "reads", "atomic");
            remember_read(cell, actor, lane);
        }
    }

    void write(size_t offset, size_t bytes, const Actor& actor, int lane, bool by_copy_engine = false) {
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) {
            Cell& cell = cells_[i];
            expect_plain(cell, i);
            expect_landed(cell, i);
            expect_before(cell.write, i, actor, lane, "writes", "write");
            expect_before(cell.read, i, actor, lane, "writes", "read");
            expect_row_before(cell.read_row, i, actor, lane, "writes", "read");
            expect_row_before(cell.atomic_row, i, actor, lane, "writes", "atomic");
            if (by_copy_engine) expect_proxy_fence(cell.write, i, actor);
            cell.write = access(actor, lane);
            cell.set = true;
            forget_reads(cell);
        }
    }

    // `time`: when other warps take it to have happened.
    void atomic(size_t offset, size_t bytes, const Actor& actor, int lane, uint32_t time) {
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) {
            Cell& cell = cells_[i];
            expect_plain(cell, i);
            expect_landed(cell, i);
            if (!cell.set) fault("updates ", name(i), ", which nobody has written");
            expect_before(cell.write, i, actor, lane, "updates", "write");
            expect_before(cell.read, i, actor, lane, "updates", "read");
            expect_row_before(cell.read_row, i, actor, lane, "updates", "read");
            Access now = access(actor, lane);
            now.clock = time;
            merge_into_row(cell.atomic_row, now);
        }
    }

    // A copy was started: until it lands nobody may touch its target.
    void start_copy(size_t offset, size_t bytes, const Actor& actor, int lane, bool by_copy_engine) {
        write(offset, bytes, actor, lane, by_copy_engine);
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) cells_[i].in_flight = true;
    }
    // It landed: `as` is who is taken to have written it, and when.
    void land_copy(size_t offset, size_t bytes, const Access& as) {
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) {
            cells_[i].in_flight = false;
            cells_[i].write = as;
        }
    }

    // An mbarrier lies here from now on: only mbarrier operations may touch it, once its initialisation is known to
    // them.
    void make_mbarrier(size_t offset, size_t bytes, const Actor& actor, int lane) {
        write(offset, bytes, actor, lane);
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) cells_[i].is_mbarrier = true;
    }
    void use_mbarrier(size_t offset, size_t bytes, const Actor& actor, int lane) {
        for (size_t i = first(offset); i <= last(offset, bytes); ++i) {
            expect_before(cells_[i].write, i, actor, lane, "uses the mbarrier at", "initialisation");
        }
    }

    static Access access(const Actor& actor, int lane) {
        return {actor.where, actor.now(), actor.step, actor.slot, static_cast<int8_t>(lane), false};
    }

  private:
    struct Cell {
        Access write;
        Access read;            // the last one, while readers are ordered one after another
        uint32_t read_row = 0;  // else one entry per warp, in rows_; 0: none
        uint32_t atomic_row = 0;
        bool set = false;
        bool in_flight = false;
        bool is_mbarrier = false;
    };

    size_t first(size_t offset) const { return offset / granule_bytes_; }
    size_t last(size_t offset, size_t bytes) const { return (offset + bytes - 1) / granule_bytes_; }
    std::string name(size_t cell) const { return text(name_, " byte ", cell * granule_bytes_); }

    void expect_plain(const Cell& cell, size_t i) const {
        if (cell.is_mbarrier) fault("touches ", name(i), ", where the mbarrier of ", place(cell.write.where), " lies");
    }
    void expect_landed(const Cell& cell, size_t i) const {
        if (!cell.in_flight) return;
        fault("touches ", name(i), " while the copy started at ", place(cell.write.where), " is in flight");
    }
    void expect_before(const Access& old, size_t i, const Actor& actor, int lane, const char* does,
                       const char* did) const {
        if (old.is_before(actor, lane)) return;
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
        if (row == 0) return;
        for (uint32_t r = 0; r < readers_; ++r) expect_before(rows_[row + r], i, actor, lane, does, did);
    }
    void expect_proxy_fence(const Access& old, size_t i, const Actor& actor) const {
        if (old.clock == 0 || old.by_copy_engine) return;
        const Clock& proxied = actor.knows.proxied;
        if (old.slot < proxied.size() && old.clock <= proxied[old.slot]) return;
        fault("bulk copy onto ", name(i), ", written by ", warp_name(old.slot), " at ", place(old.where),
              " without fence_proxy_async since");
    }

    uint32_t row_entry(uint32_t slot) const { return readers_are_local_ ? slot % (readers_ + 1) : slot; }
    void merge_into_row(uint32_t& row, const Access& access) {
        if (row == 0) {
            if (rows_.empty()) rows_.resize(1);  // row 0 means none
            row = static_cast<uint32_t>(rows_.size());
            rows_.resize(rows_.size() + readers_);
        }
        Access& old = rows_[row + row_entry(access.slot)];
        const bool several = old.clock != 0 && old.step == access.step && old.lane != access.lane;
        old = access;
        if (several) old.lane = kSeveralLanes;
    }
    void remember_read(Cell& cell, const Actor& actor, int lane) {
        Access now = access(actor, lane);
        if (cell.read.clock != 0 && cell.read.slot == actor.slot) {
            if (cell.read.step == actor.step && cell.read.lane != lane) now.lane = kSeveralLanes;
        } else if (!cell.read.is_before(actor, lane)) {
            merge_into_row(cell.read_row, cell.read);
        }
        cell.read = now;
    }
    void forget_reads(Cell& cell) {
        cell.read.clock = 0;
        if (cell.read_row == 0) return;
        for (uint32_t r = 0; r < readers_; ++r) rows_[cell.read_row + r].clock = 0;
    }

    std::string name_;
    uint32_t granule_bytes_, readers_;
    bool readers_are_local_;
    std::vector<Cell> cells_;
    std::vector<Access> rows_;
};

}  // namespace warp::host
