// The Python module of the example: row_sum(x, rows, columns, out, **options), pointers as integers.
#include "bindings/twin.h"
#include "row_sum.cuh"

PYBIND11_MODULE(row_sum_twin, m) {
    twin::add_host_twin(m);
    m.def("row_sum", [](uintptr_t x, int rows, int columns, uintptr_t out, const py::kwargs& kwargs) {
        const row_sum::Params params = {twin::pointer<const float>(x), twin::pointer<float>(out), columns};
        warp::host::Options options = twin::options(kwargs);
        options.buffers = {warp::host::input("x", params.x, static_cast<size_t>(rows) * columns),
                           warp::host::output("out", params.out, static_cast<size_t>(rows))};
        const warp::host::Shape shape = {
            .grid = rows, .threads = row_sum::kWarps * 32, .shared_bytes = row_sum::kSharedBytes};
        return warp::host::launch([&] { row_sum::row_sum_kernel(params); }, shape, options);
    });
}
