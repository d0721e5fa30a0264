// Rows over threads, without a pool: a thread costs some 20 us here, so callers ask for few and only for work that
// lasts longer. No state is kept between calls, so a fork between two of them is safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace editscore {

// Calls work(begin, end) for disjoint ranges that cover [0, count), on this thread and on num_threads - 1 others. The
// first exception is thrown again here, after every thread has ended.
template <class Work>
void for_rows(int64_t count, int num_threads, const Work& work) {
    const int threads = static_cast<int>(std::min<int64_t>(std::max(num_threads, 1), std::max<int64_t>(count, 1)));
    if (threads == 1) {
        if (count > 0) work(int64_t{0}, count);
        return;
    }
    const int64_t grain =
        std::max<int64_t>(1, count / (threads * int64_t{8}));  // eight turns each even out rows of unequal cost
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_lock;
    const auto take = [&] {
        try {
            for (int64_t begin = next.fetch_add(grain); begin < count; begin = next.fetch_add(grain)) {
                work(begin, std::min(begin + grain, count));
            }
        } catch (...) {
            next.store(count);
            const std::lock_guard<std::mutex> lock(failure_lock);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(threads - 1));
    try {
        for (int i = 1; i < threads; ++i) others.emplace_back(take);
    } catch (const std::system_error&) {
        // The system gives no more threads: those that run, and this one, do all the rows.
    }
    take();
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace editscore
