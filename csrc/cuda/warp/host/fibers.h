// Fibers: stacks of their own on one thread, switched by swapcontext.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include "sanitizers.h"

namespace warp::host {

constexpr size_t kStackBytes = size_t{1} << 20;  // of address space; memory is used only as far as it is touched

// A stack with a page below it that cannot be touched: an overflow is a crash, not a wrong result.
class Stack {
  public:
    Stack() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
        void* memory = mmap(nullptr, page_ + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        memory_ = static_cast<char*>(memory);
        mprotect(memory_, page_, PROT_NONE);
    }
    ~Stack() { munmap(memory_, page_ + kStackBytes); }
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;

    char* bottom() const { return memory_ + page_; }

  private:
    size_t page_;
    char* memory_;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<Stack> stack;  // null: the thread's own
    SanitizerFiber sanitizer;

    void prepare(std::unique_ptr<Stack> on, void (*entry)()) {
        stack = std::move(on);
        sanitizer.stack = stack->bottom();
        sanitizer.stack_bytes = kStackBytes;
        create_fiber(sanitizer);
        getcontext(&context);
        context.uc_stack.ss_sp = stack->bottom();
        context.uc_stack.ss_size = kStackBytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
};

inline void switch_fiber(Fiber& from, Fiber& to, bool dying = false) {
    leave_fiber(from.sanitizer, to.sanitizer, dying);
    swapcontext(&from.context, &to.context);
    enter_fiber(from.sanitizer, nullptr);
}

}  // namespace warp::host
