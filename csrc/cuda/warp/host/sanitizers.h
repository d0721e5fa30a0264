// What AddressSanitizer and ThreadSanitizer must be told about fibers. TSan looks at the kernel's own data accesses
// only (copy_data); the machine's bookkeeping is hidden from it, and its idea of "ordered" comes from the kernel's
// barriers, fences and atomics (tsan_release, tsan_acquire), never from the scheduler.
#pragma once

#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

namespace warp::host {

// One per fiber and one for the scheduler.
struct SanitizerFiber {
    void* tsan = nullptr;
    void* asan_fake_stack = nullptr;
    const void* stack = nullptr;
    size_t stack_bytes = 0;
};

#if defined(__SANITIZE_THREAD__)
constexpr bool kReuseStacks = false;  // TSan would take what a fiber left on its stack for another's racing access
inline void tsan_hide() { __tsan_ignore_thread_begin(); }
inline void tsan_show() { __tsan_ignore_thread_end(); }
inline void tsan_release(void* at) { __tsan_release(at); }
inline void tsan_acquire(void* at) { __tsan_acquire(at); }
inline void create_fiber(SanitizerFiber& fiber) { fiber.tsan = __tsan_create_fiber(0); }
inline void destroy_fiber(SanitizerFiber& fiber) { __tsan_destroy_fiber(fiber.tsan); }
inline void adopt_thread(SanitizerFiber& scheduler) { scheduler.tsan = __tsan_get_current_fiber(); }
#else
constexpr bool kReuseStacks = true;
inline void tsan_hide() {}
inline void tsan_show() {}
inline void tsan_release(void*) {}
inline void tsan_acquire(void*) {}
inline void create_fiber(SanitizerFiber&) {}
inline void destroy_fiber(SanitizerFiber&) {}
inline void adopt_thread(SanitizerFiber&) {}
#endif

// Before a switch from one fiber to another; a dying fiber gives its fake stack back, and no longer hides from TSan.
// Inlined, because TSan keeps a call stack per fiber: no function may end between its switch and swapcontext's.
__attribute__((always_inline)) inline void leave_fiber(SanitizerFiber& from, const SanitizerFiber& to, bool dying) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(dying ? nullptr : &from.asan_fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    void* const target = to.tsan;
    if (dying) tsan_show();
    __tsan_switch_to_fiber(target, __tsan_switch_to_fiber_no_sync);
#endif
    (void)from, (void)to, (void)dying;
}

// First thing after a switch, in the fiber that was switched to; `came_from` learns the stack that was left.
inline void enter_fiber(const SanitizerFiber& here, SanitizerFiber* came_from) {
#if defined(__SANITIZE_ADDRESS__)
    const void* stack = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(here.asan_fake_stack, &stack, &bytes);
    if (came_from != nullptr) {
        came_from->stack = stack;
        came_from->stack_bytes = bytes;
    }
#endif
    (void)here, (void)came_from;
}

// The kernel's own data access: what TSan is to see.
inline void copy_data(void* to, const void* from, size_t bytes) {
    tsan_show();
    std::memcpy(to, from, bytes);
    tsan_hide();
}
inline void fill_data(void* to, int byte, size_t bytes) {
    tsan_show();
    std::memset(to, byte, bytes);
    tsan_hide();
}

}  // namespace warp::host
