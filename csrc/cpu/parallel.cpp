#include "parallel.h"

#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstring>
#endif

namespace editscore {
namespace {

// The entry that GCC calls for `#pragma omp parallel`; libgomp, LLVM's libomp and Intel's libiomp5 all export it.
using Parallel = void (*)(void (*work)(void*), void* data, unsigned num_threads, unsigned flags);

#if defined(__linux__)

int find_runtime(dl_phdr_info* info, size_t, void* found) {
    const char* slash = std::strrchr(info->dlpi_name, '/');
    const char* name = slash ? slash + 1 : info->dlpi_name;
    if (std::strncmp(name, "libgomp", 7) != 0 && std::strncmp(name, "libomp", 6) != 0 &&
        std::strncmp(name, "libiomp5", 8) != 0) {
        return 0;
    }
    *static_cast<const char**>(found) = info->dlpi_name;
    return 1;
}

Parallel load_runtime() {
    const char* path = nullptr;
    dl_iterate_phdr(find_runtime, &path);
    void* library = path ? dlopen(path, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
    return library ? reinterpret_cast<Parallel>(dlsym(library, "GOMP_parallel")) : nullptr;
}

// Taken when the library is loaded: in a process forked later the runtime's threads are gone, and it would wait for
// them for ever.
const pid_t kProcess = getpid();

Parallel runtime() {
    static const Parallel found = load_runtime();
    return getpid() == kProcess ? found : nullptr;
}

#else

Parallel runtime() { return nullptr; }

#endif

}  // namespace

void run_on_threads(int num_threads, void (*work)(void*), void* data) {
    if (num_threads <= 1) return work(data);
    if (const Parallel parallel = runtime()) return parallel(work, data, static_cast<unsigned>(num_threads), 0);
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(num_threads - 1));
    try {
        for (int i = 1; i < num_threads; ++i) others.emplace_back(work, data);
    } catch (const std::system_error&) {
        // The system gives no more threads: those that run, and this one, do all the work.
    }
    work(data);
    for (std::thread& other : others) other.join();
}

}  // namespace editscore
