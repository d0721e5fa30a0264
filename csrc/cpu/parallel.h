// Rows over threads. Where the process has an OpenMP runtime (torch brings one) its pool does the work, so that two
// pools never fight for the processors; elsewhere threads are made for the call, at some 20 us each, so callers ask
// for few and only for work that lasts longer.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

namespace editscore {

// Calls work(data) on this thread and on at most num_threads - 1 others, and returns when all have ended. `work` must
// not throw, and must do everything even if it is called once only: a runtime may have fewer threads to give.
void run_on_threads(int num_threads, void (*work)(void*), void* data);

// At most `num_threads`, and no more than have `elements_per_thread` each to do.
inline int useful_threads(int64_t num_elements, int64_t elements_per_thread, int num_threads) {
    return static_cast<int>(std::min<int64_t>(std::max(num_threads, 1), 1 + num_elements / elements_per_thread));
}

// Calls work(begin, end) for disjoint ranges of at most `max_grain` that cover [0, count), on at most `num_threads`
// threads. The first exception is thrown again here, after every thread has ended.
template <class Work>
void for_rows(int64_t count, int num_threads, const Work& work, int64_t max_grain = INT64_MAX) {
    const int threads = static_cast<int>(std::min<int64_t>(std::max(num_threads, 1), std::max<int64_t>(count, 1)));
    if (threads == 1) {
        if (count > 0) work(int64_t{0}, count);
        return;
    }
    struct Shared {
        const Work& work;
        const int64_t count, grain;
        std::atomic<int64_t> next{0};
        std::exception_ptr failure{};
        std::mutex failure_lock{};
    };
    // Eight turns each even out rows of unequal cost.
    Shared shared{work, count, std::clamp<int64_t>(count / (threads * int64_t{8}), 1, max_grain)};
    run_on_threads(
        threads,
        [](void* data) {
            Shared& s = *static_cast<Shared*>(data);
            try {
                for (int64_t begin = s.next.fetch_add(s.grain); begin < s.count; begin = s.next.fetch_add(s.grain)) {
                    s.work(begin, std::min(begin + s.grain, s.count));
                }
            } catch (...) {
                s.next.store(s.count);
                const std::lock_guard<std::mutex> lock(s.failure_lock);
                if (!s.failure) s.failure = std::current_exception();
            }
        },
        &shared);
    if (shared.failure) std::rethrow_exception(shared.failure);
}

}  // namespace editscore
