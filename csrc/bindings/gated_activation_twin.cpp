// The Python module of the twin: gated_activation(...), arguments as GatedActivationParams, then the numbers that lie
// behind x and up; none behind up where it lies in the same matrix as x.
#include "bindings/twin.h"
#include "cuda/gated_activation.cuh"

PYBIND11_MODULE(gated_activation_twin, m) {
    using namespace editscore;
    twin::add_host_twin(m);
    m.def("gated_activation", [](int kind, int type, uintptr_t x, uintptr_t up, uintptr_t out, int64_t num_rows,
                                 int64_t width, int64_t x_row_stride, int64_t up_row_stride, size_t x_numbers,
                                 size_t up_numbers, const py::kwargs& kwargs) {
        const GatedActivationParams params = {static_cast<ActivationKind>(kind),
                                              static_cast<ElementType>(type),
                                              twin::pointer<const void>(x),
                                              twin::pointer<const void>(up),
                                              twin::pointer<void>(out),
                                              num_rows,
                                              width,
                                              x_row_stride,
                                              up_row_stride};
        warp::host::Stats stats = {};
        gated::with_kernel(
            params, [&]<class T, ActivationKind kKind, bool kIsVector>(const gated::Params& p, int64_t blocks) {
                using namespace warp::host;
                using Word = typename gated::Element<T>::Word;
                Options options = twin::options(kwargs);
                options.buffers = {input("x", static_cast<const Word*>(p.x), x_numbers),
                                   input("up", static_cast<const Word*>(p.up), up_numbers),
                                   output("out", static_cast<Word*>(p.out), static_cast<size_t>(num_rows * width))};
                stats = launch([&] { gated::gated_activation_kernel<T, kKind, kIsVector>(p); },
                               {.grid = static_cast<int>(blocks), .threads = gated::kWarps * 32}, options);
            });
        return stats;
    });
}
