// Runs a grid: a fiber per warp, switched where a warp waits, in an order drawn from the seed. One thread, so a launch
// with the same seed is the same launch.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"

namespace warp::host {

struct Cancelled {};  // unwinds the warps of a launch that has failed

inline void switch_to_scheduler(bool dying = false) {
    Machine& m = machine();
    switch_fiber(m.running->fiber, m.scheduler, dying);
}

// Gives other warps their turn until wait.is_over(); now and then even if it is over already.
inline void wait_until(Wait wait) {
    Machine& m = machine();
    if (wait.is_over() && m.random() % 4 != 0) return;
    Warp& warp = *m.running;
    warp.wait = std::move(wait);
    switch_to_scheduler();
    warp.wait = {};
    if (m.is_cancelled) throw Cancelled{};
}
inline void yield() {
    wait_until({[] { return true; }, [] { return std::string("its turn"); }});
}

class Scheduler {
  public:
    Scheduler(Machine& m, std::function<void()> kernel) : m_(m), kernel_(std::move(kernel)) {
        waiting_blocks_.resize(static_cast<size_t>(m.shape.grid) * static_cast<size_t>(m.shape.grid_y));
        std::iota(waiting_blocks_.rbegin(), waiting_blocks_.rend(), 0);
        if (m.options.seed != 0) std::shuffle(waiting_blocks_.begin(), waiting_blocks_.end(), m.random);
    }

    void run() {
        m_.kernel = &kernel_;
        adopt_thread(m_.scheduler.sanitizer);
        try {
            for (start_blocks(); !live_.empty(); start_blocks()) {
                step();
                if (m_.error) std::rethrow_exception(m_.error);
                end_blocks();
            }
        } catch (...) {
            cancel();
            throw;
        }
    }

  private:
    void start_blocks() {
        while (!waiting_blocks_.empty() && static_cast<int>(live_.size()) < std::max(1, m_.options.resident)) {
            start_block(waiting_blocks_.back());
            waiting_blocks_.pop_back();
        }
    }

    void start_block(int index) {
        auto block = std::make_unique<Block>(m_.shape.shared_bytes, m_.num_warps);
        block->x = index % m_.shape.grid;
        block->y = index / m_.shape.grid;
        const uint32_t first_slot = static_cast<uint32_t>(index * (m_.num_warps + 1));
        block->engine_slot = first_slot + static_cast<uint32_t>(m_.num_warps);
        for (int id = 0; id < m_.num_warps; ++id) {
            auto warp = std::make_unique<Warp>();
            warp->block = block.get();
            warp->id = id;
            warp->local = static_cast<uint32_t>(id);
            warp->slot = first_slot + warp->local;
            warp->knows.seen.assign(m_.num_slots(), 0);
            warp->knows.seen[warp->slot] = 1;
            warp->fiber.prepare(new_stack(), &Scheduler::warp_main);
            block->warps.push_back(std::move(warp));
        }
        live_.push_back(std::move(block));
    }

    static void warp_main() {
        Machine& m = machine();
        Warp& warp = *m.running;
        enter_fiber(warp.fiber.sanitizer, &m.scheduler.sanitizer);
        tsan_hide();
        try {
            (*m.kernel)();
            if (!warp.open_copies.empty() || !warp.copy_groups.empty()) {
                fault("exits with cp_async copies never waited for");
            }
        } catch (const Cancelled&) {
        } catch (...) {
            if (!m.error) m.error = std::current_exception();
        }
        warp.done = true;
        tsan_release(&m);
        switch_to_scheduler(true);
    }

    void step() {
        std::vector<Warp*> ready;
        for (auto& block : live_) {
            for (auto& warp : block->warps) {
                if (!warp->done && (!warp->wait.is_over || warp->wait.is_over())) ready.push_back(warp.get());
            }
        }
        if (ready.empty()) throw Fault(deadlock_report());
        resume(*ready[m_.random() % ready.size()]);
    }

    void resume(Warp& warp) {
        m_.running = &warp;
        switch_fiber(m_.scheduler, warp.fiber);
        m_.running = nullptr;
    }

    std::string deadlock_report() const {
        std::string report = "deadlock:";
        for (auto& block : live_) {
            for (auto& warp : block->warps) {
                report += "\n  " + warp_name(warp->slot);
                report +=
                    warp->done ? " has ended" : " at " + place(warp->where) + " waits for " + warp->wait.describe();
            }
        }
        if (!waiting_blocks_.empty()) report += text("\n  ", waiting_blocks_.size(), " more blocks have not started");
        return report;
    }

    void end_blocks() {
        std::erase_if(live_, [this](std::unique_ptr<Block>& block) {
            const auto is_done = [](auto& warp) { return warp->done; };
            if (!std::all_of(block->warps.begin(), block->warps.end(), is_done)) return false;
            for (auto& [address, mbarrier] : block->mbarriers) {
                if (mbarrier.copies.empty()) continue;
                throw Fault(text("block ", block->x, " ends with bulk copies in flight, started at ",
                                 place(mbarrier.copies.front().where)));
            }
            keep_stacks(*block);
            return true;
        });
    }

    // Unwinds every warp that has started, so that nothing on a fiber's stack leaks.
    void cancel() {
        m_.is_cancelled = true;
        for (auto& block : live_) {
            for (auto& warp : block->warps) {
                if (!warp->done && warp->wait.is_over) resume(*warp);
            }
            keep_stacks(*block);
        }
        live_.clear();
    }

    std::unique_ptr<Stack> new_stack() {
        if (free_stacks_.empty()) return std::make_unique<Stack>();
        auto stack = std::move(free_stacks_.back());
        free_stacks_.pop_back();
        return stack;
    }
    void keep_stacks(Block& block) {
        for (auto& warp : block.warps) {
            destroy_fiber(warp->fiber.sanitizer);
            if (kReuseStacks) free_stacks_.push_back(std::move(warp->fiber.stack));
        }
    }

    Machine& m_;
    std::function<void()> kernel_;
    std::vector<int> waiting_blocks_;  // the next one last
    std::vector<std::unique_ptr<Block>> live_;
    std::vector<std::unique_ptr<Stack>> free_stacks_;
};

// Runs kernel() once per warp of the grid; throws Fault. launch([&] { row_sum(params); }, {.grid = 3, .threads = 64}).
template <class Kernel>
Stats launch(Kernel&& kernel, const Shape& shape, const Options& options = {}) {
    if (current_machine != nullptr) throw Fault("a launch inside of a launch");
    if (shape.threads < kLanes || shape.threads % kLanes != 0 || shape.threads > 1024) {
        throw Fault(text(shape.threads, " threads: not a multiple of 32 in 32 .. 1024"));
    }
    Machine m(shape, options);
    current_machine = &m;
    tsan_hide();
    struct End {
        Machine* m;
        ~End() {
            tsan_acquire(m);
            tsan_show();
            current_machine = nullptr;
        }
    } end{&m};
    Scheduler(m, std::forward<Kernel>(kernel)).run();
    return m.stats;
}

}  // namespace warp::host
